"""A comparison on the terminal: a table of figures with what is better or worse in words, then what only one breaks.

>>> amount(0.125, "share"), amount(1_234_567, "bytes"), amount(3.0, "steps"), amount(None, "bytes")
('12.5 %', '1.23 MB', '3', '-')
"""

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from heaplaw.properties.verdict import COUNTEREXAMPLE, INCONCLUSIVE, PASSED, Status
from heaplaw.trace import Trace

from ..options import plain_table, say
from .claims import Judged
from .comparing import Comparison, Row, Total
from .measuring import BYTES, FIGURES, Measured
from .thresholds import Breach

SHOWN = (
    "footprint", "mean_footprint", "internal", "external", "metadata", "returned", "median_steps", "p99_steps",
    "worst_steps",
)  # fmt: skip
_SAME = 0.005  # share below which a difference is none
_MOST = 8  # rows of a kind
_BAR = 10  # cells that stand for as much as old
_FIRST = ("alignment", "free-recorded")  # claims whose first figure is the one to show
_STYLES = {"better": "green", "worse": "red", "same": "dim", "as claimed": "green", "not as claimed": "red",
           "as claimed in part": "yellow"}  # fmt: skip
_SOURCES = (("recorded", ("recorded", "given")), ("generated", ("generated",)))


def amount(value: float | None, unit: str) -> str:
    """A figure in words; "-" where there is none."""
    if value is None:
        return "-"
    if unit == "share":
        return f"{100 * value:.1f} %"
    if unit == "bytes":
        for scale, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
            if value >= scale:
                return f"{value / scale:.3g} {name}"
    return f"{value:,.0f}" if value == int(value) or value >= 100 else f"{value:,.2f}"


def word(name: str, total: Total) -> str:
    """better, worse, same; "" where nothing is known."""
    old, new = total
    if old is None or new is None:
        return ""
    if abs(new - old) <= _SAME * max(abs(old), abs(new)):
        return "same"
    return "better" if (new < old) == FIGURES[name].less_is_better else "worse"


def show(out: Console, found: Comparison, broken: Sequence[Breach], code: int, verbose: bool = False) -> None:
    """Everything, most important last."""
    say(out, f"seed {found.seed}")
    for name, commit in found.commits.items():
        say(out, f"{name} is commit {commit}")
    out.print()
    out.print(figures(found))
    for note in notes(found):
        say(out, note)
    if verbose:
        out.print()
        out.print(traces(found))
    for part in (_claims(found), _old(found), _worst(found), _laws(found, verbose), _breaches(broken)):
        if part:
            out.print()
        for line in part:
            out.print(line, highlight=False, soft_wrap=not isinstance(line, Table))
    out.print()
    say(out, said(found, broken, code))


def _table(*titles: str) -> Table:
    table = plain_table()
    for title in titles:
        table.add_column(title, justify="right" if title in ("old", "new", "new/old", "steps") else "left")
    return table


def _ratio(total: Total) -> str:
    return f"{total.ratio:.2f}" if total.ratio is not None else ""


def _bar(total: Total) -> str:
    """New beside old: the upright line is as much as old."""
    if total.ratio is None:
        return ""
    filled = round(total.ratio * _BAR)
    return "=" * min(filled, _BAR) + " " * (_BAR - filled) + "|" + "=" * min(filled - _BAR, _BAR) + (
        "..." if filled > 2 * _BAR else ""
    )


def figures(found: Comparison) -> Table:
    """Old, new and ratio of each figure, over recorded and over generated traces."""
    table = _table("", "old", "new", "new/old", "", "")
    for title, kinds in _SOURCES:
        rows = [row for row in found.rows if row.workload.kind in kinds]
        if not rows:
            continue
        operations = sum(row.old.operations for row in rows)
        table.add_row(Text(f"{len(rows)} {title} traces, {operations:,} operations", style="italic"))
        totals = found.totals(kinds)
        for name in SHOWN:
            total, known = totals[name], FIGURES[name]
            if total.old is None and total.new is None:
                continue
            how = word(name, total)
            table.add_row(
                f"  {known.title}", amount(total.old, known.unit), amount(total.new, known.unit), _ratio(total),
                Text(how, style=_STYLES.get(how, "")), _bar(total),
            )  # fmt: skip
    return table


