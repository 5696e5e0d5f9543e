"""The network tree allocator: per-CPU regions, exact free lists, chunks that go home to be merged.

Era: Evgeniy Polyakov, August 2006, for all of the network stack's buffers; never merged.  Source:
``net/core/alloc/avl.c`` as posted on 14 August ("network memory allocator", ``rev="2006-08-14"``)
and again on 16 August ("[PATCH2 1/1] network memory allocator", ``rev="2006-08-16"``), and the
author's diary of July and August.  No tree is asked anything: the first posting builds one and
never looks at it, the second has none.

Each CPU owns regions, runs of pages it took at the start.  A region is granules with one bit each,
1 for free, and a free chunk stands on the list of its CPU for chunks of exactly so many granules,
first in, first out.  Its header - its own address and two links - is in its first granule::

    bitmap        0 0 0 1 1 1 1 0 0 1 1
    region       [ live |  free   |live|free ]      lists[3], lists[1] of the region's CPU
                        ^ header        ^ header

``alloc`` takes the first chunk of the first list that is not empty, from the request's own length
on, and puts the rest back; ``free`` must be told the size, sets the bits and merges with the runs
of set bits on both sides::

    [ free | this | free |live]  =>  [ ------ free ------ |live]    appended to lists[union - 1]

What another CPU frees is queued for its owner, last first, with the size in the chunk; its bits
stay as they were.  The owner drains its queue at the end of every free of its own::

    queue of CPU 0 --> [next|size|cpu ..] --> [next|size|cpu ..]    drained: merged like any other

The second posting grows: a CPU that cannot serve takes up to 8 single pages as regions and tries
once more, also for a request that no page could hold.  Regions never go back.

The default is the second posting, repaired with as little as possible; the published revisions

- count set bits with ``ffs`` and ``fls`` of an ``int``, so that on 64-bit machines a run seems
  longer than it is, and a free merges with live objects (``word=32``: not so);
- leave queued chunks waiting when the owner only allocates: it is refused, or grows, while what it
  needs is its own already (repaired: it drains before it gives up);
- first posting: let sizes of up to 1023 granules pass, which no region of 512 can ever serve, and
  in ``avl_fini_cpu`` give regions back page by page, the first one twice.

All of it was read in the postings, and is unconfirmed by their author.  A free whose chunk ends
with its region also reads the word behind the bitmap; nothing comes of that, since counting stops
at the bitmap's end, and it is not modelled.  What is not noticed here is not noticed there: only a
free of what is free already, and of a foreign chunk only when it is drained.

Left out: the first posting's tree (a region of its 1022 nodes is entered twice), the lock of the
queue, what a node's own pages cost when growing.  Sizes are 32 bits in the source; more is refused.

A handle is the pair (address, bytes lent): the allocator keeps no length of a live object, so the
caller has to, as ``skb->__tsize`` did.  A pointer past the memory is a list's head, the last of
them is the end of a queue.

Complexity: ``alloc`` O(lists) heads, ``free`` O(bits of a region / word) and what it drains.

>>> heap = Nta(pages=16, cpus=2, regions=1)
>>> data = heap.alloc(1500); data, heap.alloc(9216)
((0, 1504), (1504, 9216))
>>> heap.free(data, 1500, ctx=Context(cpu=1)); next(iter(heap.lists()))
Listed(list_id=('foreign', 0), key=(0, 0))
"""

from collections.abc import Iterator
from functools import lru_cache

from heaplaw.pages import PageSource
from heaplaw.protocol import AllocationBits, Context, FreeRegion, InvalidFree, Listed, Maintained, Refusal

from .bits import highest_bit
from .nta_bits import count_set_down, count_set_up, fill_bits, run_down, run_up
from .nta_promises import FOREIGN, configured, heads_bytes, node_bytes
from .page_images import PageImages

Lent = tuple[int, int]
"""(address, bytes) of a live object, which its owner keeps."""

_PTR, _NEXT, _PREV = range(3)  # words of a free chunk's header
_SIZE_MASK = (1 << 32) - 1


