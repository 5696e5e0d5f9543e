"""``heaplaw mutate``: how many small changes of a target's own code a check notices."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from statistics import median
from typing import Any, NamedTuple

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from heaplaw.impls.registry import factory
from heaplaw.properties import mutation
from heaplaw.properties.mutants import Mutant
from heaplaw.properties.mutants_apart import never_run, set_apart
from heaplaw.properties.mutation import HUNG, KILLED, PUBLISHED, SURVIVED, Judged
from heaplaw.properties.verdict import INCONCLUSIVE, PASSED, SELF_TEST_FAILED

from . import report
from .options import Duration, bar, complete_target, console, jobs_option, json_option, plain_table, say, seed_option

_DEFAULT_TIME = "5s"
_LEAST = 90  # percent


class Score(NamedTuple):
    """What became of a target's mutants: those judged, those set apart with the reasons, those nothing ever runs."""

    target: str
    judged: list[Judged]
    apart: dict[Mutant, str]
    idle: frozenset[Mutant]
    made: int  # mutants in all; fewer are looked at where a sample was asked for

    def count(self, verdict: str) -> int:
        """How many got this verdict."""
        return sum(one.verdict == verdict for one in self.judged)

    @property
    def share(self) -> float:
        """Killed of all that are not set apart, in percent: neither hangs nor survivors count for it."""
        return 100 * self.count(KILLED) / len(self.judged) if self.judged else 0.0

    @property
    def equivalent(self) -> int:
        """How many change nothing that could be seen."""
        return sum(why != PUBLISHED for why in self.apart.values())

    @property
    def seconds(self) -> list[float]:
        """CPU time of each kill."""
        return [one.seconds for one in self.judged if one.verdict == KILLED]


@click.command()
@click.argument("targets", nargs=-1, required=True, metavar="TARGET...", shell_complete=complete_target)
@click.option("--time", "seconds", type=Duration(), default=_DEFAULT_TIME, show_default=True, help="CPU time a mutant.")
@jobs_option
@click.option("--sample", type=click.IntRange(1), metavar="N", help="Judge so many, drawn at random.")
@click.option(
    "--least", type=click.IntRange(0, 100), default=_LEAST, show_default=True, metavar="PERCENT",
    help="Exit 4 for a lower score.",
)
@click.option("--all", "everything", is_flag=True, help="Judge those as well that are held to be equivalent.")
@click.option("-v", "--verbose", is_flag=True, help="List what was set apart, with the reasons.")
@seed_option
@json_option
def mutate(
    targets: tuple[str, ...],
    seconds: float,
    jobs: int,
    sample: int | None,
    least: int,
    everything: bool,
    verbose: bool,
    seed: int,
    json_path: Path | None,
) -> int:
    """Make first-order mutants of TARGETs' code and check each: how many does a law notice?

    A mutant that hangs is inconclusive and counts against the score. Left out are mutants
    known to change nothing, and those of code that only published revisions run.

    \b
    Example: heaplaw mutate buddy --sample 50 --seed 7
    """
    scores = []
    for target in dict.fromkeys(targets):
        made = mutation.all_mutants(target)
        factory(target)
        chosen = _drawn(made, sample, seed)
        apart = {} if everything else set_apart(target, chosen, seed)
        wanted = [mutant for mutant in chosen if mutant not in apart]
        with bar(target, len(wanted), "mutants") as progress:
            judged = mutation.score(target, wanted, seconds=seconds, seed=seed, jobs=jobs, progress=progress)
        left = [one.mutant for one in judged if one.verdict == SURVIVED]
        idle = frozenset(never_run(target, left, seed) if left else ())
        scores.append(Score(target, judged, apart, idle, len(made)))
    code = exit_code(scores, least)
    if json_path is not None:
        data = {"format": "heaplaw mutants 1", "seed": seed, "seconds": seconds, "exit": code}
        json_path.write_text(report.to_json({**data, "targets": [as_data(score) for score in scores]}))
    _show(console(), scores, verbose, code, seed)
    return code


