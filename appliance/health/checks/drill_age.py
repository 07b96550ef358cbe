"""Restore drills: a backup that nobody has ever restored is a hope. One a week, reported late after as long as the clinic says."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from appliance.health.facts import Facts, Outcome
from appliance.health.problem import Problem, Severity

CODES = ("no-drill", "drill-failed", "drill-late")
AHEAD = timedelta(hours=1)


def check(facts: Facts) -> Iterator[Problem]:
    """Nothing to drill is not said twice: while there is no backup, that is the problem."""
    if facts.catalog is not None or facts.backup is None:
        return
    last = facts.drill
    if last is None:
        yield Problem(
            "no-drill",
            "no backup has ever been tried out: nobody knows that it can be restored",
            "let the box make a restore drill, or start one",
            Severity.SOON,
        )
        return
    if last.outcome is Outcome.FAILED:
        words = (
            f"the last restore drill failed ({last.reason})"
            if last.reason
            else "the last restore drill failed"
        )
        yield Problem("drill-failed", words, "make a new backup, try it out, and call support if it fails again",
                      Severity.NOW)  # fmt: skip
    done = last.succeeded_utc
    if done is None:
        return
    age = facts.at_utc - done
    if age < -AHEAD:
        yield Problem(
            "drill-late",
            "the last restore drill bears a date that is still to come: its age is not known",
            "check the clock of the box, then start a restore drill",
            Severity.SOON,
        )
    elif age > timedelta(days=facts.limits.drill_late_days):
        yield Problem(
            "drill-late",
            f"the last restore drill that succeeded was {age.days} days ago",
            "let the box make a restore drill, or start one",
            Severity.SOON,
        )
