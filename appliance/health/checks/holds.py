"""Holds: after a restore nobody knows which were placed since the backup, nor which visits were entered, and nothing is destroyed until a person has looked.

Where no backup came, the province is not known either."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from appliance import local_time
from appliance.health.facts import Facts
from appliance.health.problem import Act, Problem, Severity, Verb

CODES = ("holds-forgotten", "province-unknown")
LOOK = "look at your papers, place again what is held, enter again the visits, and say under Retention that you have looked: nothing is destroyed before"


def check(facts: Facts) -> Iterator[Problem]:
    """Said from the restore on until somebody has looked, whether or not there was a hold: that can't be known."""
    gap = facts.forgotten
    if gap is None:
        return
    words = (
        "the box came back without a backup: which studies are held, the visits that were entered and the clinic's own periods are not known any more"
        if gap.since_utc is None
        else f"the box came back from a backup: holds, visits and periods of between {_said(gap.since_utc)}"
        f" and {_said(gap.until_utc)} are not known any more"
    )
    yield Problem("holds-forgotten", words, LOOK, Severity.SOON, acts=(Act(Verb.SEE_RETENTION),))
    if gap.lacks_province:
        yield Problem(
            "province-unknown",
            "the box came back without its settings: it is not known in which province the clinic is, and nothing is ever due",
            "choose the province of the clinic under Retention",
            Severity.SOON,
            acts=(Act(Verb.SEE_RETENTION),),
        )


def _said(moment: datetime) -> str:
    return f"{local_time.here(moment):%Y-%m-%d %H:%M}"
