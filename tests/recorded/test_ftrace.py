"""Kernel events as text.

``tests/data/linux-6.18-{kmalloc,percpu,pages}-head.ftrace.gz`` are the comment lines and the
first 2,000, 3,000 and 20,000 events of recordings of git, find and the coming and going of
network namespaces on a Linux 6.18 machine (x86-64, 2 CPUs, 4 KiB pages), cut with::

    zcat FILE | awk '/^#/ || ++n <= N' | gzip -9n
"""

from collections import Counter
from pathlib import Path

import pytest

from heaplaw.operations import ATOMIC, Kind
from heaplaw.properties.recorded import Recording, RecordingError, ftrace
from heaplaw.trace import Trace

DATA = Path(__file__).parents[1] / "data"
KMALLOC = DATA / "linux-6.18-kmalloc-head.ftrace.gz"
PERCPU = DATA / "linux-6.18-percpu-head.ftrace.gz"
PAGES = DATA / "linux-6.18-pages-head.ftrace.gz"


def kinds(recording: Recording) -> dict[str, int]:
    return dict(Counter(Kind(operation.kind).name for operation in recording.trace.operations))


def mended(recording: Recording) -> tuple[int, int, int]:
    return recording.unknown_frees, recording.lost_frees, recording.never_freed


def text(*events: str, cpu: int = 0) -> str:
    """ftrace's own layout around events."""
    return "".join(f"            bash-1   [{cpu:03}] d..2.   1.00{n}: {e}\n" for n, e in enumerate(events))


def read(folder: Path, content: str, **options: object) -> Recording:
    path = folder / "some.ftrace"
    path.write_text(content)
    return ftrace.read(path, **options)  # type: ignore[arg-type]


def body(recording: Recording) -> list[str]:
    return [line.split(maxsplit=1)[1] for line in str(recording.trace).splitlines() if line[0].isdecimal()]


def alloc_pages(pfn: int, order: int) -> str:
    return f"mm_page_alloc: page=00000000f147dcc7 pfn={pfn:#x} order={order} migratetype=0 gfp_flags=GFP_KERNEL"


def free_pages(pfn: int, order: int) -> str:
    return f"mm_page_free: page=00000000f147dcc7 pfn={pfn:#x} order={order}"


class TestSlab:
    def test_counts(self) -> None:
        """Of 2,000 slab events 1,011 are kfree(NULL), which frees nothing."""
        recording = ftrace.read(KMALLOC)
        assert kinds(recording) == {"ALLOC": 509, "FREE": 475}
        assert mended(recording) == (5, 0, 34)
        assert recording.ignored == {"comment": 12, "free of null": 1_011}
        assert 509 + 475 + 5 + 1_011 == 2_000

    def test_rounded(self) -> None:
        """Every allocation has what the kernel rounded it up to, and no answer."""
        recording = ftrace.read(KMALLOC)
        operations = recording.trace.operations
        assert recording.trace.answers == {}
        assert len(recording.rounded) == 509
        assert all(operations[index].kind == Kind.ALLOC for index in recording.rounded)
        assert all(operations[index].size <= size for index, size in recording.rounded.items())
        assert (operations[0].size, recording.rounded[0]) == (60, 64)

    def test_caches(self, tmp_path: Path) -> None:
        """kmalloc and object caches share their addresses: kfree takes objects of both."""
        recording = read(
            tmp_path,
            text(
                "kmem_cache_alloc: call_site=a+0x1/0x2 ptr=00000000a1 bytes_req=192 bytes_alloc=192 node=-1",
                "kmalloc_node: call_site=a+0x1/0x2 ptr=00000000a2 bytes_req=9 bytes_alloc=16 gfp_flags=0",
                "kfree: call_site=a+0x1/0x2 ptr=00000000a1",
                "kmem_cache_free: call_site=a+0x1/0x2 ptr=00000000a2 name=dentry",
            ),
        )
        assert body(recording) == ["a = alloc 192", "b = alloc 9", "free a", "free b"]

    def test_failed(self, tmp_path: Path) -> None:
        """An allocation that answered NULL left no object."""
        failing = "kmalloc: call_site=a ptr=(null) bytes_req=9 bytes_alloc=16"
        recording = read(tmp_path, text(failing, "kmalloc: ptr=00a1 bytes_req=8 bytes_alloc=8"))
        assert body(recording) == ["a = alloc 8"]
        assert recording.ignored == {"failed allocation": 1}


