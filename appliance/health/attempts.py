"""How the latest backups and restore drills went, from what each archive's own record says, as far as it can be believed.

What stands for all archives is worked out anew each time: one that is paused or removed counts no more from that moment on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime

from appliance.audit.vouching import is_vouched
from appliance.catalog import Reading, destinations, settings
from appliance.health.facts import Attempt, Drilled, Outcome

BACKUP = settings.LATEST_BACKUP
DRILL = settings.LATEST_DRILL
"""Keys of `appliance.catalog.settings` under which the last outcome of each is kept, with an archive's name behind a dot."""

FORGED = "its record was not written by this box"
"""Why a drill does not count that somebody else has put on record (`appliance.audit.vouching`)."""


def backup(conn: Reading) -> Attempt | None:
    """What stands for all archives; None when none has a record.

    Failed as long as the latest attempt in any archive is that is on: one that works does not hide that another doesn't. Otherwise one beside
    which older ones could not be removed, or the newest. Those that are paused speak where no other has a record; the moment of the last
    that succeeded is that of whichever archive, since such a backup is there.
    """
    archives = [each for each in destinations.destinations(conn) if each.takes == "ciphertext"]
    found = [(each, told) for each in archives if (told := of(conn, each.name)) is not None]
    counted = [told for each, told in found if not each.paused] or [told for _, told in found]
    if not counted:
        return None
    failed = [each for each in counted if each.outcome is Outcome.FAILED]
    told_of = [each for each in counted if each.reason]
    worst = next(iter([*failed, *told_of]), max(counted, key=lambda each: each.at_utc))
    succeeded = max((told.succeeded_utc for _, told in found if told.succeeded_utc), default=None)
    return Attempt(worst.at_utc, worst.outcome, succeeded, worst.reason)


def of(conn: Reading, archive: str) -> Attempt | None:
    """The latest attempt at a backup in one archive; None where none was made, or its record can't be read."""
    return attempt(settings.get(conn, f"{BACKUP}.{archive}"))


def drills(conn: Reading, key: bytes, now: datetime) -> Iterator[Drilled]:
    """What came of the latest drill of each archive that is on and has taken a backup."""
    for each in destinations.destinations(conn):
        made = of(conn, each.name)
        if each.takes == "ciphertext" and not each.paused and made is not None and made.succeeded_utc:
            name = f"{DRILL}.{each.name}"
            yield Drilled(each.name, drill(settings.get(conn, name), key, now, name))


def drill(kept: object, key: bytes, now: datetime, name: str = DRILL) -> Attempt | None:
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
