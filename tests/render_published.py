"""Writes fuzz/published/README.md from tests/data/published.json, which a test holds it to.

`heaplaw reproduce --json tests/data/published.json --plots fuzz/published/charts`, then
`python tests/render_published.py`.
"""

import json
from pathlib import Path
from typing import Any

from heaplaw.fuzz.published.shape import cell

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "fuzz/published/README.md"
CHARTS = ROOT / "fuzz/published/charts"
DATA = ROOT / "tests/data/published.json"
_HEAD = """# Published results, made again

`heaplaw reproduce` makes each of them again on the implementations of this package: published tables beside ours,
memory in both metrics of the discussions (pages held; metadata and padding), copies and pages for an access where
objects are scattered. The verdict follows from claims of direction, each of which holds or not, and from pairs of
figures, which must come within a factor that was stated beforehand. Where no figure was published there is
a direction only.

Steps are counted by the implementations and are the same on every machine; seconds are processor time of the Python
that made this page. What is said of published code follows from ports of it; nobody who maintains it has confirmed it.

    heaplaw reproduce                          all of them: {seconds:.0f} s of processor time when this was written
    heaplaw reproduce half-page packets        some
    heaplaw reproduce --quick --plots charts   smaller, with charts
    heaplaw reproduce zram /usr/src/linux      the zram experiment over a real tree

This page is written by `python tests/render_published.py` from `tests/data/published.json`; a test holds it to that.
"""


def page(data: dict[str, Any]) -> str:
    """The whole page."""
    results = data["results"]
    parts = [_HEAD.format(seconds=sum(one["seconds"] for one in results)), _summary(results)]
    return "\n".join([*parts, *(_section(one) for one in results)])


def _summary(results: list[dict[str, Any]]) -> str:
    rows = ["| result | what was published | verdict | farthest figure |", "|---|---|---|---|"]
    for one in results:
        factor = f"{one['factor']:.2f} times, of {one['within']:g}" if one["factor"] else "none published"
        rows.append(f"| [{one['name']}](#{one['name']}) | {one['sentence']} | {one['verdict']} | {factor} |")
    return "\n".join([*rows, ""])


def _section(one: dict[str, Any]) -> str:
    lines = [f"## {one['name']}", "", f"{one['sentence']} ({one['source']})", "", f"**{one['text']}**", ""]
    for claim in one["claims"]:
        lines.append(f"- {'yes' if claim['holds'] else '**no**'}: {claim['sentence']}: {claim['seen']}")
    for table in (one["published"], *one["ours"]):
        lines += ["", f"*{table['title']}*", "", *_table(table)]
    charts = sorted(path.name for path in CHARTS.glob(f"{one['name']}*.svg"))
    lines += [line for name in charts for line in ("", f"![{one['name']}](charts/{name})")]
    return "\n".join([*lines, ""])


def _table(table: dict[str, Any]) -> list[str]:
    head = [f"| {' | '.join(table['columns'])} |", "|---" + "|---:" * (len(table["columns"]) - 1) + "|"]
    return head + [f"| {' | '.join(cell(value) for value in row)} |" for row in table["rows"]]


if __name__ == "__main__":
    PAGE.write_text(page(json.loads(DATA.read_text())))
