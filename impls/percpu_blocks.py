"""Descriptors of the per-CPU bitmap allocator: what a block (or a chunk) says about its free runs.

Era: Linux, proposed in July 2017, merged in 4.14, extended by scan hints in 5.1 and since
then unchanged in these functions.  Source: ``mm/percpu.c`` and ``mm/percpu-internal.h``.

A descriptor never sees more of the bitmap than it is told: ``update`` hands it one complete
free run, ``refresh`` rescans what an allocation has broken.  All positions and lengths are
bits, relative to the block::

      left_free         scan_hint      contig_hint            right_free
    |....#########.....####.........####...............#####..........|
     0             ^ first_free = 0     ^ contig_hint_start           nr_bits

Four rules, by revision: the largest run, the first one on ties (2017-07); the better aligned
start on ties (4.14); with a scan hint, the largest run *before* the largest one, so that a
refresh need only look behind it (6.12); and the same with its defects repaired.

The intended relation of the two hints: a scan hint as long as the contig hint lies behind it,
a shorter one before it, and no run before the scan hint is longer than it.  6.12 breaks it
(reported on the mailing list in 2026; the other findings here are unconfirmed by its
maintainers).  The repaired rule drops or keeps a scan hint wherever 6.12 lets it stand on the
wrong side of an equal run, at the start of a run that has grown, or across the run that
overtakes it; and its refresh remembers that a promoted run may reach the end of the block.

>>> block = BlockHints(8)
>>> refresh_forward(block, 0b00111001, update_scanning)   # runs [1, 3) and [6, 8)
>>> block.contig_hint, block.contig_hint_start, block.right_free
(2, 6, 2)
"""

from collections.abc import Callable, Iterator


class BlockHints:
    """What is known about ``nr_bits`` bits; born as one free run."""

    __slots__ = (
        "contig_hint", "contig_hint_start", "first_free", "left_free", "nr_bits", "right_free",
        "scan_hint", "scan_hint_start",
    )  # fmt: skip

    def __init__(self, nr_bits: int) -> None:
        self.nr_bits = nr_bits
        self.contig_hint = self.left_free = self.right_free = nr_bits  # all free
        self.contig_hint_start = self.first_free = self.scan_hint = self.scan_hint_start = 0

    def set_full(self) -> None:
        """Every bit was taken from outside; the places stay as they are, being dead."""
        self.contig_hint = self.left_free = self.right_free = self.scan_hint = 0

    def set_free(self) -> None:
        """Every bit was given back from outside."""
        self.contig_hint = self.left_free = self.right_free = self.nr_bits
        self.contig_hint_start = self.first_free = self.scan_hint = 0

    def fields(self) -> tuple[int, ...]:
        """All that varies, in one tuple."""
        scan_start = self.scan_hint_start if self.scan_hint else 0  # dead without a hint
        return (
            self.contig_hint, self.contig_hint_start, self.scan_hint, scan_start,
            self.left_free, self.right_free, self.first_free,
        )  # fmt: skip

    def set_fields(self, fields: tuple[int, ...]) -> None:
        """Return to the state of ``fields``."""
        (
            self.contig_hint, self.contig_hint_start, self.scan_hint, self.scan_hint_start,
            self.left_free, self.right_free, self.first_free,
        ) = fields  # fmt: skip


Update = Callable[[BlockHints, int, int], None]


# ---- bits of one block ---------------------------------------------------------------------


def next_zero(used: int, at: int, bits: int) -> int:
    """Position of the first clear bit from ``at`` on, ``bits`` if there is none.  O(bits/64)."""
    rest = used >> at
    return min(at + (~rest & (rest + 1)).bit_length() - 1, bits)


def next_set(used: int, at: int, bits: int) -> int:
    """Position of the first set bit from ``at`` on, ``bits`` if there is none.  O(bits/64)."""
    rest = used >> at
    return at + (rest & -rest).bit_length() - 1 if rest else bits


def run_start(used: int, at: int) -> int:
    """Where the free run that ends at ``at`` begins.  O(bits/64)."""
    return (used & ~(-1 << at)).bit_length()


def free_runs(used: int, at: int, bits: int) -> Iterator[tuple[int, int]]:
    """(start, end) of the clear runs in [at, bits), ascending.  O(runs * bits/64)."""
    used |= 1 << bits  # ends the last run
    for _ in range(bits):  # there are no more runs
        rest = used >> at
        at += (~rest & (rest + 1)).bit_length() - 1
        if at >= bits:
            return
        rest = used >> at
        end = at + (rest & -rest).bit_length() - 1
        yield at, end
        at = end


# ---- update: one complete free run [start, end) is made known, O(1) -------------------------


def update_largest(b: BlockHints, start: int, end: int) -> None:
    """2017-07: the largest run; on ties the one that was known first."""
    run = end - start
    if start < b.first_free:
        b.first_free = start
    if start == 0:
        b.left_free = run
    if end == b.nr_bits:
        b.right_free = run
    if run > b.contig_hint:
        b.contig_hint, b.contig_hint_start = run, start


def update_aligned(b: BlockHints, start: int, end: int) -> None:
    """4.14: the largest run; on ties the one whose start has more trailing zeros."""
    update_largest(b, start, end)
    if end - start == b.contig_hint and better_aligned(start, b.contig_hint_start):
        b.contig_hint_start = start


def better_aligned(start: int, than: int) -> bool:
    """Has ``start`` more trailing zeros?  Nothing is better aligned than 0."""
    return than != 0 and (start == 0 or start & -start > than & -than)


