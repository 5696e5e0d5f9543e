"""The laws: what every allocator must obey, each one sentence beside its code.

A law looks at the checker ``c`` (the operation just done, the shadow heap, the target's observations) and
raises ``Broken``; it never returns a verdict.  Beside its id stand the moments at which it is asked ("?":
only where its condition holds, which it counts with ``c.met``) and what it must be shown: a method of the
target, or a promise of its contract.  Local moments look only at what the operation touched; an ``audit``
walks everything.
"""

from itertools import pairwise, zip_longest
from typing import TYPE_CHECKING

from .lawbook import Broken, law
from .protocol import Direction, Refusal
from .shadow import SMALL, Block

if TYPE_CHECKING:
    from .checker import Checker

PERCPU = "percpu bitmap posting, July 2017: a larger contig_hint than available will never occur"
TLSF = "Masmano et al., TLSF (ECRTS 2004): the head of the first non-empty list always fits"
ZSMALLOC = "zsmalloc compaction: objects migrate until no zspage can be emptied"
SROG = "SROG posting, August 2006: objects grouped by lifetime, determinism in space"

# -- safety
@law("returns", "engine", "", "Every call returns: it neither crashes nor hangs.")
def returns(c: "Checker") -> None:
    raise Broken("returns", "an answer", c.problem)

@law("disjoint", "place", "places", "Live blocks never overlap.")
def disjoint(c: "Checker") -> None:
    extents = c.block.extents
    for space, start, length in extents:
        if length > 0 and (other := c.shadow.clash(space, start, length)):
            raise Broken("disjoint", f"{c.show(c.block)} apart from {c.show(other)}", "an overlap")
    if len(extents) > 1:
        for (s1, a1, n1), (s2, a2, _) in pairwise(sorted(extent for extent in extents if extent[2] > 0)):
            if s1 == s2 and a1 + n1 > a2:
                raise Broken("disjoint", "the pieces of one object apart", c.show(c.block))

@law("in-bounds", "place", "bounds", "A live block lies inside memory that the allocator owns.")
def in_bounds(c: "Checker") -> None:
    for space, start, length in c.block.extents:
        if (length or "extents" in c.shows) and not c.inside(space, start, length):  # no bytes: only if it says where
            raise Broken("in-bounds", f"a place inside {c.owned_text()}", c.show(c.block))

@law("aligned", "place", "places", "A block starts at a multiple of the alignment asked for.")
def aligned(c: "Checker") -> None:
    block, granule = c.block, c.contract.granule
    if block.extents and (block.extents[0][1] % block.align or block.extents[0][1] % granule):
        raise Broken("aligned", f"a multiple of {max(block.align, granule)}", c.show(block))

@law("big-enough", "place", "extents", "A block is at least as long as what was asked for.")
def big_enough(c: "Checker") -> None:
    if sum([length for _, _, length in c.block.extents]) < c.block.size:
        raise Broken("big-enough", f"at least {c.block.size} bytes", c.show(c.block))

@law("contents", "touch", "read write", "A live block keeps what was written to it.")
def contents(c: "Checker") -> None:
    c.compare("contents")

@law("zeroed", "alloc", "contract.zeroed read", "A fresh block is all zero where that is promised.")
def zeroed(c: "Checker") -> None:
    for at, length in ((0, n),) if (n := c.block.size) <= SMALL else ((0, SMALL), (n - SMALL, SMALL)):
        data = bytes(c.target.read(c.block.handle, at, length))
        if data.count(0) != length:
            raise Broken("zeroed", "zeros", f"{data.lstrip(bytes(1))[:8].hex()} in {c.show(c.block)}")

@law("realloc-prefix", "resized", "realloc read write", "Resizing keeps the common prefix of the contents.")
def realloc_prefix(c: "Checker") -> None:
    c.compare("realloc-prefix")

@law("realloc-failure", "unresized", "realloc", "A refused resize leaves the old object as it was.")
def realloc_failure(c: "Checker") -> None:
    c.unmoved("realloc-failure", c.block)
    c.compare("realloc-failure")

