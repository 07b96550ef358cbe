"""Which images are not on this disk because an archive has them proven whole. The only writer of the table.

::

    (no row)   the file is here
       │  proven in the archives, in the transaction that decides
       ▼
    LEAVING    the file is being removed ── cut ──▶ the file is here: no row; it is gone: AWAY
       │  removed, and the folder synced
       ▼
     AWAY ──▶ COMING  it is being recalled ── cut ──▶ likewise
                 └──▶ (no row)  it has come; or no archive has it whole any more: it is lost, and missed by whoever counts

A row says what was in the file, so that an image that is sent once more is recognised while its file is away. Where the
file is, only the disk can tell: the rows are what the box has decided, and `unsettled` those whose act may have been cut.
So whoever ends a row for a file that is here looks at the disk in the transaction that does so. A row that is LEAVING is
ended only by whoever removes (`appliance.lifecycle.eviction`): a recall that ended it might find the file removed after.

`wanted_utc` is when somebody asked for an image that takes hours to come, or will be needed: the job brings those.

`places` are the archives that gave an image back whole when it left. Only they carry it: a receipt alone is a promise. One
that is moved is struck out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from appliance.catalog import destructions, holds
from appliance.catalog.columns import utc_moment, utc_text
from appliance.catalog.database import Reading, Transaction
from appliance.lifecycle.tiers import StudyFacts
from appliance.model import DestinationId, InstanceId, KeyId, ObjectId


class Whereabouts(StrEnum):
    """Where the file of an image with a row is."""

    LEAVING = "leaving"
    AWAY = "away"
    COMING = "coming"


@dataclass(frozen=True, slots=True)
class Proven:
    """An image that was read back whole: SHA-256 of its data set and of its ciphertext, hexadecimal, and the places asked."""

    instance: InstanceId
    object_id: ObjectId
    dataset_sha256: str
    sealed_sha256: str
    places: tuple[DestinationId, ...]


@dataclass(frozen=True, slots=True)
class Local:
    """An image of a study with its file on this disk, as far as the catalog knows."""

    instance: InstanceId
    object_id: ObjectId
    key_id: KeyId
    size_bytes: int
    sealed_bytes: int


@dataclass(frozen=True, slots=True)
class Tally:
    """How much is here and how much is away: images, and bytes of ciphertext."""

    here: int
    here_bytes: int
    away: int
    away_bytes: int


_USED: Final = (
    "SELECT at_utc FROM audit WHERE study = ? AND action IN ('study:view', 'study:export', 'study:recall')"
    " ORDER BY id DESC LIMIT 1"
)

# A study's images that are here, whether all are where they are owed, and what else keeps them: one row a study.
_FACTS: Final = """
SELECT t.id, t.study_instance_uid, t.last_received_utc, t.patient_conflict, t.duplicates,
       (SELECT count(*) FROM studies AS o WHERE o.patient = t.patient
           AND (o.study_date > t.study_date OR (o.study_date = t.study_date AND o.id > t.id))) AS rank
