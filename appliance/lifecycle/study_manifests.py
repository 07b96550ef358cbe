"""Reading the study manifests in the archives again: what a blank box is rebuilt from must open on the day when it is needed.

Of the next studies, in each archive that answers; one that is damaged or gone is marked to be written again (`appliance.catalog.manifests`). So is one
that opens and says less than it should: a share or a disk that was put back to a snapshot has a genuine one of last month, from which a blank
box would come back without the images since. It is held to the objects that the catalog says are confirmed there, as they were before it
was fetched, and only where none came since; what it says beyond them harms nobody. A part of each slice of `appliance.lifecycle.scrub`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from appliance.box import Box
from appliance.catalog import destinations, manifests
from appliance.catalog.manifests import Written
from appliance.errors import Corrupt, OperatorNeeded, Refused, Transient, Unknown
from appliance.model import DestinationSettings, ObjectId
from appliance.replication import manifest
from appliance.replication.destinations import Archive, build
from appliance.replication.tombstone import obey_tombstones

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ReadManifests:
    """What a slice has read: up to the study of row `cursor`; how many, and how many of them are written again."""

    cursor: int
    read: int = 0
    rewritten: int = 0
    are_more: bool = True


def read_again(
    box: Box, after: int, now: datetime, keep_going: Callable[[], bool], most: int
) -> ReadManifests:
    """Read the manifests of the next `most` studies by row after `after`, in every archive."""
    with box.catalog.reading() as reading:
        rows = manifests.written_after(reading, after, most)
        places = {each.id: each for each in destinations.destinations(reading) if not each.paused}
    done = ReadManifests(after)
    archives: dict[int, Archive | None] = {}
    for row in rows:
        if not keep_going():
            return done
        if row.destination in places and row.destination not in archives:
            archives[row.destination] = _archive(box, places[row.destination])
        if (archive := archives.get(row.destination)) is None:
            continue
        key = manifest.key(box.root, row.study_instance_uid)
        with box.catalog.reading() as reading:
            there = manifests.objects_of(reading, row.destination, row.study)
        if there is None:
            continue  # it is out of date since, or its study was destroyed
        try:
            told = manifest.unseal(box.root, key, archive.document(key))
            obey_tombstones(box, places[row.destination].name, key, told, now)
            done = replace(done, rewritten=done.rewritten + _lacks(box, row, there, told, now))
        except (Corrupt, Unknown):
            log.warning("a study manifest is damaged or gone: it is written again")
            with box.catalog.transaction() as tx:
                manifests.mark(tx, row.destination, [row.study], now)
            done = replace(done, rewritten=done.rewritten + 1)
        except (Transient, OperatorNeeded, Refused) as error:
            archives[row.destination] = None  # for this slice
            log.info("an archive can't be asked for its manifests now: %s", error.message)
        done = replace(done, read=done.read + 1)
    return replace(done, cursor=max((row.study for row in rows), default=after), are_more=bool(rows))


def _lacks(
    box: Box, row: Written, there: Collection[ObjectId], told: Mapping[str, Any], now: datetime
) -> bool:
    """Whether the manifest `told` lacks any of the objects that were `there` before it was fetched, and still are: then it is written again."""
    lacking = set(there) - {each.get("object_id") for each in told.get("instances", [])}
    if not lacking:
        return False
    with box.catalog.transaction() as tx:
        still = manifests.objects_of(tx, row.destination, row.study)
        if still is None or lacking.isdisjoint(still):
            return False
        manifests.mark(tx, row.destination, [row.study], now)
    log.warning(
        "a study manifest is an older one, and lacks images: it is written again: count=%d", len(lacking)
    )
    return True


def _archive(box: Box, place: DestinationSettings) -> Archive | None:
    """The archive that a destination is; None if it is none, or its settings can't be right any more."""
    try:
        built = build(place, box)
    except (OperatorNeeded, Refused) as error:
        log.warning("%s can't be asked for its manifests: %s", place.name, error.message)
        return None
    return built if isinstance(built, Archive) else None
