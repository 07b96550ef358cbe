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

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from appliance.catalog import settings
from appliance.lifecycle.policy import BACK, UNWATCHED

KEY = "retention-clock"
"""Under which it is kept: `noted_utc` when the clock was last looked at, `set_utc` when it was found set, `receipts_utc` up to when receipts
say nothing against it, `known_utc` the moment that it was at the earliest then, `undoubted_utc` since when nothing has spoken against it."""

WEEK = timedelta(days=7)
"""After so long a clock that no time server and no person vouches for is known."""


def known(reading: Connection) -> Mapping[str, Any]:
    """What is kept."""
    kept: Mapping[str, Any] = settings.get(reading, KEY, {})
    return kept


def moment_in(kept: Mapping[str, Any], name: str) -> datetime | None:
    """One of the moments that are kept; None if it is not."""
    text = kept.get(name)
    return datetime.fromisoformat(text) if isinstance(text, str) else None


def reckoned(known: datetime | None, noted: datetime | None, moment: datetime) -> datetime:
    """When that was of which the clock says `moment`: then, or later if it is known to have been later."""
    if known is None or moment >= known - BACK:
        return moment
    return known + lived(noted, moment)


def lived(noted: datetime | None, now: datetime) -> timedelta:
    """For how long the box has lived since its clock was looked at, so far as that tells: not at all if it was set meanwhile."""
    moved = now - noted if noted is not None else timedelta()
    return moved if timedelta() < moved <= UNWATCHED else timedelta()


def looked_at(
    kept: Mapping[str, Any], now: datetime, *, is_vouched: bool, is_doubted: bool
) -> dict[str, Any]:
    """What is to be kept once the clock was seen to say `now`; `is_vouched` if a time server or a person says so.

    A time server that sets it back by years does not vouch for it: it may have lost its own battery.
    """
    after = dict(kept) | {"noted_utc": now.isoformat()}
    before, since = moment_in(kept, "known_utc"), moment_in(kept, "undoubted_utc")
    if is_doubted:
        after.pop("undoubted_utc", None)
    elif since is None:
        after["undoubted_utc"] = now.isoformat()
    if before is not None and now < before - UNWATCHED:
        is_vouched = False
    if is_vouched or (not is_doubted and since is not None and now - since >= WEEK):
        after["known_utc"] = now.isoformat()
    elif before is not None:
        after["known_utc"] = (before + lived(moment_in(kept, "noted_utc"), now)).isoformat()
    return after
