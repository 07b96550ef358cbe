"""What the box knows of its own clock, in `catalog.settings`; and since when an image is here, whatever the clock says.

A box whose battery is dead begins in a year that is over. What it receives until somebody sets the clock is not that old: it came after
the last moment that the box knew, and after all that it has lived since. Counted by the clock alone, a study without a date of its own would
be due years early, and an image of this morning would be the first to leave the disk.

So the box keeps the moment that it is at the earliest. A time server says so, or a person, or a week in which nothing spoke against the
clock; while the clock is in doubt, only what the box has lived between two looks is added, never what it was set by. What
bears an earlier hour counts as received then. Only the time for which the box was off is missing.

Chosen: to reckon it when an image comes, because its receipt goes into the intake log, manifests and backups, and a restored box must judge by the
same day. Rejected: to mend the rows once somebody has set the clock, which knows no better by then what came when; and to go on by
how far the clock was behind, which one that is set to another wrong year would carry years ahead.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta

from sqlalchemy import Connection

from appliance.catalog import settings
from appliance.catalog.database import Transaction
from appliance.lifecycle.policy import BACK, UNWATCHED

KEY = "retention-clock"

WEEK = timedelta(days=7)
"""After so long a clock that no time server and no person vouches for is known."""


@dataclass(frozen=True, slots=True)
class KnownClock:
    """What is kept of it: `noted_utc` when it was last looked at, `set_utc` when it was found set, `receipts_utc` up to when receipts say
    nothing against it, `known_utc` the moment that it was at the earliest then, `undoubted_utc` since when nothing has spoken against it."""

    noted_utc: datetime | None = None
    set_utc: datetime | None = None
    receipts_utc: datetime | None = None
    known_utc: datetime | None = None
    undoubted_utc: datetime | None = None

    def reckoned(self, moment: datetime) -> datetime:
        """When that was of which the clock says `moment`: then, or later if it is known to have been later."""
        if self.known_utc is None or moment >= self.known_utc - BACK:
            return moment
        return self.known_utc + self.lived(moment)

    def lived(self, now: datetime) -> timedelta:
        """For how long the box has lived since its clock was looked at, so far as that tells: not at all if it was set meanwhile."""
        moved = now - self.noted_utc if self.noted_utc is not None else timedelta()
        return moved if timedelta() < moved <= UNWATCHED else timedelta()

    def looked_at(self, now: datetime, *, is_vouched: bool, is_doubted: bool) -> KnownClock:
        """What is to be kept once it was seen to say `now`; `is_vouched` if a time server or a person says so.

        A time server that sets it back by years does not vouch for it: it may have lost its own battery.
        """
        known, since = self.known_utc, self.undoubted_utc
        is_back = known is not None and now < known - UNWATCHED
        has_lasted = not is_doubted and since is not None and now - since >= WEEK
        if (is_vouched and not is_back) or has_lasted:
            known = now
        elif known is not None:
            known += self.lived(now)
        return replace(
            self,
            noted_utc=now,
            known_utc=known,
            undoubted_utc=None if is_doubted else since or now,
        )


def known_clock(reading: Connection) -> KnownClock:
    """What is kept. Raises `ValueError` if that is not what is written here."""
    kept = settings.get(reading, KEY, {})
    if not isinstance(kept, dict):
        raise ValueError("what is kept of the clock can't be read")
    return KnownClock(**{each.name: _moment(kept.get(each.name)) for each in fields(KnownClock)})


def keep(tx: Transaction, clock: KnownClock, now: datetime) -> None:
    """Keep it instead."""
    told = {each.name: getattr(clock, each.name) for each in fields(clock)}
    settings.put(tx, KEY, {name: at.isoformat() for name, at in told.items() if at is not None}, now)


def _moment(text: object) -> datetime | None:
    if text is None:
        return None
    moment = datetime.fromisoformat(str(text))
    if moment.tzinfo is None:
        raise ValueError("a moment of no zone is kept of the clock")
    return moment