FROM studies AS t WHERE t.id IN (SELECT value FROM json_each(?)) ORDER BY t.id
"""
_IMAGES: Final = (
    "SELECT count(*), coalesce(sum(i.sealed_bytes), 0) FROM series AS s JOIN instances AS i ON i.series = s.id"
    " WHERE s.study = ? AND NOT EXISTS (SELECT 1 FROM evictions AS e WHERE e.instance = i.id)"
)
_OWED: Final = (
    "SELECT 1 FROM series AS s JOIN instances AS i ON i.series = s.id JOIN deliveries AS d ON d.instance = i.id"
    " WHERE s.study = ? AND d.state NOT IN ('CONFIRMED', 'CANCELLED') LIMIT 1"
)
# The archives that have a receipt for every image of a study that is here, and its manifest as it is now.
_COPIES: Final = (
    "SELECT d.destination, p.kind FROM series AS s JOIN instances AS i ON i.series = s.id"
    " JOIN deliveries AS d ON d.instance = i.id AND d.state = 'CONFIRMED'"
    " JOIN destinations AS p ON p.id = d.destination AND p.takes = 'ciphertext' AND NOT p.removed"
    " JOIN manifests AS m ON m.destination = p.id AND m.study = s.study"
    "  AND m.written_utc IS NOT NULL AND m.dirty_utc IS NULL"
    " WHERE s.study = ? AND NOT EXISTS (SELECT 1 FROM evictions AS e WHERE e.instance = i.id)"
    " GROUP BY d.destination HAVING count(DISTINCT i.id) = ?"
)


def oldest(
    reading: Reading, before_utc: datetime, after: tuple[str, int], limit: int
) -> list[tuple[str, int]]:
    """The next studies with images here whose latest image came before a moment, the longest ago first.

    `after` is the last pair of the slice before; ``("", 0)`` begins.
    """
    rows = reading.exec_driver_sql(
        "SELECT t.last_received_utc, t.id FROM studies AS t"
        " WHERE t.last_received_utc < ? AND (t.last_received_utc, t.id) > (?, ?)"
        " AND t.instances > (SELECT count(*) FROM evictions AS e WHERE e.study = t.id)"
        " ORDER BY t.last_received_utc, t.id LIMIT ?",
        (utc_text(before_utc), after[0], after[1], limit),
    )
    return [(str(row[0]), int(row[1])) for row in rows]


def facts_of(reading: Reading, study_ids: Sequence[int]) -> list[StudyFacts]:
    """What keeps these studies here or lets them go, as it is now; those that are gone are left out."""
    chosen = json.dumps(list(study_ids))
    rows = reading.exec_driver_sql(_FACTS, (chosen,)).all()
    held = holds.held_among(reading, study_ids)
    asked = destructions.studies_asked_for(reading)
    return [
        _facts(reading, row, is_held=int(row[0]) in held, is_asked_for=int(row[0]) in asked) for row in rows
    ]


def _facts(reading: Reading, row: Sequence[object], *, is_held: bool, is_asked_for: bool) -> StudyFacts:
    study, uid, received, conflict, duplicates, rank = row
    here, here_bytes = reading.exec_driver_sql(_IMAGES, (study,)).one()
    copies = reading.exec_driver_sql(_COPIES, (study, here)).all()
    return StudyFacts(
        id=int(str(study)),
        here=int(here),
        here_bytes=int(here_bytes),
        last_received_utc=utc_moment(str(received)),
        last_used_utc=last_used(reading, str(uid)),
        rank=int(str(rank)),
        is_held=is_held,
        is_asked_for=is_asked_for,
        is_owed=reading.exec_driver_sql(_OWED, (study,)).first() is not None,
        is_doubted=bool(conflict or duplicates),
        copies=len(copies),
        kinds=frozenset(str(kind) for _, kind in copies),
    )


def last_used(reading: Reading, study_instance_uid: str) -> datetime | None:
    """When a study was last opened, exported or brought back, by the audit, which outlives a restore; None for never."""
    used = reading.exec_driver_sql(_USED, (study_instance_uid,)).scalar()
    return None if used is None else utc_moment(str(used))


def local_images(reading: Reading, study: int) -> list[Local]:
    """The images of a study (row id) whose files are here, as far as the catalog knows."""
    rows = reading.exec_driver_sql(
        "SELECT i.id, i.object_id, i.key_id, i.size_bytes, i.sealed_bytes"
        " FROM series AS s JOIN instances AS i ON i.series = s.id"
        " WHERE s.study = ? AND NOT EXISTS (SELECT 1 FROM evictions AS e WHERE e.instance = i.id) ORDER BY i.id",
        (study,),
    )
    return [Local(InstanceId(row[0]), ObjectId(row[1]), KeyId(row[2]), row[3], row[4]) for row in rows]


def places_of(reading: Reading, study: int, images: int) -> list[DestinationId]:
    """The archives that have a receipt for all `images` of a study that are here, and its manifest as it is now."""
    return [
        DestinationId(row[0])
        for row in reading.exec_driver_sql(_COPIES, (study, images))
        if row[0] is not None
    ]


def leave(tx: Transaction, study: int, proven: Iterable[Proven], now: datetime) -> None:
    """Write down that the files of these images are about to be removed."""
    _put(tx, study, proven, Whereabouts.LEAVING, now)


def gone(tx: Transaction, study: int, proven: Iterable[Proven], now: datetime) -> None:
    """Write down that their files are removed, durably. An image that was destroyed meanwhile gets no row."""
    _put(tx, study, proven, Whereabouts.AWAY, now)


def _put(tx: Transaction, study: int, proven: Iterable[Proven], where: Whereabouts, now: datetime) -> None:
    for each in proven:
        tx.exec_driver_sql(
            "INSERT INTO evictions (instance, study, whereabouts, dataset_sha256, sealed_sha256, places, changed_utc)"
            " SELECT i.id, ?, ?, ?, ?, ?, ? FROM instances AS i WHERE i.id = ? AND i.object_id = ?"
            " ON CONFLICT (instance) DO UPDATE SET whereabouts = excluded.whereabouts,"
            " changed_utc = excluded.changed_utc",
            (
                study,
                where.value,
                each.dataset_sha256,
                each.sealed_sha256,
                json.dumps(list(each.places)),
                utc_text(now),
                each.instance,
                each.object_id,
            ),
        )


def proven_in(reading: Reading, object_id: ObjectId) -> frozenset[DestinationId]:
    """The places that have shown an image whole that is away, as far as they were not moved since; none if it isn't away."""
    rows = reading.exec_driver_sql(
        "SELECT w.value FROM evictions AS e JOIN instances AS i ON i.id = e.instance, json_each(e.places) AS w"
        " WHERE i.object_id = ?",
        (object_id,),
    )
    return frozenset(DestinationId(row[0]) for row in rows)


