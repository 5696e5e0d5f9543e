"""State machines: every target has one that runs, finds planted bugs and can be read."""

import subprocess
import sys

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.database import DirectoryBasedExampleDatabase, MultiplexedDatabase
from hypothesis.stateful import rule, run_state_machine_as_test

from heaplaw.checker import Checker
from heaplaw.impls.registry import BUILT_IN, factory
from heaplaw.lawbook import LAWS, Broken
from heaplaw.operations import Kind
from heaplaw.properties import profiles
from heaplaw.properties.machine import NeverReturns, objects, prose, rule_machine
from heaplaw.properties.replay import replay
from heaplaw.trace import Trace

QUICK = settings(max_examples=8, stateful_step_count=25, database=None, derandomize=True, deadline=None)
SEARCH = settings(QUICK, max_examples=150, stateful_step_count=40, phases=(Phase.generate,), report_multiple_bugs=False)


def run(machine, how=QUICK):
    run_state_machine_as_test(machine, settings=settings(how, suppress_health_check=list(_all_checks())))


def _all_checks():
    from hypothesis import HealthCheck

    return HealthCheck


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_targets(name, tmp_path):
    """The machine of every built-in target runs and breaks no law."""
    machine = rule_machine(name)
    machine.traces = tmp_path
    run(machine)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", BUILT_IN)
def test_prose(name):
    """The machine can be read: each rule a sentence, each law that is asked its sentence, the others a reason."""
    machine = rule_machine(name)
    text = prose(machine)
    for one in machine.setup_state().rules:
        assert f"  {one.function.__name__}(" in text
        assert one.function.__doc__
    for law in LAWS.values():
        assert f"  {law.id} " in text


class TestPlantedBugs:
    @pytest.mark.parametrize(
        ("name", "law", "most"),
        [
            ("Overlap", "disjoint", 4),
            ("RefuseAll", "no-spurious-refusal", 1),
            ("LeaksOnRefusal", "refusal-pure", 5),
            ("LosesTheLastByte", "contents", 2),
            ("Random", "deterministic", 8),
            ("ForgetsMerge", "coalesced", 4),
            ("Crashes", "returns", 4),
        ],
    )
    def test_found(self, name, law, most, tmp_path):
        """The bug is found, saved as a short trace, and the plain replayer sees it again."""
        machine = rule_machine(f"planted:{name}", mute=frozenset(LAWS) - {law})
        machine.traces = tmp_path
        with pytest.raises(Broken) as caught:
            run(machine, SEARCH)
        assert caught.value.law == law
        (path,) = tmp_path.iterdir()
        trace = Trace.parse(path.read_text())
        assert len(trace.operations) <= most
        assert law in {f.violation.law for f in replay(trace, trace.target).tally.findings}
        notes = "\n".join(caught.value.__notes__)
        assert LAWS[law].sentence in notes
        assert f"heaplaw replay {path}" in notes

    def test_shrunk_by_hypothesis_too(self):
        """The printed program is short: Hypothesis shrinks what our minimiser then works on."""
        machine = rule_machine("planted:RefuseAll", mute=frozenset(LAWS) - {"no-spurious-refusal"})
        machine.traces = None
        with pytest.raises(Broken) as caught:
            run(machine, settings(SEARCH, phases=(Phase.generate, Phase.shrink)))
        notes = "\n".join(caught.value.__notes__)
        assert 1 <= notes.count("= state.") + notes.count("state.alloc(") <= 6
        assert "1  a = alloc 1" in notes

    def test_a_hang_ends(self, tmp_path):
        """A call that never returns ends the search at once, with its trace."""
        machine = rule_machine("planted:Loops", mute=frozenset(LAWS) - {"returns"})
        machine.traces = tmp_path
        with pytest.raises(NeverReturns, match="a hang"):
            run(machine, SEARCH)
        assert len(list(tmp_path.iterdir())) == 1


