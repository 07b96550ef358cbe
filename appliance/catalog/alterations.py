"""What somebody else has written over, or removed, in an archive, where all of it could be mended.

The images are here and go there again, which would hide that somebody has the key of that storage. So a person is told until that key was
changed, the archive is no longer what it was, or `REMEMBERED` has gone by. A small record for each destination in `appliance.catalog.settings`,
written in the transaction of the audit entry that names the image.

What counts as once. An image is met by two ways: somebody opens it and it is taken from its earlier version (`replication.recall`), and then, or
instead, its bucket is asked for it and mended (`lifecycle.buckets`). So an alteration is known by the object and by the receipt that no longer
holds: the one is kept here, and when the object is written again there its receipt is another. Images are counted, and not alterations:
one that is altered again was so later, and is still one. Of more than `MOST` it is said that they are more.

What is found after the key was changed. Asking for everything takes weeks, and what was done before with the key of then must not say that the
new one is lost too. So what is known is kept when the key changes, and the moment; what the store says was done before that is passed over. Both
by the clocks of box and store: hence only what was done within `REMEMBERED` is passed over, so that a box whose clock was years ahead when the
key changed misses nothing.

Rejected: a mark in the receipt itself, which a certificate or a manifest may show; and a button by which a person says that it is known, which
would be pressed instead of changing the key.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from appliance.catalog import settings
from appliance.catalog.database import Reading, Transaction
from appliance.model import DestinationId, ObjectId

REMEMBERED: Final = timedelta(days=35)
"""As long as a bucket keeps what was written over: the days of `replication.destinations.bucket_policy`."""

MOST: Final = 1000
"""So many images are known one by one, of each destination."""

_WHOLE_SECOND: Final = timedelta(seconds=1)
"""A store says in whole seconds when something was done, and leaves the rest out."""

_KEY: Final = "altered"


@dataclass(frozen=True, slots=True)
class Alterations:
    """How many images, when the first and the last was found so, and whether there are more than were counted."""

    count: int
    first_utc: datetime
    last_utc: datetime
    are_more: bool = False


def note(
    tx: Transaction,
    destination_id: DestinationId,
    object_id: ObjectId,
    receipt: Mapping[str, Any],
    now: datetime,
    done_utc: datetime | None = None,
) -> None:
    """Count an object that is not what its receipt at a destination says, and that could be mended; the same alteration once.

    `done_utc` is when it was done, where the store says so: what was done before the key was changed says nothing of the new one.
    """
    record = _record(tx, destination_id)
    which = f"{receipt.get('version_id', '')} {receipt.get('at_utc', '')}"
    if which in (record["before"].get(object_id), record["objects"].get(object_id)):
        return
    if _is_past(record, now, done_utc):
        return
    if record["last_utc"] and now - datetime.fromisoformat(record["last_utc"]) >= REMEMBERED:
        record = _over(record)
    objects = {**record["objects"], object_id: which}
    record["are_more"] = record["are_more"] or len(objects) > MOST
    record["objects"] = dict(list(objects.items())[:MOST])
    record["first_utc"] = record["first_utc"] or now.isoformat()
    record["last_utc"] = now.isoformat()
    settings.put(tx, _name(destination_id), record, now)


def key_changed(tx: Transaction, destination_id: DestinationId, now: datetime) -> None:
    """Another key opens a destination from now on: what was altered so far was done with the one before."""
    record = _over(_record(tx, destination_id)) | {"key_utc": now.isoformat()}
    settings.put(tx, _name(destination_id), record, now)


def forget(tx: Transaction, destination_id: DestinationId) -> None:
    """A destination is gone, or another place by now."""
    settings.remove(tx, _name(destination_id))


def of(
    reading: Reading, destination_ids: Iterable[DestinationId], now: datetime
) -> dict[DestinationId, Alterations]:
    """What a person is to be told of at `now`, by destination."""
    names = {_name(each): each for each in destination_ids}
    found = {}
    for name, record in settings.several(reading, list(names)).items():
        if not record["objects"]:
            continue
        last = datetime.fromisoformat(record["last_utc"])
        if now - last < REMEMBERED:
            first = datetime.fromisoformat(record["first_utc"])
            found[names[name]] = Alterations(len(record["objects"]), first, last, record["are_more"])
    return found


def _name(destination_id: DestinationId) -> str:
    return f"{_KEY}.{int(destination_id)}"


def _record(reading: Reading, destination_id: DestinationId) -> dict[str, Any]:
    """`objects` are those counted and `before` those that were so earlier, each with the receipt that did not hold."""
    empty = {"objects": {}, "before": {}, "are_more": False, "first_utc": "", "last_utc": "", "key_utc": ""}
    return {**empty, **settings.get(reading, _name(destination_id), {})}


def _over(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record in which nothing is to be told any more, and all is known that was. Pure."""
    known = {**record["before"], **record["objects"]}
    cleared = {"objects": {}, "before": dict(list(known.items())[-MOST:]), "are_more": False}
    return {**record, **cleared, "first_utc": "", "last_utc": ""}


def _is_past(record: Mapping[str, Any], now: datetime, done_utc: datetime | None) -> bool:
    """Whether something was done with a key that has been changed since. Pure."""
    if done_utc is None or not record["key_utc"]:
        return False
    changed = datetime.fromisoformat(record["key_utc"])
    return now - REMEMBERED < done_utc <= changed - _WHOLE_SECOND and changed <= now
