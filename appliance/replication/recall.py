"""Bringing a sealed object back from an archive: what a restored box does for every image, on demand or by and by.

The ciphertext is fetched from whichever archive has a receipt for it, opened from end to end, and only then gets its name: what
is not what was written never becomes an object of this box. Two who recall the same object at once both may; the second
name is the first one's again, over the same bytes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

from appliance import audit
from appliance import settings as chosen
from appliance.box import Box
from appliance.catalog import (
    Reading,
    Transaction,
    alterations,
    deliveries,
    destinations,
    evictions,
    instances,
    manifests,
    moving,
    receipts,
    tier_tags,
)
from appliance.catalog import settings as kept
from appliance.errors import (
    ApplianceError,
    Corrupt,
    NotAskedFor,
    OperatorNeeded,
    Refused,
    Resting,
    Transient,
    Unknown,
    Unreadable,
)
from appliance.lifecycle.storage_class import Retrieval, hours_by
from appliance.model import DestinationSettings, KeyId, ObjectId
from appliance.replication.destinations import Archive, build
from appliance.replication.destinations.archive import (
    UNNAMED,
    Keeping,
    Telling,
    Waking,
    may_be,
    object_key,
)
from appliance.replication.place import is_same_place
from appliance.replication.silence import Silence
from appliance.store import envelope
from appliance.store.objects import SealedReader

log = logging.getLogger(__name__)

ACTOR: Final = "jobs"
NOT_WHOLE: Final = "no archive has the image whole"
WRITTEN_OVER: Final = "it was written over or removed there, and its earlier version was taken"
LIES_DEEP: Final = "it was written over or removed there, and its earlier version lies in deep archive"
ALTERED: Final = "recall.altered"
"""A key of `appliance.catalog.settings`: the objects that came as an earlier version of what some archive has now, or that are to."""

MOST_ALTERED: Final = 1000
DESTROYED: Final = "the study of the image has been destroyed"
_NOWHERE: Final = "the image is neither on this box nor in any archive that it knows of"


def open_object(box: Box, object_id: ObjectId, key_id: KeyId, sealed_bytes: int) -> SealedReader:
    """`Box.open_object`, recalling the object first if it is not here. Raises as that and as `recall`; `Unknown` for one whose study
    was destroyed since somebody listed it."""
    try:
        try:
            return box.open_object(object_id, key_id)
        except Unknown:
            recall(box, object_id, key_id, sealed_bytes)
            return box.open_object(object_id, key_id)
    except (Unknown, Corrupt) as error:
        with box.catalog.reading() as reading:
            if instances.row_of(reading, object_id) is not None:
                raise
        raise Unknown(DESTROYED, hint="look at the destructions for its certificate") from error


def is_here(box: Box, object_id: ObjectId) -> bool:
    """Whether the ciphertext is on this box."""
    return box.objects.path(object_id).exists()


def holders(reading: Reading, object_id: ObjectId) -> list[DestinationSettings]:
    """The archives that have a receipt for an object, the latest first."""
    known = {each.id: each for each in destinations.destinations(reading)}
    found = (known[each] for each in deliveries.holders(reading, object_id) if each in known)
    return [each for each in found if each.takes == "ciphertext"]


def recall(
    box: Box, object_id: ObjectId, key_id: KeyId, sealed_bytes: int, silence: Silence | None = None
) -> None:
    """Fetch an object that is not here; when this returns it is, and was opened from end to end. `silence` is that of a run in which many are.

    Raises `Unknown` if no archive has a receipt for it, `Corrupt` if none has it whole, `Unreadable` if a disk does not give it back and
    no other archive may have it, `Transient` or `OperatorNeeded` if an archive that has it can't be reached, `OutOfResources` when there
    is no room for it, `Resting` if it lies in deep archive: it is asked for then, and what had left this disk comes by itself
    (`lifecycle.returning.bring_wanted`); `NotAskedFor` of these if no archive let it be asked for. One that had left this disk and that
    every archive says it has not whole counts as away no longer: it is missed here, and kept if it is sent again.
    """
    with box.catalog.reading() as reading:
        places = holders(reading, object_id)
        was_evicted = evictions.is_away(reading, object_id)
    box.guard.admit(sealed_bytes)
    if was_evicted:
        with box.catalog.transaction() as tx:
            evictions.coming(tx, object_id, datetime.now(UTC))
    silence = Silence() if silence is None else silence
    trouble: ApplianceError | None = None
    deep: list[tuple[DestinationSettings, Resting]] = []
    is_lost = True
    for place in places:
        if (why_silent := silence.of(place)) is not None:
            trouble, is_lost = why_silent, False
            continue
        try:
            is_earlier = _fetch(box, place, object_id, key_id, sealed_bytes)
        except Resting as error:
            deep.append((place, error))
            is_lost = False
        except Unreadable as error:
            # A disk that is there and does not give it back says less than one that is away.
            log.warning("%s does not give back an object that it has a receipt for: %s", place.name, error)
            trouble, is_lost = trouble or silence.heard(place, error), False
        except (Transient, OperatorNeeded) as error:
            trouble, is_lost = silence.heard(place, error), False
        except (Unknown, Corrupt, Refused) as error:
            log.warning("%s does not have an object whole that it has a receipt for: %s", place.name, error)
            trouble = trouble or Corrupt(NOT_WHOLE, hint="call support")
            if not isinstance(error, (Unknown, Corrupt)):  # another refusal says nothing of the object
                is_lost = False
        else:
            _write_down_return(box, object_id)
            if is_earlier:
                say_altered(box, place, object_id)
            return
    for place, why in deep:
        if isinstance(why, _EarlierResting):
            say_altered(box, place, object_id, lies_deep=True)
    if deep:
        raise _asked_for(box, object_id, deep)
    if was_evicted and is_lost:
        _write_off(box, object_id)
    raise trouble or Unknown(_NOWHERE, hint="look for a backup that is not connected")


class _EarlierResting(Resting):
    """What somebody has written over or removed lies deep, as its version `version_id`."""

    def __init__(self, of: Resting, version_id: str) -> None:
        super().__init__(of.message, wait_hours=of.wait_hours, hint=of.hint)
        self.version_id = version_id


def retrieval(reading: Reading) -> Retrieval:
    """How what lies in deep archive is fetched, as the clinic chose. What was asked for before comes as it was asked for."""
    return Retrieval(chosen.get(reading, "tiers.retrieval"))


def _asked_for(box: Box, object_id: ObjectId, deep: Sequence[tuple[DestinationSettings, Resting]]) -> Resting:
    """Ask for an object that no archive has at hand, wherever it may be asked for; the error that says how long it takes.

    That it is wanted is written down first: one that can't be asked for today is asked for in another run. It is passed over like
    the others that lie deep, and holds up none of them.
    """
    now = datetime.now(UTC)
    with box.catalog.transaction() as tx:
        evictions.want(tx, object_id, now)
        how = retrieval(tx)
    trouble: ApplianceError | None = None
    for place, why in deep:
        try:
            archive = build(place, box)
            assert isinstance(archive, Waking)
            version_id = why.version_id if isinstance(why, _EarlierResting) else ""
            archive.wake(object_key(object_id), how, version_id)
        except ApplianceError as error:
            log.warning("%s does not let an object be asked for that lies deep: %s", place.name, error)
            trouble = trouble or error
        else:
            hours = hours_by(how, why.wait_hours)
            return Resting(
                f"the image lies in deep archive and has been asked for: it is here within {hours} hours",
                wait_hours=hours,
                hint="it comes by itself; look again then",
            )
    assert trouble is not None
    return NotAskedFor(
        f"the image lies in deep archive, and could not be asked for ({trouble.message})",
        wait_hours=hours_by(how, deep[0][1].wait_hours),
        hint=trouble.hint,
    )


def _write_down_return(box: Box, object_id: ObjectId) -> None:
    """End the row of one that left this disk, before or while it was fetched, if its file is here indeed."""
    with box.catalog.reading() as reading:
        if not evictions.is_away(reading, object_id):
            return
    with box.catalog.transaction() as tx:
        if is_here(box, object_id):
            evictions.recalled(tx, object_id)


def say_altered(
    box: Box, place: DestinationSettings, object_id: ObjectId, *, lies_deep: bool = False
) -> None:
    """Somebody has written over an object in an archive, or marked it as removed: the audit says so, and the ransomware guard counts it.

    That it is here again would hide it otherwise. It is asked for there, and written over what lies there, with what is not here
    (`lifecycle.buckets`): so it is noted, up to `MOST_ALTERED` of them, beyond which the guard has long taken hold. One whose earlier
    version lies deep is not here for hours, or not at all if nobody may ask for it: that is said at once, and not at each attempt.
    And a person is told, until the key of that archive was changed (`catalog.alterations`).
    """
    if lies_deep:
        with box.catalog.reading() as reading:
            noted = kept.get(reading, ALTERED, [])
        if object_id in noted or len(noted) >= MOST_ALTERED:
            return
    done_utc = None
    with suppress(ApplianceError):
        done_utc = altered_utc(build(place, box), object_id)
    now = datetime.now(UTC)
    with box.catalog.transaction() as tx:
        if receipt := receipts.of_object(tx, object_id).get(place.id):
            alterations.note(tx, place.id, object_id, receipt, now, done_utc)
        noted = kept.get(tx, ALTERED, [])
        if object_id not in noted and len(noted) < MOST_ALTERED:
            kept.put(tx, ALTERED, [*noted, object_id], now)
        elif lies_deep:
            return
        entry = audit.Entry(
            "instance:corrupt" if lies_deep else "instance:mend",
            f"instance:{object_id}",
            ACTOR,
            {"reason": LIES_DEEP if lies_deep else WRITTEN_OVER, "on": place.name},
            study=instances.study_of(tx, object_id),
        )
        audit.append(tx, box.audit_key, [entry], now)


def altered_utc(archive: object, object_id: ObjectId) -> datetime | None:
    """When what lies over an object in an archive was written there, or was marked as removed; None where that can't be told."""
    with suppress(ApplianceError):
        return archive.since(object_key(object_id)) if isinstance(archive, Telling) else None
    return None


