"""Writes the tables of README.md and of the gallery from the code, between their markers.

`python tests/render_readme.py` writes, and a test holds both against it, so no table can drift.  Certificates
come from tests/data/certificates.json (`heaplaw explore --json`), the kill matrix from
tests/data/kill_matrix.json (`heaplaw selftest --json`), mutation scores from
tests/data/mutation_scores.json (`heaplaw mutate --json`, the killed ones left out of its list), proofs from
tests/data/proofs.json (`heaplaw prove --no-cache --json FILE`, then `python tests/render_readme.py FILE`).
"""

import inspect
import json
import re
import sys
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

from heaplaw import laws, operations
from heaplaw.impls.bugs import gallery
from heaplaw.impls.naming import parse
from heaplaw.impls.registry import BUILT_IN
from heaplaw.lawbook import FOLKLORE, LAWS

README = Path(__file__).parent.parent / "README.md"
ENGINES = Path(__file__).parent.parent / "properties/README.md"
SPECIFICATION = Path(__file__).parent.parent / "spec/README.md"
GALLERY = Path(__file__).parent.parent / "impls/bugs/README.md"
MATRIX = Path(__file__).parent / "data/kill_matrix.json"
SCORES = Path(__file__).parent / "data/mutation_scores.json"
PAGE = Path(__file__).parent.parent / "properties/proofs/README.md"
PROOFS = Path(__file__).parent / "data/proofs.json"
AGAINST = Path(__file__).parent / "data/against.json"
CERTIFICATES = Path(__file__).parent / "data/certificates.json"


PAGES = (README, GALLERY, PAGE, SPECIFICATION, ENGINES)


def law_table() -> str:
    """Id, sentence and needs of every law."""
    rows = ["| law | what must hold | asked when it is shown or promised |", "|---|---|---|"]
    for law in LAWS.values():
        needs = " ".join(f"`{need.replace('contract.', '').replace('|', '` or `')}`" for need in law.needs)
        rows.append(f"| `{law.id}` | {law.sentence} | {needs or 'always'} |")
    return "\n".join(rows)


def law_pages() -> str:
    """Laws by section: what must hold, when it is asked, what it needs, who says so, how many bugs break it."""
    lines = inspect.getsource(laws).splitlines()
    starts = [(number, line[5:].strip()) for number, line in enumerate(lines, 1) if line.startswith("# -- ")]
    broken = Counter(bug.law for bug in gallery() if not bug.equivalent)
    pages: dict[str, list[str]] = {title: [] for _, title in starts}
    for law in LAWS.values():
        title = [title for number, title in starts if number < law.check.__code__.co_firstlineno][-1]
        needs = " ".join(f"`{need.replace('contract.', '').replace('|', '` or `')}`" for need in law.needs) or "nothing"
        when = " ".join(law.when) + (", if its condition holds" if law.conditional else "")
        whence = "-" if law.source == FOLKLORE else law.source
        pages[title].append(f"| `{law.id}` | {law.sentence} | {when} | {needs} | {whence} | {broken[law.id]} |")
    head = "| law | what must hold | asked at | needs | who says so | bugs |\n|---|---|---|---|---|---|"
    return "\n\n".join(f"### {title.capitalize()}\n\n{head}\n" + "\n".join(rows) for title, rows in pages.items())


def operation_table() -> str:
    """The operations, as their module has them."""
    assert operations.__doc__ is not None
    table = operations.__doc__.split("\n\n", 2)[2].rstrip()
    return f"```\n{inspect.cleandoc(table)}\n```"


def target_table() -> str:
    """Built-in targets with their published revisions."""
    rows = ["| target | what it is | published revisions |", "|---|---|---|"]
    for name, known in BUILT_IN.items():
        rows.append(f"| `{name}` | {known.summary} | {' '.join(f'`@{r}`' for r in known.revisions) or '-'} |")
    return "\n".join(rows)


def certificate_table() -> str:
    """What exhaustive search has proved of each tiny configuration, and how many of its bugs it shows."""
    titles = ("target", "covered", "letters", "states", "transitions", "laws asked", "bugs in reach")
    rows = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    hunts = [hunt for hunt in json.loads(MATRIX.read_text())["hunts"] if hunt["engine"] == "exhaustive"]
    for proof in json.loads(CERTIFICATES.read_text())["targets"]:
        covered = "every trace" if proof["closed"] else f"at most {proof['depth']} operations"
        counts = f"{len(proof['alphabet'])} | {proof['states']:,} | {proof['transitions']:,}"
        mine = [hunt for hunt in hunts if parse(hunt["target"]).base == parse(proof["target"]).base]
        shown = f"{sum(hunt['verdict'] == 'found' for hunt in mine)} of {len(mine)}" if mine else "-"
        rows.append(f"| `{proof['target']}` | {covered} | {counts} | {len(proof['laws_asked'])} | {shown} |")
    return "\n".join(rows)