@lru_cache(maxsize=64)
def _empty_heads(top: int, heads: int) -> tuple[int, ...]:
    """Links of list heads that lead to themselves; kept, since a heap is made every few hundred calls."""
    return tuple(range(top, top + heads))


class Node:
    """A region: its address, the bitmap of its granules (1: free), its pages' order."""

    __slots__ = ("mask", "order", "value")

    def __init__(self, value: int, order: int, granules: int) -> None:
        self.value, self.order = value, order
        self.mask = (1 << granules) - 1


class Nta:
    """Regions in the pages of a page source of its own, ``self.source``.

    ``granule``: bytes, 32 in the first posting, a cache line in the second.  ``order`` of the
    regions taken at the start, ``regions`` of them for each CPU, ``growth`` pages at most when more
    are needed (0: never); -1, 0 and -1 mean as posted, as far as the pages reach.  ``word``: bits
    of a machine word.
    """

    def __init__(
        self,
        pages: int = 256,
        page_size: int = 4096,
        cpus: int = 2,
        granule: int = 32,
        order: int = -1,
        regions: int = 0,
        growth: int = -1,
        word: int = 64,
        rev: str = "",
    ) -> None:
        self._shape, self.contract = configured(pages, page_size, cpus, granule, order, regions, growth, word, rev)
        shape = self._shape
        self.source = PageSource(pages, page_size=page_size)
        self._granule, self._granule_shift, self._page_shift = granule, highest_bit(granule), highest_bit(page_size)
        self._rev, self._lists, self._largest = rev, shape.lists, shape.largest
        memory = memoryview(self.source.memory)
        self._words, self._word_shift = memory.cast("Q" if word == 64 else "I"), word.bit_length() - 4
        self._ints = memory.cast("I")
        self._entry = word >> 5  # where size and CPU are in a queued chunk, in ints
        self._top = len(memory)  # pointers from here on are list heads, the last one ends a queue
        heads = cpus * self._lists
        self._head_next = list(_empty_heads(self._top, heads))
        self._head_prev = list(self._head_next)
        self._filled = bytearray(heads)  # 1: not empty; the scan over list heads at memchr's speed
        self._end = self._top + heads
        self._queue = [self._end] * cpus
        self._all_bits = (1 << (shape.region >> self._granule_shift)) - 1  # a node's bitmap has no more
        self._nodes: list[Node] = []  # as they were taken
        self._page_node: list[Node | None] = [None] * pages  # a page's descriptor: its region ...
        self._page_cpu = [0] * pages  # ... and the CPU that owns it
        self._probed = self._found = self._drained = 0
        for cpu in range(cpus):
            self._init_cpu(cpu)

    # ---- interface -------------------------------------------------------------------

    def alloc(self, size: int, align: int = 1, *, ctx: Context | None = None) -> Lent | Refusal | None:
        """(address, bytes) of at least ``size`` bytes from the CPU's own regions, else None.

        INVALID for size 0 and for an alignment above a granule or no power of two, TOO_BIG for what
        the size check stops.  O(lists).
        """
        self._probed = self._found = self._drained = 0
        if size < 1 or align < 1 or align & (align - 1) or align > self._granule:
            return Refusal.INVALID
        if size > self._largest:
            return Refusal.TOO_BIG
        cpu = ctx.cpu if ctx is not None else 0
        num = (size + self._granule - 1) >> self._granule_shift
        at = self._take_first(cpu, num)
        if at is None and self._drains_before_giving_up(cpu):
            at = self._take_first(cpu, num)
        if at is None and self._shape.growth and self._node_entry_alloc(cpu, 0, self._shape.growth):
            at = self._take_first(cpu, num)
        return None if at is None else (at, num << self._granule_shift)

    def free(self, handle: Lent, size: int, *, ctx: Context | None = None) -> None:
        """Give back ``size`` bytes from the handle's address on, then drain the CPU's queue.

        Any size of the same granules does; another one is not noticed.  Raises InvalidFree when
        the first granule is free already, and where there is no region.  O(bits of a region).
        """
        self._probed = self._found = self._drained = 0
        at, cpu = handle[0], ctx.cpu if ctx is not None else 0
        self._node_at(at)
        owner = self._page_cpu[at >> self._page_shift]
        if owner != cpu:
            self._push_foreign(owner, at, size, cpu)
        else:
            self._free_local(at, size)
        self._drain(cpu)

    def maintain(self, kind: str) -> Maintained:
        """``drain``: every CPU drains its queue; ``drain-N``: CPU N.  O(chunks queued)."""
        cpus = range(self._shape.cpus)
        which = {"drain": cpus, **{f"drain-{cpu}": (cpu,) for cpu in cpus}}.get(kind)
        if which is None:
            raise ValueError(f"nta knows no maintenance {kind!r}, only {', '.join(self.contract.maintenance)}")
        for cpu in which:
            self._drain(cpu)
        return Maintained()

    def destroy(self) -> None:
        """Give all regions back, as ``avl_fini_cpu`` was meant to; the second posting has no such thing.

        That of the first posting gives back one page of each node's region, and its first
        region has two nodes.
        """
        for node in self._nodes:
            self.source.give(node.value >> self._page_shift, 0 if self._rev == "2006-08-14" else node.order)
        self._nodes.clear()

    def read(self, handle: Lent, at: int, length: int) -> bytes:
        """``length`` bytes from offset ``at`` of a live object.  O(length)."""
        start = handle[0] + at
        return bytes(self.source.memory[start : start + length])

    def write(self, handle: Lent, at: int, data: bytes) -> None:
        """Put ``data`` at offset ``at`` of a live object.  ValueError past the memory's end.  O(length)."""
        start = handle[0] + at
        memoryview(self.source.memory)[start : start + len(data)] = data

    # ---- regions -----------------------------------------------------------------------

    def _init_cpu(self, cpu: int) -> None:
        """Take the CPU's regions; the first posting makes two nodes of the first of them."""
        taken = len(self._nodes)
        self._node_entry_alloc(cpu, self._shape.order, self._shape.regions)
        if self._rev == "2006-08-14":
            self._nodes.insert(taken, self._nodes[taken])

    def _node_entry_alloc(self, cpu: int, order: int, most: int) -> bool:
        """Take up to ``most`` regions of this order, as many as there are, for a CPU; any at all?"""
        granules = (self.source.page_size << order) >> self._granule_shift
        entry = []
        for _ in range(most):
            page = self.source.take(order)
            if page is None:
                break
            entry.append(Node(page << self._page_shift, order, granules))
        for node in entry:
            self._node_commit(node, cpu, granules)
        self._nodes += entry
        return bool(entry)

    def _node_commit(self, node: Node, cpu: int, granules: int) -> None:
        """Make a region known: in its pages' descriptors, and as one free chunk."""
        first, count = node.value >> self._page_shift, 1 << node.order
        self._page_node[first : first + count] = [node] * count
        self._page_cpu[first : first + count] = [cpu] * count
        self._container_add(node.value, granules, cpu)

    def _node_at(self, address: int) -> Node:
        """The region of an address.  Raises InvalidFree for a place that is in none."""
        page = address >> self._page_shift
        node = self._page_node[page] if 0 <= page < len(self._page_node) else None
        if node is None:
            raise InvalidFree(f"there is no region at {address}")
        return node

    # ---- allocating --------------------------------------------------------------------

    def _take_first(self, cpu: int, num: int) -> int | None:
        """A chunk of ``num`` granules, out of the first list that is not empty and long enough."""
        base = cpu * self._lists
        start, end = base + num - 1, base + self._lists
        index = self._filled.find(1, start, end)
        if index < 0:
            self._probed += max(0, end - start)
            return None
        self._probed += index - start + 1
        self._found = (index - base + 1) << self._granule_shift
        at = self._dequeue(index)
        self._update_node(at, index - base, num, cpu)
        return at

    def _dequeue(self, index: int) -> int:
        """Take a list's first chunk, as its header names itself."""
        chunk = self._head_next[index]
        self._list_del(chunk)
        return self._words[(chunk >> self._word_shift) + _PTR]

    def _update_node(self, at: int, pos: int, num: int, cpu: int) -> None:
        """Mark ``num`` granules used; what is left of the chunk of list ``pos`` is a chunk again.

        [ ...... free, pos + 1 ...... ] => [ used, num ][ free, on list pos - num ]
        """
        node = self._node_at(at)
        offset = (at - node.value) >> self._granule_shift
        node.mask = fill_bits(node.mask, offset, num, 0)
        if pos != num - 1:
            self._container_add(at + (num << self._granule_shift), pos + 1 - num, cpu)

    def _drains_before_giving_up(self, cpu: int) -> bool:
        """Drain the CPU's own queue; was anything in it?  The postings go without."""
        if self._rev or self._queue[cpu] == self._end:
            return False
        self._drain(cpu)
        return True

    # ---- freeing -----------------------------------------------------------------------

    def _push_foreign(self, owner: int, at: int, size: int, cpu: int) -> None:
        """Queue a chunk for its owner, first of all; its bits stay used.  O(1)."""
        index, ints = at >> self._word_shift, (at >> 2) + self._entry
        self._ints[ints], self._ints[ints + 1] = size & _SIZE_MASK, cpu
        self._words[index] = self._queue[owner]
        self._queue[owner] = at

    def _drain(self, cpu: int) -> None:
        """Free all that is queued for a CPU.  Raises InvalidFree for a chunk that was queued twice."""
        queue, words, ints = self._queue, self._words, self._ints
        while queue[cpu] != self._end:
            at = queue[cpu]
            queue[cpu] = words[at >> self._word_shift]
            self._drained += 1
            self._free_local(at, ints[(at >> 2) + self._entry])

    def _free_local(self, at: int, size: int) -> None:
        """Set the bits of a chunk of the CPU's own and merge it with the set ones on either side."""
        node = self._node_at(at)
        pos = (at - node.value) >> self._granule_shift
        num = (size + self._granule - 1) >> self._granule_shift
        if node.mask >> pos & 1:
            raise InvalidFree(f"the granule at {at} is free already")
        node.mask = fill_bits(node.mask, pos, num, 1) & self._all_bits
        after, before = self._count_up(node.mask, pos + num), self._count_down(node.mask, pos - 1) if pos else 0
        self._combine(at, num, after, before, self._page_cpu[node.value >> self._page_shift])

    def _count_up(self, mask: int, pos: int) -> int:
        """Free granules from ``pos`` on; none where the region ends."""
        if not self._rev:
            return run_up(mask, pos)
        words = (self._shape.region >> self._granule_shift) // self._shape.word
        return count_set_up(mask, words, pos, self._shape.word) if mask >> pos & 1 else 0

    def _count_down(self, mask: int, pos: int) -> int:
        """Free granules from ``pos`` down."""
        if not self._rev:
            return run_down(mask, pos)
        return count_set_down(mask, pos, self._shape.word) if mask >> pos & 1 else 0

    def _combine(self, at: int, num: int, after: int, before: int, cpu: int) -> None:
        """List a chunk with its free neighbours as one, under the lowest address.

        [ free, before ][ this, num ][ free, after ] => [ free, before + num + after ]
        """
        chunk = at
        if before:
            chunk = at - (before << self._granule_shift)
            self._list_del(chunk)
        if after:
            self._list_del(at + (num << self._granule_shift))
        self._container_add(chunk, before + num + after, cpu)

    # ---- lists -------------------------------------------------------------------------

    def _container_add(self, at: int, granules: int, cpu: int) -> None:
        """Write a free chunk's header and put it last on the list of its length.  O(1)."""
        index, words, shift = cpu * self._lists + granules - 1, self._words, self._word_shift
        last = self._head_prev[index]
        place = at >> shift
        words[place + _PTR], words[place + _NEXT], words[place + _PREV] = at, self._top + index, last
        self._head_prev[index] = at
        if last < self._top:
            words[(last >> shift) + _NEXT] = at
        else:
            self._head_next[last - self._top] = at
            self._filled[index] = 1

    def _list_del(self, chunk: int) -> None:
        """Take a chunk off whatever list its links say; they are no places then.  O(1)."""
        words, shift, top = self._words, self._word_shift, self._top
        place = chunk >> shift
        after, before = words[place + _NEXT], words[place + _PREV]
        if after < top:
            words[(after >> shift) + _PREV] = before
        else:
            self._head_prev[after - top] = before
        if before < top:
            words[(before >> shift) + _NEXT] = after
        else:
            self._head_next[before - top] = after
            if after == before:
                self._filled[after - top] = 0
        words[place + _NEXT] = words[place + _PREV] = (1 << self._shape.word) - 1

    def _listed(self, index: int) -> Iterator[int]:
        """Addresses of a list's chunks, first to last.  RuntimeError for one that does not end."""
        chunk, left = self._head_next[index], self._top >> self._granule_shift
        while chunk != self._top + index:
            if left <= 0 or chunk >= self._top:
                raise RuntimeError("free list does not end")
            yield chunk
            chunk, left = self._words[(chunk >> self._word_shift) + _NEXT], left - 1

    def _queued(self, cpu: int) -> Iterator[tuple[int, int]]:
        """(address, granules) of what is queued for a CPU, the last freed first.  RuntimeError as above."""
        at, left = self._queue[cpu], self._top >> self._granule_shift
        while at != self._end:
            if left <= 0 or at >= self._top:
                raise RuntimeError("free list does not end")
            yield at, (self._ints[(at >> 2) + self._entry] + self._granule - 1) >> self._granule_shift
            at, left = self._words[at >> self._word_shift], left - 1

    # ---- observations ------------------------------------------------------------------

    def extents(self, handle: Lent) -> tuple[tuple[int, int, int], ...]:
        """What was lent, as its owner keeps it: there is no other record.  O(1)."""
        return ((0, *handle),)

    def _regions(self) -> Iterator[tuple[Node, int]]:
        """(node, CPU) of each region, by the page descriptors.  O(pages)."""
        seen = None
        for page, node in enumerate(self._page_node):
            if node is not None and node is not seen:
                yield node, self._page_cpu[page]
                seen = node

    def pages(self) -> Iterator[tuple[int, int]]:
        """(first page, count) of each region.  O(pages)."""
        for node, _ in self._regions():
            yield node.value >> self._page_shift, 1 << node.order

    def free_regions(self) -> Iterator[FreeRegion]:
        """Runs of set bits in the bitmaps, and what is queued.  O(bits + queued)."""
        shift = self._granule_shift
        for node, cpu in self._regions():
            pos = run_up(~node.mask, 0) if node.mask else -1
            while pos >= 0:
                length = run_up(node.mask, pos)
                yield FreeRegion(0, node.value + (pos << shift), length << shift, (cpu, length - 1))
                rest = node.mask >> (pos + length)
                pos = pos + length + run_up(~rest, 0) if rest else -1
        for cpu in range(self._shape.cpus):
            for at, granules in self._queued(cpu):
                yield FreeRegion(0, at, granules << shift, (FOREIGN, cpu))

    def lists(self) -> Iterator[Listed]:
        """Chunks met walking every queue and every list, by their headers.  O(lists + chunks)."""
        for cpu in range(self._shape.cpus):
            for at, _ in self._queued(cpu):
                yield Listed((FOREIGN, cpu), (0, at))
        for index, head in enumerate(self._head_next):
            if head != self._top + index:
                for chunk in self._listed(index):
                    yield Listed(divmod(index, self._lists), (0, self._words[(chunk >> self._word_shift) + _PTR]))

    def bitmap(self) -> Iterator[AllocationBits]:
        """The bitmaps turned over, but for queued chunks: freed, and used until they are merged.  O(bits)."""
        queued = sorted(chunk for cpu in range(self._shape.cpus) for chunk in self._queued(cpu))
        index, shift = 0, self._granule_shift
        for node, _ in self._regions():
            at, end = node.value, node.value + (self.source.page_size << node.order)
            while at < end:
                stop, granules = queued[index] if index < len(queued) and queued[index][0] < end else (end, 0)
                units = (stop - at) >> shift
                if units > 0:
                    bits = ~(node.mask >> ((at - node.value) >> shift)) & ((1 << units) - 1)
                    yield AllocationBits(0, at, self._granule, units, bits)
                at, index = stop + (granules << shift), index + (1 if granules else 0)
                if not granules:
                    break

    def counters(self) -> dict[str, int]:
        """Free bytes by the lists and queues, used ones by the bitmaps less the queues, pages.  O(bits + chunks)."""
        shift = self._granule_shift
        queued = [granules for cpu in range(self._shape.cpus) for _, granules in self._queued(cpu)]
        listed = [index % self._lists + 1 for index in range(len(self._head_next)) for _ in self._listed(index)]
        regions = list(self._regions())
        granules = sum((self.source.page_size << node.order) >> shift for node, _ in regions)
        used = granules - sum(node.mask.bit_count() for node, _ in regions) - sum(queued)
        return {
            "free_bytes": (sum(listed) + sum(queued)) << shift,
            "largest_free": max(listed + queued, default=0) << shift,
            "used_bytes": used << shift,
            "pages": sum(1 << node.order for node, _ in regions),
        }

    def cost(self) -> dict[str, int]:
        """Of the last call: list heads ``probed``, queued chunks ``drained``, bytes ``found`` if any were."""
        steps = {"probed": self._probed, "drained": self._drained}
        return {**steps, "found": self._found} if self._found else steps

    def metadata(self) -> tuple[int, int]:
        """(bytes of headers in free and queued chunks, bytes of nodes and list heads).  O(lists + chunks)."""
        headers = sum(1 for _ in self.lists()) * 3 * (self._shape.word // 8)
        return headers, len(self._nodes) * node_bytes(self._shape) + heads_bytes(self._shape)

    # ---- states ------------------------------------------------------------------------

    def snapshot(self) -> "State":
        """The heap as it is now; hashable.  O(bytes held)."""
        return State(self)

    def restore(self, state: "State") -> None:
        """Return to a state of ``snapshot``; armed failures of the source stay.  O(bytes held)."""
        state.images.put_back(self.source)
        self._head_next[:], self._head_prev[:], self._queue[:] = state.head_next, state.head_prev, state.queue
        self._filled[:] = bytes(head != self._top + index for index, head in enumerate(self._head_next))
        nodes = {value: Node(value, order, 0) for value, order, _, _ in state.shape[0]}
        self._nodes = [nodes[value] for value in state.nodes]
        self._page_node = [None] * len(self._page_node)
        for value, order, mask, cpu in state.shape[0]:
            nodes[value].mask = mask
            first, count = value >> self._page_shift, 1 << order
            self._page_node[first : first + count] = [nodes[value]] * count
            self._page_cpu[first : first + count] = [cpu] * count
        self._probed = self._found = self._drained = 0


class State:
    """A heap at one moment; ``shape``, bitmaps and the order of lists and queues, is what equality means."""

    __slots__ = ("head_next", "head_prev", "images", "nodes", "queue", "shape")

    def __init__(self, heap: Nta) -> None:
        self.images = PageImages(heap.source)
        self.head_next, self.head_prev = list(heap._head_next), list(heap._head_prev)
        self.queue, self.nodes = list(heap._queue), [node.value for node in heap._nodes]
        masks = tuple((node.value, node.order, node.mask, cpu) for node, cpu in heap._regions())
        self.shape = (masks, tuple(heap.lists()), tuple(tuple(heap._queued(cpu)) for cpu in range(len(self.queue))))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, State) and self.shape == other.shape

    def __hash__(self) -> int:
        return hash(self.shape)
