"""What the box knows of its own clock, in `catalog.settings`; and since when an image is here, whatever the clock says.

A box whose battery is dead begins in a year that is over. What it receives until somebody sets the clock is not that old: it came after
the last moment that the box knew, and after all that it has lived since. Counted by the clock alone, a study without a date of its own would
be due years early, and an image of this morning would be the first to leave the disk.

So the box keeps the moment that it is at the earliest. A time server says so, or a person, or a week in which nothing spoke against the
clock; while the clock is in doubt, only what the box has lived between two looks is added, never what it was set by. What
bears an earlier hour counts as received then. Only the time for which the box was off is missing.

A time server may be wrong, too, or somebody else's. While the machine runs, the kernel counts how long it has run whatever its clock says, also
what it slept (`Running`): once a server has said the hour after a start, the clock goes on from there with that count, and what moves it further
ahead is doubted, whoever it was and in however many steps. Across a start nothing is known of how long the box was off, so the first server of a
start is believed for `OFF_AT_MOST`: a box that lay unplugged for half a year asks nobody. That is also as far as a wrong one gets by a start.
Chosen over a year or more, because to ask once is cheap where somebody has just plugged the box in. A box that has received nothing believes
the first server of a start, whatever it says: one from its carton may begin in 1970. The doubt ends by itself once a server has taken the clock back to where it goes on from what was
known, and what had come by then says nothing against it (`KnownClock.judged`). A virtual machine that is stopped from outside and goes on after more
than two days is doubted: its kernel has not counted them, and it may be an earlier state of itself.

Chosen: to reckon it when an image comes, because its receipt goes into the intake log, manifests and backups, and a restored box must judge by the
same day. Rejected: to mend the rows once somebody has set the clock, which knows no better by then what came when; and to go on by
how far the clock was behind, which one that is set to another wrong year would carry years ahead.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from enum import Enum, auto

from sqlalchemy import Connection

from appliance.catalog import settings
from appliance.catalog.database import Transaction
from appliance.lifecycle.policy import BACK, OFF_AT_MOST, UNWATCHED

KEY = "retention-clock"

WEEK = timedelta(days=7)
"""After so long a clock that no time server and no person vouches for is known."""


class Judged(Enum):
    """What a look at the clock finds, beside what has been found before."""

    WELL = auto()  # it has moved as far as it may have
    SET = auto()  # further, or back
    RIGHT_AGAIN = auto()  # where it was doubted before, a time server has put it right


@dataclass(frozen=True, slots=True)
class Running:
    """Since which start the machine runs, and for how long, with what it slept: nobody sets that."""

    boot: str
    lasted: timedelta


@dataclass(frozen=True, slots=True)
class KnownClock:
    """What is kept of it: `noted_utc` when it was last looked at, `set_utc` when it was found set, `receipts_utc` up to when receipts say
    nothing against it, `known_utc` the moment that it was at the earliest then, `undoubted_utc` since when nothing has spoken against it.

    `boot` is the start in which it was looked at, and `started_utc` when that was, by what the clock said then. `settled_utc` is when it
    was by what a time server said that was believed, None until one has; `ahead_utc` the latest that a clock said that was set ahead after that.
    """

    noted_utc: datetime | None = None
    set_utc: datetime | None = None
    receipts_utc: datetime | None = None
    known_utc: datetime | None = None
    undoubted_utc: datetime | None = None
    boot: str = ""
    started_utc: datetime | None = None
    settled_utc: datetime | None = None
    ahead_utc: datetime | None = None

    def reckoned(self, moment: datetime) -> datetime:
        """When that was of which the clock says `moment`: then, or later if it is known to have been later."""
        if self.known_utc is None or moment >= self.known_utc - BACK:
            return moment
        return self.known_utc + self.lived(moment)

    def lived(self, now: datetime) -> timedelta:
        """For how long the box has lived since its clock was looked at, so far as that tells: not at all if it was set meanwhile."""
        moved = now - self.noted_utc if self.noted_utc is not None else timedelta()
        return moved if timedelta() < moved <= UNWATCHED else timedelta()

    def run(self, running: Running | None) -> timedelta | None:
        """For how long the machine has run since its clock was looked at; None if that was before its start, or can't be told."""
        if running is None or running.boot != self.boot or self.noted_utc is None or self.started_utc is None:
            return None
        return running.lasted - (self.noted_utc - self.started_utc)

    def judged(
        self, now: datetime, running: Running | None, *, follows_time_server: bool, has_received: bool
    ) -> Judged:
        """What it means that the clock says `now`; `has_received` if any image is here."""
        if self.noted_utc is None:
            return Judged.WELL
        moved = now - self.noted_utc
        is_unused = not has_received and self.settled(running) is None
        if follows_time_server and is_unused and (moved >= -BACK or self.known_utc is None):
            return Judged.RIGHT_AGAIN
        ahead, most = self._ahead(now, running, follows_time_server=follows_time_server)
        is_as_known = ahead is not None and -BACK <= ahead <= most
        is_still_ahead = self.ahead_utc is not None and now >= self.ahead_utc - BACK
        if follows_time_server and self.set_utc is not None and is_as_known and not is_still_ahead:
            return Judged.RIGHT_AGAIN
        return Judged.SET if moved < -BACK or self._leapt(now, running, most) else Judged.WELL

    def settled(self, running: Running | None) -> datetime | None:
        """The moment that it must be, if a time server has said the hour since the start."""
        if running is None or self.run(running) is None or self.settled_utc is None:
            return None
        return self.settled_utc + running.lasted

    def _ahead(
        self, now: datetime, running: Running | None, *, follows_time_server: bool
    ) -> tuple[timedelta | None, timedelta]:
        """How far `now` is ahead of what is known, None if nothing is; and how far it may be."""
        if (settled := self.settled(running)) is not None:
            return now - settled, UNWATCHED
        most = OFF_AT_MOST if follows_time_server else UNWATCHED
        if self.known_utc is None:
            return None, most
        return now - self.known_utc - (self.run(running) or timedelta()), most

    def _leapt(self, now: datetime, running: Running | None, most: timedelta) -> bool:
        """Whether it has moved further ahead than the machine can have lived."""
        if (settled := self.settled(running)) is not None:
            return now - settled > most
        assert self.noted_utc is not None
        return now - self.noted_utc - (self.run(running) or timedelta()) > most

    def looked_at(
        self, now: datetime, *, is_vouched: bool, is_doubted: bool, running: Running | None = None
    ) -> KnownClock:
        """What is to be kept once it was seen to say `now`; `is_vouched` if a time server or a person says so.

        A time server that sets it back by years does not vouch for it: it may have lost its own battery.
        """
        known, since = self.known_utc, self.undoubted_utc
        is_back = known is not None and now < known - UNWATCHED
        has_lasted = not is_doubted and since is not None and now - since >= WEEK
        if (is_vouched and not is_back) or has_lasted:
            known = now
        elif known is not None:
            run = self.run(running)
            known += self.lived(now) if run is None else run
        settled = self.settled_utc if self.settled(running) is not None else None
        started = None if running is None else now - running.lasted
        return replace(
            self,
            noted_utc=now,
            known_utc=known,
            undoubted_utc=None if is_doubted else since or now,
            boot="" if running is None else running.boot,
            started_utc=started,
            settled_utc=started if settled is None and is_vouched and not is_back else settled,
        )


