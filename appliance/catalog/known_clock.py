"""What the box knows of its own clock, in `catalog.settings`; and since when an image is here, whatever the clock says.

A box whose battery is dead begins in a year that is over. What it receives until somebody sets the clock is not that old: it came after
the last moment at which the box had no doubt. Counted by the clock alone, a study without a date of its own would be due years early, and
an image of this morning would be the first to leave the disk. So a moment that is earlier than that last one is reckoned on from there: by as
much as the clock has moved since it was found behind. Only the time for which the box was off is missing then.

Chosen: to reckon it when an image comes, because its receipt goes into the intake log, manifests and backups, and a restored box must judge by the
same day. Rejected: to mend the rows once somebody has set the clock, which knows no better by then what came when.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from appliance.catalog import settings
from appliance.lifecycle.policy import BACK

KEY = "retention-clock"
"""Under which it is kept: `noted_utc` when the clock was last looked at, `set_utc` when it was found set, `receipts_utc` up to when receipts
say nothing against it, `sure_utc` the latest moment without doubt, `behind_seconds` by how much it has been behind since."""


def known(reading: Connection) -> Mapping[str, Any]:
    """What is kept."""
    kept: Mapping[str, Any] = settings.get(reading, KEY, {})
    return kept


def moment_in(kept: Mapping[str, Any], name: str) -> datetime | None:
    """One of the moments that are kept; None if it is not."""
    text = kept.get(name)
    return datetime.fromisoformat(text) if isinstance(text, str) else None


def reckoned(kept: Mapping[str, Any], moment: datetime) -> datetime:
    """What the clock should have said when it said `moment`: that, or later if it was behind then."""
    sure, noted = moment_in(kept, "sure_utc"), moment_in(kept, "noted_utc")
    if sure is None or moment >= sure - BACK:
        return moment
    if noted is not None and noted < sure:
        moment = max(moment, noted)  # it has gone back once more, and nobody has looked since
    return max(sure, moment + timedelta(seconds=float(kept.get("behind_seconds", 0))))


def looked_at(kept: Mapping[str, Any], now: datetime, *, is_sure: bool) -> dict[str, Any]:
    """What is to be kept once the clock was seen to say `now`; `is_sure` if there is no doubt of it, or a time server says so."""
    after = dict(kept) | {"noted_utc": now.isoformat()}
    noted, sure = moment_in(kept, "noted_utc"), moment_in(kept, "sure_utc")
    if is_sure:
        after["sure_utc"] = now.isoformat()
    if is_sure or sure is None or now >= sure - BACK:
        after.pop("behind_seconds", None)
    elif (
        noted is None or now < noted - BACK
    ):  # it has been set back; what it said before that was on the way from `sure`
        before = sure if noted is None or noted >= sure else reckoned(kept, noted)
        after["behind_seconds"] = (before - now).total_seconds()
    return after