def is_away(reading: Reading, object_id: ObjectId) -> bool:
    """Whether the file of an object was removed, or is about to be, because an archive has it."""
    return reading.exec_driver_sql(_ROW, (object_id,)).first() is not None


_ROW: Final = "SELECT e.dataset_sha256 FROM evictions AS e JOIN instances AS i ON i.id = e.instance WHERE i.object_id = ?"


def dataset_digest(reading: Reading, object_id: ObjectId) -> str:
    """The SHA-256 of the data set of an image that is away, hexadecimal; empty if it isn't."""
    row = reading.exec_driver_sql(_ROW, (object_id,)).first()
    return "" if row is None else str(row[0])


def coming(tx: Transaction, object_id: ObjectId, now: datetime) -> None:
    """Write down that an object that is away is being recalled."""
    tx.exec_driver_sql(
        "UPDATE evictions SET whereabouts = 'coming', changed_utc = ? WHERE whereabouts = 'away'"
        " AND instance = (SELECT id FROM instances WHERE object_id = ?)",
        (utc_text(now), object_id),
    )


def want(tx: Transaction, object_id: ObjectId, now: datetime) -> None:
    """Write down that the images of that object's study are wanted here: those that are away, and not wanted already."""
    tx.exec_driver_sql(
        "UPDATE evictions SET wanted_utc = ? WHERE wanted_utc IS NULL AND study ="
        " (SELECT e.study FROM evictions AS e JOIN instances AS i ON i.id = e.instance WHERE i.object_id = ?)",
        (utc_text(now), object_id),
    )


def want_study(tx: Transaction, study: int, now: datetime) -> None:
    """As `want`, for a study (row id)."""
    tx.exec_driver_sql(
        "UPDATE evictions SET wanted_utc = ? WHERE wanted_utc IS NULL AND study = ?", (utc_text(now), study)
    )


def wanted(reading: Reading, after: tuple[int, int], limit: int) -> list[Away]:
    """At most `limit` images that are wanted here, by study and instance; `after` as with `away_images`."""
    rows = reading.exec_driver_sql(
        "SELECT e.study, i.id, i.object_id, i.key_id, i.sealed_bytes"
        " FROM evictions AS e JOIN instances AS i ON i.id = e.instance"
        " WHERE e.wanted_utc IS NOT NULL AND (e.study, e.instance) > (?, ?) ORDER BY e.study, e.instance LIMIT ?",
        (*after, limit),
    )
    return [
        Away(int(row[0]), InstanceId(row[1]), ObjectId(row[2]), KeyId(row[3]), int(row[4])) for row in rows
    ]


def recalled(tx: Transaction, object_id: ObjectId) -> None:
    """End the row of an object that was recalled, or that no archive has any more, unless it is leaving at this moment."""
    tx.exec_driver_sql(
        "DELETE FROM evictions WHERE whereabouts <> 'leaving'"
        " AND instance = (SELECT id FROM instances WHERE object_id = ?)",
        (object_id,),
    )


