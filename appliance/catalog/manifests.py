"""Which study manifests in which bucket are out of date, and the rows that a manifest is made of.

A mark always moves `dirty_utc`: whoever writes a manifest clears only the mark that was there when the rows were read,
so that an instance confirmed meanwhile is never forgotten.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, Table, bindparam, delete, exists, or_, select, update

from appliance.catalog.columns import utc_text
from appliance.catalog.database import Reading, Transaction
from appliance.catalog.schema import deliveries, instances, manifests, patients, series, studies, study_keys
from appliance.model import DestinationId, ObjectId, Uid

Row = dict[str, Any]

_DERIVED = frozenset(
    {"name_folded", "search_folded", "change", "instances", "bytes", "duplicates", "modalities"}
)
"""Columns that a reader computes again."""


@dataclass(frozen=True, slots=True)
class OutOfDate:
    """A manifest to write: the row id and UID of its study, and the mark to clear."""

    study: int
    study_instance_uid: Uid
    dirty_utc: datetime


@dataclass(frozen=True, slots=True)
class StudyRows:
    """Every row that belongs to the instances of a study that one bucket holds; ids point within it."""

    patients: list[Row]
    studies: list[Row]
    series: list[Row]
    instances: list[Row]
    study_keys: list[Row]


def mark(tx: Transaction, destination_id: DestinationId, study_ids: Iterable[int], now: datetime) -> None:
    """Note that a bucket has got new objects of these studies (row ids)."""
    text = utc_text(now)
    rows = [(destination_id, text, study) for study in study_ids]
    if rows:
        tx.exec_driver_sql(
            # Only of those that are still here: one may have been destroyed while its last image was on the way.
            "INSERT INTO manifests (destination, study, dirty_utc)"
            " SELECT ?, id, ? FROM studies WHERE id = ?"
            " ON CONFLICT (destination, study) DO UPDATE SET dirty_utc = excluded.dirty_utc",
            rows,
        )


def mark_unwritten(tx: Transaction, destination_id: DestinationId, study: int, now: datetime) -> None:
    """Note that a bucket is to get a manifest of a study (row id) of which none is known to lie there."""
    tx.exec_driver_sql(
        "INSERT INTO manifests (destination, study, dirty_utc) VALUES (?, ?, ?) ON CONFLICT (destination, study) DO NOTHING",
        (destination_id, study, utc_text(now)),
    )


def mark_all(tx: Transaction, now: datetime) -> None:
    """Note that every manifest in every archive is to be written again: what seals it has changed."""
    tx.execute(update(manifests).values(dirty_utc=now))


def out_of_date(
    conn: Reading,
    destination_id: DestinationId,
    *,
    quiet_since: datetime,
    written_before: datetime,
    limit: int,
) -> list[OutOfDate]:
    """Manifests to write now: those never written, unchanged since `quiet_since`, or last written too long ago."""
    rows = conn.execute(
        select(manifests.c.study, studies.c.study_instance_uid, manifests.c.dirty_utc)
        .join(studies, studies.c.id == manifests.c.study)
        .where(
            manifests.c.destination == destination_id,
            manifests.c.dirty_utc.is_not(None),
            or_(
                manifests.c.written_utc.is_(None),
                manifests.c.dirty_utc <= quiet_since,
                manifests.c.dirty_utc > quiet_since + timedelta(hours=1),  # the clock was put back
                manifests.c.written_utc <= written_before,
            ),
        )
        .order_by(manifests.c.dirty_utc)
        .limit(limit)
    )
    return [OutOfDate(row.study, row.study_instance_uid, row.dirty_utc) for row in rows]


def written(tx: Transaction, destination_id: DestinationId, manifest: OutOfDate, now: datetime) -> None:
    """Note that the manifest was written from rows read after its mark was."""
    tx.exec_driver_sql(
        "UPDATE manifests SET written_utc = ?, dirty_utc = nullif(dirty_utc, ?) WHERE destination = ? AND study = ?",
        (utc_text(now), utc_text(manifest.dirty_utc), destination_id, manifest.study),
    )


def forget(tx: Transaction, study: int) -> None:
    """No manifest of this study (row id) is to be kept any more, anywhere."""
    tx.execute(delete(manifests).where(manifests.c.study == study))


def forget_place(tx: Transaction, destination_id: DestinationId) -> None:
    """No manifest lies there that is known of: each is written once its study has a receipt from there."""
    tx.execute(delete(manifests).where(manifests.c.destination == destination_id))


def count_written(conn: Reading, destination_id: DestinationId) -> int:
    """Of how many studies a manifest lies at a destination, up to date or not."""
    row = conn.exec_driver_sql(
        "SELECT count(*) FROM manifests WHERE destination = ? AND written_utc IS NOT NULL", (destination_id,)
    ).one()
    return int(row[0])


@dataclass(frozen=True, slots=True)
class Written:
    """A manifest that is up to date in an archive, as far as is known."""

    destination: DestinationId
    study: int
    study_instance_uid: Uid


def written_after(conn: Reading, study: int, limit: int) -> list[Written]:
    """The manifests, up to date, of the next `limit` studies by row id, in every archive."""
    next_ones = (
        select(manifests.c.study)
        .where(manifests.c.study > study, manifests.c.dirty_utc.is_(None))
        .distinct()
        .order_by(manifests.c.study)
        .limit(limit)
    )
    rows = conn.execute(
        select(manifests.c.destination, manifests.c.study, studies.c.study_instance_uid)
        .join(studies, studies.c.id == manifests.c.study)
        .where(manifests.c.study.in_(next_ones), manifests.c.dirty_utc.is_(None))
        .order_by(manifests.c.study, manifests.c.destination)
    )
    return [Written(row.destination, row.study, row.study_instance_uid) for row in rows]


def written_at(conn: Reading, destination_id: DestinationId, study: int) -> Written | None:
    """The manifest of `study` (row id) at a destination; None while it is out of date, or none is to be there."""
    row = conn.exec_driver_sql(
        "SELECT s.study_instance_uid FROM manifests AS m JOIN studies AS s ON s.id = m.study"
        " WHERE m.destination = ? AND m.study = ? AND m.dirty_utc IS NULL",
        (destination_id, study),
    ).first()
    return None if row is None else Written(destination_id, study, Uid(row[0]))


def objects_of(conn: Reading, destination_id: DestinationId, study: int) -> frozenset[ObjectId] | None:
    """What the manifest of `study` (row id) says at least: the objects of it that are confirmed at a destination; None while it is out of
    date, or none is to be there."""
    if written_at(conn, destination_id, study) is None:
        return None
    rows = conn.exec_driver_sql(
        # In this order, which SQLite keeps for CROSS JOIN: each image's own delivery is looked up.
        "SELECT i.object_id FROM series AS s CROSS JOIN instances AS i ON i.series = s.id"
        " CROSS JOIN deliveries AS d ON d.destination = ? AND d.instance = i.id AND d.state = 'CONFIRMED'"
        " WHERE s.study = ?",
        (destination_id, study),
    )
    return frozenset(ObjectId(row[0]) for row in rows)


def rows_of(conn: Reading, destination_id: DestinationId, study: int) -> StudyRows:
    """The rows of the instances of `study` (row id) that are confirmed at a destination."""
    found = _rows(conn, _INSTANCES, destination=destination_id, study=study)
    of_study = _rows(conn, _STUDY, study=study)
    uid = of_study[0]["study_instance_uid"] if of_study else ""
    people = {row["patient"] for row in of_study} | {row["other_patient"] for row in found}
    return StudyRows(
        patients=_rows(conn, _PATIENTS, ids=sorted(each for each in people if each is not None)),
        studies=of_study,
        series=_rows(conn, _SERIES, ids=sorted({row["series"] for row in found})),
        instances=found,
        study_keys=_rows(conn, _STUDY_KEYS, uid=uid, ids=sorted({row["key_id"] for row in found})),
    )


def _rows(conn: Reading, query: Select[Any], **values: object) -> list[Row]:
    return [dict(row._mapping) for row in conn.execute(query, values)]


def _of(table: Table, *which: ColumnElement[bool]) -> Select[Any]:
    columns = [column for column in table.c if column.name not in _DERIVED]
    return select(*columns).where(*which).order_by(table.c.id)


# Asked for every manifest: to build them costs more than to answer them.
_INSTANCES = _of(
    instances,
    # Each image's own delivery is looked up: as a list of what was delivered, SQLite makes all of it, for every manifest.
    exists().where(
        deliveries.c.destination == bindparam("destination"),
        deliveries.c.instance == instances.c.id,
        deliveries.c.state == "CONFIRMED",
    ),
    instances.c.series.in_(select(series.c.id).where(series.c.study == bindparam("study"))),
)
_STUDY = _of(studies, studies.c.id == bindparam("study"))
_PATIENTS = _of(patients, patients.c.id.in_(bindparam("ids", expanding=True)))
_SERIES = _of(series, series.c.id.in_(bindparam("ids", expanding=True)))
_STUDY_KEYS = _of(
    study_keys,
    study_keys.c.study_instance_uid == bindparam("uid"),
    study_keys.c.id.in_(bindparam("ids", expanding=True)),
)
