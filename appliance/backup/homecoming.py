"""After a restore the box is in service with an index and without images; here they come home, by and by.

An image that somebody wants is recalled at once (`replication.recall`); the others follow in the order in which they came,
some at a time, at the pace of the duties. How far it is stands in the catalog's settings. What lies in deep archive is asked for and
passed over; once the last has been looked at, another pass brings what has come up since, `AGAIN_AFTER` later: it takes hours to come,
and looking costs two requests an image.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from appliance.box import Box
from appliance.catalog import Reading, evictions, instances, settings
from appliance.errors import Corrupt, OperatorNeeded, Refused, Resting, Transient, Unknown
from appliance.model import DestinationSettings, InstanceId, ObjectId
from appliance.replication import recall
from appliance.replication.tombstone import RESTORED

log = logging.getLogger(__name__)

AGAIN_AFTER: Final = timedelta(minutes=30)
LAST: Final = RESTORED
"""What was restored, and how far its images are home, in `appliance.catalog.settings`: `last` is the last instance that came
by the restore, which tells those that came since from the others when the clock does not."""


@dataclass(frozen=True, slots=True)
class Homecoming:
    """How far the images are home: `done` of `instances`, counted by their numbers; `missing` no archive had whole.

    Up to the row `home` all that can come has come: what lies in deep archive is passed over, and comes in a later pass.
    """

    at_utc: datetime
    archive: str
    done: int
    home: int
    instances: int
    missing: int


def under_way(reading: Reading) -> Homecoming | None:
    """How far the images are home; None when none was ever restored, or all that can come have come."""
    last = settings.get(reading, LAST)
    if not isinstance(last, dict) or last.get("home"):
        return None
    return Homecoming(
        at_utc=datetime.fromisoformat(last["at_utc"]),
        archive=str(last["from"]),
        done=int(last["cursor"]),
        home=_home(last),
        instances=int(instances.last_id(reading)),
        missing=int(last["missing"]),
    )


def _home(last: dict[str, Any]) -> int:
    cursor, deep = int(last["cursor"]), last.get("deep")
    return cursor if deep is None else min(cursor, int(deep))


def is_expected(reading: Reading, object_id: ObjectId) -> bool:
    """Whether the file of an object should be on this disk: it did not leave it on purpose, and is not still to come home."""
    row = instances.row_of(reading, object_id)
    if row is None or evictions.is_away(reading, object_id):  # its study may have been destroyed just now
        return False
    last = settings.get(reading, LAST)
    if not isinstance(last, dict) or last.get("home"):
        return True
    return row <= _home(last) or row > int(last.get("last", row))  # earlier software did not write the last


def missing(reading: Reading) -> int:
    """How many images no archive had whole when the box was restored; 0 for one that never was."""
    last = settings.get(reading, LAST)
    return int(last["missing"]) if isinstance(last, dict) else 0


def refuse_if_needed(reading: Reading, box: Box, place: DestinationSettings) -> None:
    """Keep an archive from being taken off the box while an image that is nowhere else has not come home from it, or has left
    for it.

    To be asked in the transaction that would remove it. Raises `Refused`.
    """
    recall.refuse_to_lose(reading, place)
    if place.takes != "ciphertext" or under_way(reading) is None:
        return
    for object_id, _, _ in instances.all_objects(reading):
        if recall.is_here(box, object_id):
            continue
        if {each.id for each in recall.holders(reading, object_id)} == {place.id}:
            raise Refused(
                "images that are in this archive and nowhere else have not come home yet",
                hint="wait until the dashboard says that all images are home, then remove it",
            )


def bringing_home(box: Box, now: datetime, *, keep_going: Callable[[], bool], most: int = 200) -> int:
    """Recall the next images that are not here yet, after a restore; how many came. Cheap once all are.

    Goes on where it left off. Stops at the reserve of the disk, and at an archive that can't be reached, till next time.
    """
    with box.catalog.reading() as reading:
        last = settings.get(reading, LAST)
        if not isinstance(last, dict) or last.get("home") or _is_too_soon(last, now):
            return 0
        rows = instances.objects_after(reading, InstanceId(int(last["cursor"])), most)
    came, cursor, missing = 0, int(last["cursor"]), int(last["missing"])
    deep: int | None = last.get("deep")  # the instance before the first that lies in deep archive, and
    missing_then = int(last.get("missing_then", 0))  # how many were missing up to there
    try:
        for instance_id, object_id, key_id, sealed_bytes in rows:
            if not keep_going():
                break
            if not recall.is_here(box, object_id) and not _stays_away(box, object_id):
                try:
                    recall.recall(box, object_id, key_id, sealed_bytes)
                    came += 1
                except Resting:
                    if deep is None:
                        deep, missing_then = cursor, missing
                except (Unknown, Corrupt) as error:
                    missing += 1
                    log.error("an image cannot be brought back: %s", error.message)
            cursor = instance_id
    except (Transient, OperatorNeeded) as error:
        log.warning("images are brought back later: %s", error.message)
    at_the_end = len(rows) < most and (not rows or cursor == rows[-1][0])
    done = {
        "cursor": deep if at_the_end and deep is not None else cursor,
        "deep": None if at_the_end else deep,
        "missing": missing_then if at_the_end and deep is not None else missing,
        "missing_then": missing_then,
        "home": at_the_end and deep is None,
        "looked_utc": now.isoformat() if at_the_end else None,
    }
    with box.catalog.transaction() as tx:
        # As it is now: a backup that was made meanwhile has noted there how often the box came back.
        settings.put(tx, LAST, {**settings.get(tx, LAST), **done}, now)
    return came


def _is_too_soon(last: dict[str, Any], now: datetime) -> bool:
    """Whether a pass has just met its end; a clock that was set back since keeps nobody waiting."""
    looked = last.get("looked_utc")
    return looked is not None and timedelta(0) <= now - datetime.fromisoformat(looked) < AGAIN_AFTER


def _stays_away(box: Box, object_id: ObjectId) -> bool:
    """Whether an image had left the disk before the box was lost: it stays where it was, until somebody wants it."""
    with box.catalog.reading() as reading:
        return evictions.is_away(reading, object_id)
