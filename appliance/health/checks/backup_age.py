"""Backups: was one ever made, did the last attempt succeed, and how old is the last that did?

An age can't be told from a moment that lies ahead: such a backup is reported, not believed (a clock that was set back
would make the last backup fresh for years).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from appliance.health.facts import Facts, Outcome
from appliance.health.problem import Problem, Severity

CODES = ("no-backup", "backup-failed", "backups-stay", "backup-late")
STAY = "older backups whose time is over could not be removed"
AHEAD = timedelta(hours=1)


def check(facts: Facts) -> Iterator[Problem]:
    """Late, then urgent, after as long as the clinic says."""
    late = timedelta(days=facts.limits.backup_late_days)
    urgent = timedelta(days=facts.limits.backup_urgent_days)
    last = facts.backup
    if facts.catalog is not None:
        return
    if last is None:
        yield Problem(
            "no-backup",
            "no backup of the index, the keys and the settings has ever been made",
            "add cloud storage or a USB disk as a destination: the box then makes one every day",
            Severity.SOON,
        )
        return
    if last.outcome is Outcome.FAILED:
        words = f"the last backup failed ({last.reason})" if last.reason else "the last backup failed"
        yield Problem("backup-failed", words, "see that its place can be reached and has room", Severity.NOW)
    elif last.reason:
        hint = "see under Backups why, and let the box remove its own files there"
        yield Problem("backups-stay", STAY, hint, Severity.SOON)
    made = last.succeeded_utc
    if made is None:
        return
    age = facts.at_utc - made
    if age < -AHEAD:
        yield Problem(
            "backup-late",
            "the last backup bears a date that is still to come: its age is not known",
            "check the clock of the box, then make a backup",
            Severity.SOON,
        )
    elif age > late:
        yield Problem(
            "backup-late",
            f"the last backup that succeeded is {age.days} days old",
            "see that its place can be reached and has room",
            Severity.NOW if age > urgent else Severity.SOON,
        )
