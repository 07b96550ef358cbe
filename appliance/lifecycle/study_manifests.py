"""Reading the study manifests in the archives again: what a blank box is rebuilt from must open on the day when it is needed.

Of the next studies, in each archive that answers; one that is damaged or gone is marked to be written again (`appliance.catalog.manifests`). So is one
that opens and says less than it should: a share or a disk that was put back to a snapshot has a genuine one of last month, from which a blank
box would come back without the images since. It is held to the objects that the catalog says are confirmed there, as they were before it
was fetched, and only where none came since; what it says beyond them harms nobody. A part of each slice of `appliance.lifecycle.scrub`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from appliance.box import Box
from appliance.catalog import destinations, manifests
from appliance.catalog.manifests import Written
from appliance.errors import Corrupt, OperatorNeeded, Refused, Transient, Unknown
from appliance.model import DestinationId, DestinationSettings, ObjectId
from appliance.replication import manifest
from appliance.replication.destinations import Archive, build
from appliance.replication.tombstone import obey_tombstones

log = logging.getLogger(__name__)


Key = tuple[DestinationId, int]
"""A manifest: in which archive, and of the study of which row."""


@dataclass(frozen=True, slots=True)
class ReadManifests:
    """What a slice has read: up to the study of row `cursor`; how many opened, and how many are written again. `missed` are those whose
    archive was away, paused or refused; `met` the others."""

    cursor: int
    read: int = 0
    rewritten: int = 0
    missed: frozenset[Key] = frozenset()
    met: frozenset[Key] = frozenset()
    are_more: bool = True


def read_again(
    box: Box,
    after: int,
    now: datetime,
    keep_going: Callable[[], bool],
    most: int,
    due: Sequence[Key] = (),
) -> ReadManifests:
    """Read the manifests of the next `most` studies by row after `after`, in every archive, and those that are `due` once more."""
    with box.catalog.reading() as reading:
        rows = manifests.written_after(reading, after, most)
        again = [(key, manifests.written_at(reading, *key)) for key in due]
    found = _Slice(box, now)
    for key, row in again:
        if not keep_going():
            break
        if row is None:
            found.met.add(key)  # it is to be written, or nobody's any more
        else:
            found.read(row)
    cursor, are_more = max((row.study for row in rows), default=after), bool(rows)
    for row in rows:
        if not keep_going():
            cursor, are_more = max(after, row.study - 1), True
            break
        found.read(row)
    return ReadManifests(
        cursor, found.opened, found.rewritten, frozenset(found.missed), frozenset(found.met), are_more
    )


class _Slice:
    """One slice of it."""

    def __init__(self, box: Box, now: datetime) -> None:
        self._box, self._now = box, now
        with box.catalog.reading() as reading:
            known = [each for each in destinations.destinations(reading) if not each.paused]
        self._places = {each.id: each for each in known}
        self._archives: dict[DestinationId, Archive | None] = {}
        self.opened = 0
        self.rewritten = 0
        self.missed: set[Key] = set()
        self.met: set[Key] = set()

    def read(self, row: Written) -> None:
        """Read one manifest, if its archive gives it; an archive that does not is left alone for this slice."""
        box, number = self._box, row.destination
        if number in self._places and number not in self._archives:
            self._archives[number] = _archive(box, self._places[number])
        if (archive := self._archives.get(number)) is None:
            self.missed.add((number, row.study))
            return
        key = manifest.key(box.root, row.study_instance_uid)
        with box.catalog.reading() as reading:
            there = manifests.objects_of(reading, number, row.study)
        try:
            if there is not None:  # else it is out of date since, or its study was destroyed
                told = manifest.unseal(box.root, key, archive.document(key))
                self.opened += 1
                obey_tombstones(box, self._places[number].name, key, told, self._now)
                self.rewritten += _lacks(box, row, there, told, self._now)
        except (Corrupt, Unknown):
            log.warning("a study manifest is damaged or gone: it is written again")
            with box.catalog.transaction() as tx:
                manifests.mark(tx, number, [row.study], self._now)
            self.rewritten += 1
        except (Transient, OperatorNeeded, Refused) as error:
            self._archives[number] = None
            self.missed.add((number, row.study))
            log.info("an archive can't be asked for its manifests now: %s", error.message)
            return
        self.met.add((number, row.study))


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
