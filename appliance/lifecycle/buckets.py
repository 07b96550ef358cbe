"""Asking the buckets for what is not here: within thirty days, so that what is gone there is missed while somebody can bring it back.

They are not read: a month's download of everything costs a clinic more than its line gives, and who keeps a bucket keeps
check sums of its own and repairs by them. Of those a restore drill brings a sample back every week. But what is not on this disk any more
is asked for there, one small request (HEAD) for each in a pass: whether it is there, with the length, the version and the check sum of its
receipt. One that is told otherwise is read to its end. It is whole (somebody has copied the bucket), and its receipt is renewed; or it
is not, and is written again if the bucket keeps the version of the receipt, or another archive has it; hours later, where that version
lies deep and is asked for first. If nobody has, it is lost, which is said with the bucket's name. One that is here, because it came as an
earlier version, is asked for like those that are not. The other copies of what is here are looked through by the list of their bucket
(`appliance.lifecycle.listing`), which costs a thousandth. What had to be written again was altered by somebody else, which a person is told
(`catalog.alterations`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Protocol, cast

from appliance.box import Box
from appliance.catalog import Transaction, alterations, destinations, receipts
from appliance.catalog import settings as kept
from appliance.errors import Corrupt, OperatorNeeded, Refused, Resting, Transient, Unknown
from appliance.lifecycle.rewriting import write_again
from appliance.model import DestinationId, DestinationSettings, KeyId, ObjectId
from appliance.replication import recall
from appliance.replication.destinations import Destination, build
from appliance.replication.destinations.archive import (
    Entry,
    Listing,
    Telling,
    Told,
    differs,
    may_be,
    object_key,
)

log = logging.getLogger(__name__)

ASKED: Final = ("s3",)
"""Those that are asked for what is not here."""

OBJECTS: Final = "objects/"
"""What the keys of all objects begin with."""


class AskedAgain(Destination, Telling, Listing, Protocol):
    """What is asked, and written over where it has not what it should."""


class Silent(Transient):
    """A bucket that can't be asked at this moment: no finding."""