class TestPages:
    def test_counts(self) -> None:
        """20,000 page events: 12,401 allocations, 7,579 frees, 20 of pages taken before."""
        recording = ftrace.read(PAGES)
        assert kinds(recording) == {"ALLOC": 12_401, "FREE": 7_579}
        assert mended(recording) == (20, 0, 4_822)
        assert recording.trace.header == {"source": "ftrace pages", "page": "4096"}

    def test_answers(self) -> None:
        """Answers are page frame numbers, and 243 runs are of order 2."""
        trace = ftrace.read(PAGES).trace
        assert trace.answers[0] == 0x13A9DE
        assert Counter(op.size for op in trace.operations if op.kind == Kind.ALLOC) == {4096: 12_158, 16384: 243}

    def test_page_size(self, tmp_path: Path) -> None:
        """Sizes follow the machine's page size, which the text does not tell."""
        recording = read(tmp_path, text(alloc_pages(16, 1)), page_size=65536)
        assert body(recording) == ["a = alloc 131072 -> 16"]
        assert recording.trace.header["page"] == "65536"

    def test_decimal_frame_numbers(self, tmp_path: Path) -> None:
        """Older kernels print frame numbers in decimal."""
        events = "mm_page_alloc: page=ffffea01 pfn=1024 order=0 migratetype=0", free_pages(1024, 0)
        assert body(read(tmp_path, text(*events))) == ["a = alloc 4096 -> 1024", "free a"]

    @pytest.mark.parametrize("null", ["(null)", "0000000000000000"])
    def test_failed(self, tmp_path: Path, null: str) -> None:
        """A failed allocation names no page and is counted."""
        failing = f"mm_page_alloc: page={null} pfn=0x0 order=9 migratetype=0 gfp_flags=GFP_KERNEL"
        recording = read(tmp_path, text(failing, alloc_pages(16, 0)))
        assert body(recording) == ["a = alloc 4096 -> 16"]
        assert recording.ignored == {"failed allocation": 1}

    def test_repeated_frees(self, tmp_path: Path) -> None:
        """Batched frees and drains repeat what mm_page_free told and are only counted."""
        recording = read(
            tmp_path,
            text(
                alloc_pages(16, 0),
                free_pages(16, 0),
                "mm_page_free_batched: page=00000000f147dcc7 pfn=0x10 order=0",
                "mm_page_pcpu_drain: page=00000000f147dcc7 pfn=0x10 order=0 migratetype=1",
            ),
        )
        assert body(recording) == ["a = alloc 4096 -> 16", "free a"]
        assert recording.ignored == {"mm_page_free_batched": 1, "mm_page_pcpu_drain": 1}
        assert mended(recording) == (0, 0, 0)

    def test_split_run(self, tmp_path: Path) -> None:
        """A run given back in pieces is freed with its last piece, in whatever order they come."""
        pieces = [free_pages(18, 1), free_pages(16, 0), free_pages(17, 0)]
        recording = read(tmp_path, text(alloc_pages(16, 2), *pieces[:2], alloc_pages(40, 0), *pieces[2:]))
        assert body(recording) == ["a = alloc 16384 -> 16", "b = alloc 4096 -> 40", "free a"]
        assert recording.ignored == {"free of a piece of a run": 2}
        assert mended(recording) == (0, 0, 1)

    def test_piece_handed_out_again(self, tmp_path: Path) -> None:
        """A piece of a split run that is handed out again is an object of its own."""
        events = alloc_pages(16, 1), free_pages(17, 0), alloc_pages(17, 0), free_pages(17, 0), free_pages(16, 0)
        assert body(read(tmp_path, text(*events))) == [
            "a = alloc 8192 -> 16", "b = alloc 4096 -> 17", "free b", "free a",
        ]  # fmt: skip

    def test_lost_free_of_a_split_run(self, tmp_path: Path) -> None:
        """A run whose address is handed out again begins without the old one's pieces."""
        again = alloc_pages(16, 1), free_pages(16, 0), alloc_pages(16, 1), free_pages(17, 0)
        recording = read(tmp_path, text(*again))
        assert body(recording) == ["a = alloc 8192 -> 16", "free a", "b = alloc 8192 -> 16"]
        assert mended(recording) == (0, 1, 1)


