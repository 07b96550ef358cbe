"""Looking buckets through by their lists: the copies of what is here, too, of which one that is gone would be found on the day when this disk dies.

What has left this disk is asked for one by one (`appliance.lifecycle.buckets`). What is here lies in a bucket all the same, and its owner's
mistake, a thief or a fault may remove it there or write over it. A list tells a thousand objects at once: key, length and ETag. It is held
to the receipts of that bucket, both in order, a piece in each slice; a pass goes on where it was after a restart.

- A receipt whose key is not in the list, or has another length or ETag: the bucket is asked for that one (a list may be late), and it is read
  and mended as `appliance.lifecycle.buckets` does: written again from here, its receipt renewed, the audit told, and a person
  (`catalog.alterations`). What is not on this disk is left to the pass that asks for it.
- A key without a receipt is not touched, and only counted: it may be what is being sent, or of another life of this box.
- What can't be mended now is tried again in later slices, up to `MOST_WAITING` of each bucket; beyond, its list waits. So does what somebody
  has written over while the ransomware guard holds. What is gone is written again all the same, as what is new is sent: that replaces nothing.

How it goes with the guard. What is mended is reported to it, and thousands that are gone make it hold, as they should: whoever empties a bucket
must not see the disk make room meanwhile. Once a person has released it, the rest of the same loss is known, and is not reported to it again
(`freezing.KNOWN`); what another pass finds is.

What a pass costs: one request for a thousand objects. A million are 1,000 requests (half a cent at Amazon's) and 350 MB; a pass takes
seven days on a box that is always on, twice as long on one that is on for twelve hours, and then it is left alone for a day's slices. A larger
box lists more in each slice, so that it takes five days at most. Counted in slices and not by the clock, which may be set.

What a list doesn't tell: the version and the check sum. Content of the same length and the same ETag is the same, unless somebody has made two of
the same MD5, which sealed objects can't be; and the same content as another version harms nobody while it is here. Rejected: to let the
list stand for the questions that are asked of what is not here, whose version is what a restore asks for.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Final

from appliance.box import Box
from appliance.catalog import (
    Reading,
    Transaction,
    destinations,
    freezes,
    instances,
    known_clock,
    receipts,
    settings,
    totals,
)
from appliance.errors import Corrupt, OperatorNeeded, Refused, Transient
from appliance.lifecycle import freezing
from appliance.lifecycle.acting import Act
from appliance.lifecycle.buckets import ASKED, Buckets, Silent
from appliance.model import DestinationId, DestinationSettings, KeyId, ObjectId
from appliance.pace import Pace
from appliance.replication import recall
from appliance.replication.destinations.archive import Entry, Told, differs, object_key
from appliance.replication.place import place_of

log = logging.getLogger(__name__)

STANDING: Final = "bucket.lists"
"""In `appliance.catalog.settings`: how far the pass over each bucket is, by its row id."""

AT_ONCE: Final = 1000
"""What a store lists in one answer at most."""

SLICES: Final = 720
"""A pass has no more, of ten minutes each: five days of a box that is on."""

REST_SLICES: Final = 144
"""So many slices, a day's, are between two passes."""

MEND_SECONDS: Final = 300.0
"""Of each slice, for what is not as it was in one bucket: its lines are needed for what is new."""

MOST_WAITING: Final = 1000
TRIED_AGAIN: Final = 20
ACTOR: Final = "jobs"

Row = tuple[ObjectId, KeyId, int, dict[str, Any]]
"""An object with a receipt, its key, its sealed size, and the receipt."""


@dataclass(frozen=True, slots=True)
class Looked:
    """How far the pass over a bucket is: behind its key `key`, and behind the receipt of `object_id`; `rest` slices are left until the next begins.

    `since_utc` is when the last pass ended, or the first began where `never` has one ended. Of this pass: `keys` in the list, `mended`
    (from `found_utc` on) and `unknown`, without a receipt. `waiting` are the objects that are tried again.
    """

    place: str
    since_utc: str
    never: bool = True
    rest: int = 0
    key: str = ""
    object_id: str = ""
    keys: int = 0
    mended: int = 0
    unknown: int = 0
    found_utc: str = ""
    waiting: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Around:
    """What is around a slice: `rest` is called between two pieces, and `seconds` is the time for mending, by `monotonic`."""

    keep_going: Callable[[], bool] = lambda: True
    rest: Callable[[], None] | None = None
    at_once: int = AT_ONCE
    seconds: float = MEND_SECONDS
    monotonic: Callable[[], float] = time.monotonic


