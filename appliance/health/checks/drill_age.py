"""Restore drills: a backup that nobody has ever restored is a hope. One a week, reported late after as long as the clinic says.

Of each archive by itself: a bucket that passes every week does not hide a disk that nobody has tried since spring. One that is paused is
not tried: it is not late, and what failed there once is told no more.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from appliance.health.facts import Attempt, Facts, Outcome
from appliance.health.problem import Problem, Severity

CODES = ("no-drill", "drill-failed", "drill-late")
AHEAD = timedelta(hours=1)


def check(facts: Facts) -> Iterator[Problem]:
    """Nothing to drill is not said twice: while there is no backup, that is the problem."""
    if facts.catalog is not None or facts.backup is None:
        return
    for each in facts.drills:
        if not each.is_paused:
            yield from _of(each.archive, each.last, facts)


def _of(archive: str, last: Attempt | None, facts: Facts) -> Iterator[Problem]:
    """What is wrong with the drills of one archive."""
    if last is None:
        yield Problem(
            "no-drill",
            f"no backup in {archive} has ever been tried out: nobody knows that it can be restored",
            "let the box make a restore drill, or start one",
            Severity.SOON,
            archive,
        )
        return
    if last.outcome is Outcome.FAILED:
        reason = last.reason.removeprefix(f"{archive}: ")
        because = f" ({reason})" if reason else ""
        yield Problem(
            "drill-failed",
            f"the last restore drill of {archive} failed{because}",
            "make a new backup, try it out, and call support if it fails again",
            Severity.NOW,
            archive,
        )
    done = last.succeeded_utc
    if done is None:
        return
    age = facts.at_utc - done
    if age < -AHEAD:
        yield Problem(
            "drill-late",
            f"the last restore drill of {archive} bears a date that is still to come: its age is not known",
            "check the clock of the box, then start a restore drill",
            Severity.SOON,
            archive,
        )
    elif age > timedelta(days=facts.limits.drill_late_days):
        yield Problem(
            "drill-late",
            f"the last restore drill of {archive} that succeeded was {age.days} days ago",
            "let the box make a restore drill, or start one",
            Severity.SOON,
            archive,
        )