class TestPercpu:
    def test_counts(self) -> None:
        """3,000 percpu events, two of whose frees are missing from the recording."""
        recording = ftrace.read(PERCPU)
        assert kinds(recording) == {"ALLOC": 2_596, "FREE": 406}
        assert mended(recording) == (0, 2, 2190)

    def test_answers(self) -> None:
        """Answers are offsets in the chunk that is given beside them."""
        recording = ftrace.read(PERCPU)
        trace = recording.trace
        assert body(recording)[:5] == [
            "a = alloc 16 align 8 -> 72112",
            "b = alloc 16 align 4 -> 74032",
            "c = alloc 16 align 8 -> 75712",
            "d = alloc 16 align 4 -> 76296",
            "free a",
        ]
        assert trace.answers.keys() == recording.chunks.keys()
        assert len(trace.answers) == 2_596
        assert all(offset % trace.operations[index].align == 0 for index, offset in trace.answers.items())

    def test_lost_free_stands_before_the_reuse(self) -> None:
        """The free that is put back frees the object whose offset the next allocation takes."""
        trace = ftrace.read(PERCPU).trace
        births = {op.name: i for i, op in enumerate(trace.operations) if op.kind == Kind.ALLOC}
        offsets = {
            trace.answers[i + 1]
            for i, op in enumerate(trace.operations[:-1])
            if op.kind == Kind.FREE and trace.answers.get(i + 1) == trace.answers[births[op.name]]
        }
        assert {415_992, 419_344} <= offsets

    def test_chunks_and_atomic(self, tmp_path: Path) -> None:
        """The same offset in two chunks is two objects, and atomic requests say so."""
        alloc = "percpu_alloc_percpu: reserved=0 is_atomic={} size=8 align=4 base_addr={} off=64 ptr=00"
        recording = read(
            tmp_path,
            text(
                "percpu_create_chunk: base_addr=00000000aa",
                alloc.format(0, "00000000aa"),
                alloc.format(1, "00000000bb"),
                "percpu_free_percpu: base_addr=00000000aa off=64 ptr=00",
                "percpu_alloc_percpu_fail: reserved=0 is_atomic=0 size=64 align=64",
                "percpu_destroy_chunk: base_addr=00000000aa",
            ),
        )
        assert body(recording) == ["a = alloc 8 align 4 -> 64", "b = alloc 8 align 4 atomic -> 64", "free a"]
        assert [op.mode for op in recording.trace.operations] == [0, ATOMIC, 0]
        assert recording.chunks == {0: 0, 1: 1}
        assert recording.ignored == {
            "percpu_create_chunk": 1, "percpu_alloc_percpu_fail": 1, "percpu_destroy_chunk": 1,
        }  # fmt: skip


class TestCpus:
    def test_only_when_asked(self) -> None:
        """CPU changes are operations only if asked for, and nothing else differs."""
        plain, with_cpus = ftrace.read(KMALLOC), ftrace.read(KMALLOC, cpus=True)
        assert kinds(with_cpus) == {**kinds(plain), "ON_CPU": 4}
        rest = [op for op in with_cpus.trace.operations if op.kind != Kind.ON_CPU]
        assert rest == plain.trace.operations

    def test_keys_follow(self) -> None:
        """Answers stay with their allocation when CPU changes stand between."""
        trace = ftrace.read(PERCPU, cpus=True).trace
        assert any(op.kind == Kind.ON_CPU for op in trace.operations)
        assert all(trace.operations[index].kind == Kind.ALLOC for index in trace.answers)
        assert len(trace.answers) == 2_596