def matrix_table() -> str:
    """Bug by engine: what it breaks first, after how many seconds, and by how few operations."""
    hunts = {(hunt["target"], hunt["engine"]): hunt for hunt in json.loads(MATRIX.read_text())["hunts"]}
    engines = list(dict.fromkeys(engine for _, engine in hunts))
    rows = [f"| bug | what goes wrong | from | {' | '.join(engines)} |", f"|---|---|---|{'---|' * len(engines)}"]
    for bug in gallery():
        if bug.equivalent:
            cells = [f"equivalent: {bug.equivalent}", *["-"] * (len(engines) - 1)]
        else:
            cells = [_cell(hunts.get((bug.name, engine))) for engine in engines]
        whence = f"after {bug.source}" if bug.derived and not bug.source.startswith("derived") else bug.source
        note = f" ({bug.note})" if bug.note else ""
        rows.append(f"| `{bug.name}` | {bug.title}{note} | {whence} | {' | '.join(cells)} |".replace("|p", "\\|p"))
    return "\n".join(rows)


def _cell(hunt: dict[str, Any] | None) -> str:
    if hunt is None:
        return "-"
    if hunt["verdict"] != "found":
        return hunt["verdict"]
    return f"`{hunt['law']}` {hunt['length']} op, {hunt['seconds']:.1f} s"


def matrix_summary() -> str:
    """Shares, by engine."""
    data = json.loads(MATRIX.read_text())["hunts"]
    rows = ["| engine | found | within 2 s | median time | as short as can be |", "|---|---|---|---|---|"]
    least = {hunt["target"]: hunt for hunt in data if hunt["engine"] == "exhaustive" and hunt["verdict"] == "found"}
    for engine in dict.fromkeys(hunt["engine"] for hunt in data):
        mine = [hunt for hunt in data if hunt["engine"] == engine]
        found = [hunt for hunt in mine if hunt["verdict"] == "found"]
        soon = sum(hunt["seconds"] <= 2 for hunt in found)
        both = [hunt for hunt in found if least.get(hunt["target"], {}).get("law") == hunt["law"]]
        short = sum(hunt["length"] <= least[hunt["target"]]["length"] for hunt in both)
        rows.append(
            f"| {engine} | {len(found)} of {len(mine)} ({len(found) / len(mine):.1%}) | {soon / len(mine):.1%} "
            f"| {median(hunt['seconds'] for hunt in found):.2f} s | {short} of {len(both)} |"
        )
    everybody = {hunt["target"] for hunt in data}
    lost = everybody - {hunt["target"] for hunt in data if hunt["verdict"] == "found"}
    rows.append(f"| all | {len(everybody - lost)} of {len(everybody)} | | | |")
    return "\n".join(rows)


def mutant_table() -> str:
    """Score of each target whose mutants were judged, and what an impatient reader wants to know beside it."""
    titles = ("target", "mutants", "left out", "killed", "survived", "hung", "score", "median time of a kill")
    rows = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for one in json.loads(SCORES.read_text())["targets"]:
        counts = one["made"], one["made"] - one["judged"], one["killed"], one["survived"], one["inconclusive"]
        cells = [f"`{one['target']}`", *map(str, counts), f"{one['score']:.1f} %", f"{one['median_seconds']:.2f} s"]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


# ---- proofs ----------------------------------------------------------------------------------


def condensed(data: dict[str, Any]) -> list[dict[str, Any]]:
    """What `heaplaw prove --json` says, by theorem."""
    theorems: dict[str, dict[str, Any]] = {}
    for one in data["questions"]:
        keys = ("method", "theorem", "sentence", "kernels", "bound")
        told = {key: one[key] for key in keys} | {"verdicts": {}, "targets": 0, "seconds": 0, "controls": []}
        entry = theorems.setdefault(one["theorem"], told)
        if one["control"]:
            shown = "" if one["replayed"] else " (not shown)"
            entry["controls"].append(one["target"].rpartition(":")[2] + shown)
            continue
        entry["targets"] += 1
        entry["seconds"] = max(entry["seconds"], one["seconds"])
        verdicts = entry["verdicts"].setdefault(str(one["bits"] or 64), [])
        if one["verdict"] not in verdicts:
            verdicts.append(one["verdict"])
    return list(theorems.values())


