"""Keeping what became of versions, in the catalog and in the audit; and what the image says of them now."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from appliance import audit
from appliance.audit import Entry
from appliance.audit import Outcome as Ended
from appliance.box import Box
from appliance.catalog import Reading, Transaction
from appliance.catalog import settings as kept_settings
from appliance.health import gathering, looks
from appliance.health.gathering import VERSION
from appliance.health.kept import word
from appliance.health.looks import Came, Looked
from appliance.updates.history import Outcome, Seen, Update, noted

KEPT = "updates.history"
FETCHING = "fetching"
"""What the image's `libexec/update` leaves beside the others while it is at it: when it began, in seconds since 1970.

As soon as sysupdate and the server have said it, a second line follows: ``VERSION PERCENT BYTES`` (`update_progress.py`).
"""
LONGEST_FETCHING = timedelta(hours=2, minutes=5)
"""`update.service` is ended after two hours; what says that it goes on then was left behind."""
ACTOR = "jobs"

_ACTIONS = {
    Outcome.WAITS: "update:arrive",
    Outcome.STARTED: "update:start",
    Outcome.CHOSEN: "update:choose",
    Outcome.LEFT: "update:return",
    Outcome.REPLACED: "update:replace",
}
_FETCHING = re.compile(
    rf"(?P<since>\d{{1,12}})\n(?:(?P<version>{VERSION.pattern}) (?P<percent>\d{{1,3}}) (?P<bytes>[1-9]\d{{0,14}})\n)?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Fetch:
    """A version that is looked for and fetched. Which one, how much of it is there and how long it is are None until they are known."""

    since_utc: datetime
    version: str | None = None
    percent: int | None = None
    size_bytes: int | None = None


def seen() -> Seen | None:
    """What the image says of its versions; None elsewhere, and before it has said it at this start."""
    told = [gathering.UPDATES / name for name in (gathering.LEFT, gathering.WAITING)]
    running = gathering.running_version()
    if not running or not all(each.is_file() for each in told):
        return None
    left, waiting = (tuple(filter(VERSION.fullmatch, gathering.versions(each))) for each in told)
    chosen = gathering.chosen_version()
    return Seen(running, waiting, left, chosen if VERSION.fullmatch(chosen) else "")


def fetching(now: datetime) -> Fetch | None:
    """What the image fetches, or looks for; None while it does neither."""
    try:
        told = _FETCHING.fullmatch((gathering.UPDATES / FETCHING).read_text("ascii"))
        since = datetime.fromtimestamp(int(told["since"]), UTC) if told else None
    except (OSError, ValueError, OverflowError):
        return None
    if told is None or since is None or abs(now - since) >= LONGEST_FETCHING:
        return None
    if told["version"] is None or int(told["percent"]) > 100:
        return Fetch(since)
    return Fetch(since, told["version"], int(told["percent"]), int(told["bytes"]))


def history(conn: Reading) -> tuple[Update, ...]:
    """What became of each version, the latest first; those are left out of which only another version knows the word for it."""
    return tuple(
        Update(
            each["version"],
            outcome,
            datetime.fromisoformat(each["since_utc"]),
            datetime.fromisoformat(each["came_utc"]) if each["came_utc"] else None,
        )
        for each in kept_settings.get(conn, KEPT, [])
        if (outcome := word(Outcome, each["outcome"], None)) is not None
    )


def note(box: Box, now: datetime) -> None:
    """Keep what has changed since the last look; the duty of the jobs process."""
    if not gathering.running_version():
        return
    found = seen()
    with box.catalog.transaction() as tx:
        _note_look(tx, now)
        # What looks for versions may say what came of it where what names them says nothing.
        if found is None:
            return
        before = history(tx)
        after = noted(before, found, now)
        if after == before:
            return
        kept_settings.put(tx, KEPT, [_as_kept(each) for each in after], now)
        audit.append(tx, box.audit_key, [_entry(each) for each in _changed(before, after)], now)


def looked(conn: Reading) -> Looked | None:
    """The last look at the address of updates, as far as it was noted; None elsewhere than on an image."""
    return looks.from_kept(kept_settings.get(conn, looks.KEPT))


def stick() -> tuple[datetime, Came] | None:
    """When a stick was put in last since the machine started, and what came of it; None if none was, or nobody could say."""
    found = _told(looks.FILE_OF_STICK)
    return found if found and found[1] in looks.OF_STICK else None


def _told(name: str) -> tuple[datetime, Came] | None:
    try:
        return looks.told((gathering.UPDATES / name).read_text("ascii"))
    except (OSError, ValueError):
        return None


def _note_look(tx: Transaction, now: datetime) -> None:
    found = _told(looks.FILE)
    before = looked(tx)
    after = looks.noted(before, found, now)
    if after != before:
        kept_settings.put(tx, looks.KEPT, looks.as_kept(after), now)


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