UNCUT: Final = Around()


def standing(reading: Reading) -> dict[DestinationId, Looked]:
    """How far the pass over each bucket is."""
    told = settings.get(reading, STANDING)
    found = told if isinstance(told, dict) else {}
    return {DestinationId(int(number)): _looked(each) for number, each in found.items()}


def look_through(box: Box, now: datetime, around: Around = UNCUT) -> dict[DestinationId, Looked]:
    """Look at the next piece of each bucket, and mend what is not as it was; how far each is then. Raises what the catalog raises.

    A bucket that is paused or can't be listed is left as it is; `health` says so after a month.
    """
    with box.catalog.reading() as reading:
        places = [each for each in destinations.destinations(reading) if each.kind in ASKED]
        before = standing(reading)
        pieces = pieces_of(totals.totals(reading).instances, around.at_once)
        today = known_clock.reckoned(reading, now)
    after = {}
    for place in places:
        looked = _taken_up(before.get(place.id), place, today)
        after[place.id] = looked if place.paused else _Slice(box, place, looked, now, around).go_on(pieces)
    if after != before:
        with box.catalog.transaction() as tx:
            settings.put(tx, STANDING, {str(number): asdict(each) for number, each in after.items()}, now)
    return after


def pieces_of(objects: int, at_once: int = AT_ONCE) -> int:
    """How often a bucket with so many objects is listed in one slice, so that a pass has `SLICES` of them at most. Pure."""
    return max(1, math.ceil(objects / at_once / SLICES))


def _looked(told: dict[str, Any]) -> Looked:
    known = {name: value for name, value in told.items() if name in Looked.__dataclass_fields__}
    return Looked(**{**known, "waiting": tuple(known.get("waiting", ()))})


def _taken_up(before: Looked | None, place: DestinationSettings, now: datetime) -> Looked:
    """Where a bucket is taken up: anew if it is another place by now. A moment that is still to come, by a clock that was ahead, counts as now;
    `now` is what the clock says, or later if it is known to be later."""
    where = place_of(place.options)
    if before is None or before.place != where:
        return Looked(where, now.isoformat())
    return replace(before, since_utc=min(before.since_utc, now.isoformat()))