@law("refusal-pure", "audit ?", "", "A refused call changes no live block and does not shrink what can be served.")
def refusal_pure(c: "Checker") -> None:
    if c.only_refused and c.last_audit is not None:
        c.met("refusal-pure")
        for block in c.shadow.live.values():
            c.unmoved("refusal-pure", block)
        given_back = max(0, c.last_audit[1] - c.source.held) * c.page_size if c.source is not None else 0
        if (now := c.view.free_total()) < (least := c.last_audit[0] - given_back):
            raise Broken("refusal-pure", f"{least} free bytes, as before the refused call", f"{now}")

@law("bad-free-rejected", "bad-free", "contract.detects", "A bad free is noticed where the contract says so.")
def bad_free_rejected(c: "Checker") -> None:
    if c.answer != "InvalidFree":
        raise Broken("bad-free-rejected", f"InvalidFree for a {c.op[4]} free", "it was accepted")

@law("bad-size-rejected", "bad-alloc", "contract.rejects", "A request that makes no sense is refused.")
def bad_size_rejected(c: "Checker") -> None:
    if not (c.answer is None or isinstance(c.answer, Refusal)):
        raise Broken("bad-size-rejected", f"a refusal of {c.request.size} bytes", f"handle {c.answer}")

@law("deterministic", "twins ?", "contract.deterministic", "The same calls give the same answers.")
def deterministic(c: "Checker") -> None:
    for index, (one, two) in enumerate(zip_longest(*c.twins, fillvalue="a crash")):
        if one != two:
            raise Broken("deterministic", f"answer {one!r} at operation {index + 1} again", f"{two!r}")

# -- accounting
@law("conservation", "audit", "owned", "Used, pending, free and overhead bytes add up to what is owned.")
def conservation(c: "Checker") -> None:
    if "pages" in c.shows and c.source is not None:
        claimed = {page for first, count in c.target.pages() for page in range(first, first + count)}
        if claimed != c.source.owned.keys():
            odd = sorted(claimed ^ c.source.owned.keys())[:4]
            raise Broken("conservation", "exactly the pages that were taken", f"a difference at pages {odd}")
    if c.contract.overhead is not None and "free_regions" in c.shows and c.places:
        pending = c.contract.pending(c.shadow) if c.contract.pending else 0
        total = c.shadow.bytes + pending + c.view.free_bytes + c.contract.overhead(c.shadow, c.source)
        if total != (owned := c.owned_bytes()):
            raise Broken("conservation", f"{owned} bytes in all", f"{total}, {c.view.free_bytes} of them free")

@law("counters", "audit", "counters", "Reported statistics equal a recount.")
def counters(c: "Checker") -> None:
    for name, value in c.target.counters().items():
        if (truth := c.view.recount(name)) is not None and value != truth:
            raise Broken("counters", f"{name} = {truth}", f"{value}")

@law("metadata-bound", "audit", "metadata contract.metadata_bound", "Metadata stays within its promised size.")
def metadata_bound(c: "Checker") -> None:
    bound, seen = c.contract.metadata_bound(c.shadow, c.source), sum(c.target.metadata())
    if seen > bound:
        raise Broken("metadata-bound", f"at most {bound} bytes", f"{seen}")

@law("drain", "drained", "drained", "When all is freed, pages are back and the largest promised request is served.")
def drain(c: "Checker") -> None:
    most, size = c.contract.drained_pages, c.contract.drained_size
    if most is not None and c.source is not None and c.source.held > most:
        raise Broken("drain", f"at most {most} pages held with nothing live", f"{c.source.held}")
    if size is not None and c.can_take(size):
        handle = c.call_alloc(size)
        if handle is None or isinstance(handle, Refusal):
            raise Broken("drain", f"{size} bytes served with nothing live", f"refused: {handle}")
        c.call_free(handle, size)

@law("limits-honest", "first ?", "largest", "A fresh heap serves every size between the advertised limits.")
def limits_honest(c: "Checker") -> None:
    (size, align, atomic, group, _), refused = c.request, c.answer is None or isinstance(c.answer, Refusal)
    plain = align <= c.contract.granule and not atomic and not group
    if plain and c.contract.min_size <= size <= c.contract.largest:
        c.met("limits-honest")
        if refused:
            raise Broken("limits-honest", f"{size} bytes served by a fresh heap", f"refused: {c.answer}")