def _write_off(box: Box, object_id: ObjectId) -> None:
    """No archive has an object that is away: from now on it is missing here, which the census sees and health tells."""
    now = datetime.now(UTC)
    with box.catalog.transaction() as tx:
        if is_here(box, object_id) or not evictions.is_away(tx, object_id):
            return  # it has come by another way, or its study was destroyed
        log.error("an image that left this disk is whole in no archive any more")
        evictions.recalled(tx, object_id)
        entry = audit.Entry(
            "instance:corrupt",
            f"instance:{object_id}",
            ACTOR,
            {"reason": NOT_WHOLE},
            study=instances.study_of(tx, object_id),
        )
        audit.append(tx, box.audit_key, [entry], now)


def refuse_to_lose(reading: Reading, place: DestinationSettings) -> None:
    """Keep an archive from being taken off the box, or moved, while images are in it that are neither here nor elsewhere.

    To be asked in the transaction that would do so. Raises `Refused`.
    """
    if place.takes != "ciphertext":
        return
    if evictions.depending_on(reading, place.id):
        raise Refused(
            "images have left this box for this archive, and no other has them",
            hint="choose that images stay on the box, and bring them back first",
        )


def has_moved(reading: Reading, known: DestinationSettings) -> bool:
    """Whether an archive is another place by now than it was as `known`: what was done there is not done here."""
    now = destinations.destination(reading, known.name)
    return (
        known.takes == "ciphertext"
        and now is not None
        and now.id == known.id
        and not is_same_place(known.options, now.options)
    )


