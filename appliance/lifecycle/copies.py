"""Reading the copies on disks and file servers again: what a USB disk has let rot must not be found on the day when it is all that is left.

Each object that the box looks at in a pass is opened, from its first byte to its last, on each disk or file server that has a receipt for it too,
and one that is not what was written is written over from here (or from another archive, where it is not here). A disk that
is not plugged in, or a server that does not answer, is passed over; its turn comes with the next pass. A copy that the disk does not
give back (a sector that dies) is damaged, if the disk takes and gives back a small file at that moment; else it is the disk that is
passed over, and so is one of which several copies in a slice were not given back: that is said, and the pass is not whole.

Buckets are not read: a month's download of everything costs a clinic more than its line gives, and who keeps a bucket keeps
check sums of its own and repairs by them. Of those a restore drill brings a sample back every week. But what is not on this disk any more
is asked for there, one small request (HEAD) for each in a pass: whether it is there, with the length, the version and the check sum of its
receipt. One that is told otherwise is read to its end. It is whole (somebody has copied the bucket), and its receipt is renewed; or it
is not, and is written again if another archive has it. If none has, it is lost, which is said with the bucket's name: an
earlier version may be there still, which whoever owns the bucket can bring back.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, BinaryIO, Final, Protocol, cast

from appliance.box import Box
from appliance.catalog import deliveries, destinations, freezes, instances, receipts
from appliance.catalog.instances import InstanceRow
from appliance.errors import Corrupt, OperatorNeeded, Refused, Resting, Transient, Unknown, Unreadable
from appliance.model import DestinationId, DestinationSettings, KeyId, ObjectId
from appliance.replication import recall
from appliance.replication.destinations import Archive, Destination, Parcel, build
from appliance.replication.destinations.archive import Telling, differs, object_key

log = logging.getLogger(__name__)


READ: Final = ("vault", "sftp", "smb")
"""The kinds of archive that are near enough to be read whole."""

ASKED: Final = ("s3",)
"""Those that are asked for what is not here."""


MOST_UNREAD: Final = 3
"""So many copies that a disk does not give back in one slice: there is more wrong with it than a sector."""


class ReadAgain(Destination, Archive, Protocol):
    """What is read, and written over where it is damaged."""


class AskedAgain(Destination, Telling, Protocol):
    """What is asked, and written over where it has not what it should."""


class Copies:
    """The disks of this box, for one slice. `mended` says of each copy that was written over where it is, why, and whether the
    disk did not give it back; `rest` is called between two pieces that are read."""

    def __init__(
        self,
        box: Box,
        mended: Callable[[ObjectId, str, str, bool], None],
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
        self._built: dict[DestinationId, ReadAgain] = {}
        self._unread: Counter[DestinationId] = Counter()
        self.gave_up: dict[DestinationId, ObjectId] = {}
        """The disks that are left alone for this slice because they did not give back several copies, and the last of these."""
        self.passed_over: set[ObjectId] = set()
        """The objects of which such a disk has a copy that was not read."""
        self.given_back: set[tuple[DestinationId, ObjectId]] = set()
        self.far = Buckets(box, mended, rest)

    def check(self, object_id: ObjectId, key_id: KeyId, sealed_bytes: int) -> int:
        """Read an object on every disk that should have it, and mend what is damaged; how many were mended.

        Raises `Corrupt` when one is damaged and nobody has the object whole, `Unreadable` when it is the only one and its disk does not give
        it back, or when it is one of several that a disk did not give back, `Transient` or `OperatorNeeded` when that can't be told now, or
        while the ransomware guard lets nothing be written over. One that is not here is asked for in the buckets, too.
        """
        mended, was_read = 0, False
        given_up: Unreadable | None = None
        for place, disk in self._holders(object_id):
            try:
                key = self._box.study_keys.key(key_id)
                recall.verify(disk, object_id, key, sealed_bytes, lambda _: self.rest())
            except Unreadable as error:
                if not self._is_there(place, disk, object_id):
                    given_up = error if place.id in self.gave_up else given_up
                    continue
                write_again(self._box, disk, object_id, key_id, sealed_bytes)
                log.warning("%s: a copy of an image could not be read and is written again", place.name)
                self._mended(object_id, place.name, error.message, True)
                mended += 1
            except (Corrupt, Unknown) as error:
                write_again(self._box, disk, object_id, key_id, sealed_bytes)
                log.warning("%s: a copy of an image was damaged and is written again", place.name)
                self._mended(object_id, place.name, error.message, False)
                mended += 1
            except (Transient, OperatorNeeded, Refused) as error:
                del self._places[place.id]  # for this slice
                log.info("%s can't be read now: %s", place.name, error.message)
                continue
            self.given_back.add((place.id, object_id))
            was_read = True
        if given_up is not None:
            raise given_up
        return mended + self.far.ask(object_id, key_id, sealed_bytes, was_read=was_read)

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

    def _holders(self, object_id: ObjectId) -> Iterator[tuple[DestinationSettings, ReadAgain]]:
        if not self._places and not self.gave_up:
            return
        with self._box.catalog.reading() as reading:
            holding = deliveries.holders(reading, object_id)
        if not self.gave_up.keys().isdisjoint(holding):
            self.passed_over.add(object_id)
        for number in holding:
            if (place := self._places.get(number)) is not None:
                if number not in self._built:  # whose connections serve the whole slice
                    self._built[number] = cast("ReadAgain", build(place, self._box))
                yield place, self._built[number]


class Buckets:
    """The buckets of this box, for one slice, asked for what is not on its disk. `mended` and `rest` as with `Copies`."""

    def __init__(
        self,
        box: Box,
        mended: Callable[[ObjectId, str, str, bool], None],
        rest: Callable[[], None] = lambda: None,
    ) -> None:
        self._box = box
        self._mended = mended
        self._rest = rest
        with box.catalog.reading() as reading:
            known = [each for each in destinations.destinations(reading) if each.kind in ASKED]
        self._places: dict[DestinationId, DestinationSettings] = {each.id: each for each in known}
        self._silent = {each.id for each in known if each.paused}
        self._built: dict[DestinationId, AskedAgain] = {}
        self.asked = 0
        """How many objects some bucket has answered for."""
        self.unasked: set[ObjectId] = set()
        """The objects that no bucket could be asked for, and no disk has given back either."""
        self.lost: dict[DestinationId, set[ObjectId]] = {}
        """What each bucket has not whole any more, nor anybody else."""
        self.whole: set[tuple[DestinationId, ObjectId]] = set()

    def ask(self, object_id: ObjectId, key_id: KeyId, sealed_bytes: int, *, was_read: bool = False) -> int:
        """Ask for an object that is not here wherever there is a receipt for it, and mend what is not whole; how many were mended.

        Raises as `Copies.check`. A bucket that can't be asked is left alone for this slice.
        """
        if not self._places or recall.is_here(self._box, object_id):
            return 0
        with self._box.catalog.reading() as reading:
            held = receipts.of_object(reading, object_id)
        mended, was_asked = 0, False
        for number, receipt in held.items():
            if number not in self._places or number in self._silent:
                continue
            self._rest()
            try:
                mended += self._ask(self._places[number], receipt, object_id, key_id, sealed_bytes)
                was_asked = True
                self.whole.add((number, object_id))
            except Silent as error:
                self._silent.add(number)
                log.info("%s can't be asked now: %s", self._places[number].name, error.message)
        self.asked += was_asked
        if not was_asked and not was_read and not self._places.keys().isdisjoint(held):
            self.unasked.add(object_id)
        return mended

    def _ask(
        self,
        place: DestinationSettings,
        receipt: Mapping[str, Any],
        object_id: ObjectId,
        key_id: KeyId,
        sealed_bytes: int,
    ) -> int:
        """Whether it had to be written again there. Raises `Silent` where the bucket can't be asked, and as `ask`."""
        box = self._box
        try:
            if place.id not in self._built:
                self._built[place.id] = cast("AskedAgain", build(place, box))
            bucket = self._built[place.id]
            told = bucket.told(object_key(object_id))
            if not (why := differs(told, receipt, sealed_bytes)):
                return 0
            log.warning("%s tells otherwise of an image than its receipt: %s", place.name, why)
            recall.verify(bucket, object_id, box.study_keys.key(key_id), sealed_bytes, lambda _: self._rest())
            fresh = {"etag": told.etag, "version_id": told.version_id, "proof": "read back"}
            self._renew(place, object_id, {**receipt, **fresh})
            return 0
        except (Corrupt, Unknown) as error:
            why = f"{place.name}: {error.message}"
        except Resting as error:  # what it was is in doubt, and can't be read for hours
            raise Transient(f"{place.name}: {error.message}", hint=error.hint) from error
        except (Transient, OperatorNeeded, Refused) as error:
            raise Silent(error.message, hint=error.hint) from error
        try:
            proof = write_again(box, self._built[place.id], object_id, key_id, sealed_bytes)
        except Corrupt as error:
            self.lost.setdefault(place.id, set()).add(object_id)
            raise Corrupt(f"{why}; {error.message}", hint=error.hint) from error
        log.warning("%s had an image no longer whole, and has it again", place.name)
        if proof:
            self._renew(place, object_id, proof)
        self._mended(object_id, place.name, why, False)
        return 1

    def _renew(self, place: DestinationSettings, object_id: ObjectId, receipt: Mapping[str, Any]) -> None:
        now = datetime.now(UTC)
        with self._box.catalog.transaction() as tx:
            receipts.renew(
                tx, place.id, object_id, {**receipt, "at_utc": now.isoformat(timespec="seconds")}, now
            )


