"""Instances, and the series, studies and patients that they bring along.

`record_many` is the hot one: a batch of received instances becomes rows with a handful of statements, of which only
the insert of the instances grows with the batch. It runs inside the caller's transaction, together with what the
instances are owed and the audit of it.

The patient of a study is whoever its first instance names, or whom that says its study to be of (`Received.of_study`),
and is never overwritten. An instance that names somebody else is kept, in its study, with both flagged
(`patient_conflict`): the classic cause is a wrong patient chosen at the machine, and only a person can tell. Two identities contradict each other when patient ID, issuer, folded name or birth
date are given by both and differ; what one of them leaves out is no contradiction, since secondary captures and
structured reports often omit it. Text of a study that its first instance left out is filled from later ones.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, bindparam, func, insert, select

from appliance.catalog import study_keys
from appliance.catalog.arrival import Arrivals, next_ids
from appliance.catalog.columns import utc_text
from appliance.catalog.database import Catalog, Reading, Transaction
from appliance.catalog.schema import instances, metadata, series, studies
from appliance.catalog.statement import compiled
from appliance.model import Header, InstanceId, Intake, KeyId, ObjectId, Received, Uid


@dataclass(frozen=True, slots=True)
class Recorded:
    """What became of a received instance. `study_id` is the row id that events and addresses carry."""

    instance_id: InstanceId
    study_id: int
    version: int
    patient_conflict: bool


@dataclass(frozen=True, slots=True)
class InstanceRow:
    """An instance as recorded. Of several rows of one identity, `version` 0 came first."""

    id: InstanceId
    study_id: int
    study_instance_uid: Uid
    series_instance_uid: Uid
    sop_instance_uid: Uid
    sop_class_uid: Uid
    transfer_syntax_uid: Uid
    modality: str
    series_number: str
    series_description: str
    laterality: str
    instance_number: str
    rows: int
    columns: int
    number_of_frames: int
    image_laterality: str
    burned_in_annotation: str
    object_id: ObjectId
    key_id: KeyId
    size_bytes: int
    sealed_bytes: int
    intake: Intake
    origin_name: str
    origin_address: str
    received_utc: datetime
    version: int
    patient_conflict: bool


_INSTANCE_COLUMNS = (
    "id",
    "series",
    "sop_instance_uid",
    "sop_class_uid",
    "transfer_syntax_uid",
    "instance_number",
    "rows",
    "columns",
    "number_of_frames",
    "image_laterality",
    "burned_in_annotation",
    "object_id",
    "key_id",
    "size_bytes",
    "sealed_bytes",
    "intake",
    "origin_name",
    "origin_address",
    "received_utc",
    "version",
    "patient_conflict",
    "other_patient",
)
_INSERT = compiled(insert(instances), *_INSTANCE_COLUMNS)
_KNOWS = "SELECT 1 FROM instances WHERE sop_instance_uid = ? LIMIT 1"
_KNOWN_AMONG = (
    "SELECT value FROM json_each(?) WHERE EXISTS (SELECT 1 FROM instances WHERE sop_instance_uid = value)"
)


def record(tx: Transaction, received: Received, *, version: int) -> Recorded:
    """Record one instance; see `record_many`."""
    return record_many(tx, [(received, version)])[0]


def record_many(tx: Transaction, batch: Sequence[tuple[Received, int]]) -> list[Recorded]:
    """Record `batch`, pairs of an instance and its version (`versions` tells the next one), in order.

    Their study keys are recorded too. Raises `Conflict` if an identity and version, or an object, is recorded already;
    the transaction must then be rolled back.
    """
    if not batch:
        return []
    ids = next_ids(tx)
    arrivals = Arrivals(tx, (received.header.study_instance_uid for received, _ in batch), ids)
    study_keys.add_many(tx, [received for received, _ in batch])
    rows: list[tuple[Any, ...]] = []
    recorded: list[Recorded] = []
    for number, (received, version) in enumerate(batch, start=ids["instances"]):
        header, stored, origin = received.header, received.stored, received.origin
        at = utc_text(received.received_utc)
        place = arrivals.place(received, version, at)
        other_patient = place.other_patient
        rows.append(
            (
                number,
                place.series_id,
                header.sop_instance_uid,
                header.sop_class_uid,
                header.transfer_syntax_uid,
                header.instance_number,
                header.rows,
                header.columns,
                header.number_of_frames,
                header.image_laterality,
                header.burned_in_annotation,
                stored.object_id,
                stored.key_id,
                stored.size_bytes,
                stored.sealed_bytes,
                origin.intake.value,
                origin.name,
                origin.address,
                at,
                version,
                other_patient is not None,
                other_patient,
            )
        )
        recorded.append(Recorded(InstanceId(number), place.study_id, version, other_patient is not None))
    arrivals.write()
    tx.exec_driver_sql(_INSERT, rows)
    return recorded


def known_among(reading: Connection, sop_instance_uids: Sequence[Uid]) -> set[Uid]:
    """Which of these UIDs any instance is recorded with, in whichever study."""
    rows = reading.exec_driver_sql(_KNOWN_AMONG, (json.dumps(sop_instance_uids),))
    return {Uid(row[0]) for row in rows}


class Known:
    """Whether a UID is recorded, at the least cost: for what is asked of every arrival before it is acknowledged."""

    def __init__(self, catalog: Catalog) -> None:
        self._question = catalog.question(_KNOWS)
        self.close = self._question.close

    def __contains__(self, sop_instance_uid: Uid) -> bool:
        return self._question.first((sop_instance_uid,)) is not None


def versions(reading: Connection, header: Header) -> list[InstanceRow]:
    """What is recorded under the identity of `header` (study, series and SOP Instance UID), the first version first."""
    identity = {
        "image_uid": header.sop_instance_uid,
        "series_uid": header.series_instance_uid,
        "study_uid": header.study_instance_uid,
    }
    return _rows(reading, _VERSIONS, identity)


def instance(reading: Connection, instance_id: InstanceId) -> InstanceRow | None:
    """One instance by its row id."""
    found = _rows(reading, _ONE, {"instance": instance_id})
    return found[0] if found else None


def with_object(reading: Connection, object_id: ObjectId) -> InstanceRow | None:
    """The instance that an object holds; None if none does."""
    found = _rows(reading, _select().where(instances.c.object_id == object_id))
    return found[0] if found else None


def instances_of_study(reading: Connection, study_instance_uid: Uid) -> list[InstanceRow]:
    """Every instance of a study, series by series in the order they came, each by number as far as they are numbers."""
    found = _rows(reading, _OF_STUDY, {"study_uid": study_instance_uid})
    series_order: dict[Uid, int] = {}
    for row in sorted(found, key=lambda each: each.id):
        series_order.setdefault(row.series_instance_uid, len(series_order))

    def place(row: InstanceRow) -> tuple[int, int, int, int, InstanceId]:
        return (
            _number(row.series_number),
            series_order[row.series_instance_uid],
            _number(row.instance_number),
            row.version,
            row.id,
        )

    return sorted(found, key=place)


def latest_from(reading: Reading, name: str, address: str, *, among: int = 2000) -> InstanceRow | None:
    """The newest instance that a machine has sent, if it is among the newest `among` of all."""
    newest = reading.execute(select(instances.c.id).order_by(instances.c.id.desc()).limit(1)).scalar() or 0
    found = _rows(
        reading,
        _select()
        .where(
            instances.c.id > newest - among,
            instances.c.origin_name == name,
            instances.c.origin_address == address,
        )
        .order_by(instances.c.id.desc())
        .limit(1),
    )
    return found[0] if found else None


def all_objects(reading: Connection) -> Iterator[tuple[ObjectId, KeyId, int]]:
    """Every recorded object: its id, its key's id and its sealed size in bytes; a thousand rows in memory at a time."""
    query = select(instances.c.object_id, instances.c.key_id, instances.c.sealed_bytes).order_by(
        instances.c.id
    )
    for row in reading.execute(query, execution_options={"yield_per": 1000}):
        yield row[0], row[1], row[2]