def here(tx: Transaction, object_ids: Sequence[ObjectId]) -> None:
    """Write down that the files of these are here. Asked of the disk in this transaction, by whoever alone removes files."""
    tx.exec_driver_sql(
        "DELETE FROM evictions WHERE instance IN"
        " (SELECT id FROM instances WHERE object_id IN (SELECT value FROM json_each(?)))",
        (json.dumps(list(object_ids)),),
    )


def away(tx: Transaction, object_ids: Sequence[ObjectId], now: datetime) -> None:
    """Write down that the files of these, which have a row, are not here."""
    tx.exec_driver_sql(
        "UPDATE evictions SET whereabouts = 'away', changed_utc = ? WHERE instance IN"
        " (SELECT id FROM instances WHERE object_id IN (SELECT value FROM json_each(?)))",
        (utc_text(now), json.dumps(list(object_ids))),
    )


def unsettled(reading: Reading) -> list[ObjectId]:
    """The objects whose removal or return was begun and not written down as done."""
    rows = reading.exec_driver_sql(
        "SELECT i.object_id FROM evictions AS e JOIN instances AS i ON i.id = e.instance"
        " WHERE e.whereabouts <> 'away' ORDER BY i.id"
    )
    return [ObjectId(row[0]) for row in rows]


def depending_on(reading: Reading, destination: DestinationId) -> int:
    """How many images that are not here were proven in no other archive of this box."""
    return int(
        reading.exec_driver_sql(
            "SELECT count(*) FROM evictions AS e WHERE NOT EXISTS (SELECT 1 FROM json_each(e.places) AS w"
            " JOIN destinations AS p ON p.id = w.value AND p.takes = 'ciphertext' AND NOT p.removed"
            " WHERE p.id <> ?)"
            " AND (EXISTS (SELECT 1 FROM json_each(e.places) AS w WHERE w.value = ?)"
            " OR EXISTS (SELECT 1 FROM deliveries AS d WHERE d.instance = e.instance AND d.destination = ?))",
            (destination, destination, destination),
        ).scalar()
        or 0
    )


def strike_out(tx: Transaction, destination: DestinationId) -> None:
    """Write down that what was proven there is proven there no more: it is another place now."""
    tx.exec_driver_sql(
        "UPDATE evictions SET places = (SELECT json_group_array(w.value) FROM json_each(evictions.places) AS w"
        " WHERE w.value <> ?) WHERE EXISTS (SELECT 1 FROM json_each(evictions.places) AS w WHERE w.value = ?)",
        (destination, destination),
    )


@dataclass(frozen=True, slots=True)
class Away:
    """An image that is not here: of which study (row id), and its ciphertext."""

    study: int
    instance: InstanceId
    object_id: ObjectId
    key_id: KeyId
    sealed_bytes: int


def away_images(reading: Reading, study: int | None, after: tuple[int, int], limit: int) -> list[Away]:
    """At most `limit` images that are not here, of one study (row id) or of all, by study and instance.

    `after` is study and instance of the last one of the slice before; ``(0, 0)`` begins.
    """
    rows = reading.exec_driver_sql(
        "SELECT e.study, i.id, i.object_id, i.key_id, i.sealed_bytes"
        " FROM evictions AS e JOIN instances AS i ON i.id = e.instance"
        " WHERE (? IS NULL OR e.study = ?) AND (e.study, e.instance) > (?, ?) ORDER BY e.study, e.instance LIMIT ?",
        (study, study, *after, limit),
    )
    return [
        Away(int(row[0]), InstanceId(row[1]), ObjectId(row[2]), KeyId(row[3]), int(row[4])) for row in rows
    ]


def away_of_study(reading: Reading, study: int) -> int:
    """How many images of a study (row id) are not here."""
    found = reading.exec_driver_sql("SELECT count(*) FROM evictions WHERE study = ?", (study,)).scalar()
    return int(found or 0)


def tally(reading: Reading) -> Tally:
    """How much is here and how much is away."""
    images, total = reading.exec_driver_sql(
        "SELECT count(*), coalesce(sum(sealed_bytes), 0) FROM instances"
    ).one()
    gone_images, gone_bytes = reading.exec_driver_sql(
        "SELECT count(*), coalesce(sum(i.sealed_bytes), 0) FROM evictions AS e JOIN instances AS i ON i.id = e.instance"
    ).one()
    return Tally(int(images - gone_images), int(total - gone_bytes), int(gone_images), int(gone_bytes))
