"""Questions of all kinds, answered in processes: theorems about kernels, hint rules, bounded traces, contracts.

A question is a claim about one target.  One that is a control must be refuted, and its counterexample must
break a law in a process that has proved nothing; else the proofs beside it are worth nothing.

>>> [question] = [one for one in questions(("tlsf+T15",), theorems=("tlsf/serves-enough",))]
>>> [asked] = answers([question], jobs=1)
>>> asked.verdict, asked.good
('refuted', False)
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from heaplaw.impls.naming import TargetError, parse
from heaplaw.impls.registry import BUILT_IN, factory

from ..processes import Lost, each
from ..replay import recurs
from . import bounded, contracts, crosshair_runner, hint_rules, pep316, remembered
from .proving import SECONDS, Proof, bits_of, prove
from .theorems import Control, Theorem, all_theorems, find
from .verdicts import CONTRACT, HINTS, KERNEL, METHODS, PROVED, TRACES, UNCLEAR

_LONGEST_FIRST = (HINTS, TRACES, CONTRACT, KERNEL)  # so that no process is left with a long question at the end


class Question(NamedTuple):
    """A claim about a target."""

    method: str
    theorem: str
    target: str
    sentence: str
    about: str  # kernels, rules
    bound: str  # what it covers
    control: bool = False  # it must be refuted
    own: Any = None  # what its method needs to know

    @property
    def bits(self) -> int:
        """Bits of the machine's word; 0 where there is no question of it."""
        return 0 if self.method == CONTRACT else bits_of(self.target)


class Asked(NamedTuple):
    """A question and its answer."""

    question: Question
    proof: Proof
    recurs: bool = False  # the trace breaks its law in a fresh process too
    known: bool = False  # remembered, not proved just now

    @property
    def verdict(self) -> str:
        """proved, refuted, inconclusive, or not run."""
        return self.proof.verdict

    @property
    def good(self) -> bool:
        """As it should be: proved; of a control, refuted and seen again."""
        return self.recurs if self.question.control else self.proof.verdict == PROVED


# ---- which questions ---------------------------------------------------------------------------


def questions(
    targets: Sequence[str] = (),
    *,
    theorems: Sequence[str] = (),
    methods: Sequence[str] = METHODS,
    controls: bool = True,
    deep: bool = False,
) -> list[Question]:
    """What there is to ask of targets; of all that there is something to say about when none is named.

    A target as it stands in the list of targets is asked about in all its configurations, with the controls; any
    other one (a bug, a revision, parameters, a class) itself alone.  Raises TargetError for one that nothing is
    known about.
    """
    asked: list[Question] = []
    for name in targets or ("",):
        found: list[Question] = []
        if KERNEL in methods:
            found += _kernels(name, theorems, controls)
        told = [one for method in methods for one in _others(method, name, theorems, deep)]
        found += [one for one in told if controls or not one.control]
        if not found:
            raise TargetError(_nothing_about(name, theorems))
        asked += found
    return list(dict.fromkeys(asked))


def _nothing_about(name: str, theorems: Sequence[str]) -> str:
    """There is nothing to ask; what there is instead."""
    base = parse(name).base if name else ""
    mine = [theorem.id for theorem in all_theorems() if theorem.target == base]
    if theorems and (mine or not name):
        others = mine or sorted({theorem.target for theorem in all_theorems()})
        return f"no theorem {' or '.join(theorems)}{f' about {base}' if base else ''}; there are {', '.join(others)}"
    known = sorted({theorem.target for theorem in all_theorems()})
    hint = "" if base in BUILT_IN or ":" not in base else "; --theorem ID asks one that its methods can answer"
    return f"no theorems about {name}; there are some about {', '.join(known)}{hint}"


def _kernels(name: str, theorems: Sequence[str], controls: bool) -> Iterator[Question]:
    for theorem in all_theorems():
        if theorems and theorem.id not in theorems:
            continue
        if not name or name == theorem.target:
            for target in theorem.targets:
                yield _of(theorem, target)
            for index, control in enumerate(theorem.controls if controls else ()):
                yield _of(theorem, control.target)._replace(control=True, own=index)
        elif _is_about(theorem, name, bool(theorems)):
            factory(name)
            yield _of(theorem, name)


def _is_about(theorem: Theorem, name: str, chosen: bool) -> bool:
    """A class of a user is asked only about theorems that were chosen: it must have what they call."""
    base = parse(name).base
    return base == theorem.target if base in BUILT_IN else chosen


def _of(theorem: Theorem, target: str) -> Question:
    return Question(KERNEL, theorem.id, target, theorem.sentence, theorem.kernels, theorem.bound)


def _others(method: str, name: str, theorems: Sequence[str], deep: bool) -> Iterator[Question]:
    """What the other ways of proving have to say; of a target by its plain name only."""
    for question in _TOLD[method](deep) if method in _TOLD else ():
        base = question.theorem.partition("/")[0]
        if (not name or name == base) and (not theorems or question.theorem in theorems):
            yield question