def let_move(tx: Transaction, before: DestinationSettings, options: Mapping[str, Any]) -> None:
    """`refuse_to_lose`, if `options` would make another place of the archive that `before` is; it begins anew there then.

    No receipt, manifest, proof, backup or drill of the first place says anything of the other: everything is owed again. What the first
    has done or owes for what is destroyed stays with it (`destinations.leave`).
    To be asked in the transaction that changes it. Raises `Refused`.
    """
    if before.takes != "ciphertext" or is_same_place(before.options, options):
        return
    refuse_to_lose(tx, before)
    evictions.strike_out(tx, before.id)
    alterations.forget(tx, before.id)
    tier_tags.forget(tx, before.id)
    now = datetime.now(UTC)
    if destinations.may_hold(tx, before):
        destinations.leave(tx, before, now)
    destinations.begin_anew(tx, before)
    moving.owe_anew(tx, before.id, now)
    manifests.forget_place(tx, before.id)
    restored = kept.get(tx, kept.RESTORED)
    if isinstance(restored, dict) and before.id in restored.get("counted_past", ()):
        others = [each for each in restored["counted_past"] if each != before.id]
        kept.put(tx, kept.RESTORED, {**restored, "counted_past": others}, now)
    asked = kept.get(tx, kept.ASKED)
    if isinstance(asked, dict):
        there = str(before.id)
        parts = {
            part: {each: told for each, told in asked.get(part, {}).items() if each != there}
            for part in ("below", "doubted", "more", "unread")
        }
        kept.put(tx, kept.ASKED, {**asked, **parts}, now)


