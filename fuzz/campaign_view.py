"""What people and programs see of a campaign: a live table, a status file, the last line."""

import os
import time
from typing import Any

from rich.table import Table
from rich.text import Text

from heaplaw.properties.verdict import COUNTEREXAMPLE, INCONCLUSIVE, PASSED

from .campaigning import Campaign
from .options import plain_table
from .planning import promise
from .reports.wording import counted

_MEGA = 1 << 20


def table(campaign: Campaign, begun_with: dict[str, int]) -> Table:
    """One line a target: what was done in all sittings, its rate in this one, what it has brought."""
    totals, elapsed = campaign.totals, max(0.1, time.monotonic() - campaign.begun)
    shown = plain_table()
    shown.add_column("target", overflow="fold")
    for title in ("shards", "runs", "operations", "a second", "states", "named", "findings", "lost"):
        shown.add_column(title, justify="right", no_wrap=True)
    for target in campaign.settings.targets:
        arms = totals.of(target)
        done = totals.operations(target)
        rate = (done - begun_with.get(target, 0)) / elapsed
        found = sum(one["base"] == target for one in campaign.findings.values())
        lost = sum(arm.lost for arm in arms)
        shown.add_row(
            Text(target), f"{sum(arm.shards for arm in arms):,}", f"{sum(arm.runs for arm in arms):,}",
            f"{done:,}", f"{rate:,.0f}", f"{len(totals.states.get(target, ())):,}",
            f"{len(totals.words.get(target, ())):,}", _alarming(found), _alarming(lost),
        )  # fmt: skip
    return shown


def _alarming(count: int) -> Text:
    """Red unless it is 0; no markup, which a line printed above a live table may turn off."""
    return Text(f"{count:,}", style="red" if count else "")


def headline(campaign: Campaign) -> str:
    """The same of all targets, in a line."""
    totals, elapsed = campaign.totals, time.monotonic() - campaign.begun
    done = sum(totals.operations(target) for target in campaign.settings.targets)
    rate = (done - campaign.before) / max(0.1, elapsed)
    states = sum(map(len, totals.states.values()))
    return (
        f"{int(elapsed) // 3600}:{int(elapsed) // 60 % 60:02}:{int(elapsed) % 60:02}  {done:,} operations, "
        f"{rate:,.0f}/s, {states:,} states, {len(campaign.findings)} findings, {campaign.incidents} incidents, "
        f"workers up to {campaign.peak // _MEGA} MB"
    )


def status(campaign: Campaign, state: str, code: int | None = None) -> dict[str, Any]:
    """For a program: totals of all sittings."""
    totals, settings = campaign.totals, campaign.settings
    return {
        "format": "heaplaw campaign status 1", "state": state, "pid": os.getpid(), "at": round(time.time(), 1),
        "elapsed": round(time.monotonic() - campaign.begun, 1), "seed": settings.seed, "exit": code,
        "operations": sum(totals.operations(target) for target in settings.targets),
        "shards": sum(total.shards for total in totals.arms.values()),
        "states": sum(map(len, totals.states.values())), "incidents": campaign.incidents,
        "lost": sum(total.lost for total in totals.arms.values()), "largest_worker": campaign.peak,
        "targets": [_target(campaign, target) for target in settings.targets],
        "findings": [_shown(one) for one in campaign.findings.values()],
        "flaky": [_shown(one) for one in campaign.flaky.values()],
        "running": [
            {"do": work.do, "seconds": round(time.monotonic() - work.since, 1)}
            | (work.shard._asdict() if work.shard else {"trace": work.found["trace"]})
            for work in campaign.running.values()
        ],
    }  # fmt: skip


def _target(campaign: Campaign, target: str) -> dict[str, Any]:
    totals = campaign.totals
    engines = {
        arm.engine: {
            "shards": total.shards, "runs": total.runs, "operations": total.operations,
            "seconds": round(total.seconds, 1), "new_states": total.states, "lost": total.lost, "failed": total.failed,
            "promise": round(promise(total), 3),
        } | ({"why": total.why} if total.why else {})
        for arm, total in totals.arms.items() if arm.target == target
    }  # fmt: skip
    return {
        "target": target, "operations": totals.operations(target), "states": len(totals.states.get(target, ())),
        "named_states": sorted(totals.words.get(target, ())), "engines": engines,
        "findings": sum(one["base"] == target for one in campaign.findings.values()),
    }  # fmt: skip


def _shown(verdict: dict[str, Any]) -> dict[str, Any]:
    return {key: verdict.get(key, "") for key in ("name", "law", "target", "trace", "expected", "seen", "shard")}


def idle(campaign: Campaign) -> dict[str, str]:
    """Targets that nothing was executed on, and why."""
    reasons = {}
    for target in campaign.settings.targets:
        if campaign.totals.operations(target) == 0:
            lost = campaign.last_loss.get(target, "there was no time for it")
            told = next((total.why for total in campaign.totals.of(target) if total.why), lost)
            reasons[target] = campaign.unusable.get(target, told)
    return reasons


def conclusion(campaign: Campaign) -> tuple[int, str]:
    """Exit code and last line.  0: all went well and nothing was found; 1 findings; 3 whatever says nothing."""
    if campaign.findings:
        where = len({one["base"] for one in campaign.findings.values()})
        return COUNTEREXAMPLE, f"{counted(len(campaign.findings), 'finding')} on {counted(where, 'target')} (exit 1)"
    if not campaign.settings.targets:
        return INCONCLUSIVE, "inconclusive: there is no target (exit 3)"
    if nothing := idle(campaign):
        target, why = next(iter(nothing.items()))
        others = f", and on {counted(len(nothing) - 1, 'other')}" if len(nothing) > 1 else ""
        return INCONCLUSIVE, f"inconclusive: nothing was executed on {target} ({why}){others} (exit 3)"
    if campaign.flaky:
        return INCONCLUSIVE, f"inconclusive: {counted(len(campaign.flaky), 'violation')} did not recur (exit 3)"
    if lost := sum(total.lost for total in campaign.totals.arms.values()):
        return INCONCLUSIVE, f"inconclusive: {counted(lost, 'shard')} lost, nobody knows why (exit 3)"
    if campaign.left:
        return INCONCLUSIVE, f"inconclusive: time was up, {counted(campaign.left, 'shard')} not done (exit 3)"
    done = sum(campaign.totals.operations(target) for target in campaign.settings.targets)
    return PASSED, f"nothing found on {counted(len(campaign.settings.targets), 'target')}, {done:,} operations (exit 0)"
