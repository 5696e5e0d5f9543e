"""Xen's first xmalloc near a page: one page costs two, two cost four.

Said in the discussion of October 2008: "xmalloc'ing a page actually allocates two contiguous pages,
xmalloc'ing two pages actually allocates four", and a byte less than a page costs two as well, since
a header of a cache line stands in front and whole pages come in powers of two.  Keir Fraser's
alternative was to give the unused end back, as TLSF's port then could (``whole=trim`` here).
"""

from .memory import Memory, factory, measure, memory_table
from .shape import Cell, Chart, Claim, Experiment, Figure, Line, Outcome, Posting, Scale, Table

_PAGE = 4096
_NAMES = ("xen-xmalloc", "xen-tlsf", "xen-tlsf,whole=trim")
_PUBLISHED = {_PAGE - 1: 2, _PAGE: 2, 2 * _PAGE: 4}
_SIZES = (2048, 3584, 3840, 3968, _PAGE - 1, _PAGE, 6000, 2 * _PAGE - 200, 2 * _PAGE, 3 * _PAGE, 4 * _PAGE)
_TITLE = "ours: pages for one object, beside the one that TLSF has from the start"


def run(scale: Scale, seed: int) -> Outcome:
    """Seconds: below 1.  Nothing is random here: ``seed`` is not used, nor is ``scale``."""
    pages = {(name, size): _one(name, size).held // _PAGE for name in _NAMES for size in _SIZES}
    memory = {name: _one(name, _PAGE) for name in _NAMES}
    first = _NAMES[0]
    rows: list[tuple[Cell, ...]] = [(size, *(pages[name, size] for name in _NAMES)) for size in _SIZES]
    lines = tuple(Line(name, tuple((size, pages[name, size]) for size in _SIZES)) for name in _NAMES)
    return Outcome(
        Table("published: pages for one object", ("bytes", "xmalloc"), tuple(_PUBLISHED.items())),
        (Table(_TITLE, ("bytes", *_NAMES), tuple(rows)), memory_table("ours: one page", memory)),
        (
            Claim("A page costs two, two pages cost four", pages[first, _PAGE] == 2 and pages[first, 2 * _PAGE] == 4,
                  f"{pages[first, _PAGE]} and {pages[first, 2 * _PAGE]}"),
            Claim("The end of a run that is given back helps", pages[_NAMES[2], 3 * _PAGE] < pages[first, 3 * _PAGE],
                  f"three pages cost {pages[_NAMES[2], 3 * _PAGE]}, not {pages[first, 3 * _PAGE]}"),
        ),
        tuple(Figure(f"pages for {size} bytes", said, pages[first, size]) for size, said in _PUBLISHED.items()),
        "", (Chart("pages for one object", "bytes", "pages", lines),),
    )  # fmt: skip


def _one(name: str, size: int) -> Memory:
    base, _, rest = name.partition(",")
    heap = factory(",".join(filter(None, (base, "pages=64", rest))))()
    pool = heap.source.held  # pages that TLSF takes before anything is asked for
    live = {heap.alloc(size): size}
    return measure(heap, live, held=(heap.source.held - pool) * _PAGE)


EXPERIMENT = Experiment(
    "xen-pages", "Xen's first xmalloc takes two pages for one, and four for two.",
    Posting("Dan Magenheimer", "2008-10-11", "[RFC] Replacing Xen's xmalloc engine and(?) API"),
    1.01, run,
)  # fmt: skip