# -- structure
@law("tiling", "audit", "places free_regions arena|tiled", "Live and free blocks tile each space or run of pages.")
def tiling(c: "Checker") -> None:
    for gap, space, at, start, what in c.view.seams():
        if start - at != gap:
            raise Broken("tiling", f"{gap} bytes before {what}", f"{start - at} ({space}:{at}..{start})")

@law("coalesced", "audit", "free_regions contract.mergeable", "No two free neighbours that should merge stay apart.")
def coalesced(c: "Checker") -> None:
    header, mergeable = c.contract.header, c.contract.mergeable
    for one, two in pairwise(c.view.in_place):
        touching = one.space == two.space and one.start + one.length + header == two.start
        if touching and mergeable(one, two):
            raise Broken("coalesced", "one free block", f"{one[:3]} beside {two[:3]}")

@law("free-list", "audit", "free_regions lists contract.list_of", "Exactly the free blocks are listed, each once.")
def free_list(c: "Checker") -> None:
    keys = [entry.key for entry in c.view.lists]
    listed = set(keys)
    if len(listed) != len(keys):
        raise Broken("free-list", "every block once", f"{[k for k in listed if keys.count(k) > 1][:2]} twice")
    free = {region[:2] for region in c.view.regions if region.list_id is not None}
    if free != listed:
        lost, alien = sorted(free - listed)[:2], sorted(map(repr, listed - free))[:2]
        raise Broken("free-list", "the free blocks", f"free but not listed {lost}, listed but not free {alien}")

@law("bitmap", "audit", "bitmap|list_bits bitmap|lists", "A bitmap says of every unit and list what is true.")
def bitmap(c: "Checker") -> None:
    for space, start, unit, units, bits in c.target.bitmap() if "bitmap" in c.shows and c.places else ():
        if bits != (truth := c.view.live_bits(space, start, unit, units)):
            bit = ((bits ^ truth) & -(bits ^ truth)).bit_length() - 1
            wanted = f"bit {bit} ({space}:{start + bit * unit}) {'set' if truth >> bit & 1 else 'clear'}"
            raise Broken("bitmap", wanted, "the opposite")
    if "list_bits" in c.shows and "lists" in c.shows:
        filled = {entry.list_id for entry in c.view.lists}
        for name, ids, is_set in c.target.list_bits():
            if is_set != (not filled.isdisjoint(ids)):
                raise Broken("bitmap", f"{name} {'clear' if is_set else 'set'}, as its lists are", "the opposite")

_LISTED = "lists|free_regions contract.list_of|contract.container_list"
@law("size-class", "audit", _LISTED, "What is listed stands where it belongs.")
def size_class(c: "Checker") -> None:
    found = {entry.key: entry.list_id for entry in c.view.lists} if "lists" in c.shows else {}
    belongs = c.contract.container_list(c.shadow) if c.contract.container_list else found.__getitem__
    places = [(key, belongs(key), seen) for key, seen in found.items()]
    if c.contract.list_of is not None and "free_regions" in c.shows:
        places += [(r[:3], c.contract.list_of(r), found.get(r[:2], r.list_id)) for r in c.view.regions]
    for what, expected, seen in places:
        if seen != expected:
            raise Broken("size-class", f"{what} on list {expected}", f"on list {seen}")

@law("geometry", "place", "contract.geometry", "A block stands where its size allows it to stand.")
def geometry(c: "Checker") -> None:
    if problem := c.contract.geometry(c.block):
        raise Broken("geometry", "a legal place", f"{c.show(c.block)}: {problem}")

# -- hints
@law("hint-sound", "audit", "places hints", "A hint of free space never overestimates it.", PERCPU)
def hint_sound(c: "Checker") -> None:
    for hint, truth in c.view.judged(Direction.LOWER, Direction.UPPER):
        if hint.value > truth if hint.direction is Direction.LOWER else hint.value < truth:
            side = "at most" if hint.direction is Direction.LOWER else "at least"
            raise Broken("hint-sound", f"{hint.name} {side} {truth}", f"{hint.value} in {tuple(hint.region)}")