def proof_table() -> str:
    """Proofs by target: how many, of how many configurations, how long the slowest took, wrong kernels refuted."""
    titles = ("target", "theorems", "configurations", "slowest", "wrong kernels refuted and replayed")
    rows = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    by_target: dict[str, list[dict[str, Any]]] = {}
    for entry in json.loads(PROOFS.read_text()):
        if entry["method"] != "contract":
            by_target.setdefault(entry["theorem"].partition("/")[0], []).append(entry)
    for target in BUILT_IN:
        if mine := by_target.get(target):
            wrong = {control for entry in mine for control in entry["controls"]}
            kinds = [
                f"{len(some)} {what}" for what, some in (
                    ("bugs", {name.partition(",")[0] for name in wrong if "+" in name}),
                    ("revisions", {name.partition(",")[0] for name in wrong if "@" in name}),
                    ("others", {name for name in wrong if "+" not in name and "@" not in name}),
                ) if some
            ]  # fmt: skip
            assert all(verdict == ["proved"] for entry in mine for verdict in entry["verdicts"].values())
            count, slowest = sum(entry["targets"] for entry in mine), max(entry["seconds"] for entry in mine)
            rows.append(f"| `{target}` | {len(mine)} | {count} | {slowest:.1f} s | {', '.join(kinds)} |")
    return "\n".join(rows)


def against_table() -> str:
    """The engines beside what people would otherwise write, of one run."""
    seen = json.loads(AGAINST.read_text())
    titles = ("tool", "found", "median time", "10 % to 90 %", "operations", "faster than `plain`", "shorter", "longer")
    rows = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for row in seen["tools"]:
        found = f"{row['found']} of {row['hunts']}"
        counts = [row[key] for key in ("faster", "shorter", "longer")]
        beside = [f"{n} bug{'s' * (n != 1)}" if row is not seen["tools"][0] else "-" for n in counts]
        figures = (found, row["median"], f"{row['low']} to {row['high']}", f"{row['length']:g}")
        rows.append("| " + " | ".join((f"`{row['tool']}`", *figures, *beside)) + " |")
    return "\n".join(rows)


def _times(ratio: float) -> str:
    return f"{ratio:,.0f}x" if ratio >= 100 else f"{ratio:.1f}x"


def rate_table() -> str:
    """Checked operations a second in the same run, and how many times as many `plain` makes."""
    rates = json.loads(AGAINST.read_text())["rates"]
    first, *_ = rates
    targets = list(rates[first])
    rows = ["| tool | " + " | ".join(f"`{target}`" for target in targets) + " |", "|---" * (len(targets) + 1) + "|"]
    for tool, seen in rates.items():
        times = {t: rates[first][t] / seen[t] for t in targets}
        cells = [f"{seen[t]:,.0f}" + (f" ({_times(times[t])})" if tool != first else "") for t in targets]
        rows.append(f"| `{tool}` | {' | '.join(cells)} |")
    return "\n".join(rows)


def theorem_list() -> str:
    """Every theorem, by target."""
    rows, last = [], ""
    for entry in json.loads(PROOFS.read_text()):
        target, _, name = entry["theorem"].partition("/")
        if target != last:
            last = target
            rows += ["", f"## {target}", "", "| theorem | what it says | about | proved | covers | must be refuted |"]
            rows.append("|---" * 6 + "|")
        proved = "; ".join(f"{bits} bits: {', '.join(said)}" for bits, said in sorted(entry["verdicts"].items()))
        wrong = " ".join(f"`{control}`" for control in entry["controls"]) or "-"
        about, bound = entry["kernels"].replace("|", "\\|"), entry["bound"].replace("|", "\\|")
        rows.append(f"| `{name}` | {entry['sentence']} | {about} | {proved} | {bound} | {wrong} |")
    return "\n".join(rows[1:])


def rendered(text: str) -> str:
    """``text`` with all tables as they should be."""
    tables = {
        "targets": target_table, "laws": law_table, "certificates": certificate_table,
        "matrix": matrix_table, "shares": matrix_summary, "mutants": mutant_table,
        "proofs": proof_table, "theorems": theorem_list, "law-pages": law_pages, "operations": operation_table,
        "against": against_table, "rates": rate_table,
    }  # fmt: skip
    for name, table in tables.items():
        if f"<!-- {name} -->" not in text:
            continue
        text = re.sub(
            rf"<!-- {name} -->.*?<!-- end -->",
            lambda _, name=name, table=table: f"<!-- {name} -->\n{table()}\n<!-- end -->",
            text,
            flags=re.S,
        )
    return text


if __name__ == "__main__":
    if sys.argv[1:]:
        PROOFS.write_text(json.dumps(condensed(json.loads(Path(sys.argv[1]).read_text())), indent=1) + "\n")
    for file in PAGES:
        file.write_text(rendered(file.read_text()))
