"""What was published about a change of strategy, and whether it shows here in numbers.

Each claim names the posting that makes it, and an experiment (see ``experiments``) that gives figures of both
strategies and says which way they point.  Steps and pages are counted, not milliseconds: directions are compared, and
figures published in milliseconds stand in the text for orientation.

>>> [claim.id for claim in known("xen-tlsf", "xen-xmalloc")]
['bounded', 'worst-case', 'denser', 'near-page']
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from heaplaw.impls.naming import TargetName, is_native, parse
from heaplaw.impls.registry import BUILT_IN

from . import experiments
from .experiments import Evidence

ZHOU = "Dennis Zhou, 15 July 2017, percpu: replace percpu area map allocator with bitmap allocator"
RFC = "Dan Magenheimer, 11 October 2008, [RFC] Replacing Xen's xmalloc engine and(?) API"
TLSF = "Dan Magenheimer, October 2008, xmalloc: use tlsf algorithm"
KIM = "Joonsoo Kim, 26 September 2014, [RFC] mm/afmalloc: introduce anti-fragmentation memory allocator"
XCF = "Seth Jennings, September 2011, staging: zcache: xcfmalloc support"
XV = "Nitin Gupta, Staging: xvmalloc memory allocator (2.6.33)"
ZS = "Minchan Kim quoting Seth Jennings, January 2014, zsmalloc: move it under mm"


class Claim(NamedTuple):
    """``first`` was to be replaced by ``second``; ``says`` is the claim in our words."""

    id: str
    first: str
    second: str
    says: str
    source: str
    experiment: Callable[[str, str, int], Evidence]


class Judged(NamedTuple):
    """A claim and what was measured; ``figures``: what, of the first, of the second."""

    claim: Claim
    evidence: Evidence

    @property
    def verdict(self) -> str:
        """In words."""
        if self.evidence.holds:
            return "as claimed"
        return "as claimed in part" if self.evidence.partly else "not as claimed"


_MAP, _BITS = "percpu-area-map", "percpu-bitmap"
CLAIMS = (
    Claim("free-path", _MAP, _BITS, "freeing 4-byte objects is far cheaper (4960 ms before, 70 ms after)", ZHOU,
          experiments.free_small),
    Claim("free-recorded", _MAP, _BITS, "no map entries are moved when an area is freed: on a recorded chunk too",
          ZHOU, experiments.free_recorded),
    Claim("free-sizes", _MAP, _BITS, "cost of a free depends far less on the size (was 4960 to 140 ms, is 70 to 260)",
          ZHOU, experiments.free_by_size),
    Claim("free-order", _MAP, _BITS, "small frees cost nearly the same in whatever order", ZHOU,
          experiments.free_by_order),
    Claim("alloc", _MAP, _BITS, "allocating costs more (4 to 1024 bytes: 335 to 3385 ms before, 725 to 3770 after)",
          ZHOU, experiments.alloc_by_size),
    Claim("alignment", _MAP, _BITS, "4 bytes aligned to 8 no longer visit every chunk (52 minutes before, 14 s after)",
          ZHOU, experiments.bad_alignment),
    Claim("metadata", _MAP, _BITS, "what is kept about a chunk no longer grows with the objects in it", ZHOU,
          experiments.metadata_growth),
    Claim("bounded", "xen-xmalloc", "xen-tlsf", "a call's cost no longer grows with the number of near-page objects",
          RFC, experiments.unbounded),
    Claim("worst-case", "xen-xmalloc", "xen-tlsf", "the worst call is much shorter, on recorded traces", RFC,
          experiments.worst_recorded),
    Claim("denser", "xen-xmalloc", "xen-tlsf", "it is more space efficient, on recorded traces", TLSF,
          experiments.footprint_recorded),
    Claim("near-page", "xen-xmalloc", "xen-tlsf", "most of all for sizes from half a page to a page", TLSF,
          experiments.footprint_by_size),
    Claim("overhead", "zsmalloc", "afmalloc", "compressed pages cost less: 4.0 % for what they hold, 5.3 % before", KIM,
          experiments.overhead_full),
    Claim("real-overhead", "zsmalloc", "afmalloc", "... and 3.6 % counting only what slabs cannot lend to others", KIM,
          experiments.overhead_real),
    Claim("removal", "zsmalloc", "afmalloc", "after removing most of it the overhead is smaller: 10.8 %, 16.2 % before",
          KIM, experiments.overhead_removed),
    Claim("rounds", "zsmalloc", "afmalloc", "... and after ten rounds of that, 26 %, 37 % before", KIM,
          experiments.overhead_rounds),
    Claim("recorded", "zsmalloc", "afmalloc", "... and so for recorded programs, of which the posting does not speak",
          KIM, experiments.footprint_recorded),
    Claim("half-empty", "xvmalloc", "zsmalloc", "above half a page xvmalloc leaves up to 50 % of its pages unused", XCF,
          experiments.half_empty),
    Claim("reclaim", "xvmalloc", "zsmalloc", "xvmalloc cannot compact, so fewer pages come back", XCF,
          experiments.reclaimed),
    Claim("large-recorded", "xvmalloc", "zsmalloc", "... and so for such objects of recorded programs", XCF,
          experiments.large_recorded),
    Claim("large", "kmalloc", "zsmalloc", "less fragmentation than slabs from half a page to a page", ZS,
          experiments.half_empty),
    Claim("compcache", "kmalloc", "xvmalloc", "kmalloc takes more memory for compressed pages (43 % more than TLSF)",
          XV, experiments.footprint_packed),
)  # fmt: skip


def known(one: str, two: str) -> list[Claim]:
    """Claims about a pair of built-in targets, whichever is named first."""
    return [claim for claim in CLAIMS if {claim.first, claim.second} == {one, two}]


def judged(old: str, new: str, seed: int) -> Iterator[Judged]:
    """Every claim about the two, with figures of this very pair; revisions and other parameters as named."""
    if ":" in old + new or is_native(old) or is_native(new):
        return
    names = {(parts := parse(name)).base: parts for name in (old, new)}
    if len(names) < 2 or not names.keys() <= BUILT_IN.keys():
        return
    for claim in known(*names):
        pair = (_plain(names[claim.first]), _plain(names[claim.second]))
        yield Judged(claim, claim.experiment(*pair, seed))


def _plain(parts: TargetName) -> str:
    """With its revision and bug, without parameters: an experiment sets the room that it needs."""
    return str(parts._replace(parameters={}))
