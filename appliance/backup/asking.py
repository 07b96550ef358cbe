"""After a restore: asking each archive for the images that it may have without this box knowing.

A backup knows of what had a receipt when it was made, and a manifest of what it names. What was delivered after the one and before the other is
in the archive under a name and a key that the catalog knows, and nobody says so: it would count as missing. So each archive is asked for every
image that is not here and has no receipt anywhere, the last recorded first, some at a time, before the homecoming comes to them. What is
given back is opened from end to end, as in every recall, and only then is there a receipt; where this disk has no room it is read and not
kept. What lies deep can't be read for hours: that it is there under its name, which nobody else draws, and as long as it was, is its receipt,
and it is opened when it comes.

What somebody has written over or removed in a bucket that keeps versions is there still, as a version of the same length: those are looked at
where the latest is not the image, the first written first. What is not what was written is read once more before that is believed: it may have
been spoilt on the way. And what a disk does not give back is neither there nor gone: health says that its disk is to be looked at, and of these some
are asked for again each day, those that were tried last at the end, and all of them as soon as it gives back what it is asked for.

A receipt may be worth nothing: what another archive had is spoilt there, or has burnt too. So once the homecoming has looked at each image,
an archive is asked for all that are not here by then and have no receipt of its own (*doubted*), whoever else is said to have them.

An archive that is away is asked when it is back, and one that is added later too: each has its own place up to which it was asked, in the
catalog's settings, and once it has been asked for all, nothing more is done.

Chose to fetch at once over asking first (HEAD): a disk has no such question, and of a bucket a refusal costs the same.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum, auto
from itertools import islice
from typing import Any, Final

from appliance import audit
from appliance.backup import homecoming
from appliance.box import Box
from appliance.catalog import (
    Reading,
    Transaction,
    deliveries,
    destinations,
    evictions,
    instances,
    manifests,
    settings,
    unreceipted,
)
from appliance.catalog.unreceipted import Unreceipted
from appliance.errors import (
    ApplianceError,
    Corrupt,
    OperatorNeeded,
    Refused,
    Resting,
    Unknown,
    Unreadable,
)
from appliance.model import DestinationSettings, ObjectId
from appliance.replication import recall
from appliance.replication.destinations import Archive, build
from appliance.replication.destinations.archive import KEYS, Recounting, Telling, object_key

log = logging.getLogger(__name__)

ASKED: Final = settings.ASKED
"""In `appliance.catalog.settings`: ``of`` is when the restore was, ``below`` by row id of an archive the row down to which it was asked, ``doubted``
likewise for what others are said to have, ``more`` likewise rows beyond the restore that it is asked for, and ``unread`` likewise the ``rows`` that its disk did not give back, and when it did not last (``tried_utc``), None once it has given back others."""

MOST: Final = 200
"""So many images are asked for in one archive at once."""

WINDOW: Final = 50_000
"""So many rows of the catalog are looked through at once for images without a receipt."""

MOST_UNREAD: Final = 1000
"""An archive that has not given back so many is asked for no others."""

UNREAD_AGAIN: Final = timedelta(days=1)

VERSIONS: Final = 5
"""So many earlier versions of an object are looked at, the first written first: ours was there before anybody could write over it."""

ACTOR: Final = "jobs"


class _Turn(Enum):
    """What an archive is asked for."""

    AGAIN = auto()
    """What its disk did not give back."""
    MORE = auto()
    """What came to be known after the restore, by an archive that had it not whole."""
    NOBODYS = auto()
    """What no archive is known to have."""
    DOUBTED = auto()
    """What others are said to have, and nobody has given back."""


@dataclass(frozen=True, slots=True)
class _Standing:
    """Down to which row an archive was asked, of what nobody is known to have and of what is doubted, and which it did not give back,
    those that were tried last at the end."""

    below: int
    doubted: int
    unread: tuple[int, ...] = ()
    tried_utc: datetime | None = None
    more: tuple[int, ...] = ()

    def turn(self, now: datetime, *, has_passed: bool) -> _Turn | None:
        """What it is to be asked for next, None for nothing: doubted is only what a homecoming that `has_passed` left."""
        if self.unread and (self.tried_utc is None or abs(now - self.tried_utc) >= UNREAD_AGAIN):
            return _Turn.AGAIN
        if len(self.unread) >= MOST_UNREAD:
            return None
        if self.more:
            return _Turn.MORE
        if self.below > 1:
            return _Turn.NOBODYS
        return _Turn.DOUBTED if has_passed and self.doubted > 1 else None

    def rows(self, reading: Reading, turn: _Turn, place: DestinationSettings) -> list[Unreceipted]:
        """Which instances those are, within a window of the catalog."""
        if turn is _Turn.AGAIN:
            return unreceipted.among(reading, place.id, self.unread)
        if turn is _Turn.MORE:
            return unreceipted.among(reading, place.id, self.more)
        if turn is _Turn.NOBODYS:
            return unreceipted.between(reading, self.first(turn), self.below)
        return unreceipted.in_one(reading, place.id, self.first(turn), self.doubted)

    def first(self, turn: _Turn) -> int:
        """The first row of that window."""
        return max(1, (self.doubted if turn is _Turn.DOUBTED else self.below) - WINDOW)

    def down_to(self, turn: _Turn, row: int) -> _Standing:
        if turn is _Turn.AGAIN:
            return self
        if turn is _Turn.MORE:
            return replace(self, more=tuple(each for each in self.more if each > row))
        return replace(self, doubted=row) if turn is _Turn.DOUBTED else replace(self, below=row)

    def without(self, row: int) -> _Standing:
        return replace(self, unread=tuple(each for each in self.unread if each != row))


def ask(box: Box, now: datetime, *, keep_going: Callable[[], bool], most: int = MOST) -> int:
    """Ask each archive for the next images that are not here and that no archive is known to have, or gave back; how many one has. Cheap once
    all are asked for.

    Raises what the catalog and this disk raise; an archive that can't be reached is asked next time.
    """
    with box.catalog.reading() as reading:
        last = settings.get(reading, homecoming.LAST)
        if not isinstance(last, dict):
            return 0
        end = _end(reading, last)
        told, has_passed = _told(reading, last), homecoming.has_passed(reading)
        places = [
            each
            for each in destinations.destinations(reading)
            if each.takes == "ciphertext" and not each.paused
        ]
    found = 0
    for place in places:
        begun = _standing(told, place, end)
        turn = begun.turn(now, has_passed=has_passed)
        if turn is None or not keep_going():
            continue
        asking = _Asking(box, place, begun, now)
        try:
            asking.ask(turn, keep_going, most)
        except ApplianceError as error:
            log.info("%s can't be asked now for images without a receipt: %s", place.name, error.message)
        found += asking.found
        if asking.standing != begun:
            with box.catalog.transaction() as tx:
                if recall.has_moved(tx, place):
                    continue
                settings.put(tx, ASKED, _noted(_told(tx, last), last, place, asking.standing), now)
    if found:
        log.info("images were found in an archive that nobody knew to be there: count=%d", found)
    return found


def also(
    tx: Transaction, object_ids: Iterable[ObjectId], now: datetime, of: DestinationSettings | None = None
) -> None:
    """Ask for these images too, which came to be known after the restore and were not whole where they were named: every archive, that one
    as well, or the archive `of` alone.

    It writes down anew all that is asked for: to be called for many at once.
    """
    last = settings.get(tx, homecoming.LAST)
    rows = {row for each in object_ids if (row := instances.row_of(tx, each)) is not None}
    if not rows or not isinstance(last, dict):
        return
    told, end = _told(tx, last), _end(tx, last)
    before = told
    for place in destinations.destinations(tx):
        if place.takes == "ciphertext" and (of is None or place.id == of.id):
            standing = _standing(told, place, end)
            if more := rows.difference(standing.more, standing.unread):
                standing = replace(standing, more=tuple(sorted({*standing.more, *more})))
                told = _noted(told, last, place, standing)
    if told is not before:
        settings.put(tx, ASKED, told, now)


def are_kept_back(reading: Reading, place: DestinationSettings) -> bool:
    """Whether the disk of an archive does not give back images that no other archive has given a restored box."""
    last = settings.get(reading, homecoming.LAST)
    told = _told(reading, last) if isinstance(last, dict) else {}
    return bool(unreceipted.nowhere(reading, _standing(told, place, 0).unread))


def _end(reading: Reading, last: dict[str, Any]) -> int:
    """The last row that came by the restore, which earlier software did not write down."""
    return int(last["last"]) if "last" in last else int(instances.last_id(reading))


def _told(reading: Reading, last: dict[str, Any]) -> dict[str, Any]:
    told = settings.get(reading, ASKED)
    return told if isinstance(told, dict) and told["of"] == last["at_utc"] else {}


def _standing(told: dict[str, Any], place: DestinationSettings, end: int) -> _Standing:
    unread = told.get("unread", {}).get(str(place.id), {"rows": ()})
    tried = unread.get("tried_utc")
    return _Standing(
        int(told.get("below", {}).get(str(place.id), end + 1)),
        int(told.get("doubted", {}).get(str(place.id), end + 1)),
        tuple(unread["rows"]),
        datetime.fromisoformat(tried) if tried else None,
        tuple(told.get("more", {}).get(str(place.id), ())),
    )


def _noted(
    told: dict[str, Any], last: dict[str, Any], place: DestinationSettings, standing: _Standing
) -> dict[str, Any]:
    unread = {name: each for name, each in told.get("unread", {}).items() if name != str(place.id)}
    if standing.unread:
        tried = standing.tried_utc and standing.tried_utc.isoformat()
        unread[str(place.id)] = {"rows": standing.unread, "tried_utc": tried}
    below = {**told.get("below", {}), str(place.id): standing.below}
    doubted = {**told.get("doubted", {}), str(place.id): standing.doubted}
    more = {**told.get("more", {}), str(place.id): standing.more}
    return {"of": last["at_utc"], "below": below, "doubted": doubted, "more": more, "unread": unread}


class _Asking:
    """One archive, for one run: `standing` is how far it was asked by then, and `found` how many images it has."""

    def __init__(self, box: Box, place: DestinationSettings, standing: _Standing, now: datetime) -> None:
        self._box, self._place, self._now = box, place, now
        self.standing = standing
        self.found = 0

    def ask(self, turn: _Turn, keep_going: Callable[[], bool], most: int) -> None:
        """Ask for the next `most`, or for those that it did not give back: a day after it did not, or at once if it has since. Raises what the archive and this disk raise."""
        archive = build(self._place, self._box)
        assert isinstance(archive, Archive)
        next(iter(archive.documents(KEYS)), None)  # who does not answer need not be looked up anything for
        first = self.standing.first(turn)
        with self._box.catalog.reading() as reading:
            rows = self.standing.rows(reading, turn, self._place)
        waiting = tuple(each.instance for each in rows)  # the others have come since, or were destroyed
        if turn is _Turn.AGAIN:
            self.standing = replace(self.standing, unread=waiting, tried_utc=None)
        elif turn is _Turn.MORE:
            self.standing = replace(self.standing, more=waiting)
        asked = unread = 0
        for each in rows:
            if asked == most or unread == homecoming.UNREAD_AT_ONCE or not keep_going():
                return
            if not recall.is_here(self._box, each.object_id):
                asked += 1
                unread += not self._ask_for(archive, each)
            else:
                self.standing = self.standing.without(each.instance)
            self.standing = self.standing.down_to(turn, each.instance)
        self.standing = self.standing.down_to(turn, first)

    def _ask_for(self, archive: Archive, image: Unreceipted) -> bool:
        """Whether an archive has answered for an image, whether or not it has it."""
        others = self.standing.without(image.instance)
        try:
            self.found += _has(self._box, self._place, archive, image, self._now)
        except Unreadable as error:
            log.warning(
                "%s does not give back an image that no other archive has given back; look at that disk and its cable: %s",
                self._place.name,
                error.message,
            )
            self.standing = replace(
                others,
                unread=(*others.unread, image.instance),
                tried_utc=self.standing.tried_utc or self._now,
            )
            return False
        self.standing = others
        return True


def _has(box: Box, place: DestinationSettings, archive: Archive, image: Unreceipted, now: datetime) -> bool:
    """Whether an archive has an image whole; then it is here, if there is room for it, and the archive has a receipt."""
    receipt, is_earlier = _latest(box, archive, image), False
    if receipt is None and isinstance(archive, Recounting):
        receipt, is_earlier = _earlier(box, place, archive, image), True
    if receipt is None or not _write_down(box, place, image, receipt, now):
        return False
    if is_earlier and recall.is_here(box, image.object_id):  # as whoever recalls one says it
        recall.say_altered(box, place, image.object_id)
    return True


def _latest(box: Box, archive: Archive, image: Unreceipted) -> dict[str, Any] | None:
    """The receipt of what an archive has now; None where that is not the image. Raises what the archive raises."""
    receipt: dict[str, Any] = {"proof": "read back", "key": object_key(image.object_id)}
    try:
        _bring(box, archive, image)
    except (Unknown, Corrupt):
        return None
    except Resting:
        if not isinstance(archive, Telling):
            return None
        receipt["proof"] = "told"
    if isinstance(archive, Telling):
        told = archive.told(receipt["key"])
        if told.bytes != image.sealed_bytes:
            return None
        receipt |= {name: value for name in ("etag", "version_id") if (value := getattr(told, name))}
    return receipt


def _earlier(
    box: Box, place: DestinationSettings, archive: Recounting, image: Unreceipted
) -> dict[str, Any] | None:
    """The receipt of an earlier version that is the image; None where there is none. Raises `Transient`."""
    receipt: dict[str, Any] = {"proof": "read back", "key": object_key(image.object_id)}
    try:
        for version_id in _versions(archive, receipt["key"], image.sealed_bytes):
            receipt["version_id"] = version_id
            try:
                _bring(box, archive, image, version_id)
            except Resting:
                return {**receipt, "proof": "told"}
            except (Unknown, Corrupt):
                continue
            return receipt
    except (OperatorNeeded, Refused) as error:  # it tells of no versions, or gives none back
        log.info("%s was not asked for earlier versions: %s", place.name, error.message)
    return None


def _versions(archive: Recounting, key: str, sealed_bytes: int) -> Sequence[str]:
    """The earlier versions that an object may be, the first written first."""
    earlier = [
        each.version_id
        for each in archive.versions_below(key)
        if each.key == key and each.bytes == sealed_bytes and not (each.is_latest or each.is_removal)
    ]
    return list(islice(reversed(earlier), VERSIONS))


def _bring(box: Box, archive: Archive, image: Unreceipted, version_id: str = "") -> None:
    """Read an image to its end, into its place here if it may come now; once more where it was not what was written.

    Raises `Corrupt` if it never is, and what archive and this disk raise.
    """
    with suppress(Corrupt):
        _bring_once(box, archive, image, version_id)
        return
    _bring_once(box, archive, image, version_id)


def _bring_once(box: Box, archive: Archive, image: Unreceipted, version_id: str) -> None:
    key = box.study_keys.key(image.key_id)
    with box.catalog.reading() as reading:
        has_room = homecoming.has_room(box, reading, image.sealed_bytes)
        is_away = evictions.is_away(reading, image.object_id)
    if is_away or not has_room:
        recall.verify(archive, image.object_id, key, image.sealed_bytes, version_id=version_id)
    else:
        recall.fetch(box, archive, image.object_id, key, image.sealed_bytes, version_id)


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
