"""Restore drills: a backup that nobody has ever restored is a hope. One a week, reported late after as long as the clinic says.

Of each archive by itself: a bucket that passes every week does not hide a disk that nobody has tried since spring. One that is paused is
not tried, and not late.
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
    last = facts.drill
    if last is None:
        yield Problem(
            "no-drill",
            "no backup has ever been tried out: nobody knows that it can be restored",
            "let the box make a restore drill, or start one",
            Severity.SOON,
        )
        return
    # The summary speaks where nothing is known by archive; it may remember one that is paused or gone.
    tried = [each.last for each in facts.drills if each.last is not None] if facts.drills else [last]
    worst = next((each for each in tried if each.outcome is Outcome.FAILED), None)
    if worst is not None:
        words = (
            f"the last restore drill failed ({worst.reason})"
            if worst.reason
            else "the last restore drill failed"
        )
        yield Problem("drill-failed", words, "make a new backup, try it out, and call support if it fails again",
                      Severity.NOW)  # fmt: skip
    if not facts.drills:
        yield from _late(facts, last, "")
    for each in facts.drills:
        if each.last is None:
            yield Problem(
                "no-drill",
                f"no backup in {each.archive} has ever been tried out: nobody knows that it can be restored",
                "let the box make a restore drill, or start one",
                Severity.SOON,
                each.archive,
            )
        else:
            yield from _late(facts, each.last, each.archive)


def _late(facts: Facts, last: Attempt, archive: str) -> Iterator[Problem]:
    """That it is too long since a drill of an archive has passed, or of any where none is named."""
    of = f" of {archive}" if archive else ""
    done = last.succeeded_utc
    if done is None:
        return
    age = facts.at_utc - done
    if age < -AHEAD:
        yield Problem(
            "drill-late",
            f"the last restore drill{of} bears a date that is still to come: its age is not known",
            "check the clock of the box, then start a restore drill",
            Severity.SOON,
            archive,
        )
    elif age > timedelta(days=facts.limits.drill_late_days):
        yield Problem(
            "drill-late",
            f"the last restore drill{of} that succeeded was {age.days} days ago",
            "let the box make a restore drill, or start one",
            Severity.SOON,
            archive,
        )
