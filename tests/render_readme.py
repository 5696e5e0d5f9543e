"""Writes the tables of README.md from the code, between their markers; `python tests/render_readme.py`.

A test holds the README against it, so no table can drift.  That of certificates is made from
tests/data/certificates.json, which `heaplaw explore --json` writes and tests hold the engine against.
"""

import json
import re
from pathlib import Path

from heaplaw.impls.registry import BUILT_IN
from heaplaw.lawbook import LAWS

README = Path(__file__).parent.parent / "README.md"
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
    """What exhaustive search has proved of each tiny configuration."""
    rows = ["| target | covered | letters | states | transitions | laws asked |", "|---|---|---|---|---|---|"]
    for proof in json.loads(CERTIFICATES.read_text())["targets"]:
        covered = "every trace" if proof["closed"] else f"at most {proof['depth']} operations"
        counts = f"{len(proof['alphabet'])} | {proof['states']:,} | {proof['transitions']:,}"
        rows.append(f"| `{proof['target']}` | {covered} | {counts} | {len(proof['laws_asked'])} |")
    return "\n".join(rows)


def rendered(text: str) -> str:
    """``text`` with all tables as they should be."""
    tables = {"targets": target_table, "laws": law_table, "certificates": certificate_table}
    for name, table in tables.items():
        text = re.sub(
            rf"<!-- {name} -->.*?<!-- end -->",
            lambda _, name=name, table=table: f"<!-- {name} -->\n{table()}\n<!-- end -->",
            text,
            flags=re.S,
        )
    return text


if __name__ == "__main__":
    README.write_text(rendered(README.read_text()))
