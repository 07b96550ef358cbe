"""Reading the copies on disks and file servers again: what a USB disk has let rot must not be found on the day when it is all that is left.

Each object that the box looks at in a pass is opened, from its first byte to its last, on each disk or file server that has a receipt for it too,
and one that is not what was written is written over from here (or from another archive, where it is not here). A disk that
is not plugged in, or a server that does not answer, is passed over; its turn comes with the next pass. A copy that the disk does not
give back (a sector that dies) is damaged, if the disk takes and gives back a small file at that moment; else it is the disk that is
passed over, and so is one of which several copies in a slice were not given back: that is said, and the pass is not whole.

Buckets are asked, and not read (`appliance.lifecycle.buckets`).
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final, Protocol, cast

from appliance.box import Box
from appliance.catalog import Transaction, deliveries, destinations
from appliance.errors import Corrupt, OperatorNeeded, Refused, Transient, Unknown, Unreadable
from appliance.lifecycle.buckets import Buckets
from appliance.lifecycle.rewriting import write_again
from appliance.model import DestinationId, DestinationSettings, KeyId, ObjectId
from appliance.replication import recall
from appliance.replication.destinations import Archive, Destination, build

log = logging.getLogger(__name__)


READ: Final = ("vault", "sftp", "smb")
"""The kinds of archive that are near enough to be read whole."""


MOST_UNREAD: Final = 3
"""So many copies that a disk does not give back in one slice: there is more wrong with it than a sector."""


class ReadAgain(Destination, Archive, Protocol):
    """What is read, and written over where it is damaged."""


class Copies:
    """The disks of this box, for one slice. `mended` says of each copy that was written over where it is, why, and whether the
    disk did not give it back; `rest` is called between two pieces that are read."""

    def __init__(
        self,
        box: Box,
        mended: Callable[[Transaction, ObjectId, str, str, bool], None],
        rest: Callable[[], None] = lambda: None,
    ) -> None:
        self._box = box
        self._mended = mended
        self.rest = rest
        with box.catalog.reading() as reading:
            self._places: dict[DestinationId, DestinationSettings] = {
                each.id: each
                for each in destinations.destinations(reading)
                if each.kind in READ and not each.paused
            }
        self._near = frozenset(self._places)
        self._built: dict[DestinationId, ReadAgain] = {}
        self._unread: Counter[DestinationId] = Counter()
        self.gave_up: dict[DestinationId, ObjectId] = {}
        """The disks that are left alone for this slice because they did not give back several copies, and the last of these."""
        self.passed_over: set[ObjectId] = set()
        """The objects of which such a disk has a copy that was not read."""
        self.given_back: set[tuple[DestinationId, ObjectId]] = set()
        self.missed: dict[DestinationId, set[ObjectId]] = {}
        """What was not read on a disk that is away, or left alone for this slice."""
        self.far = Buckets(box, mended, rest)

    def answers(self, number: DestinationId) -> bool:
        """Whether a disk may be asked in this slice: it was not away yet."""
        return number in self._places

    def miss(self, object_id: ObjectId) -> None:
        """Take note of an object that is not read on any disk, because it is not whole here yet."""
        with self._box.catalog.reading() as reading:
            for number in self._near.intersection(deliveries.holders(reading, object_id)):
                self._miss(number, object_id)

    def check(
        self,
        object_id: ObjectId,
        key_id: KeyId,
        sealed_bytes: int,
        *,
        only: DestinationId | None = None,
    ) -> int:
        """Read an object on every disk that should have it, or on one `only`, and mend what is damaged; how many were mended.

        Raises `Corrupt` when one is damaged and nobody has the object whole, `Unreadable` when it is the only one and its disk does not give
        it back, or when it is one of several that a disk did not give back, `Transient` or `OperatorNeeded` when that can't be told now, or
        while the ransomware guard lets nothing be written over. One that is not here is asked for in the buckets, too.
        """
        mended, was_read = 0, False
        given_up: Unreadable | None = None
        for place, disk in self._holders(object_id, only):
            try:
                key = self._box.study_keys.key(key_id)
                recall.verify(disk, object_id, key, sealed_bytes, lambda _: self.rest())
            except Unreadable as error:
                if not self._is_there(place, disk, object_id):
                    self._miss(place.id, object_id)
                    given_up = error if place.id in self.gave_up else given_up
                    continue
                if write_again(
                    self._box, disk, object_id, key_id, sealed_bytes
                ):  # else it was destroyed meanwhile
                    log.warning("%s: a copy of an image could not be read and is written again", place.name)
                    self._say(object_id, place, error.message, is_unread=True)
                    mended += 1
            except (Corrupt, Unknown) as error:
                if write_again(self._box, disk, object_id, key_id, sealed_bytes):
                    log.warning("%s: a copy of an image was damaged and is written again", place.name)
                    self._say(object_id, place, error.message, is_unread=False)
                    mended += 1
            except (Transient, OperatorNeeded, Refused) as error:
                del self._places[place.id]  # for this slice
                self._miss(place.id, object_id)
                log.info("%s can't be read now: %s", place.name, error.message)
                continue
            self.given_back.add((place.id, object_id))
            was_read = True
        if given_up is not None:
            raise given_up
        if only is not None:
            return mended
        return mended + self.far.ask(object_id, key_id, sealed_bytes, was_read=was_read)

    def _miss(self, number: DestinationId, object_id: ObjectId) -> None:
        self.missed.setdefault(number, set()).add(object_id)

    def _say(self, object_id: ObjectId, place: DestinationSettings, why: str, *, is_unread: bool) -> None:
        with self._box.catalog.transaction() as tx:
            self._mended(tx, object_id, place.name, why, is_unread)

    def _is_there(self, place: DestinationSettings, disk: ReadAgain, object_id: ObjectId) -> bool:
        """Whether a disk that did not give back a copy is there and works; one that does not is left alone for this slice."""
        self._unread[place.id] += 1
        try:
            if self._unread[place.id] <= MOST_UNREAD:
                disk.check()
                return True
            log.error("%s does not give back several copies: look at the disk", place.name)
            self.gave_up[place.id] = object_id
            self.passed_over.add(object_id)
        except (Transient, OperatorNeeded, Refused) as error:
            log.info("%s can't be read now: %s", place.name, error.message)
        del self._places[place.id]
        return False

    def _holders(
        self, object_id: ObjectId, only: DestinationId | None
    ) -> Iterator[tuple[DestinationSettings, ReadAgain]]:
        if not self._near:
            return
        with self._box.catalog.reading() as reading:
            holding = deliveries.holders(reading, object_id)
        if not self.gave_up.keys().isdisjoint(holding):
            self.passed_over.add(object_id)
        for number in holding:
            if only not in (None, number):
                continue
            if number in self._near and number not in self._places:
                self._miss(number, object_id)
            if (place := self._places.get(number)) is not None:
                if number not in self._built:  # whose connections serve the whole slice
                    self._built[number] = cast("ReadAgain", build(place, self._box))
                yield place, self._built[number]
