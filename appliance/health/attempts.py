"""How the latest backups and restore drills went, from what each archive's own record says, as far as it can be believed.

What stands for all archives is worked out anew each time: one that is paused or removed counts no more from that moment on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from appliance.audit.vouching import is_vouched
from appliance.catalog import Reading, destinations, settings
from appliance.health.facts import Attempt, Drilled, Outcome
from appliance.model import DestinationSettings

BACKUP = settings.LATEST_BACKUP
DRILL = settings.LATEST_DRILL
"""Keys of `appliance.catalog.settings` under which the last outcome of each is kept, with an archive's name behind a dot."""

FORGED = "its record was not written by this box"
"""Why a drill does not count that somebody else has put on record (`appliance.audit.vouching`)."""


Backups = Sequence[tuple[DestinationSettings, Attempt]]
"""Each archive that has a record, and what it says."""


def backups(conn: Reading) -> Backups:
    """The latest attempt at a backup in each archive where one was made and its record can be read."""
    archives = [each for each in destinations.destinations(conn) if each.takes == "ciphertext"]
    if not archives:
        return []
    kept = settings.several(conn, [f"{BACKUP}.{each.name}" for each in archives])
    told = ((each, attempt(kept.get(f"{BACKUP}.{each.name}"))) for each in archives)
    return [(each, found) for each, found in told if found is not None]


def standing(found: Backups) -> Attempt | None:
    """What stands for all archives; None when none has a record. Pure.

    Failed as long as the latest attempt in any archive is that is on: one that works does not hide that another doesn't. Otherwise one beside
    which older ones could not be removed, or the newest. Those that are paused speak where no other has a record; the moment of the last
    that succeeded is that of whichever archive, since such a backup is there.
    """
    counted = [told for each, told in found if not each.paused] or [told for _, told in found]
    if not counted:
        return None
    failed = [each for each in counted if each.outcome is Outcome.FAILED]
    told_of = [each for each in counted if each.reason]
    worst = next(iter([*failed, *told_of]), max(counted, key=lambda each: each.at_utc))
    succeeded = max((told.succeeded_utc for _, told in found if told.succeeded_utc), default=None)
    return Attempt(worst.at_utc, worst.outcome, succeeded, worst.reason)


def drills(conn: Reading, found: Backups, key: bytes, now: datetime) -> tuple[Drilled, ...]:
    """What came of the latest drill of each archive that has taken a backup, also of one that is paused."""
    names = {each.name: f"{DRILL}.{each.name}" for each, made in found if made.succeeded_utc}
    if not names:
        return ()
    kept = settings.several(conn, list(names.values()))
    return tuple(
        Drilled(each.name, drill(kept.get(names[each.name]), key, now, names[each.name]), each.paused)
        for each, _ in found
        if each.name in names
    )


def drills_standing(found: Sequence[Drilled]) -> Attempt | None:
    """What stands for all archives: the worst of those that are on. None when nobody has tried one out. Pure.

    Failed as long as the latest drill of any of them is. The moment of the last that passed is that of the archive where it is longest ago, and
    None while there is one where none ever has. Those that are paused speak where no other has a backup.
    """
    counted = [each.last for each in found if not each.is_paused] or [each.last for each in found]
    tried = [each for each in counted if each is not None]
    if not tried:
        return None
    worst = next((each for each in tried if each.outcome is Outcome.FAILED), None)
    told = worst or max(tried, key=lambda each: each.at_utc)
    passed = [each.succeeded_utc for each in counted if each is not None and each.succeeded_utc is not None]
    return Attempt(
        told.at_utc, told.outcome, min(passed) if len(passed) == len(counted) else None, told.reason
    )


def drill(kept: object, key: bytes, now: datetime, name: str) -> Attempt | None:
    """The record `name` of the latest drills, if this box has written it; what somebody else has put there is a drill that failed."""
    if kept is not None and not is_vouched(key, name, kept):
        return Attempt(now, Outcome.FAILED, None, FORGED)
    return attempt(kept)


def attempt(kept: object) -> Attempt | None:
    """A record of a backup or a drill; None when there is none, or none that can be read."""
    if not isinstance(kept, Mapping):
        return None
    at = moment(kept.get("at_utc"))
    if at is None or kept.get("outcome") not in tuple(Outcome):
        return None
    outcome = Outcome(kept["outcome"])
    succeeded = moment(kept.get("succeeded_utc")) or (at if outcome is Outcome.SUCCEEDED else None)
    return Attempt(at, outcome, succeeded, str(kept.get("reason") or ""))


def moment(text: object) -> datetime | None:
    """The moment that a record bears; None for what is none, or is of no known zone."""
    try:
        found = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return found if found is not None and found.tzinfo is not None else None
