"""A study manifest that is read when the box is in service already: its images come first, and are recorded then.

An image that is recorded is expected on the disk, and a whole study of which nothing is there would be an attack to the ransomware guard. So
one that lies in deep archive is asked for there, and its manifest read again when it may have come up. Both `unread` (what did not open in the restore) and
`other_archives` (what the box was not restored from) read so.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from enum import Enum, auto
from typing import Any, Final

from appliance.backup import asking, homecoming
from appliance.backup.rebuilding import record, sealed_for
from appliance.box import Box
from appliance.catalog import evictions, instances, manifests, settings, study_keys
from appliance.errors import (
    ApplianceError,
    Corrupt,
    OutOfResources,
    Resting,
    Transient,
    Unknown,
    Unreadable,
)
from appliance.model import DestinationSettings, ObjectId, Received
from appliance.replication import manifest, recall, retold
from appliance.replication.destinations import Archive
from appliance.replication.destinations.archive import KEPT, Waking, object_key
from appliance.replication.tombstone import obey_tombstones

log = logging.getLogger(__name__)

ACTOR: Final = "jobs"

MOST_FETCHED: Final = 200
"""So many images come in one run, or do not, as in the homecoming: whoever else waits for the jobs has his turn between two runs."""


def put_aside(archive: Archive, keys: Iterable[str]) -> dict[str, list[str]]:
    """What was kept in an archive of each of these manifests before this box wrote its own, by the manifest's key."""
    wanted, found = {*keys}, dict[str, list[str]]()
    for document in archive.documents(KEPT):
        if (of := sealed_for(document.key)) in wanted:
            found.setdefault(of, []).append(document.key)
    return found


class _Came(Enum):
    """How an image came that a manifest speaks of."""

    WHOLE = auto()
    HERE = auto()
    """It was here before, without a row: of a run that was cut."""
    LATER = auto()
    """It lies deep, and was asked for."""
    NOT = auto()
    """The archive has it not whole, or not at all, or its disk does not give it back."""