class Buckets:
    """The buckets of this box, for one slice, asked for what is not on its disk. `mended` and `rest` as with `appliance.lifecycle.copies.Copies`."""

    def __init__(
        self,
        box: Box,
        mended: Callable[[Transaction, ObjectId, str, str, bool], None],
        rest: Callable[[], None] = lambda: None,
    ) -> None:
        self._box = box
        self._mended = mended
        self._rest = rest
        with box.catalog.reading() as reading:
            self._altered = frozenset(kept.get(reading, recall.ALTERED, ()))
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
        """Ask for an object that is not here, or was altered there, wherever there is a receipt for it, and mend what is not whole; how many were mended.

        Raises as `Copies.check`. A bucket that can't be asked is left alone for this slice.
        """
        is_here = recall.is_here(self._box, object_id)
        if is_here and object_id not in self._altered:
            return 0
        with self._box.catalog.reading() as reading:
            held = receipts.of_object(reading, object_id)
        mended, asked, wanted = 0, 0, held.keys() & self._places.keys()
        for number in wanted - self._silent:
            self._rest()
            try:
                mended += self._ask(self._places[number], held[number], object_id, key_id, sealed_bytes)
                self.whole.add((number, object_id))
                asked += 1
            except Silent as error:
                self._silent.add(number)
                log.info("%s can't be asked now: %s", self._places[number].name, error.message)
        self.asked += asked > 0
        if asked == len(wanted) and object_id in self._altered:
            self._settle(object_id)
        if wanted and not (asked or was_read or is_here):
            self.unasked.add(object_id)
        return mended

    def look(self, number: DestinationId, object_id: ObjectId, key_id: KeyId, sealed_bytes: int) -> int:
        """Ask one bucket for an object, wherever else it is, and mend what is not whole there; how many were mended. Raises `Silent`, and as `ask`."""
        with self._box.catalog.reading() as reading:
            receipt = receipts.of_object(reading, object_id).get(number)
        if receipt is None:
            return 0
        self._rest()
        return self._ask(self._places[number], receipt, object_id, key_id, sealed_bytes)

    def listed(self, number: DestinationId, after: str, most: int) -> tuple[Sequence[Entry], bool]:
        """The next objects of a bucket by its list; see `Listing`. Raises `Silent` where it can't be listed."""
        try:
            return self._bucket(self._places[number]).listed(OBJECTS, after, most)
        except (Transient, OperatorNeeded, Refused) as error:
            raise Silent(error.message, hint=error.hint) from error

    def _bucket(self, place: DestinationSettings) -> AskedAgain:
        """A bucket, whose connections serve the whole slice."""
        if place.id not in self._built:
            self._built[place.id] = cast("AskedAgain", build(place, self._box))
        return self._built[place.id]

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
        told: Told | None = None
        is_gone = lies_deep = False
        try:
            bucket = self._bucket(place)
            told = bucket.told(object_key(object_id))
            if not (why := differs(told, receipt, sealed_bytes)):
                return 0
            log.warning("%s tells otherwise of an image than its receipt: %s", place.name, why)
            self._read(bucket, object_id, key_id, sealed_bytes)
            fresh = {"etag": told.etag, "version_id": told.version_id, "proof": "read back"}
            with box.catalog.transaction() as tx:
                _renew(tx, place, object_id, {**receipt, **fresh}, datetime.now(UTC))
            return 0
        except (Corrupt, Unknown) as error:
            why = f"{place.name}: {error.message}"
            is_gone = isinstance(error, Unknown) and recall.is_here(box, object_id)
        except Resting as error:
            # Either it is in doubt, and can't be read for hours, or it is known to be something else.
            if told is None or may_be(told, receipt, sealed_bytes):
                raise Transient(f"{place.name}: {error.message}", hint=error.hint) from error
            why, lies_deep = f"{place.name}: something else lies there, in deep archive", True
        except (Transient, OperatorNeeded, Refused) as error:
            raise Silent(error.message, hint=error.hint) from error
        done_utc = recall.altered_utc(self._built[place.id], object_id)
        try:
            proof = write_again(
                box,
                self._built[place.id],
                object_id,
                key_id,
                sealed_bytes,
                is_gone=is_gone,
                looks_first=not lies_deep,
            )
        except Corrupt as error:
            self.lost.setdefault(place.id, set()).add(object_id)
            raise Corrupt(f"{why}; {error.message}", hint=error.hint) from error
        if not proof:
            return 0  # it was destroyed meanwhile
        log.warning("%s had an image no longer whole, and has it again", place.name)
        now = datetime.now(UTC)
        with box.catalog.transaction() as tx:
            _renew(tx, place, object_id, proof, now)
            alterations.note(tx, place.id, object_id, receipt, now, done_utc)
            self._mended(tx, object_id, place.name, why, False)
        return 1

    def _read(self, bucket: AskedAgain, object_id: ObjectId, key_id: KeyId, sealed_bytes: int) -> None:
        """Open an object there from end to end. Twice, if it is not what was written: that is laid to somebody, and may be the line's."""
        key = self._box.study_keys.key(key_id)
        try:
            recall.verify(bucket, object_id, key, sealed_bytes, lambda _: self._rest())
        except Corrupt:
            recall.verify(bucket, object_id, key, sealed_bytes, lambda _: self._rest())

    def _settle(self, object_id: ObjectId) -> None:
        """What was altered has been asked for where it was, and is as it was."""
        with self._box.catalog.transaction() as tx:
            left = [each for each in kept.get(tx, recall.ALTERED, ()) if each != object_id]
            kept.put(tx, recall.ALTERED, left or None, datetime.now(UTC))


def _renew(
    tx: Transaction,
    place: DestinationSettings,
    object_id: ObjectId,
    receipt: Mapping[str, Any],
    now: datetime,
) -> None:
    renewed = {**receipt, "at_utc": now.isoformat(timespec="seconds")}
    receipts.renew(tx, place.id, object_id, renewed, now)