def notes(found: Comparison) -> Iterator[str]:
    """What a step is, who refuses what, what was left out."""
    old, new = (sum(sides, Measured()) for sides in ([r.old for r in found.rows], [r.new for r in found.rows]))
    counted = [_counted(side) for side in (old, new)]
    yield f"old: {found.old}; steps are {counted[0]}"
    yield f"new: {found.new}; steps are {counted[1]}" + (" - not the same things" if counted[0] != counted[1] else "")
    for what, rows in (("these traces", found.rows), ("traces of the plain engine in small heaps", found.engine)):
        if rows:
            yield f"refused on {what}: {_refused(rows)}"
    if left := sum(row.left_out for row in found.rows):
        yield f"figures leave out {left:,} requests that one of them refuses"


def _counted(side: Measured) -> str:
    names = [name for name in side.counters if name not in BYTES]
    return " + ".join(name.replace("_", " ") for name in names) if names else "not counted"


def _refused(rows: Sequence[Row]) -> str:
    old, new = (sum(map(len, sides)) for sides in ([r.old.refused for r in rows], [r.new.refused for r in rows]))
    only = sum(row.only_old for row in rows), sum(row.only_new for row in rows)
    why = _reasons(rows)
    return f"{old:,} by old ({only[0]:,} by it alone), {new:,} by new ({only[1]:,} by it alone){why}"


def _reasons(rows: Sequence[Row]) -> str:
    """Why one alone refuses."""
    found: dict[str, int] = {}
    for row in rows:
        for place, mine, other in (("old", row.old, row.new), ("new", row.new, row.old)):
            for name in mine.refused.keys() - other.refused.keys():
                key = f"{place}: {mine.refused[name]}"
                found[key] = found.get(key, 0) + 1
    return f" [{', '.join(f'{why} {count:,}' for why, count in found.items())}]" if found else ""


def traces(found: Comparison) -> Table:
    """Each trace by itself."""
    table = _table("trace", "figure", "old", "new", "new/old", "")
    for row in [*found.rows, *found.adversarial]:
        for name in SHOWN:
            total = Total(row.old.figure(name), row.new.figure(name))
            if total.old is None and total.new is None:
                continue
            unit, how = FIGURES[name].unit, word(name, total)
            table.add_row(
                escape(row.workload.name) if name == SHOWN[0] else "", FIGURES[name].title, amount(total.old, unit),
                amount(total.new, unit), _ratio(total), Text(how, style=_STYLES.get(how, "")),
            )  # fmt: skip
    return table


def _claims(found: Comparison) -> list[Table | str]:
    if not found.claims:
        return []
    swapped = not found.old.startswith(found.claims[0].claim.first)
    table = _table("published", "old", "new", "")
    for judged in found.claims:
        what, *pair = deciding(judged)
        old, new = reversed(pair) if swapped else pair
        unit = judged.evidence.unit
        style = _STYLES[judged.verdict]
        more = f"; {judged.evidence.said}" if judged.evidence.said else ""
        said = Text(judged.claim.says)
        said.append(f"\n  {what}{more}", style="dim")
        table.add_row(said, amount(old, unit), amount(new, unit), Text(judged.verdict, style=style))
    sources = dict.fromkeys(judged.claim.source for judged in found.claims)
    return [table, *(f"  {escape(source)}" for source in sources)]


def deciding(judged: Judged) -> tuple[str, float, float]:
    """The figures to show of a claim: where there are several, one that points as the verdict says."""
    rows = judged.evidence.figures
    return rows[0] if judged.claim.id in _FIRST else rows[-1]


def _old(found: Comparison) -> list[Table | str]:
    if not found.counterexamples:
        return []
    table = _table("old counterexample", "law", "on old", "on new", "operations")
    for one in found.counterexamples:
        law = one.law if one.broken in ("", one.law) else f"{one.law}, now {one.broken}"
        length = f"{one.before} -> {one.after}" if one.smaller else str(one.before)
        table.add_row(escape(one.file), law, one.on_old, one.on_new, length)
    return [table]