def objects_named(reading: Connection, object_ids: Sequence[str]) -> list[tuple[ObjectId, KeyId, int]]:
    """Those of `object_ids` that an instance has: each with its key and its sealed size in bytes."""
    rows = reading.exec_driver_sql(
        "SELECT object_id, key_id, sealed_bytes FROM instances WHERE object_id IN (SELECT value FROM json_each(?))",
        (json.dumps(list(object_ids)),),
    )
    return [(ObjectId(row[0]), KeyId(row[1]), int(row[2])) for row in rows]


def objects_in(reading: Connection, rows: Sequence[InstanceId]) -> dict[InstanceId, ObjectId]:
    """The objects of those of `rows` in which an instance stands."""
    query = select(instances.c.id, instances.c.object_id).where(instances.c.id.in_(rows))
    return {row[0]: row[1] for row in reading.execute(query)}


def row_of(reading: Connection, object_id: ObjectId) -> InstanceId | None:
    """The row of the instance that an object holds; None if none does."""
    row = reading.exec_driver_sql("SELECT id FROM instances WHERE object_id = ?", (object_id,)).first()
    return None if row is None else InstanceId(row[0])


def study_of(reading: Connection, object_id: ObjectId) -> str:
    """The Study Instance UID of an object; empty if no instance has it."""
    row = reading.exec_driver_sql(
        "SELECT s.study_instance_uid FROM instances AS i JOIN series AS e ON e.id = i.series"
        " JOIN studies AS s ON s.id = e.study WHERE i.object_id = ?",
        (object_id,),
    ).first()
    return "" if row is None else str(row[0])