class TestRules:
    def kinds(self, machine):
        return {one.function.__name__ for one in machine.setup_state().rules}

    @pytest.mark.parametrize("name", BUILT_IN)
    def test_rules_follow_abilities(self, name):
        """A machine has a rule for an ability if and only if the target has it."""
        rules, can = self.kinds(rule_machine(name)), Checker(rule_machine(name).build()).can
        by_kind = {
            Kind.REALLOC: "realloc", Kind.WRITE: "write", Kind.MAP: "map", Kind.MAINTAIN: "maintain",
            Kind.LINK: "link", Kind.ON_CPU: "on_cpu", Kind.BAD_FREE: "bad_free", Kind.BAD_ALLOC: "bad_alloc",
            Kind.FAIL_PAGES: "fail_pages",
        }  # fmt: skip
        assert {"alloc", "free", "drain"} <= rules
        assert {kind: rule in rules for kind, rule in by_kind.items()} == {kind: can(kind) for kind in by_kind}

    def test_all_rules_are_used_somewhere(self):
        """Each rule of the vocabulary belongs to the machine of some built-in target."""
        seen = set().union(*(self.kinds(rule_machine(name)) for name in BUILT_IN))
        assert {"aligned_alloc", "alloc_in_context", "maintain", "fail_pages", "bad_free"} <= seen

    def test_subclass(self):
        """A user's own rule takes part, with objects of the bundle and the target's handles."""
        poked = []

        class Mine(rule_machine("planted:Good")):
            @rule(thing=objects, times=st.integers(1, 2))
            def poke(self, thing, times):
                poked.append((self.handle(thing), times))
                self.do(Kind.READ, thing)

        run(Mine)
        assert poked

    def test_a_class_will_do(self):
        """A machine can be made from a class."""
        machine = rule_machine(factory("planted:Good"))
        run(machine)
        assert rule_machine(type(factory("planted:Good")())).__name__ == "GoodMachine"

    def test_the_first_failure_is_not_hidden(self):
        """A failing rule of the user's is reported, though freeing everything would fail too."""

        class Mine(rule_machine("planted:ForgetsMerge", mute=frozenset(LAWS) - {"drain"})):
            traces = None

            @rule()
            def wrong(self):
                raise AssertionError("mine")

        with pytest.raises(AssertionError, match="mine"):
            run(Mine, settings(SEARCH, max_examples=5))

    def test_abstract_states_are_events(self):
        """Hypothesis's statistics show what was reached."""
        from hypothesis.statistics import collector

        seen = []
        with collector.with_value(seen.append):
            run(rule_machine("planted:Good"))
        events = {event for case in seen[0]["generate-phase"]["test-cases"] for event in case["events"]}
        assert any(event.startswith("alloc beside") for event in events)


class TestProfiles:
    def test_ci_and_dev(self, tmp_path):
        """The profile for machines forgets nothing it should keep: ci is the same each time, dev shares examples."""
        profiles.register(shared=tmp_path, local=tmp_path / "mine")
        ci, dev = settings.get_profile("ci"), settings.get_profile("dev")
        assert ci.derandomize
        assert ci.database is None
        assert isinstance(dev.database, MultiplexedDatabase)
        dev.database.save(b"key", b"value")
        assert list(DirectoryBasedExampleDatabase(tmp_path / "mine").fetch(b"key")) == [b"value"]
        assert list(DirectoryBasedExampleDatabase(tmp_path).fetch(b"key")) == []

    def test_shared_examples_are_read(self, tmp_path):
        """What others found is tried here."""
        DirectoryBasedExampleDatabase(tmp_path).save(b"key", b"theirs")
        assert set(profiles.database(tmp_path / "mine", tmp_path).fetch(b"key")) == {b"theirs"}

    @pytest.mark.parametrize(("ci", "wanted"), [("1", "ci"), ("", "dev")])
    def test_load(self, ci, wanted, monkeypatch):
        """The environment says which profile is meant."""
        monkeypatch.setenv("CI", ci)
        before = settings.get_current_profile_name()
        profiles.register()
        try:
            profiles.load()
            assert settings.get_current_profile_name() == wanted
        finally:
            settings.load_profile(before)


def test_printed_from_the_command_line():
    """``python -m heaplaw.properties.machine`` prints a machine."""
    words = [sys.executable, "-m", "heaplaw.properties.machine", "tlsf"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert "realloc(thing, size)" in done.stdout


def test_under_plain_pytest(tmp_path):
    """The machine of every built-in target is a test case for pytest as it is."""
    lines = ["from hypothesis import HealthCheck, settings", "from heaplaw.properties.machine import rule_machine"]
    lines += ["few = settings(max_examples=1, stateful_step_count=6, database=None, derandomize=True, deadline=None,"]
    lines += ["    suppress_health_check=list(HealthCheck))"]
    for number, name in enumerate(BUILT_IN):
        lines += [f"Test{number} = rule_machine({name!r}).TestCase", f"Test{number}.settings = few"]
    (tmp_path / "test_all.py").write_text("\n".join(lines))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_all.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert f"{len(BUILT_IN)} passed" in done.stdout, done.stdout + done.stderr