@law("hint-region", "audit ?", "places hints", "The place that a hint names is really free.", PERCPU)
def hint_region(c: "Checker") -> None:
    for hint in c.view.hints:
        if hint.witness is not None and hint.witness[2] > 0:
            c.met("hint-region")
            if other := c.shadow.clash(*hint.witness):
                raise Broken("hint-region", f"{hint.name} {tuple(hint.witness)} free", c.show(other))

@law("hint-exact", "audit ?", "places hints", "A hint declared exact is exact.", "comments of mm/percpu-internal.h")
def hint_exact(c: "Checker") -> None:
    for hint, truth in c.view.judged(Direction.EXACT):
        c.met("hint-exact")
        if hint.value != truth:
            raise Broken("hint-exact", f"{hint.name} = {truth}", f"{hint.value} in {tuple(hint.region)}")

@law("hint-slack", "audit", "places hints contract.hint_slack", "A hint lags by no more than is promised.", PERCPU)
def hint_slack(c: "Checker") -> None:
    slack = c.contract.hint_slack
    for hint, truth in c.view.judged(Direction.LOWER, Direction.UPPER):
        lag = truth - hint.value if hint.direction is Direction.LOWER else hint.value - truth
        if hint.name in slack and lag > slack[hint.name]:
            raise Broken("hint-slack", f"{hint.name} {truth} but for {slack[hint.name]}", f"{hint.value}")

@law("hint-order", "audit", "hints contract.hint_relations", "Hints about one region stay in relation.", PERCPU)
def hint_order(c: "Checker") -> None:
    for region, values in c.view.hints_by_region().items():
        if problem := c.contract.hint_relations(values):
            raise Broken("hint-order", f"ordered hints in {region}", problem)

# -- search and refusal
@law("search-fit", "alloc ?", "cost", "A search never settles on a region smaller than the request.", TLSF)
def search_fit(c: "Checker") -> None:
    if (found := c.target.cost().get("found")) is not None:
        c.met("search-fit")
        if found < c.block.size:
            raise Broken("search-fit", f"a region of {c.block.size} bytes or more", f"{found}")

@law("search-bounded", "alloc refuse", "cost contract.cost_bounds", "A search stays within its step bound.", TLSF)
def search_bounded(c: "Checker") -> None:
    cost, request = c.target.cost(), c.request
    for name, bound in c.contract.cost_bounds.items():
        if cost.get(name, 0) > (most := bound(request, c.shadow)):
            raise Broken("search-bounded", f"at most {most} {name}", f"{cost[name]}")

_OWED = "contract.must_serve|contract.must_resize"
@law("no-spurious-refusal", "refuse unresized ?", _OWED, "What the contract says must be served is served.")
def no_spurious_refusal(c: "Checker") -> None:
    if (owed := c.owed()) is not None and c.affordable(met="no-spurious-refusal") and owed():
        raise Broken("no-spurious-refusal", f"{c.request_text()} served", f"refused: {c.answer}")

@law("must-refuse", "alloc ?", "contract.must_refuse", "What the contract says must be refused is refused.")
def must_refuse(c: "Checker") -> None:
    if c.affordable(met="must-refuse") and c.contract.must_refuse(c.request, c.shadow, c.source):
        raise Broken("must-refuse", f"{c.request.size} bytes refused", f"served as {c.show(c.block)}")

@law("free-then-alloc", "again ?", "contract.free_then_alloc", "What was freed can be had again at once.", TLSF)
def free_then_alloc(c: "Checker") -> None:
    freed, (size, align, atomic, group, cpu) = c.freed, c.request
    alike = (freed.size, freed.atomic, freed.group, freed.cpu) == (size, atomic, group, cpu)
    if alike and align <= c.contract.granule:
        c.met("free-then-alloc")
        if c.answer is None or isinstance(c.answer, Refusal):
            raise Broken("free-then-alloc", f"the {freed.size} bytes just freed", f"refused: {c.answer}")

@law("waste-bound", "place", "extents contract.waste", "A block exceeds its request by no more than is promised.")
def waste_bound(c: "Checker") -> None:
    block, most = c.block, c.contract.waste(c.block.size, c.block.align)
    if sum([length for _, _, length in block.extents]) - block.size > most:
        raise Broken("waste-bound", f"at most {most} bytes more than {block.size}", c.show(block))