_MOMENTS = tuple(each.name for each in fields(KnownClock) if each.name != "boot")


def known_clock(reading: Connection) -> KnownClock:
    """What is kept. Raises `ValueError` if that is not what is written here."""
    kept = settings.get(reading, KEY, {})
    if not isinstance(kept, dict):
        raise ValueError("what is kept of the clock can't be read")
    moments = {name: _moment(kept.get(name)) for name in _MOMENTS}
    return KnownClock(boot=str(kept.get("boot", "")), **moments)


def reckoned(reading: Connection, moment: datetime) -> datetime:
    """As `KnownClock.reckoned`, for what only counts how long ago something was: a clock that stood in the past for a while makes that no years.
    Where what is kept can't be read, the clock counts."""
    try:
        return known_clock(reading).reckoned(moment)
    except ValueError:
        return moment


def keep(tx: Transaction, clock: KnownClock, now: datetime) -> None:
    """Keep it instead."""
    told = {name: at.isoformat() for name in _MOMENTS if (at := getattr(clock, name)) is not None}
    settings.put(tx, KEY, told | ({"boot": clock.boot} if clock.boot else {}), now)


def _moment(text: object) -> datetime | None:
    if text is None:
        return None
    moment = datetime.fromisoformat(str(text))
    if moment.tzinfo is None:
        raise ValueError("a moment of no zone is kept of the clock")
    return moment