def _hints(deep: bool) -> Iterator[Question]:
    about, blocks = "Chunk.alloc_area, free_area, next_fit, zero_area, and all that they call", 4 if deep else 3
    bound = f"any number of operations; any bitmap of {blocks} blocks of 8 bits, any hints that the invariant allows"
    for one in hint_rules.questions(deep) + hint_rules.controls():
        control = one.target.partition(",")[0] in hint_rules.REFUTABLE
        sentence = hint_rules.SENTENCES[one.theorem]
        yield Question(HINTS, one.theorem, one.target, sentence, about, bound, control, own=one)


def _traces(deep: bool) -> Iterator[Question]:
    for one in bounded.questions(deep):
        sentence = f"Every law holds on every trace of at most {one.most} operations, whatever the sizes."
        what = "requests of every size of the word, frees, maintenance"
        yield Question(TRACES, one.theorem, one.target, sentence, "the whole allocator", what, own=one)


def _contracts(deep: bool) -> Iterator[Question]:
    for function in crosshair_runner.contracts_of(contracts):
        told = pep316.read(function)
        module = told.about.removeprefix("heaplaw.").removeprefix("impls.").partition(".")[0]
        id, bound = f"{module}/{told.name.replace('_', '-')}", "; ".join(told.pre) or "every integer"
        yield Question(CONTRACT, id, told.about.rpartition(".")[2], told.sentence, told.about, bound, own=told.name)


_TOLD: dict[str, Callable[[bool], Iterator[Question]]] = {HINTS: _hints, TRACES: _traces, CONTRACT: _contracts}


# ---- answers -----------------------------------------------------------------------------------


def answer(question: Question, seconds: float = SECONDS) -> Proof:
    """Prove or refute, here and now; at most so many ``seconds``, after which it is inconclusive."""
    if question.method == HINTS:
        return hint_rules.answer(question.own, seconds=seconds)
    if question.method == TRACES:
        return bounded.answer(question.own, seconds=seconds)
    if question.method == CONTRACT:
        return _of_crosshair(question, crosshair_runner.check(getattr(contracts, question.own), seconds=seconds))
    theorem = find(question.theorem)
    control: Control | None = theorem.controls[question.own] if question.control else None
    return prove(theorem, question.target, seconds=seconds, control=control)


def _of_crosshair(question: Question, told: crosshair_runner.Checked) -> Proof:
    why = " ".join(part for part in (told.counterexample, told.why) if part)
    return Proof(question.theorem, question.target, told.verdict, seconds=told.seconds, why=why)


def answers(
    asked: Sequence[Question],
    *,
    jobs: int = 1,
    seconds: float = SECONDS,
    memory: remembered.Memory | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> list[Asked]:
    """Answers to questions, in order; each counterexample that a trace tells is replayed in a fresh process."""
    keys = [_key(question) for question in asked] if memory is not None else []
    recalled = enumerate(map(memory.recall, keys)) if memory is not None else ()
    known = {index: proof for index, proof in recalled if proof is not None}
    waiting = [index for index in range(len(asked)) if index not in known]
    waiting.sort(key=lambda index: _LONGEST_FIRST.index(asked[index].method))

    def lost(at: int, problem: Exception) -> Proof:
        question = asked[waiting[at]]
        why = "it took its process along" if isinstance(problem, Lost) else f"{type(problem).__name__}: {problem}"
        return Proof(question.theorem, question.target, UNCLEAR, why=why)

    proofs = dict(known)
    progress(len(proofs))
    work = [(asked[index], seconds) for index in waiting]
    for index, proof in zip(waiting, each(answer, work, lost, jobs=jobs), strict=True):
        proofs[index] = proof
        if memory is not None:
            memory.keep(keys[index], proof)
        progress(len(proofs))
    told = [index for index in range(len(asked)) if proofs[index].trace]
    again = each(recurs, [(proofs[index].trace,) for index in told], lambda at, problem: False, jobs=jobs)
    sure = dict(zip(told, again, strict=True))
    return [
        Asked(question, proofs[index], sure.get(index, False), index in known) for index, question in enumerate(asked)
    ]


def _key(question: Question) -> str:
    """By the code of the target, of the theorem and of all that proves it."""
    if question.method == CONTRACT:
        about = question.about.rpartition(".")[0]
        return remembered.key(question.method, question.theorem, about, contracts.__name__, crosshair_runner.__name__)
    target = type(factory(question.target)()).__module__
    named = parse(question.target).base.partition(":")[0]  # a module of wrong kernels makes other modules' classes
    claims = find(question.theorem).claim.__module__ if question.method == KERNEL else __name__
    what = (question.method, question.theorem, question.target, str(question.own))
    return remembered.key(*what, target, named, claims, __name__)