def update_scanning(b: BlockHints, start: int, end: int) -> None:
    """6.12, as shipped: the largest run, and the largest one before it as scan hint."""
    run, contig = end - start, b.contig_hint
    if start < b.first_free:
        b.first_free = start
    if start == 0:
        b.left_free = run
    if end == b.nr_bits:
        b.right_free = run
    if run > contig:
        if start <= b.contig_hint_start:
            b.scan_hint = 0
        elif contig > b.scan_hint:
            b.scan_hint, b.scan_hint_start = contig, b.contig_hint_start
        elif start < b.scan_hint_start:
            b.scan_hint = 0
        b.contig_hint, b.contig_hint_start = run, start
    elif run == contig:
        if better_aligned(start, b.contig_hint_start):
            b.contig_hint_start = start
            if start < b.scan_hint_start and contig > b.scan_hint:
                b.scan_hint = 0
        elif start > b.scan_hint_start or contig > b.scan_hint:
            b.scan_hint, b.scan_hint_start = run, start
    elif start < b.contig_hint_start and _longer_scan(b, run, start):
        b.scan_hint, b.scan_hint_start = run, start


def _longer_scan(b: BlockHints, run: int, start: int) -> bool:
    """Is this run, before the largest, a better scan hint?  On ties the last one is."""
    return run > b.scan_hint or (run == b.scan_hint and start > b.scan_hint_start)


def update_ordered(b: BlockHints, start: int, end: int) -> None:
    """Repaired: as ``update_scanning``, but no run before the largest exceeds a shorter scan hint."""
    run, contig, place = end - start, b.contig_hint, b.contig_hint_start
    if start < b.first_free:
        b.first_free = start
    if start == 0:
        b.left_free = run
    if end == b.nr_bits:
        b.right_free = run
    if run > contig:
        if start <= place or place + contig > start:  # grown, or overtaken across a block's border
            b.scan_hint = 0
        elif contig > b.scan_hint:
            b.scan_hint, b.scan_hint_start = contig, place
        elif start < b.scan_hint_start + b.scan_hint:
            b.scan_hint = 0
        b.contig_hint, b.contig_hint_start = run, start
    elif run == contig:
        if start != place:  # else the largest run itself is met again, as a hole in a search
            _meet_equal(b, start)
    elif start < place and b.scan_hint and _longer_scan(b, run, start):
        # a run that reaches into the largest cannot be skipped before it
        b.scan_hint, b.scan_hint_start = (run, start) if end <= place else (0, start)


def _meet_equal(b: BlockHints, start: int) -> None:
    """Another run is as long as the largest: the better aligned leads, the later may be the scan hint."""
    contig, place, scan = b.contig_hint, b.contig_hint_start, b.scan_hint_start
    shorter = contig > b.scan_hint
    if better_aligned(start, place):
        b.contig_hint_start = start
        if not (scan + b.scan_hint <= start < place if shorter else start < scan):
            b.scan_hint = 0
    elif start > place:
        if shorter or start > scan:
            b.scan_hint, b.scan_hint_start = contig, start
    elif shorter:
        b.scan_hint = 0  # it would hide the equal run that now stands before it


# ---- refresh: the bitmap of the block is read again, O(runs) --------------------------------


def refresh_whole(b: BlockHints, used: int, update: Update) -> None:
    """2017-07 and 4.14: forget all hints, rescan from the first free bit."""
    b.contig_hint = b.left_free = b.right_free = 0
    rescan(b, used, b.first_free, update)


def refresh_forward(b: BlockHints, used: int, update: Update) -> None:
    """6.12, as shipped: a scan hint becomes the contig hint, and only what lies behind is rescanned.

    ``right_free`` is lost when the promoted run reaches the end of the block: nothing behind
    it sets it again.  ``left_free`` stays; the caller clears it where it must.
    """
    start = promote_scan_hint(b)
    b.right_free = 0
    rescan(b, used, start, update)


def refresh_repaired(b: BlockHints, used: int, update: Update) -> None:
    """Repaired: as ``refresh_forward``, but a promoted run that ends the block is its right run."""
    start = promote_scan_hint(b)
    b.right_free = b.contig_hint if b.contig_hint and start == b.nr_bits else 0
    rescan(b, used, start, update)


def rescan(b: BlockHints, used: int, at: int, update: Update) -> None:
    """Update with the free runs from ``at`` on, in ascending order.

    Left out are runs shorter than the hint, which behind it change nothing: first the starts
    of runs that are long enough are sifted out, anew whenever the hint has grown.
    """
    bits = b.nr_bits
    free = ~used & (1 << bits) - (1 << at) if at < bits else 0
    last = free.bit_length()
    starts, sifted = free, 1
    for _ in range(bits):  # there are no more runs
        if not starts:
            break
        start = (starts & -starts).bit_length() - 1
        rest = used >> start
        end = start + (rest & -rest).bit_length() - 1 if rest else bits
        update(b, start, end)
        starts = starts >> end << end
        if b.contig_hint > sifted:
            sifted = b.contig_hint
            starts = run_starts(free >> end << end, sifted)
    if last == bits and b.right_free == 0:
        update(b, max(run_start(used, bits), at), bits)


def run_starts(free: int, length: int) -> int:
    """Which bits of ``free`` begin ``length`` set bits.  O(log length * bits/64)."""
    have = 1
    for _ in range((length - 1).bit_length()):  # twice as many each time
        step = min(have, length - have)
        free &= free >> step
        have += step
    return free


def promote_scan_hint(b: BlockHints) -> int:
    """The contig hint is broken: put the scan hint in its place; where to go on scanning.  O(1)."""
    if b.scan_hint:
        b.contig_hint, b.contig_hint_start = b.scan_hint, b.scan_hint_start
        b.scan_hint = 0
        return b.contig_hint_start + b.contig_hint
    b.contig_hint = 0
    return b.first_free