def study_row_of(reading: Connection, object_id: ObjectId) -> int | None:
    """The row of the study of an object; None if no instance has it."""
    row = reading.exec_driver_sql(
        "SELECT e.study FROM instances AS i JOIN series AS e ON e.id = i.series WHERE i.object_id = ?",
        (object_id,),
    ).first()
    return None if row is None else int(row[0])


def last_id(reading: Connection) -> int:
    """The row of the instance recorded last; 0 when there is none."""
    return int(reading.execute(select(func.max(instances.c.id))).scalar() or 0)


def objects_after(
    reading: Connection, instance_id: InstanceId, limit: int
) -> list[tuple[InstanceId, ObjectId, KeyId, int]]:
    """The next `limit` instances by row: id, object, its key, and its sealed size in bytes."""
    query = (
        select(instances.c.id, instances.c.object_id, instances.c.key_id, instances.c.sealed_bytes)
        .where(instances.c.id > instance_id)
        .order_by(instances.c.id)
        .limit(limit)
    )
    return [(row[0], row[1], row[2], row[3]) for row in reading.execute(query)]


def objects_before(
    reading: Connection, instance_id: InstanceId, limit: int, least: InstanceId
) -> list[tuple[InstanceId, ObjectId, KeyId, int]]:
    """As `objects_after`, the `limit` instances below a row, from the row `least` on, the last recorded first."""
    query = (
        select(instances.c.id, instances.c.object_id, instances.c.key_id, instances.c.sealed_bytes)
        .where(instances.c.id < instance_id, instances.c.id >= least)
        .order_by(instances.c.id.desc())
        .limit(limit)
    )
    return [(row[0], row[1], row[2], row[3]) for row in reading.execute(query)]


