"""Can this gate go red at all?  Each engine hunts a bug that is known to be there; and no law is gone.

A law may vanish from the suite, or be muted, or find nothing to look at since an adapter has lost a method: all
three look green.  So the configuration may say how many laws there are, or which, and which must have been asked of
a target; and whatever it says, each law that a bug of the gallery is said to break must be there.

>>> vanished(1)
[]
"""

from heaplaw.impls.bugs import gallery
from heaplaw.lawbook import LAWS
from heaplaw.properties.engines import why_not
from heaplaw.properties.hunting import FOUND, MISSED, NOT_RUN, OPERATIONS, Hunt, canary, hunts
from heaplaw.properties.verdict import Status

from ..options import bar
from ..reports.model import Step
from .running import Gate, clock, group

NAME, LEDGER = "canaries", "laws"
_SECONDS = 20.0  # of a hunt; a canary takes less than one, on a machine that has nothing else to do
_VERDICTS = {FOUND: Status.PASSED, MISSED: Status.REFUTED, NOT_RUN: Status.NOT_RUN}


def check_engines(gate: Gate) -> None:
    """Let every engine that this gate uses hunt its canary."""
    engines = gate.engines
    absent = {name: why for name in engines if (why := why_not(name)) is not None}
    present = [name for name in engines if name not in absent]
    with clock() as since, bar("hunting canaries", len(present), "hunts") as progress:
        wanted = [(canary(name), name, 1, _SECONDS, OPERATIONS) for name in present]  # no matter of the gate's seed
        done = hunts(wanted, jobs=gate.jobs, progress=progress) if wanted else []
        seconds = since()
    steps = [_step(hunt) for hunt in done] + [Step(NAME, name, Status.NOT_RUN, why) for name, why in absent.items()]
    if not steps:
        steps = [Step(NAME, "", Status.NOT_RUN, "no engine explores any target")]
    found = [hunt for hunt in done if hunt.verdict == FOUND]
    said = ", ".join(f"{hunt.engine} finds {hunt.target}" for hunt in found)
    gate.enter(NAME, steps, said or "no engine found the bug planted for it", seconds)


def _step(hunt: Hunt) -> Step:
    if hunt.verdict == FOUND:
        said = f"finds {hunt.target}: {hunt.law} by {hunt.length} operations"
    elif hunt.verdict == MISSED:
        said = f"does not find {hunt.target}, which is planted for it: its 'passed' means nothing"
    else:
        said = hunt.why or "it cannot be told whether it finds the bug planted for it"
    return Step(NAME, hunt.engine, _VERDICTS.get(hunt.verdict, Status.INCONCLUSIVE), said)


# ---- the ledger of laws --------------------------------------------------------------------------


def vanished(pinned: int | tuple[str, ...]) -> list[str]:
    """What is wrong with the laws that there are, in words, given how many or which a project has written down."""
    wrong = []
    if isinstance(pinned, tuple) and (gone := [law for law in pinned if law not in LAWS]):
        wrong.append(f"no law any more: {', '.join(gone)}")
    if isinstance(pinned, int) and len(LAWS) < pinned:
        wrong.append(f"{len(LAWS)} laws, the configuration says that there are {pinned}")
    if unknown := sorted({bug.law for bug in gallery() if not bug.equivalent} - LAWS.keys()):
        wrong.append(f"bugs of the gallery break what is no law any more: {', '.join(unknown)}")
    return wrong


def check_laws(gate: Gate) -> None:
    """Are the laws still there, and is none muted that the project holds itself to?"""
    pinned = gate.settings.laws
    steps = [Step(LEDGER, "", Status.INCONCLUSIVE, why) for why in vanished(pinned)]
    for target in gate.targets:
        held = set(target.laws) | (set(pinned) if isinstance(pinned, tuple) else set())
        if unasked := [law for law in target.muted if law in held]:
            why = f"{', '.join(unasked)}: the configuration holds it to what it does not ask"
            steps.append(Step(LEDGER, target.name, Status.INCONCLUSIVE, why))
    muted = [f"{len(one.muted)} not asked of {one.name}" for one in gate.targets if one.muted]
    said = "; ".join([f"{len(LAWS)} laws, none is gone", *muted])
    gate.enter(LEDGER, steps or [Step(LEDGER, "", Status.PASSED, said)], said)


def check_asked(gate: Gate) -> None:
    """Was each law asked that a target is held to?  Comes last, when all has been executed."""
    steps, held = [], 0
    for target in gate.targets:
        mine = [tally for tally in gate.tallies if group(tally.target) == group(target.name)]
        if any(tally.findings for tally in mine):  # what was asked of a broken heap says nothing of the adapter
            if target.laws:
                steps.append(Step("asked", target.name, Status.NOT_APPLICABLE, "not judged: it breaks a law"))
            continue
        for law in target.laws:
            held += 1
            if law not in target.muted and not any(tally.evidence[law] for tally in mine):
                why = next((tally.lacking[law] for tally in mine if law in tally.lacking), "its condition never held")
                steps.append(Step("asked", f"{target.name}: {law}", Status.NOT_RUN, why))
    if held or steps:
        said = f"each of the {held} laws that are written down was asked" if held else steps[0].said
        gate.enter("asked", steps or [Step("asked", "", Status.PASSED, said)], said)
