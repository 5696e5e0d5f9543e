"""Inputs of the fuzzer: bytes to runs and traces to bytes."""

from itertools import islice
from random import Random

import pytest

from heaplaw.codec import VERSION
from heaplaw.fuzz.inputs import PREFIX, START, WIDTH, digest, encode, lift, pack, refusal, safe_name, unpack, variant_of
from heaplaw.impls.registry import factory, variants
from heaplaw.lawbook import LAWS
from heaplaw.operations import Kind, Operation
from heaplaw.properties.plain import in_turn
from heaplaw.properties.steering import LENGTH
from heaplaw.properties.workhorse import Fed
from heaplaw.trace import Trace

TARGETS = ["tlsf", "percpu-bitmap", "xvmalloc", "kmalloc", "slub", "zsmalloc", "afmalloc", "srog", "buddy"]
AT_THE_END = [Operation(Kind.DRAIN), Operation(Kind.DESTROY)]


def runs(name, count, seed=1):
    """(configuration, operations) of some runs of the plain engine."""
    builders = {variant: factory(variant) for variant in variants(name)}
    return [(variant, run.operations) for variant, run, _ in islice(in_turn(builders, Random(seed)), count)]


class TestHeader:
    def test_what_is_packed_is_unpacked(self):
        """The header goes on and comes off, and keeps the configuration's number."""
        body = bytes(range(20))
        assert unpack(pack(body, 3)) == body
        assert variant_of(pack(body, 4), ["a", "b", "c"]) == "b"

    @pytest.mark.parametrize(
        ("data", "why"),
        [
            (b"", "no header"), (b"hl", "no header"), (b"hl" + bytes((VERSION,)), "no header"),
            (b"xx" + bytes((VERSION, 0)), "no header"), (b"hl" + bytes((VERSION + 1, 0)), f"version {VERSION + 1}"),
        ],
    )  # fmt: skip
    def test_other_bytes_are_refused(self, data, why):
        """Bytes without the header, and those of another version, are refused with the reason."""
        assert unpack(data) is None
        assert refusal(data).startswith(why)

    def test_a_header_alone_is_an_input(self):
        """The shortest input: no operation but those at the end."""
        run = lift("tlsf", unpack(pack(b"")))
        assert run.operations == AT_THE_END
        assert run.found is None

    def test_names(self):
        """A folder's name is safe and no two targets share one; an input's name is its SHA-1."""
        assert safe_name("percpu-bitmap@6.12+P01,unit=96") == "percpu-bitmap@6.12+P01,unit=96"
        awkward = ["a/b.py:C", "a%2Fb.py:C", "a~b", "a b", "\N{LATIN SMALL LETTER U WITH DIAERESIS}"]
        assert len({safe_name(name) for name in awkward}) == len(awkward)
        assert all(set(safe_name(name)).isdisjoint("/: ~") for name in awkward)
        assert digest(b"abc") == "a9993e364706816aba3e25717850c26c9cd0d89d"


class TestLift:
    def test_it_is_the_run_of_the_hypothesis_engine(self):
        """The same bytes mean the same operations here and there."""
        body = Random(5).randbytes(LENGTH + 400)
        [variant, *_] = variants("percpu-bitmap")
        other = Fed(factory(variant), body, ())
        assert other.go() is None
        assert lift(variant, body).operations == other.operations
        assert len(other.operations) > 50

    def test_a_violation_is_kept(self):
        """A run that breaks a law says which; with all laws muted there is none."""
        name, seeds = "tlsf+T29,arena=4096", range(20)
        seen = [lift(name, Random(seed).randbytes(600)).found for seed in seeds]
        assert {found.law for found in seen if found}
        assert all(lift(name, Random(seed).randbytes(600), LAWS).found is None for seed in seeds)


class TestEncode:
    @pytest.mark.parametrize("name", TARGETS)
    def test_a_run_survives(self, name):
        """A run of the plain engine, encoded and lifted again, is the same run: operation by operation."""
        for variant, operations in runs(name, 2 * len(variants(name))):
            data = encode(Trace(operations, {"target": variant}), name)
            assert variant_of(data, variants(name)) == variant
            again = lift(variant, unpack(data))
            assert again.found is None
            wanted = [op for op in operations if op.kind not in (Kind.NOP, Kind.DESTROY)]
            assert again.operations == [*wanted, *AT_THE_END]
            assert len(data) == START + WIDTH * len(wanted)

    def test_names_with_gaps(self):
        """Objects of a trace that was made small are called otherwise, and stay who they are."""
        trace = Trace(
            [Operation(1, 3, 24), Operation(1, 9, 48), Operation(2, 3), Operation(2, 4), Operation(2, 9)],
            {"target": "tlsf,arena=4096"},
        )
        run = lift("tlsf,arena=4096", unpack(encode(trace)))
        assert run.operations == [
            Operation(1, 0, 24), Operation(1, 1, 48), Operation(2, 0), Operation(2, 1), *AT_THE_END
        ]  # fmt: skip

    def test_the_simplest_head(self):
        """Requests and frees need a head of zeros; others what lets them through, and no more."""
        simple = Trace([Operation(1, 0, 24), Operation(2, 0)], {"target": "tlsf,arena=4096"})
        assert encode(simple)[PREFIX:START] == bytes(LENGTH)
        aligned = Trace([Operation(1, 0, 24, 64)], {"target": "tlsf,arena=4096"})
        assert sum(byte.bit_count() for byte in encode(aligned)[PREFIX:START]) == 1

    def test_the_nearest_configuration(self):
        """A trace from elsewhere goes to the configuration that shares most with it."""
        names = variants("tlsf")
        trace = Trace([Operation(1, 0, 4)], {"target": "tlsf,arena=512,sl=2"})
        assert variant_of(encode(trace, "tlsf"), names) == "tlsf,arena=1024,sl=2"

    def test_what_no_code_says_is_left_out(self):
        """A free of nothing, and what the target cannot do, leave no code."""
        trace = Trace([Operation(2, 5), Operation(Kind.MAP, 0), Operation(Kind.DESTROY)], {"target": "buddy,pages=64"})
        assert len(encode(trace)) == START
