"""``heaplaw prove``: what holds for every value of a machine word, with controls that must be refuted."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from heaplaw.impls.caching import cache_folder
from heaplaw.properties.proofs.verdicts import METHODS, NOT_RUN, PROVED, REFUTED, UNCLEAR
from heaplaw.properties.replay import replay
from heaplaw.properties.verdict import COUNTEREXAMPLE, INCONCLUSIVE, PASSED, SELF_TEST_FAILED
from heaplaw.trace import Trace

from . import report
from .extras import SYMBOLIC, needed
from .options import (
    Duration,
    Problem,
    bar,
    complete_target,
    console,
    jobs_option,
    json_option,
    make_folder,
    plain_table,
    say,
    seed_option,
)

if TYPE_CHECKING:
    from heaplaw.properties.proofs.asking import Asked

_TITLES = {
    "kernel": "arithmetic, for every value of the word (Z3)",
    "hints": "hint rules, for any number of operations (Z3, by induction)",
    "traces": "traces of few operations, for sizes of the whole word (Z3)",
    "contract": "contracts of single functions (CrossHair)",
}


@click.command()
@click.argument("targets", nargs=-1, metavar="[TARGET]...", shell_complete=complete_target)
@click.option("--theorem", "theorems", multiple=True, metavar="ID", help="Only this one; may be repeated.")
@click.option("--method", "methods", multiple=True, type=click.Choice(METHODS), help="Only this way; may be repeated.")
@click.option("--controls/--no-controls", default=True, show_default=True, help="Wrong kernels, which must be refuted.")
@click.option("--deep", is_flag=True, help="Larger bounds for hint rules and traces; takes minutes.")
@click.option("--time", "seconds", type=Duration(), default="60s", show_default=True, help="Ceiling for a question.")
@click.option("--cache", "folder", type=click.Path(path_type=Path, file_okay=False), metavar="FOLDER",
              help="Where proofs are remembered; it may be thrown away.", show_default="that of the user")  # fmt: skip
@click.option("--no-cache", is_flag=True, help="Remember nothing, and prove all anew.")
@jobs_option
@click.option("-v", "--verbose", is_flag=True, help="Every configuration and every counterexample of a control.")
@seed_option
@json_option
def prove(
    targets: tuple[str, ...],
    theorems: tuple[str, ...],
    methods: tuple[str, ...],
    controls: bool,
    deep: bool,
    seconds: float,
    folder: Path | None,
    no_cache: bool,
    jobs: int,
    verbose: bool,
    seed: int,
    json_path: Path | None,
) -> int:
    """Prove theorems about TARGETs' arithmetic for every value of the machine word, by the code that they run.

    All that there are when no target is named. A control is a target with a wrong kernel: it must be
    refuted, and its counterexample must break a law in a replay. Nothing is drawn at random: --seed is
    accepted as everywhere.

    \b
    Example: heaplaw prove tlsf
             heaplaw prove tlsf+T04
    """
    needed("z3", SYMBOLIC)
    from heaplaw.properties.proofs import asking, remembered

    if no_cache and folder is not None:
        raise Problem("--cache and --no-cache exclude each other; give one of them")
    if folder is not None:
        make_folder(folder)
    memory = None if no_cache else remembered.Memory(folder or cache_folder("proofs"))
    questions = asking.questions(
        targets, theorems=theorems, methods=methods or METHODS, controls=controls, deep=deep
    )
    with bar("proving", len(questions), "questions") as progress:
        asked = asking.answers(
            questions, jobs=jobs, seconds=seconds, memory=memory, progress=progress
        )
    code = exit_code(asked)
    if json_path is not None:
        data = {"format": "heaplaw proofs 1", "exit": code, "questions": [as_data(one) for one in asked]}
        json_path.write_text(report.to_json(data))
    _show(console(), asked, verbose, code)
    return code


def exit_code(asked: Sequence["Asked"]) -> int:
    """0 all as it must be; 1 a target is refuted; 4 a control is not; 3 what is neither proved nor refuted."""
    plain = [one for one in asked if not one.question.control]
    if any(one.verdict == REFUTED for one in plain):
        return COUNTEREXAMPLE
    if any(one.verdict in (PROVED, REFUTED) and not one.good for one in asked if one.question.control):
        return SELF_TEST_FAILED
    return PASSED if asked and all(one.good for one in asked) else INCONCLUSIVE


def as_data(one: "Asked") -> dict[str, Any]:
    """An answer for machines."""
    question, proof = one.question, one.proof
    return {
        "method": question.method,
        "theorem": question.theorem,
        "sentence": question.sentence,
        "kernels": question.about,
        "target": question.target,
        "bits": question.bits,
        "bound": question.bound,
        "control": question.control,
        "verdict": proof.verdict,
        "seconds": round(proof.seconds, 3),
        "paths": proof.paths,
        "values": dict(proof.values),
        "law": proof.law,
        "trace": proof.trace,
        "replayed": one.recurs,
        "remembered": one.known,
        "why": proof.why,
    }


# ---- what people see -------------------------------------------------------------------------


def table(asked: Sequence["Asked"]) -> Table:
    """One line a theorem: its verdict by the width of the word, over all configurations, and its controls."""
    lines = plain_table()
    lines.add_column("theorem", overflow="fold")
    lines.add_column("about", overflow="fold")
    for title in ("32 bits", "64 bits"):
        lines.add_column(title, no_wrap=True)
    lines.add_column("most s", justify="right", no_wrap=True)
    lines.add_column("refuted", justify="right", no_wrap=True)
    lines.add_column("covers", overflow="fold")
    by_theorem: dict[str, list[Asked]] = {}
    for one in asked:
        by_theorem.setdefault(one.question.theorem, []).append(one)
    for theorem, answers in by_theorem.items():
        plain = [one for one in answers if not one.question.control]
        wrong = [one for one in answers if one.question.control]
        question = answers[0].question
        lines.add_row(
            escape(theorem),
            escape(question.about),
            *(_cell([one for one in plain if one.question.bits in bits]) for bits in ((32,), (64, 0))),
            f"{max((one.proof.seconds for one in plain), default=0):.2f}",
            f"{sum(one.good for one in wrong)} of {len(wrong)}" if wrong else "",
            escape(question.bound),
        )
    return lines


def _cell(answers: Sequence["Asked"]) -> str:
    """The worst verdict, and of how many configurations."""
    for verdict, style in ((REFUTED, "red"), (UNCLEAR, "yellow"), (NOT_RUN, "yellow"), (PROVED, "green")):
        if any(one.verdict == verdict for one in answers):
            many = f" x{len(answers)}" if len(answers) > 1 else ""
            return f"[{style}]{verdict}[/]{many}"
    return "-"


def _show(out: Console, asked: Sequence["Asked"], verbose: bool, code: int) -> None:
    for method in dict.fromkeys(one.question.method for one in asked):
        chosen = [one for one in asked if one.question.method == method]
        out.print(_TITLES[method], style="bold", highlight=False)
        out.print(table(chosen))
        for line in _details(chosen) if verbose else ():
            say(out, line)
        out.print()
    for one in asked:
        if not one.good and not (one.question.control and one.verdict == REFUTED and one.recurs):
            _show_wrong(out, one)
    say(out, verdict(asked, code))


def _show_wrong(out: Console, one: "Asked") -> None:
    """What is not as it must be: the claim, the values it does not hold for, and the trace that shows them."""
    question, proof = one.question, one.proof
    what = "must be refuted, and is " if question.control else "is "
    out.print(f"{question.theorem} on {question.target} {what}{proof.verdict}", style="bold", highlight=False)
    say(out, f"  {question.sentence}")
    if proof.values:
        say(out, f"  not for {_values(one)}")
    if proof.why:
        say(out, f"  {proof.why}")
    if proof.trace and one.recurs:
        trace = Trace.parse(proof.trace)
        for finding in replay(trace, trace.target).tally.findings:
            if finding.violation.law == proof.law:
                report.show_finding(out, finding)
    elif proof.trace:
        say(out, "  the trace that tells it broke a law once, and not in a fresh process")
    out.print()


def _values(one: "Asked") -> str:
    return ", ".join(f"{name} = {value:,}" for name, value in one.proof.values)


def _details(asked: Sequence["Asked"]) -> list[str]:
    """Sentences, and every answer below its own."""
    lines, last = [""], ""
    for one in asked:
        if one.question.theorem != last:
            last = one.question.theorem
            lines.append(f"{last}: {one.question.sentence}")
        proof = one.proof
        told = f"{proof.paths} paths, " if proof.paths > 1 else ""
        known = ", remembered" if one.known else ""
        own = one.question.method == "hints" and not one.question.control
        name = str(one.question.own).rpartition(" on ")[2] if own else one.question.target
        line = f"  {name}: {proof.verdict} ({told}{proof.seconds:.2f} s{known})"
        if proof.values:
            line += f" for {_values(one)}"
        if proof.law:
            line += f", breaks {proof.law}" + ("" if one.recurs else ", but not in a fresh process")
        lines.append(line + (f": {proof.why}" if proof.why else ""))
    return lines


def verdict(asked: Sequence["Asked"], code: int) -> str:
    """The last line: what the exit code says, in words."""
    plain = [one for one in asked if not one.question.control]
    wrong = [one for one in asked if one.question.control]
    theorems = len({one.question.theorem for one in plain})
    if code == COUNTEREXAMPLE:
        refuted = {f"{one.question.theorem} on {one.question.target}" for one in plain if one.verdict == REFUTED}
        return f"refuted: {', '.join(sorted(refuted))} (exit {code})"
    if code == SELF_TEST_FAILED:
        names = sorted({one.question.target for one in wrong if not one.good})
        return f"the proofs are worth nothing: {', '.join(names)} must be refuted and is not (exit {code})"
    if code == INCONCLUSIVE:
        open_ = sorted({one.question.theorem for one in asked if not one.good})
        return f"inconclusive: {', '.join(open_) or 'nothing was asked'} (exit {code})"
    targets = len({one.question.theorem.partition('/')[0] for one in plain})
    controls = f"; {len(wrong)} wrong kernels refuted and replayed" if wrong else ""
    return f"{theorems} theorems proved about {targets} targets and modules{controls} (exit {code})"
