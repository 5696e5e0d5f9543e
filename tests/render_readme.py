"""Writes the tables of README.md and of the gallery from the code, between their markers.

`python tests/render_readme.py` writes, and a test holds both against it, so no table can drift.  Certificates
come from tests/data/certificates.json (`heaplaw explore --json`), the kill matrix from
tests/data/kill_matrix.json (`heaplaw selftest --json`), mutation scores from
tests/data/mutation_scores.json (`heaplaw mutate --json`, the killed ones left out of its list).
"""

import json
import re
from pathlib import Path
from statistics import median
from typing import Any

from heaplaw.impls.bugs import gallery
from heaplaw.impls.registry import BUILT_IN, parse
from heaplaw.lawbook import LAWS

README = Path(__file__).parent.parent / "README.md"
GALLERY = Path(__file__).parent.parent / "impls/bugs/README.md"
MATRIX = Path(__file__).parent / "data/kill_matrix.json"
SCORES = Path(__file__).parent / "data/mutation_scores.json"
CERTIFICATES = Path(__file__).parent / "data/certificates.json"


def law_table() -> str:
    """Id, sentence and needs of every law."""
    rows = ["| law | what must hold | asked when it is shown or promised |", "|---|---|---|"]
    for law in LAWS.values():
        needs = " ".join(f"`{need.replace('contract.', '').replace('|', '` or `')}`" for need in law.needs)
        rows.append(f"| `{law.id}` | {law.sentence} | {needs or 'always'} |")
    return "\n".join(rows)


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


def rendered(text: str) -> str:
    """``text`` with all tables as they should be."""
    tables = {
        "targets": target_table, "laws": law_table, "certificates": certificate_table,
        "matrix": matrix_table, "shares": matrix_summary, "mutants": mutant_table,
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
    for file in (README, GALLERY):
        file.write_text(rendered(file.read_text()))