class _Slice:
    """One slice of the pass over one bucket."""

    def __init__(
        self, box: Box, place: DestinationSettings, looked: Looked, now: datetime, around: Around
    ) -> None:
        self._box, self._place, self._looked, self._around = box, place, looked, around
        self._act = Act(ACTOR, now, box.audit_key)
        self._rest = around.rest or Pace().rest
        self._bucket = Buckets(box, self._say, self._rest)
        self._until = around.monotonic() + around.seconds
        with box.catalog.reading() as reading:
            self._is_held = freezes.in_force(reading) is not None
            self._today = known_clock.reckoned(reading, now)
            released = freezing.standing(reading).reports_since_utc
        self._released_utc = released.isoformat() if released else ""

    def go_on(self, pieces: int) -> Looked:
        """Try again what waits, then go on with the list."""
        try:
            self._try_again()
            if self._looked.rest:
                return replace(self._looked, rest=self._looked.rest - 1)
            while pieces and self._may_go_on() and self._piece():
                pieces -= 1
        except Silent as error:
            log.info("%s can't be looked through now: %s", self._place.name, error.message)
        return self._looked

    def _may_go_on(self) -> bool:
        return self._around.keep_going() and self._around.monotonic() < self._until

    def _piece(self) -> bool:
        """The next keys and the receipts up to the last of them; whether there are more, and time for them."""
        at_once = self._around.at_once
        self._rest()
        entries, has_more = self._bucket.listed(self._place.id, self._looked.key, at_once)
        with (
            self._box.catalog.reading() as reading
        ):  # after the list, so that what comes meanwhile is asked for, and is there
            rows = receipts.in_order(reading, self._place.id, self._looked.object_id, at_once)
        ends = [entries[-1].key] if has_more else []
        ends += [object_key(rows[-1][0])] if len(rows) == at_once else []
        end = min(ends, default="")
        found = {each.key: each for each in entries}
        is_through = self._compare(rows, found, end)
        if is_through and end:
            self._past(end, self._looked.object_id)
        past = {key for key in found if key <= self._looked.key or (is_through and not end)}
        self._looked = replace(
            self._looked,
            keys=self._looked.keys + len(past),
            unknown=self._looked.unknown + len(past - {object_key(row[0]) for row in rows}),
        )
        if is_through and not end:
            self._finish()
        return is_through and bool(end)

    def _compare(self, rows: Sequence[Row], found: Mapping[str, Entry], end: str) -> bool:
        """Hold what was listed to the receipts up to the key `end`, if there is one; whether all of it was."""
        for object_id, key_id, sealed_bytes, receipt in rows:
            key = object_key(object_id)
            if end and key > end:
                break
            entry = found.get(key)
            is_as_it_was = entry and not differs(Told(entry.bytes, entry.etag), receipt, sealed_bytes)
            if not is_as_it_was and not (self._may_go_on() and self._look(object_id, key_id, sealed_bytes)):
                return False
            self._past(key, object_id)
        return True

    def _past(self, key: str, object_id: str) -> None:
        self._looked = replace(self._looked, key=key, object_id=object_id)

    def _look(self, object_id: ObjectId, key_id: KeyId, sealed_bytes: int) -> bool:
        """Ask for one that its list tells otherwise of, and mend it; whether the list may go on behind it. Raises `Silent`."""
        if not recall.is_here(self._box, object_id):
            return True  # it is asked for in each pass of the scrub
        if len(self._looked.waiting) >= MOST_WAITING:
            return False
        try:
            mended = self._bucket.look(self._place.id, object_id, key_id, sealed_bytes)
        except Silent:
            raise
        except Corrupt as error:  # here, too: whoever reads everything again finds that, and says it
            log.error("%s has not an image whole that is damaged here: %s", self._place.name, error.message)
        except (Transient, OperatorNeeded, Refused) as error:
            log.warning("%s has not an image whole, and gets it later: %s", self._place.name, error.message)
            others = (each for each in self._looked.waiting if each != object_id)
            self._looked = replace(self._looked, waiting=(*others, object_id))
            return self._is_held  # else whatever kept it from being mended keeps the next from it, too
        else:
            self._looked = replace(self._looked, mended=self._looked.mended + mended)
        return True

    def _try_again(self) -> None:
        """Those that wait, a few of them; what is refused for the guard's sake is not tried before it is released."""
        tried = self._looked.waiting[:TRIED_AGAIN]
        if self._is_held or not tried:
            return
        with self._box.catalog.reading() as reading:
            rows = {row[0]: row for row in instances.objects_named(reading, tried)}
        for each in tried:
            if not self._may_go_on():
                return
            before = self._looked
            self._looked = replace(before, waiting=tuple(one for one in before.waiting if one != each))
            try:
                if each in rows:  # else it was destroyed
                    self._look(*rows[ObjectId(each)])
            except Silent:
                self._looked = before
                raise

    def _say(self, tx: Transaction, object_id: ObjectId, name: str, why: str, is_unread: bool) -> None:  # noqa: ARG002
        """Write into the audit that an object was mended, and whether a person knows of the loss that it is part of."""
        looked, now = self._looked, self._act.now.isoformat()
        self._looked = replace(looked, found_utc=looked.found_utc or now)
        details: dict[str, object] = {"reason": why, "on": name}
        if self._looked.found_utc < self._released_utc:
            details[freezing.KNOWN] = True
        study = instances.study_of(tx, object_id)
        self._act.record(tx, "instance:mend", f"instance:{object_id}", details, study=study)

    def _finish(self) -> None:
        """The list has been looked through."""
        looked = self._looked
        log.info(
            "%s was looked through: keys=%d mended=%d waiting=%d without-receipt=%d",
            self._place.name,
            looked.keys,
            looked.mended,
            len(looked.waiting),
            looked.unknown,
        )
        self._looked = Looked(
            place=looked.place,
            since_utc=self._today.isoformat(),
            never=False,
            rest=REST_SLICES,
            found_utc=looked.found_utc if looked.waiting else "",
            waiting=looked.waiting,
        )