class Silent(Transient):
    """A bucket that can't be asked at this moment: no finding."""


def write_again(
    box: Box, place: Destination, object_id: ObjectId, key_id: KeyId, sealed_bytes: int
) -> Mapping[str, Any]:
    """Write an object over where it is damaged, from here or, where it is not here, from another archive; the new receipt.

    Raises `Corrupt` if nobody has it whole, `Transient` while the ransomware guard holds, and what the archives raise.
    """
    with box.catalog.reading() as reading:
        freezes.refuse(reading)
    if not recall.is_here(box, object_id):
        try:
            recall.recall(box, object_id, key_id, sealed_bytes)
        except (Unknown, Refused) as error:
            raise Corrupt("no archive has the image whole", hint="call support") from error
    with box.catalog.reading() as reading:
        row = instances.with_object(reading, object_id)
    if row is None:
        return {}  # it was destroyed meanwhile
    parcel = _parcel(box, row)
    with place.open([parcel]) as session:
        return session.send(parcel)


def _parcel(box: Box, row: InstanceRow) -> Parcel:
    return Parcel(
        study_instance_uid=row.study_instance_uid,
        series_instance_uid=row.series_instance_uid,
        sop_instance_uid=row.sop_instance_uid,
        sop_class_uid=row.sop_class_uid,
        transfer_syntax_uid=row.transfer_syntax_uid,
        object_id=row.object_id,
        size_bytes=row.size_bytes,
        sealed_bytes=row.sealed_bytes,
        sealed_path=box.objects.path(row.object_id),
        open=lambda: cast("BinaryIO", box.open_object(row.object_id, row.key_id)),
        tried_before=True,
    )