@law("page-order", "audit", "source contract.page_order", "No request to the page source exceeds the declared order.")
def page_order(c: "Checker") -> None:
    if c.source is not None and c.source.highest_order > (c.contract.page_order or 0):
        raise Broken("page-order", f"order {c.contract.page_order} at most", f"{c.source.highest_order}")

# -- handles
@law("handle-stable", "touch adopt", "extents|handles", "A handle names one block; it moves only as declared.")
def handle_stable(c: "Checker") -> None:
    other = c.by_handle.get(c.block.handle) if c.by_handle is not None else None
    if other is not None and other is not c.block and (other.size or c.block.size):  # empty ones may share
        raise Broken("handle-stable", "a handle of its own", f"{c.show(c.block)} shares it with {c.show(other)}")
    if c.moment != "adopt":
        c.unmoved("handle-stable", c.block)

_MAINTAINS = "source contract.moving|contract.maintained"
@law("compaction-progress", "compacted maintained", _MAINTAINS, "Maintenance reaches its promise in pages.", ZSMALLOC)
def compaction_progress(c: "Checker") -> None:
    if c.contract.maintained and (problem := c.contract.maintained(c.maintenance, c.shadow)):
        raise Broken("compaction-progress", f"what {c.op[4]} promises", problem)
    if c.op[4] != "compact":
        return
    promised = c.contract.compacted_pages(c.shadow) if c.contract.compacted_pages else None
    goal = min(c.source.held, c.held_before) if promised is None else promised
    if c.source.held > c.held_before or c.source.held != goal:
        raise Broken("compaction-progress", f"{goal} pages after {c.op[4]}", f"{c.source.held}")

@law("compaction-idempotent", "compacted ?", "source contract.moving", "A second compaction in a row frees no page.")
def compaction_idempotent(c: "Checker") -> None:
    if c.previous == c.op and not c.starved_before:
        c.met("compaction-idempotent")
        if c.source.held < c.held_before:
            raise Broken("compaction-idempotent", f"{c.held_before} pages still", f"{c.source.held}")

# -- groups and guarantees
@law("placement", "alloc", "contract.placement", "A block comes from the node and zone that were asked for.")
def placement(c: "Checker") -> None:
    if problem := c.contract.placement(c.request, c.block):
        raise Broken("placement", "the place asked for", f"{c.show(c.block)}: {problem}")

@law("reserve", "starved ?", "contract.reserve", "What was promised in advance is served even while pages are refused.")
def reserve(c: "Checker") -> None:
    if c.affordable() and 0 < c.request.size <= (promised := c.contract.reserve(c.request, c.shadow)):
        c.met("reserve")
        if c.answer is None or isinstance(c.answer, Refusal):
            raise Broken("reserve", f"{c.request.size} of {promised} reserved bytes", f"refused: {c.answer}")

@law("isolated", "audit", "contract.isolated_groups extents", "Groups share no page.", SROG)
def isolated(c: "Checker") -> None:
    owner: dict[tuple[int, int], Block] = {}
    for block in c.shadow.live.values():
        for space, start, length in block.extents:
            for page in range(start // c.page_size, (start + length - 1) // c.page_size + 1) if length else ():
                other = owner.setdefault((space, page), block)
                if other.group != block.group:
                    raise Broken("isolated", f"page {page} to one group", f"{c.show(block)} and {c.show(other)}")

@law("space-determinism", "twins ?", "contract.space_deterministic", "A group's pages do not depend on others.", SROG)
def space_determinism(c: "Checker") -> None:
    alone, together = c.twins
    if alone != together:
        raise Broken("space-determinism", f"{alone} pages, as when alone", f"{together}")

@law("same-verdict", "twins ?", "rival", "Two implementations of one contract agree on what the contract fixes.")
def same_verdict(c: "Checker") -> None:
    for index, (one, two) in enumerate(zip(*c.twins, strict=False)):
        if one is not None and two is not None and one != two:
            raise Broken("same-verdict", f"{one} at operation {index + 1}", f"{two}")
