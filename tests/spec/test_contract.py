"""A contract's promises decide which laws apply, and why the others do not."""

from dataclasses import FrozenInstanceError, fields, replace

import pytest

import heaplaw
from heaplaw import LAWS, Contract, FreeRegion, Request
from heaplaw.checker import missing

EVERYTHING = {
    "realloc", "read", "write", "extents", "pages", "free_regions", "lists", "hints", "bitmap", "list_bits",
    "counters", "metadata", "cost", "maintain", "link", "map", "unmap", "destroy", "source",
}  # fmt: skip


def applicable(contract, shows=frozenset()):
    """Ids of the laws that can be asked of a target with this contract that shows this."""
    return {law.id for law in LAWS.values() if missing(law, shows, contract) is None}


class TestContract:
    def test_a_size_is_enough(self):
        """A contract with nothing but a size brings the laws that need no more."""
        assert applicable(Contract(arena=4096)) == {
            "returns", "disjoint", "in-bounds", "aligned", "refusal-pure", "deterministic", "limits-honest",
        }  # fmt: skip

    def test_nothing_at_all(self):
        """Even an empty contract says that calls return, that blocks do not overlap and that answers repeat."""
        assert applicable(Contract()) == {"returns", "disjoint", "aligned", "refusal-pure", "deterministic"}

    def test_largest(self):
        """The largest size is the arena unless the contract says otherwise, were it zero."""
        assert Contract(arena=64).largest == 64
        assert Contract(arena=64, max_size=16).largest == 16
        assert Contract(arena=64, max_size=0).largest == 0
        assert Contract().largest == 0

    def test_frozen(self):
        """A promise is not changed after it was made; equal promises are equal."""
        contract = Contract(arena=64)
        with pytest.raises(FrozenInstanceError):
            contract.arena = 128
        assert contract == Contract(arena=64)
        assert replace(contract, arena=128) != contract

    def test_request(self):
        """A request is for bytes; what is not said of it is the plainest."""
        assert Request(24) == (24, 1, False, 0, 0)

    def test_public_names(self):
        """Every name that the package offers is there, once, in order."""
        assert all(hasattr(heaplaw, name) for name in heaplaw.__all__)
        assert len(set(heaplaw.__all__)) == len(heaplaw.__all__)


class TestMissing:
    def test_no_law_is_out_of_reach(self):
        """A target that shows everything and promises everything is asked every law but the comparison's."""
        promises = {
            promise.name: (lambda *arguments: None)
            for promise in fields(Contract)
            if promise.default is None and promise.name not in ("max_size", "drained_after")
        }
        contract = Contract(
            **{**promises, "drained_pages": 0, "page_order": 0, "drained_size": 8}, arena=64, max_size=64, zeroed=True,
            detects=frozenset({"double"}), rejects=frozenset({"zero"}), moving=frozenset({"compact"}),
            free_then_alloc=True, isolated_groups=True, space_deterministic=True, hint_slack={"longest": 0},
            cost_bounds={"probes": lambda request, shadow: 1},
        )  # fmt: skip
        assert set(LAWS) - applicable(contract, EVERYTHING) == {"same-verdict"}

    @pytest.mark.parametrize(
        ("law", "contract", "shows", "reason"),
        [
            ("contents", Contract(), {"read"}, "not shown: write"),
            ("contents", Contract(), {"write"}, "not shown: read"),
            ("zeroed", Contract(), {"read"}, "not promised: zeroed"),
            ("zeroed", Contract(zeroed=True), set(), "not shown: read"),
            ("bad-free-rejected", Contract(), set(), "not promised: detects"),
            ("disjoint", Contract(handles="opaque"), set(), "not shown: places"),
            ("in-bounds", Contract(), set(), "not shown: bounds"),
            ("in-bounds", Contract(spaces="pages"), set(), "not shown: bounds"),
            ("in-bounds", Contract(arena=8, handles="opaque"), set(), "not shown: bounds"),
            ("tiling", Contract(), {"free_regions"}, "not shown: arena|tiled"),
            ("drain", Contract(), set(), "not shown: drained"),
            ("conservation", Contract(overhead=lambda *_: 0), set(), "not shown: owned"),
            ("conservation", Contract(), {"free_regions"}, "not shown: owned"),
            ("bitmap", Contract(), set(), "not shown: bitmap|list_bits"),
            ("size-class", Contract(), {"lists"}, "not promised: list_of|container_list"),
            ("handle-stable", Contract(), set(), "not shown: extents|handles"),
            ("page-order", Contract(), {"source"}, "not promised: page_order"),
            ("limits-honest", Contract(), set(), "not shown: largest"),
            ("same-verdict", Contract(), set(), "not shown: rival"),
        ],
    )
    def test_reason(self, law, contract, shows, reason):
        """A law that cannot be asked says what is lacking."""
        assert missing(LAWS[law], shows, contract) == reason

    @pytest.mark.parametrize(
        ("law", "contract", "shows"),
        [
            ("in-bounds", Contract(spaces="pages"), {"source"}),
            ("in-bounds", Contract(arena=8, handles="opaque"), {"extents"}),
            ("disjoint", Contract(handles="opaque"), {"extents"}),
            ("conservation", Contract(), {"pages"}),
            ("conservation", Contract(overhead=lambda *_: 0), {"free_regions"}),
            ("bitmap", Contract(), {"list_bits", "lists"}),
            ("size-class", Contract(list_of=lambda region: 0), {"free_regions"}),
            ("size-class", Contract(container_list=lambda shadow: None), {"lists"}),
            ("handle-stable", Contract(handles="opaque"), set()),
            ("handle-stable", Contract(), {"extents"}),
            ("drain", Contract(drained_size=8), set()),
            ("drain", Contract(drained_pages=0), set()),
            ("page-order", Contract(page_order=0), {"source"}),
        ],
    )
    def test_enough(self, law, contract, shows):
        """A law is asked as soon as one of the ways to it is there; a bound of zero is a promise."""
        assert missing(LAWS[law], shows, contract) is None

    def test_an_empty_set_promises_nothing(self):
        """Detecting no misuse and refusing no request bring no law."""
        contract = Contract(detects=frozenset(), rejects=frozenset(), hint_slack={}, cost_bounds={})
        found = applicable(contract, EVERYTHING)
        assert found.isdisjoint({"bad-free-rejected", "bad-size-rejected", "hint-slack", "search-bounded"})


def test_regions_are_plain():
    """A free region that does not say otherwise is on no list."""
    assert FreeRegion(0, 8, 16) == (0, 8, 16, None)


@pytest.mark.parametrize(
    "promises", [{"arena": -1}, {"granule": 0}, {"max_align": 0}, {"detects": frozenset({"size"})}], ids=str
)
def test_contradictory_promises(promises):
    """A contract that cannot be kept, or not be checked, is refused when it is made."""
    with pytest.raises(ValueError, match=r"must|sized_free"):
        Contract(**promises)