def _drawn(made: Sequence[Mutant], sample: int | None, seed: int) -> list[Mutant]:
    """So many mutants in the order of the text; all of them without a number."""
    if sample is None or sample >= len(made):
        return list(made)
    return [made[at] for at in sorted(Random(f"sample {seed}").sample(range(len(made)), sample))]


def exit_code(scores: Sequence[Score], least: int) -> int:
    """0 all scores are high enough, 3 for a target none of whose mutants was judged, 4 a score is too low."""
    if any(not score.judged for score in scores):
        return INCONCLUSIVE
    return PASSED if all(score.share >= least for score in scores) else SELF_TEST_FAILED


def as_data(score: Score) -> dict[str, Any]:
    """A score for machines."""
    return {
        "target": score.target,
        "made": score.made,
        "judged": len(score.judged),
        "killed": score.count(KILLED),
        "survived": score.count(SURVIVED),
        "inconclusive": score.count(HUNG),
        "score": round(score.share, 2),
        "median_seconds": round(median(score.seconds), 3) if score.seconds else 0.0,
        "mutants": [
            {
                **_named(one.mutant), "verdict": one.verdict, "law": one.law, "seconds": round(one.seconds, 3),
                "operations": one.operations, "run": one.mutant not in score.idle,
            }
            for one in score.judged
        ],
        "apart": [{**_named(mutant), "why": why} for mutant, why in score.apart.items()],
    }  # fmt: skip


def _named(mutant: Mutant) -> dict[str, object]:
    return {"module": mutant.module, "line": mutant.line, "before": mutant.before, "after": mutant.after}


# ---- what people see -------------------------------------------------------------------------


def table(scores: Sequence[Score]) -> Table:
    """One line a target."""
    lines = plain_table()
    lines.add_column("target", overflow="fold")
    titles = ("mutants", "killed", "survived", "unclear", "equivalent", "published", "score", "median s", "most s")
    for title in titles:
        lines.add_column(title, justify="right", no_wrap=True)
    for score in scores:
        looked_at, times = len(score.judged) + len(score.apart), score.seconds
        lines.add_row(
            escape(score.target),
            str(looked_at) if looked_at == score.made else f"{looked_at} of {score.made}",
            str(score.count(KILLED)),
            str(score.count(SURVIVED)),
            str(score.count(HUNG)),
            str(score.equivalent),
            str(len(score.apart) - score.equivalent),
            f"{score.share:.1f} %",
            f"{median(times):.2f}" if times else "",
            f"{max(times):.2f}" if times else "",
        )
    return lines


def _show(out: Console, scores: Sequence[Score], verbose: bool, code: int, seed: int) -> None:
    for score in scores:
        for line in _details(score, verbose):
            say(out, line)
    out.print(table(scores))
    say(out, "\n" + verdict(scores, code))
    say(out, f"seed {seed}")


def _details(score: Score, verbose: bool) -> list[str]:
    """What was not killed; if wanted, what killed the others and why some were not judged."""
    lines = [f"{score.target}: not killed"]
    for one in score.judged:
        if one.verdict != KILLED:
            note = " (a check never runs it)" if one.mutant in score.idle else ""
            lines.append(f"  {one.mutant}{note if one.verdict == SURVIVED else f' ({one.law})'}")
    lines = lines if len(lines) > 1 else [f"{score.target}: every mutant is killed"]
    if verbose:
        laws = Counter(one.law for one in score.judged if one.verdict == KILLED)
        lines.append("  killed by " + ", ".join(f"{law} {count}" for law, count in laws.most_common()))
        lines += [f"  {mutant}: {why}" for mutant, why in score.apart.items()]
    return [*lines, ""]


def verdict(scores: Sequence[Score], code: int) -> str:
    """The last line: what the exit code says, in words."""
    idle = [score.target for score in scores if not score.judged]
    if idle:
        return f"inconclusive: no mutant of {', '.join(idle)} was judged (exit {code})"
    low = ", ".join(f"{score.target} {score.share:.1f} %" for score in scores)
    return f"{'enough' if code == PASSED else 'too few'} mutants are killed: {low} (exit {code})"