def objects_expected_after(
    reading: Connection, instance_id: InstanceId, limit: int, last: InstanceId
) -> list[tuple[InstanceId, ObjectId, KeyId, int]]:
    """As `objects_after`, up to the row `last`, without those whose file left this disk on purpose, because an archive has them proven whole."""
    query = (
        select(instances.c.id, instances.c.object_id, instances.c.key_id, instances.c.sealed_bytes)
        .where(instances.c.id > instance_id, instances.c.id <= last, *_not_evicted())
        .order_by(instances.c.id)
        .limit(limit)
    )
    return [(row[0], row[1], row[2], row[3]) for row in reading.execute(query)]


def expected_among(reading: Connection, object_ids: Sequence[ObjectId]) -> set[ObjectId]:
    """Those of `object_ids` that an instance has and that did not leave this disk on purpose."""
    query = select(instances.c.object_id).where(instances.c.object_id.in_(object_ids), *_not_evicted())
    return {row[0] for row in reading.execute(query)}


def rows_expected_among(reading: Connection, rows: Sequence[InstanceId]) -> set[InstanceId]:
    """Those of `rows` in which an instance stands whose file did not leave this disk on purpose."""
    query = select(instances.c.id).where(instances.c.id.in_(rows), *_not_evicted())
    return {row[0] for row in reading.execute(query)}


def _not_evicted() -> list[ColumnElement[bool]]:
    """The condition that a file is meant to be here; storage tiers keep a table of those that are not, where they exist."""
    away = metadata.tables.get("evictions")
    return [] if away is None else [instances.c.id.not_in(select(away.c.instance))]


def first_received(reading: Connection) -> datetime | None:
    """The moment that the instance recorded first bears; one look at the beginning of the table."""
    first = select(func.min(instances.c.id)).scalar_subquery()
    return reading.execute(select(instances.c.received_utc).where(instances.c.id == first)).scalar()


def latest_received(reading: Connection) -> datetime | None:
    """The moment that the instance recorded last bears; one look at the end of the table."""
    last = select(func.max(instances.c.id)).scalar_subquery()
    return reading.execute(select(instances.c.received_utc).where(instances.c.id == last)).scalar()


def _number(text: str) -> int:
    """An IS value to sort by; text that is none sorts last (PS3.5 6.2)."""
    try:
        return int(text)
    except ValueError:
        return 1 << 40


def _select() -> Select[Any]:
    return select(
        instances.c.id,
        studies.c.id,
        studies.c.study_instance_uid,
        series.c.series_instance_uid,
        instances.c.sop_instance_uid,
        instances.c.sop_class_uid,
        instances.c.transfer_syntax_uid,
        series.c.modality,
        series.c.series_number,
        series.c.description,
        series.c.laterality,
        instances.c.instance_number,
        instances.c.rows,
        instances.c.columns,
        instances.c.number_of_frames,
        instances.c.image_laterality,
        instances.c.burned_in_annotation,
        instances.c.object_id,
        instances.c.key_id,
        instances.c.size_bytes,
        instances.c.sealed_bytes,
        instances.c.intake,
        instances.c.origin_name,
        instances.c.origin_address,
        instances.c.received_utc,
        instances.c.version,
        instances.c.patient_conflict,
    ).select_from(instances.join(series).join(studies))


# Asked for every picture, study or arrival: to build them costs more than to answer them.
_ONE = _select().where(instances.c.id == bindparam("instance"))
_OF_STUDY = _select().where(studies.c.study_instance_uid == bindparam("study_uid"))
_VERSIONS = (
    _select()
    .where(
        instances.c.sop_instance_uid == bindparam("image_uid"),
        series.c.series_instance_uid == bindparam("series_uid"),
        studies.c.study_instance_uid == bindparam("study_uid"),
    )
    .order_by(instances.c.version)
)


def _rows(
    reading: Connection, query: Select[Any], parameters: Mapping[str, object] | None = None
) -> list[InstanceRow]:
    found = []
    for row in reading.execute(query, parameters):
        values = list(row)
        values[_INTAKE] = Intake(values[_INTAKE])
        found.append(InstanceRow(*values))
    return found


_INTAKE = InstanceRow.__slots__.index("intake")
