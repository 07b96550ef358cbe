"""Taking a study out of the catalog, with all that only it has brought along: its patient too, when it was the last one.

The one module that removes rows of `studies`, `series`, `instances` and `patients`; `appliance.catalog.instances` adds them. What
points to them goes first, each by the module whose table it is. The keys are not removed but emptied
(`appliance.catalog.study_keys`). SQLite overwrites what is deleted (``secure_delete``, `appliance.catalog.database`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from appliance.catalog import counters, deliveries, emergencies, grants, holds, manifests, study_keys, visits
from appliance.catalog.arrival import next_change
from appliance.catalog.columns import utc_moment
from appliance.catalog.database import Reading, Transaction
from appliance.model import DestinationId, InstanceId, KeyId, ObjectId, Uid


@dataclass(frozen=True, slots=True)
class Erased:
    """What was taken out: `receipts` says how many images each destination had confirmed."""

    study: int
    study_instance_uid: Uid
    instances: int
    bytes: int
    first_received_utc: datetime
    last_received_utc: datetime
    keys: tuple[KeyId, ...]
    objects: tuple[ObjectId, ...]
    receipts: Mapping[DestinationId, int]


def erase(tx: Transaction, study: int, now: datetime) -> Erased | None:
    """Take a study (row id) out of the catalog and destroy its keys; None if there is no such study."""
    found = tx.exec_driver_sql(
        "SELECT study_instance_uid, patient, instances, bytes, duplicates, first_received_utc, last_received_utc"
        " FROM studies WHERE id = ?",
        (study,),
    ).first()
    if found is None:
        return None
    uid = Uid(found[0])
    rows = tx.exec_driver_sql(
        "SELECT i.id, i.object_id, i.key_id, i.other_patient FROM instances AS i JOIN series AS s ON s.id = i.series"
        " WHERE s.study = ? ORDER BY i.id",
        (study,),
    ).all()
    keys = {KeyId(row[2]) for row in rows} | {key_id for key_id, _ in study_keys.keys_of_study(tx, uid)}
    receipts = deliveries.forget(tx, [InstanceId(row[0]) for row in rows])
    manifests.forget(tx, study)
    emergencies.forget(tx, study)
    grants.forget(tx, study)
    tx.exec_driver_sql(
        "DELETE FROM instances WHERE series IN (SELECT id FROM series WHERE study = ?)", (study,)
    )
    tx.exec_driver_sql("DELETE FROM series WHERE study = ?", (study,))
    tx.exec_driver_sql("DELETE FROM studies WHERE id = ?", (study,))
    for patient in sorted({int(found[1])} | {int(row[3]) for row in rows if row[3] is not None}):
        _erase_patient(tx, patient)
    study_keys.destroy(tx, sorted(keys), now)
    for name, less in (
        (counters.STUDIES, 1),
        (counters.INSTANCES, int(found[2])),
        (counters.BYTES, int(found[3])),
        (counters.DUPLICATES, int(found[4])),
    ):
        counters.add(tx, name, -less)
    next_change(tx)  # who follows the list sees that something has changed
    return Erased(
        study=study,
        study_instance_uid=uid,
        instances=int(found[2]),
        bytes=int(found[3]),
        first_received_utc=utc_moment(found[5]),
        last_received_utc=utc_moment(found[6]),
        keys=tuple(sorted(keys)),
        objects=tuple(ObjectId(row[1]) for row in rows),
        receipts=receipts,
    )


_SINCE = (
    " FROM instances AS i JOIN series AS s ON s.id = i.series JOIN studies AS t ON t.id = s.study"
    " WHERE i.id > ? AND NOT EXISTS (SELECT 1 FROM audit AS a WHERE a.study <> ''"
    " AND a.study = t.study_instance_uid AND a.action = 'instance:recover' AND a.subject = 'instance:' || i.object_id)"
)


def studies_under(reading: Reading, key_ids: Sequence[KeyId]) -> list[tuple[int, datetime]]:
    """The studies (row ids) that one of these keys belongs to, with when each got its latest image."""
    rows = reading.exec_driver_sql(
        "SELECT DISTINCT t.id, t.last_received_utc FROM study_keys AS k"
        " JOIN studies AS t ON t.study_instance_uid = k.study_instance_uid"
        " WHERE k.id IN (SELECT value FROM json_each(?)) ORDER BY t.id",
        (json.dumps(list(key_ids)),),
    )
    return [(int(row[0]), utc_moment(row[1])) for row in rows]


def latest_instance(reading: Reading, study: int) -> InstanceId:
    """The row of the instance of a study (row id) that was recorded last; 0 when it has none."""
    found = reading.exec_driver_sql(
        "SELECT max(i.id) FROM instances AS i JOIN series AS s ON s.id = i.series WHERE s.study = ?", (study,)
    ).scalar()
    return InstanceId(int(found or 0))


def has_come_since(reading: Reading, study: int, restored_to: InstanceId) -> bool:
    """Whether an instance of a study (row id) was received behind a row; one that an archive has brought back is of before, whatever its row."""
    found = reading.exec_driver_sql(f"SELECT 1{_SINCE} AND s.study = ? LIMIT 1", (restored_to, study)).first()
    return found is not None


def is_of_since(reading: Reading, instance: InstanceId, restored_to: InstanceId) -> bool:
    """The same of one instance."""
    found = reading.exec_driver_sql(f"SELECT 1{_SINCE} AND i.id = ?", (restored_to, instance)).first()
    return found is not None


def objects_of(reading: Reading, study: int) -> set[ObjectId]:
    """The sealed objects of a study (row id)."""
    rows = reading.exec_driver_sql(
        "SELECT i.object_id FROM instances AS i JOIN series AS s ON s.id = i.series WHERE s.study = ?",
        (study,),
    )
    return {ObjectId(row[0]) for row in rows}


def is_here(reading: Reading, study_instance_uid: Uid) -> bool:
    """Whether the catalog has a study of that UID."""
    found = reading.exec_driver_sql(
        "SELECT 1 FROM studies WHERE study_instance_uid = ?", (study_instance_uid,)
    ).first()
    return found is not None


def _erase_patient(tx: Transaction, patient: int) -> None:
    """Take a patient out to whom nothing belongs any more, with visits, and what released holds say of that person."""
    left = tx.exec_driver_sql(
        "SELECT 1 FROM studies WHERE patient = ?"
        " UNION ALL SELECT 1 FROM instances WHERE other_patient IS NOT NULL AND other_patient = ? LIMIT 1",
        (patient, patient),
    ).first()
    if left is None:
        holds.forget_patient(tx, patient)
        visits.forget_patient(tx, patient)
        tx.exec_driver_sql("DELETE FROM patients WHERE id = ?", (patient,))