class Trial:
    """One run through manifests of an archive: which did not open (``unread``) and which name images that lie deep (``resting``), how many did open,
    how many are not where the archive has moved to (``dropped``), and how many images came."""

    def __init__(
        self,
        box: Box,
        archive: Archive,
        place: DestinationSettings,
        now: datetime,
        *,
        has_moved: bool,
        keep_going: Callable[[], bool],
    ) -> None:
        self._box, self._archive, self._place, self._now = box, archive, place, now
        self._has_moved, self._keep_going = has_moved, keep_going
        self.unread: list[str] = []
        self.resting: list[str] = []
        self.opened = self.dropped = self.images = self.fetched = 0
        self._not_given_back = 0

    @property
    def is_to_stop(self) -> bool:
        """Whether there is more wrong with its disk than a sector: the rest waits for another time."""
        return self._not_given_back >= homecoming.UNREAD_AT_ONCE

    def read(self, key: str, aside: Iterable[str] = ()) -> None:
        """Read a manifest, and what was put aside in its place. Raises what the archive and this disk raise."""
        try:
            for each in (key, *aside):
                self._record(each)
        except Unknown:
            if self._has_moved:
                self.dropped += 1
            else:
                self.unread.append(key)
        except Resting:
            self.resting.append(key)
        except Corrupt:
            self.unread.append(key)
        except Unreadable:
            self.unread.append(key)
            self._not_given_back += 1
        else:
            self.opened += 1

    def _record(self, key: str) -> None:
        """Bring and record what a manifest names and this box does not know, one after the other, so that what has come stays.

        What does not come whole is recorded at the end, all at once. From then on every archive is asked for it, this one as well (`asking`):
        it may have been spoilt on the way, or be there as an earlier version, or come with the next attempt.
        """
        name = sealed_for(key)
        told = manifest.unseal(self._box.root, name, self._archive.document(key))
        obey_tombstones(self._box, self._place.name, name, told, self._now)
        unknown, missed = self._wanted(told)
        if missed:
            with self._box.catalog.transaction() as tx:
                asking.also(tx, missed, self._now, self._place)
        lies_deep, not_whole = False, list[ObjectId]()
        try:
            for each in unknown:
                if self.is_to_stop:
                    raise Unreadable("several images of a manifest are not given back")
                came, object_id = self._bring(each), each.stored.object_id
                if came is _Came.LATER:
                    lies_deep = True
                elif came is _Came.NOT:
                    not_whole.append(object_id)
                else:
                    self._write_down(told, [object_id], came)
        finally:
            self._write_down(told, not_whole, _Came.NOT)
        if lies_deep:
            raise Resting(
                "images of a manifest lie in deep archive", wait_hours=0, hint="look again tomorrow"
            )

    def _write_down(self, told: dict[str, Any], object_ids: Sequence[ObjectId], came: _Came) -> None:
        if not object_ids:
            return
        part = {
            **told,
            "instances": [each for each in told["instances"] if each["object_id"] in object_ids],
        }
        with self._box.catalog.transaction() as tx:
            if recall.has_moved(tx, self._place):
                raise Transient("the archive was moved meanwhile")
            if came is not _Came.NOT and not all(recall.is_here(self._box, each) for each in object_ids):
                raise Transient(
                    "an image was swept away before it was recorded"
                )  # as an orphan: it comes again
            new = [each for each in object_ids if instances.row_of(tx, each) is None]
            proven = {*object_ids} if came is _Came.WHOLE else frozenset[ObjectId]()
            self.images += record(tx, self._box, self._place, part, ACTOR, {}, proven)
            if came is _Came.NOT:
                homecoming.miss(tx, new, self._now)
                asking.also(tx, new, self._now)
            if (study := instances.study_row_of(tx, object_ids[0])) is not None:
                manifests.mark(tx, self._place.id, [study], self._now)

    def _wanted(self, told: Mapping[str, Any]) -> tuple[list[Received], list[ObjectId]]:
        """The images that this box does not know, and those that it knows by a manifest of after the restore, and misses."""
        found = [received for received, _ in retold.instances(told)]
        with self._box.catalog.reading() as reading:
            gone = study_keys.destroyed_among(reading, [each.stored.key_id for each in found])
            rows = {each.stored.object_id: instances.row_of(reading, each.stored.object_id) for each in found}
            away = {each for each in rows if evictions.is_away(reading, each)}
            last = settings.get(reading, homecoming.LAST)
        restored_to = int(last["last"]) if isinstance(last, dict) and "last" in last else None

        def is_missed(object_id: ObjectId, row: int | None) -> bool:
            # What is of before `asking` asks for as it is.
            is_of_before = row is None or restored_to is None or row <= restored_to
            return not (is_of_before or object_id in away or recall.is_here(self._box, object_id))

        unknown = [
            each for each in found if rows[each.stored.object_id] is None and each.stored.key_id not in gone
        ]
        return unknown, [each for each, row in rows.items() if is_missed(each, row)]

    def _bring(self, received: Received) -> _Came:
        """Bring an image before it is recorded, whole; one that the archive has not is recorded all the same, and missed. What came in a run that was
        cut is here, which proves nothing of the archive."""
        stored = received.stored
        if recall.is_here(self._box, stored.object_id):
            return _Came.HERE
        if self.fetched >= MOST_FETCHED or not self._keep_going():
            raise Transient("it goes on in the next run")
        with self._box.catalog.reading() as reading:
            has_room = homecoming.has_any_room(self._box, reading, stored.sealed_bytes)
            how = recall.retrieval(reading)
        if not has_room:
            raise OutOfResources(
                "there is no room for images that only an archive knows of",
                hint="see Tiers for what may leave",
            )
        key = self._box.study_keys.opened(
            stored.key_id, received.header.study_instance_uid, stored.wrapped_key
        )
        try:
            recall.fetch(self._box, self._archive, stored.object_id, key, stored.sealed_bytes)
        except Resting:
            if isinstance(self._archive, Waking):
                with suppress(ApplianceError):
                    self._archive.wake(object_key(stored.object_id), how, "")
            return _Came.LATER
        except (Corrupt, Unknown, Unreadable) as error:
            log.error(
                "an image that only a manifest speaks of does not come whole from %s: %s",
                self._place.name,
                error.message,
            )
            self._not_given_back += isinstance(error, Unreadable)
            self.fetched += 1
            return _Came.NOT
        self.fetched += 1
        return _Came.WHOLE
