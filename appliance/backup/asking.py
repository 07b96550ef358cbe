"""After a restore: asking each archive for the images that it may have without this box knowing.

A backup knows of what had a receipt when it was made, and a manifest of what it names. What was delivered after the one and before the other is
in the archive under a name and a key that the catalog knows, and nobody says so: it would count as missing. So each archive is asked for every
image that is not here and has no receipt anywhere, the last recorded first, some at a time, before the homecoming comes to them. What is
given back is opened from end to end, as in every recall, and only then is there a receipt; where this disk has no room it is read and not
kept. What lies deep can't be read for hours: that it is there under its name, which nobody else draws, and as long as it was, is its receipt,
and it is opened when it comes.

An archive that is away is asked when it is back, and one that is added later too: each has its own place up to which it was asked, in the
catalog's settings, and once it has been asked for all, nothing more is done.

Chose to fetch at once over asking first (HEAD): a disk has no such question, and of a bucket a refusal costs the same.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from appliance import audit
from appliance.backup import homecoming
from appliance.box import Box
from appliance.catalog import (
    Reading,
    deliveries,
    destinations,
    evictions,
    instances,
    manifests,
    settings,
    unreceipted,
)
from appliance.catalog.unreceipted import Unreceipted
from appliance.errors import Corrupt, OperatorNeeded, Refused, Resting, Transient, Unknown, Unreadable
from appliance.model import DestinationSettings
from appliance.replication import recall
from appliance.replication.destinations import Archive, build
from appliance.replication.destinations.archive import Telling, object_key

log = logging.getLogger(__name__)

ASKED: Final = "restore.asked"
"""In `appliance.catalog.settings`: ``of`` is when the restore was, ``below`` by row id of an archive the row down to which it was asked."""

MOST: Final = 200
"""So many images are asked for in one archive at once."""

WINDOW: Final = 50_000
"""So many rows of the catalog are looked through at once for images without a receipt."""

ACTOR: Final = "jobs"


def ask(box: Box, now: datetime, *, keep_going: Callable[[], bool], most: int = MOST) -> int:
    """Ask each archive for the next images that are not here and that no archive is known to have; how many one has. Cheap once all are asked for.

    Raises what the catalog and this disk raise; an archive that can't be reached is asked next time.
    """
    with box.catalog.reading() as reading:
        last = settings.get(reading, homecoming.LAST)
        if not isinstance(last, dict):
            return 0
        end = int(last["last"]) if "last" in last else int(instances.last_id(reading))
        told = _standing(reading, last)
        places = [
            each
            for each in destinations.destinations(reading)
            if each.takes == "ciphertext" and not each.paused
        ]
    found = 0
    for place in places:
        begun = int(told.get(str(place.id), end + 1))
        if begun <= 1 or not keep_going():
            continue
        below, came = _ask_one(box, place, begun, now, keep_going, most)
        found += came
        if below != begun:
            with box.catalog.transaction() as tx:
                before = _standing(tx, last)
                settings.put(
                    tx, ASKED, {"of": last["at_utc"], "below": {**before, str(place.id): below}}, now
                )
    if found:
        log.info("images were found in an archive that nobody knew to be there: count=%d", found)
    return found


def _standing(reading: Reading, last: dict[str, Any]) -> dict[str, Any]:
    told = settings.get(reading, ASKED)
    is_of_this = isinstance(told, dict) and told["of"] == last["at_utc"]
    return dict(told["below"]) if is_of_this else {}


def _ask_one(
    box: Box,
    place: DestinationSettings,
    below: int,
    now: datetime,
    keep_going: Callable[[], bool],
    most: int,
) -> tuple[int, int]:
    """Ask one archive; the row down to which it was asked then, and how many it has."""
    first = max(1, below - WINDOW)
    with box.catalog.reading() as reading:
        rows = unreceipted.between(reading, first, below)
    found, asked = 0, 0
    try:
        archive = build(place, box)
        assert isinstance(archive, Archive)
        for each in rows:
            if asked == most or not keep_going():
                return below, found
            if not recall.is_here(box, each.object_id):
                asked += 1
                found += _has(box, place, archive, each, now)
            below = each.instance
    except (Transient, OperatorNeeded, Refused) as error:
        log.info("%s can't be asked now for images without a receipt: %s", place.name, error.message)
        return below, found
    return first, found


def _has(box: Box, place: DestinationSettings, archive: Archive, image: Unreceipted, now: datetime) -> bool:
    """Whether an archive has an image whole; then it is here, if there is room for it, and the archive has a receipt."""
    proof: dict[str, Any] = {"proof": "read back"}
    try:
        _bring(box, archive, image)
    except (Unknown, Corrupt, Unreadable):  # it is not there, or nobody can make anything of it
        return False
    except Resting:
        if not isinstance(archive, Telling):
            return False
        proof = {"proof": "told"}
    key = object_key(image.object_id)
    if isinstance(archive, Telling):
        told = archive.told(key)
        if told.bytes != image.sealed_bytes:
            return False
        proof |= {name: value for name in ("etag", "version_id") if (value := getattr(told, name))}
    return _write_down(box, place, image, {**proof, "key": key}, now)


def _bring(box: Box, archive: Archive, image: Unreceipted) -> None:
    key = box.study_keys.key(image.key_id)
    with box.catalog.reading() as reading:
        has_room = homecoming.has_room(box, reading, image.sealed_bytes)
        is_away = evictions.is_away(reading, image.object_id)
    if is_away or not has_room:
        recall.verify(archive, image.object_id, key, image.sealed_bytes)
    else:
        recall.fetch(box, archive, image.object_id, key, image.sealed_bytes)


def _write_down(
    box: Box, place: DestinationSettings, image: Unreceipted, receipt: dict[str, Any], now: datetime
) -> bool:
    with box.catalog.transaction() as tx:
        # Its study may have been destroyed meanwhile: then its file is an orphan, and its key is gone.
        if instances.row_of(tx, image.object_id) is None or recall.has_moved(tx, place):
            return False
        if recall.is_here(box, image.object_id):
            homecoming.found(tx, image.object_id, now)
        receipt = {"at_utc": now.isoformat(timespec="seconds"), **receipt}
        deliveries.hold(tx, place.id, image.instance, receipt, now)
        unreceipted.try_again(tx, image.instance, now)
        manifests.mark(tx, place.id, [image.study], now)
        entry = audit.Entry(
            "instance:recover",
            f"instance:{image.object_id}",
            ACTOR,
            {"from": place.name},
            study=instances.study_of(tx, image.object_id),
        )
        audit.append(tx, box.audit_key, [entry], now)
    return True