def verify(
    archive: Archive,
    object_id: ObjectId,
    key: bytes,
    sealed_bytes: int,
    saw: Callable[[bytes], None] = lambda _: None,
    *,
    opened: Callable[[bytes], None] = lambda _: None,
    version_id: str = "",
) -> None:
    """Open an object in an archive from its first byte to its last, and keep nothing; `saw` is given every byte of it, and `opened`
    every byte that was sealed in it. With `version_id` that version of it.

    Raises `Corrupt` if it is not what was written, `Unknown` if it is not there, and what the archive raises.
    """
    opener: envelope.Opener | None = None
    count, done = envelope.segment_count(sealed_bytes), 0
    for segment in _segments(_blocks(archive, object_id, version_id), saw):
        if opener is None:
            opener = envelope.Opener(key, object_id.encode("ascii"), segment[: envelope.HEADER_BYTES])
            segment = segment[envelope.HEADER_BYTES :]
        opened(opener.open_segment(done, segment, last=done == count - 1))
        done += 1
    if done != count:
        raise Corrupt("an object in an archive is shorter than it was")


def _blocks(archive: Archive, object_id: ObjectId, version_id: str) -> Iterator[bytes]:
    name = object_key(object_id)
    if not version_id:
        return archive.blocks(name)
    assert isinstance(archive, Keeping)
    return archive.blocks_of(name, version_id)


def _segments(blocks: Iterator[bytes], saw: Callable[[bytes], None]) -> Iterator[bytes]:
    """The segments of an object as it lies in an archive, the header with the first."""
    rest = b""
    for block in blocks:
        saw(block)
        rest += block
        while len(rest) > envelope.SEGMENT_BYTES:
            yield rest[: envelope.SEGMENT_BYTES]
            rest = rest[envelope.SEGMENT_BYTES :]
    if rest:
        yield rest


