"""Keeping what became of versions, in the catalog and in the audit; and what the image says of them now."""

from __future__ import annotations

import platform
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from appliance import audit
from appliance.audit import Entry
from appliance.audit import Outcome as Ended
from appliance.box import Box
from appliance.catalog import Reading
from appliance.catalog import settings as kept_settings
from appliance.health import gathering
from appliance.updates.history import Outcome, Seen, Update, noted

KEPT = "updates.history"
FETCHING = "fetching"
"""What the image's `libexec/update` leaves beside the others while it is at it: when it began, in seconds since 1970."""
LONGEST_FETCHING = timedelta(hours=2, minutes=5)
"""`update.service` is ended after two hours; what says that it goes on then was left behind."""
ACTOR = "jobs"

_ACTIONS = {
    Outcome.WAITS: "update:arrive",
    Outcome.STARTED: "update:start",
    Outcome.LEFT: "update:return",
    Outcome.REPLACED: "update:replace",
}
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.~^_-]{0,39}", re.ASCII)


def seen() -> Seen | None:
    """What the image says of its versions; None elsewhere, and before it has said it at this start."""
    told = [gathering.UPDATES / name for name in (gathering.LEFT, gathering.WAITING)]
    running = running_version()
    if not running or not all(each.is_file() for each in told):
        return None
    left, waiting = (tuple(filter(_VERSION.fullmatch, gathering.versions(each))) for each in told)
    return Seen(running, waiting, left)


def fetching(now: datetime) -> datetime | None:
    """Since when the image looks for a version and fetches it; None while it does not.

    How far it is nobody can say: the image's own programs write into the slot, and tell the journal alone.
    """
    try:
        since = datetime.fromtimestamp(int((gathering.UPDATES / FETCHING).read_text("ascii")), UTC)
    except (OSError, ValueError, OverflowError):
        return None
    return since if abs(now - since) < LONGEST_FETCHING else None


def running_version() -> str:
    """The version of the image that runs; empty on a Debian that was provisioned."""
    try:
        version = platform.freedesktop_os_release().get("IMAGE_VERSION", "")
    except OSError:
        return ""
    return version if _VERSION.fullmatch(version) else ""


def history(conn: Reading) -> tuple[Update, ...]:
    """What became of each version, the latest first."""
    return tuple(
        Update(
            each["version"],
            Outcome(each["outcome"]),
            datetime.fromisoformat(each["since_utc"]),
            datetime.fromisoformat(each["came_utc"]) if each["came_utc"] else None,
        )
        for each in kept_settings.get(conn, KEPT, [])
    )


def note(box: Box, now: datetime) -> None:
    """Keep what has changed since the last look; the duty of the jobs process."""
    found = seen()
    if found is None:
        return
    with box.catalog.transaction() as tx:
        before = history(tx)
        after = noted(before, found, now)
        if after == before:
            return
        kept_settings.put(tx, KEPT, [_as_kept(each) for each in after], now)
        audit.append(tx, box.audit_key, [_entry(each) for each in _changed(before, after)], now)


def _changed(before: Sequence[Update], after: Sequence[Update]) -> list[Update]:
    """The oldest of them first, as they go into the audit."""
    return [each for each in reversed(after) if each not in before]


def _entry(update: Update) -> Entry:
    ended = Ended.FAILED if update.outcome is Outcome.LEFT else Ended.DONE
    return Entry(_ACTIONS[update.outcome], update.version, ACTOR, outcome=ended)


def _as_kept(update: Update) -> dict[str, str]:
    came = update.came_utc.isoformat() if update.came_utc else ""
    return {
        "version": update.version,
        "outcome": str(update.outcome),
        "since_utc": update.since_utc.isoformat(),
        "came_utc": came,
    }
