"""Looks for a new version at the address of updates: when the last was, and what came of it. Pure.

The image's ``libexec/update`` says each, in a file beside what waits: ``SECONDS WORD``. A signature does not expire, so nothing of a
version says that a newer one exists: a box that sees none is either up to date or kept from seeing, and only a count tells.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from appliance.health.kept import word

KEPT = "updates.looked"
FILE = "looked"
FILE_OF_STICK = "looked-stick"
"""What came of the last stick, which is no look: whoever has put it in reads it, and it counts for nothing."""
UNSEEN = timedelta(days=14)
REFUSALS = 3
"""So many times since the last look that went well, what was offered was not signed by the vendor: one may be the page of somebody's network.
Nights on which nothing was seen may lie between."""
A_NIGHT = timedelta(days=1)
"""Whoever is on for so long was so from two to four in the morning, Eastern time, when the image looks; the first look, at the start, may come before
the line does."""
FAILURES = 3
"""So many looks in a row tell of a box that is off each night, too."""
_TOLD = re.compile(r"(\d{1,12}) ([a-z-]{1,20})\n", re.ASCII)


class Came(StrEnum):
    """What came of a look."""

    NONE = "none"  # nothing newer is offered
    TAKEN = "taken"
    REFUSED = "refused"  # not signed with the vendor's key
    UNREACHABLE = "unreachable"
    UNFINISHED = "unfinished"  # it did not come to its end, or what is there is signed and could not be taken
    HELD = "held"  # a ring, or terms that nobody agreed to, hold the box
    NO_ADDRESS = "no-address"


OF_STICK = (Came.NONE, Came.TAKEN, Came.REFUSED, Came.UNREACHABLE, Came.UNFINISHED)
"""What may come of a stick: no ring holds back what is brought, and its address is the machine's own."""

_WELL = (Came.NONE, Came.TAKEN, Came.HELD, Came.NO_ADDRESS)


@dataclass(frozen=True, slots=True)
class Looked:
    """The last look, None before the first. `well_utc` is when nothing was in the way last, or when this began to be noted;
    `refused` counts the refusals since, `failed` all that was in the way."""

    well_utc: datetime
    at_utc: datetime | None = None
    came: Came | None = None
    refused: int = 0
    failed: int = 0

    def unseen_days(self, now: datetime, runs_for: timedelta | None = None) -> int:
        """For how many days the address was not seen, where that is long; else 0. A clock that was far ahead counts, too.

        A box that was off for long has had no night to look in: it has one before this counts, or has failed often. `runs_for` is
        how long it is on, None where that is not known.
        """
        past = abs(now - self.well_utc)
        if runs_for is not None and runs_for < A_NIGHT and self.failed < FAILURES:
            return 0
        return past.days if past >= UNSEEN else 0


def told(text: str) -> tuple[datetime, Came] | None:
    """What the file says; None if it says nothing that is known."""
    found = _TOLD.fullmatch(text)
    if found is None or found[2] not in set(Came):
        return None
    try:
        return datetime.fromtimestamp(int(found[1]), UTC), Came(found[2])
    except (ValueError, OverflowError, OSError):
        return None


def noted(before: Looked | None, found: tuple[datetime, Came] | None, now: datetime) -> Looked:
    """What is kept after `found` was read `now`."""
    kept = before or Looked(now)
    if found is None or (found[0], found[1]) == (kept.at_utc, kept.came):
        return kept
    at, came = found
    if came in _WELL:
        return Looked(at, at, came)
    return replace(
        kept, at_utc=at, came=came, refused=kept.refused + (came is Came.REFUSED), failed=kept.failed + 1
    )


def as_kept(looked: Looked) -> dict[str, Any]:
    """As the catalog keeps it."""
    return {
        "well_utc": looked.well_utc.isoformat(),
        "at_utc": looked.at_utc.isoformat() if looked.at_utc else "",
        "came": looked.came or "",
        "refused": looked.refused,
        "failed": looked.failed,
    }


def from_kept(kept: Mapping[str, Any] | None) -> Looked | None:
    """The opposite; None where nothing was noted. Of a look whose end only another version knows it is not said that it was."""
    if not kept:
        return None
    came = word(Came, kept["came"], None)
    return Looked(
        datetime.fromisoformat(kept["well_utc"]),
        datetime.fromisoformat(kept["at_utc"]) if kept["at_utc"] and came else None,
        came,
        int(kept["refused"]),
        int(kept.get("failed", 0)),
    )
