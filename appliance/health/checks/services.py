"""The processes: does each report, and what stands still where one doesn't."""

from __future__ import annotations

from collections.abc import Iterator

from appliance.health.facts import Facts
from appliance.health.problem import Problem, Severity

CONSEQUENCES = {
    "dicom": "images cannot be received",
    "courier": "nothing is delivered",
    "jobs": "upkeep stands still",
    "web": "nobody can look at images",
}
CODES = (*(f"{name}-stopped" for name in CONSEQUENCES), "dicom-weak")


def check(facts: Facts) -> Iterator[Problem]:
    """All workers gone blocks; some of several don't."""
    if facts.catalog is not None:
        return  # heartbeats are in the catalog
    for name in CONSEQUENCES:
        mine = [fresh for each, fresh in facts.processes.items() if each.split("-")[0] == name]
        if not any(mine):
            yield stopped(name)
        elif not all(mine):
            words = f"only {sum(mine)} of {len(mine)} {name} workers run"
            yield Problem(f"{name}-weak", words, _fix(name), Severity.NOW)


def stopped(name: str) -> Problem:
    """What is said of a process that does not work, whether it is gone or only stands still."""
    words = f"the {name} process does not run: {CONSEQUENCES[name]}"
    return Problem(f"{name}-stopped", words, _fix(name), Severity.BLOCKS)


def _fix(name: str) -> str:
    return f"start it ('appliance run', or systemctl restart appliance-{name}) and look at its log"