def _worst(found: Comparison) -> list[Table | str]:
    lines: list[Table | str] = []
    for row in found.adversarial:
        known = FIGURES[found.worst_figure]
        old, new = (amount(side.figure(found.worst_figure), known.unit) for side in (row.old, row.new))
        if found.worst <= 1:
            lines.append(f"no trace found on which new is worse in {known.title} ({old} -> {new} at the closest)")
            continue
        lines.append(f"worst trace found for new ({known.title}): {old} -> {new}, {found.worst:.2f} times as bad")
        lines += [f"  {line}" for line in str(_trace(row)).splitlines()[1:][:_MOST]]
        if (more := len(row.workload.operations) - _MOST) > 0:
            lines.append(f"  ... {more:,} more; --save DIR keeps it")
    return lines


def _trace(row: Row) -> str:
    return str(Trace(row.workload.operations))


def _laws(found: Comparison, verbose: bool) -> list[Table | str]:
    lines: list[Table | str] = []
    if verbose:
        table = _table("law", "old ", "new ")  # with a space: verdicts are words, and stand to the left
        for law, verdicts in found.laws.items():
            table.add_row(law, *(verdicts[place].value for place in ("old", "new")))
        lines.append(table)
    for law, sides in found.refuted.items():
        who = "both break" if len(sides) == 2 else f"only {next(iter(sides))} breaks"
        for place, one in sides.items():
            where = f"{one.expected}; seen {one.seen}" if one.expected else one.seen
            lines.append(escape(f"{who} {law} ({place}, on {one.workload}): {where}"))
            lines += [f"  {escape(line)}" for line in one.trace.splitlines()[1 : 1 + _MOST + 2]]
    return lines


def _breaches(broken: Sequence[Breach]) -> list[Table | str]:
    lines: list[Table | str] = []
    for one in broken:
        if not one.measured:
            lines.append(f"threshold {one.threshold}: nothing was measured for it")
            continue
        unit = FIGURES[one.threshold.name].unit if one.threshold.name in FIGURES else ""
        lines.append(f"threshold {one.threshold} not kept on {escape(one.trace)}: "
                     f"{amount(one.old, unit)} -> {amount(one.new, unit)}")  # fmt: skip
    return lines


def exit_code(found: Comparison, broken: Sequence[Breach]) -> int:
    """1 a law that only the new one breaks, or a threshold; 3 nothing measured, or not all of it; else 0."""
    if found.refuted_by_new_only or any(one.measured for one in broken):
        return COUNTEREXAMPLE
    if not found.checked or not found.rows or found.stopped or broken:
        return INCONCLUSIVE
    return PASSED


def said(found: Comparison, broken: Sequence[Breach], code: int) -> str:
    """The last line."""
    real = [one for one in broken if one.measured]
    if found.refuted_by_new_only:
        return f"new breaks {', '.join(found.refuted_by_new_only)}, which old keeps (exit {code})"
    if real:
        names = ", ".join(dict.fromkeys(str(one.threshold) for one in real))
        return f"new is worse than {names} allows (exit {code})"
    if not found.checked or not found.rows:
        return f"inconclusive: nothing was executed{f', {found.stopped}' if found.stopped else ''} (exit {code})"
    if found.stopped:
        return f"inconclusive: {found.stopped} (exit {code})"
    if broken:
        return f"inconclusive: nothing was measured for {', '.join(str(one.threshold) for one in broken)} (exit {code})"
    both = [law for law, sides in found.refuted.items() if len(sides) == 2]
    fixed = found.refuted_by_old_only
    laws = sum(Status.PASSED in sides.values() for sides in found.laws.values())
    words = [f"new breaks no law that old keeps ({laws} asked, {found.checked:,} operations checked)"]
    words += [f"both break {', '.join(both)}"] * bool(both)
    words += [f"new keeps {', '.join(fixed)}, which old breaks"] * bool(fixed)
    return f"{'; '.join(words)} (exit {code})"