class TestFamilies:
    MIXED = text(alloc_pages(16, 0), "kmalloc: ptr=00a1 bytes_req=8 bytes_alloc=8", free_pages(16, 0))

    def test_must_choose(self, tmp_path: Path) -> None:
        """A file with events of two allocators is an error that names the choice."""
        with pytest.raises(RecordingError, match=r"ftrace:2: both pages and slab events; .* choose family=pages"):
            read(tmp_path, self.MIXED)

    def test_chosen(self, tmp_path: Path) -> None:
        """The chosen family is read and the other's events are counted."""
        pages = read(tmp_path, self.MIXED, family="pages")
        assert (body(pages), pages.ignored) == (["a = alloc 4096 -> 16", "free a"], {"kmalloc": 1})
        slab = read(tmp_path, self.MIXED, family="slab")
        assert (body(slab), slab.rounded) == (["a = alloc 8"], {0: 8})

    def test_absent(self, tmp_path: Path) -> None:
        """A family without an allocation is an error."""
        with pytest.raises(RecordingError, match=r"no allocation in this recording \(ftrace percpu\)"):
            read(tmp_path, self.MIXED, family="percpu")

    def test_unknown(self, tmp_path: Path) -> None:
        """An unknown family is refused with the known ones."""
        with pytest.raises(ValueError, match="unknown family 'vmalloc'; known are slab, pages, percpu"):
            read(tmp_path, self.MIXED, family="vmalloc")


class TestText:
    @pytest.mark.parametrize(
        "line",
        [
            "  my task: [x]-12 (  12) [003] d.h2.   739.488: kmalloc: {}",
            "  git-24876 [003]   739.488962: kmalloc:              (alloc_bprm+0x45) {}",
            "git 24876 [003]   739.488962:                   kmem:kmalloc: {}",
            "  <idle>-0       [003] d.s.. 12345: kmalloc: {}",
        ],
        ids=["ftrace", "trace-cmd", "perf", "counter-clock"],
    )
    def test_dialects(self, tmp_path: Path, line: str) -> None:
        """The same event is read from ftrace, trace-cmd and perf, whatever the clock and the task's name."""
        event = "call_site=ffffffff81 ptr=0xffff888003 bytes_req=408 bytes_alloc=512 gfp_flags=GFP_KERNEL"
        recording = read(tmp_path, line.format(event), cpus=True)
        assert body(recording) == ["cpu 3", "a = alloc 408"]
        assert recording.rounded == {1: 512}

    def test_lost_events(self, tmp_path: Path) -> None:
        """What the ring buffer lost is counted under its own name."""
        recording = read(tmp_path, "CPU:1 [LOST 12 EVENTS]\n\n => stack\n" + text(alloc_pages(16, 0)))
        assert recording.ignored == {"lost events": 1, "comment": 1, "other": 1}

    @pytest.mark.parametrize(
        "event",
        [
            "kmalloc: call_site=a ptr=00a1 bytes_req=8",
            "kfree: call_site=a",
            "mm_page_alloc: page=00a1 pfn=0x10 order=21",
            "mm_page_alloc: page=00a1 pfn=0123 order=0",
            "mm_page_free: page=00a1 pfn=16",
            "percpu_alloc_percpu: reserved=0 is_atomic=0 size=8 align=4 base_addr=00aa off=-4",
            "percpu_free_percpu: off=4",
        ],
    )
    def test_malformed(self, tmp_path: Path, event: str) -> None:
        """A known event without its fields is named with its line."""
        with pytest.raises(RecordingError, match=r"ftrace:2: \w+ without the fields expected"):
            read(tmp_path, "# tracer: nop\n" + text(event))

    def test_other_events_only(self, tmp_path: Path) -> None:
        """A trace of other events says which it found."""
        with pytest.raises(RecordingError, match=r"no kmem or percpu event .*; found: sched_switch, sys_enter"):
            read(tmp_path, text("sched_switch: prev_comm=a", "sys_enter: NR 1", "sched_switch: prev_comm=b"))

    def test_no_events(self, tmp_path: Path) -> None:
        """A trace that was never switched on is an error."""
        with pytest.raises(RecordingError, match=r"ftrace:1: no kmem or percpu event in this ftrace text$"):
            read(tmp_path, "# tracer: nop\n")

    @pytest.mark.parametrize("path", [KMALLOC, PERCPU, PAGES], ids=["slab", "percpu", "pages"])
    @pytest.mark.parametrize("cpus", [False, True])
    def test_round_trip(self, path: Path, cpus: bool) -> None:
        """The trace reads back from its own text with every answer."""
        trace = ftrace.read(path, cpus=cpus).trace
        assert Trace.parse(str(trace)) == trace
