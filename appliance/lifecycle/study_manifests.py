"""Reading the study manifests in the archives again: what a blank box is rebuilt from must open on the day when it is needed.

Of the next studies, in each archive that answers; one that is damaged or gone is marked to be written again (`appliance.catalog.manifests`). So is one
that opens and says less than it should: a share or a disk that was put back to a snapshot has a genuine one of last month, from which a blank
box would come back without the images since. It is held to the objects that the catalog says are confirmed there, as they were before it
was fetched, and only where none came since; what it says beyond them harms nobody. A part of each slice of `appliance.lifecycle.scrub`.

One that the archive does not give keeps no other from being read. Where a disk does not give it back (a sector that dies), it is damaged if the disk takes and
gives back a small file at that moment, up to a few in a slice, as with `appliance.lifecycle.copies`. One that lies in deep archive, or has a tombstone
that waits for the ransomware guard, is passed over alone. One that opens and is of a later format, since the box has gone back a version, is whole and
left as it is. Whatever else an archive answers, it is left alone for this slice; what is tried once more comes
after the others, and what failed last after that.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from appliance.box import Box
from appliance.catalog import destinations, manifests
from appliance.catalog.manifests import Written
from appliance.errors import (
    ApplianceError,
    Corrupt,
    OperatorNeeded,
    Refused,
    Resting,
    Transient,
    Unknown,
    Unreadable,
)
from appliance.lifecycle.copies import MOST_UNREAD, ReadAgain
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
    archive was away, paused or refused, or did not give that one, those last that were tried; `met` the others."""

    cursor: int
    read: int = 0
    rewritten: int = 0
    missed: tuple[Key, ...] = ()
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
    cursor, are_more = max((row.study for row in rows), default=after), bool(rows)
    for row in rows:
        if not keep_going():
            cursor, are_more = max(after, row.study - 1), True
            break
        found.read(row)
    had = {*found.met, *found.passed_over, *found.failed}
    for key, once_more in again:
        if not keep_going():
            break
        if once_more is None:
            found.met.add(key)  # it is to be written, or nobody's any more
        elif key not in had:
            found.read(once_more)
    missed = (*found.passed_over, *found.failed)
    return ReadManifests(cursor, found.opened, found.rewritten, missed, frozenset(found.met), are_more)


class _Held(Transient):
    """A manifest was read, and has a tombstone that waits for the ransomware guard."""


class _Slice:
    """One slice of it."""

    def __init__(self, box: Box, now: datetime) -> None:
        self._box, self._now = box, now
        with box.catalog.reading() as reading:
            known = [each for each in destinations.destinations(reading) if not each.paused]
        self._places = {each.id: each for each in known}
        self._archives: dict[DestinationId, ReadAgain | None] = {}
        self._unread: Counter[DestinationId] = Counter()
        self.opened = 0
        self.rewritten = 0
        self.passed_over: list[Key] = []
        """Those of an archive that is not asked in this slice, or no more."""
        self.failed: list[Key] = []
        """Those that were asked for, and not given."""
        self.met: set[Key] = set()

    def read(self, row: Written) -> None:
        """Read one manifest, if its archive gives it; an archive that does not answer is left alone for this slice."""
        box, number, name = self._box, row.destination, (row.destination, row.study)
        if number in self._places and number not in self._archives:
            self._archives[number] = _archive(box, self._places[number])
        if (archive := self._archives.get(number)) is None:
            self.passed_over.append(name)
            return
        try:
            self._open(archive, row)
        except manifest.OfNewerSoftware as error:
            log.info("a study manifest is left as it is: %s", error.message)
        except (Corrupt, Unknown):
            self._write_again(row)
        except Unreadable as error:
            if not self._is_there(number, archive):
                self._leave_alone(name, error)
                return
            self._write_again(row)
        except (Resting, _Held) as error:
            self.failed.append(name)
            log.info("a study manifest can't be read now: %s", error.message)
            return
        except (Transient, OperatorNeeded, Refused) as error:
            self._leave_alone(name, error)
            return
        self.met.add(name)

    def _open(self, archive: Archive, row: Written) -> None:
        """Fetch one manifest and hold it to what it should say. Raises `Corrupt`, `_Held`, and what the archive raises."""
        box = self._box
        key = manifest.key(box.root, row.study_instance_uid)
        with box.catalog.reading() as reading:
            there = manifests.objects_of(reading, row.destination, row.study)
        if there is None:
            return  # it is out of date since, or its study was destroyed
        told = manifest.unseal(box.root, key, archive.document(key))
        try:
            obey_tombstones(box, self._places[row.destination].name, key, told, self._now)
        except Transient as error:
            raise _Held(error.message, hint=error.hint) from error
        self.opened += 1
        self.rewritten += _lacks(box, row, there, told, self._now)

    def _write_again(self, row: Written) -> None:
        log.warning("a study manifest is damaged or gone: it is written again")
        with self._box.catalog.transaction() as tx:
            manifests.mark(tx, row.destination, [row.study], self._now)
        self.rewritten += 1

    def _is_there(self, number: DestinationId, archive: ReadAgain) -> bool:
        """Whether a disk that did not give back a manifest is there and works."""
        self._unread[number] += 1
        if self._unread[number] > MOST_UNREAD:
            log.error("%s does not give back several study manifests: look at it", self._places[number].name)
            return False
        try:
            archive.check()
        except (Transient, OperatorNeeded, Refused) as error:
            log.info("%s can't be read now: %s", self._places[number].name, error.message)
            return False
        return True

    def _leave_alone(self, name: Key, error: ApplianceError) -> None:
        self._archives[name[0]] = None
        self.failed.append(name)
        log.info("an archive can't be asked for its manifests now: %s", error.message)


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


def _archive(box: Box, place: DestinationSettings) -> ReadAgain | None:
    """The archive that a destination is; None if it is none, or its settings can't be right any more."""
    try:
        built = build(place, box)
    except (OperatorNeeded, Refused) as error:
        log.warning("%s can't be asked for its manifests: %s", place.name, error.message)
        return None
    return cast("ReadAgain", built) if isinstance(built, Archive) else None