def _fetch(
    box: Box, place: DestinationSettings, object_id: ObjectId, key_id: KeyId, sealed_bytes: int
) -> bool:
    """`fetch` from a place; whether it is an earlier version of what is there now.

    What somebody has written over or removed in a bucket that keeps versions is there still, as that of its receipt; where that names
    none, it was written before the bucket kept any, and is there as `UNNAMED`. And what is not what was written may have been spoilt on
    the way, and is asked for once more. Raises `_EarlierResting` where the earlier version lies deep; while that comes up, what lies
    over it is asked about at each attempt and not fetched. Nor is what lies deep itself and is told to be something else.
    """
    archive = build(place, box)
    keeps_versions = isinstance(archive, Keeping)
    assert isinstance(archive, Archive)
    key = box.study_keys.key(key_id)
    receipt, is_noted = _known(box, place, object_id)
    version = (str(receipt.get("version_id", "")) or UNNAMED) if keeps_versions else ""
    is_altered = bool(version) and is_noted and _cannot_be(archive, object_id, receipt, sealed_bytes)
    if is_altered and _fetch_earlier(box, archive, object_id, key, sealed_bytes, version):
        return _is_over(archive, object_id, version)
    try:
        fetch(box, archive, object_id, key, sealed_bytes)
    except (Corrupt, Unknown) as error:
        log.warning("%s gave no object that is what was written: %s", place.name, error)
        found: ApplianceError = error
    except Resting as error:
        if not version or is_altered or not _cannot_be(archive, object_id, receipt, sealed_bytes):
            raise
        found = error
    else:
        return False
    trouble = found
    try:
        if version and not is_altered and _fetch_earlier(box, archive, object_id, key, sealed_bytes, version):
            return _is_over(archive, object_id, version)
    except _EarlierResting as error:
        trouble = error
    if isinstance(found, Corrupt):
        with suppress(Corrupt):
            fetch(box, archive, object_id, key, sealed_bytes)
            return False
    raise trouble


def _known(box: Box, place: DestinationSettings, object_id: ObjectId) -> tuple[Mapping[str, Any], bool]:
    """An archive's receipt for an object, and whether somebody is known to have altered it, in that one or another."""
    with box.catalog.reading() as reading:
        is_noted = object_id in kept.get(reading, ALTERED, ())
        return receipts.of_object(reading, object_id).get(place.id, {}), is_noted


def _cannot_be(archive: Archive, object_id: ObjectId, receipt: Mapping[str, Any], sealed_bytes: int) -> bool:
    """Whether what lies in an archive under an object's name is told to be something else, or to be removed."""
    try:
        return isinstance(archive, Telling) and not may_be(
            archive.told(object_key(object_id)), receipt, sealed_bytes
        )
    except Unknown:
        return True


def _fetch_earlier(
    box: Box, archive: Archive, object_id: ObjectId, key: bytes, sealed_bytes: int, version: str
) -> bool:
    """`fetch` a version; whether it could be had. Raises `_EarlierResting` where it lies deep, and what the archive raises besides."""
    try:
        if version == UNNAMED and not (isinstance(archive, Keeping) and archive.keeps_versions()):
            return False
        fetch(box, archive, object_id, key, sealed_bytes, version)
    except Resting as error:
        raise _EarlierResting(error, version) from error
    except (Corrupt, OperatorNeeded, Refused, Unknown):  # nothing more is known of it
        return False
    return True


def _is_over(archive: Archive, object_id: ObjectId, version: str) -> bool:
    """Whether another version than that lies over it, or it is marked as removed."""
    try:
        if not isinstance(archive, Telling):
            return False
        return (archive.told(object_key(object_id)).version_id or UNNAMED) != version
    except Unknown:
        return True
    except ApplianceError:
        return False  # it can't be asked now: what was fetched is whole


def fetch(
    box: Box, archive: Archive, object_id: ObjectId, key: bytes, sealed_bytes: int, version_id: str = ""
) -> None:
    """Bring an object from `archive`, durable under its name and opened from end to end when this returns; with `version_id` that one.

    Raises `Corrupt` if it is not what was written, `Unknown` if it is not there, and what archive and store raise; `Unreadable` is
    the archive's alone.
    """
    writer = box.objects.recall(object_id)
    try:
        written = 0
        for block in _blocks(archive, object_id, version_id):
            written += len(block)
            if written > sealed_bytes:
                break
            writer.write([block])
        if written != sealed_bytes:
            raise Corrupt("a sealed object came back from an archive with another length")
        try:
            with writer.open_part(key) as reader:
                reader.verify()
        except Unreadable as error:  # of this disk, which says nothing of the archive's copy
            raise Transient(error.message, hint=error.hint) from error
        writer.keep()
    except BaseException:
        writer.abandon()
        raise
    writer.close()
