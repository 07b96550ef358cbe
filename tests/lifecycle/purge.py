"""A clinic in which two people have decided that a study is destroyed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from appliance.box import Box
from appliance.catalog import instances, studies, study_keys, tombstones
from appliance.catalog.studies import StudyRow
from appliance.lifecycle import destruction, memory, purging, retention
from appliance.lifecycle.acting import Act
from appliance.lifecycle.request import Method
from appliance.model import KeyId, ObjectId
from tests.backup.conftest import Clinic
from tests.instances import Instance

LATER = datetime.now(UTC) + timedelta(days=80 * 365)
"""When all that is received today is due, whatever the rule."""

GONE = [
    Instance(
        number,
        study=77,
        pixel_bytes=3_000 if number < 22 else 2_400_000,
        patient_id="GONE-77",
        patient_name="Zzyzxmarker^Alma",
    )
    for number in (20, 21, 22)
]
MARKERS = (b"Zzyzxmarker", b"zzyzxmarker", b"GONE-77", b"gone-77")


@dataclass(frozen=True)
class Secrets:
    """What must not be readable anywhere afterwards: how the keys are kept, and what they are."""

    row: StudyRow
    keys: tuple[KeyId, ...]
    objects: tuple[ObjectId, ...]
    bytes_: tuple[bytes, ...]


def study_of(box: Box, instance: Instance) -> StudyRow:
    with box.catalog.reading() as conn:
        found = [
            each
            for each in studies.find(conn, limit=1000)
            if each.study_instance_uid == instance.study_instance_uid
        ]
    return found[0]


def secrets_of(box: Box, instance: Instance) -> Secrets:
    row = study_of(box, instance)
    with box.catalog.reading() as conn:
        wrapped = study_keys.keys_of_study(conn, row.study_instance_uid)
        objects = [each.object_id for each in instances.instances_of_study(conn, row.study_instance_uid)]
    clear = [box.study_keys.key(key_id) for key_id, _ in wrapped]
    return Secrets(
        row, tuple(key for key, _ in wrapped), tuple(objects), (*(each for _, each in wrapped), *clear)
    )


def approve(box: Box, *study_ids: int, now: datetime = LATER, method: Method = Method.DESTROY) -> int:
    """A request of these studies that two people stand behind, after a restore one of them has looked at what is held; its number."""
    marie, paul = (Act(by=name, now=now, audit_key=box.audit_key) for name in ("marie", "paul"))
    with box.catalog.transaction() as tx:
        retention.watch_clock(tx, now, follows_time_server=True)
        if memory.gap(tx) is not None:
            memory.look_again(tx, marie, "QC" if memory.lacks_a_province(tx) else "")
        if retention.clock_of(tx, now).doubt is not None:  # years later, if it was looked at before
            retention.trust_clock(tx, marie)
        asked = destruction.ask(tx, marie, study_ids, method=method, reason="yearly review")
        destruction.approve(tx, paul, asked.id, digest=asked.digest)
    return asked.id


def carry_out(clinic: Clinic, around: purging.Around | None = None) -> None:
    """Let jobs and courier work until nothing is left to do."""
    for _ in range(3):
        purging.carry_out(clinic.box, LATER, around or purging.Around())
        clinic.deliver_until(lambda: not owed(clinic))
    with clinic.box.catalog.reading() as conn:
        assert tombstones.certificates(conn, unfinished=True) == []


def owed(clinic: Clinic) -> bool:
    with clinic.box.catalog.reading() as conn:
        return bool(tombstones.owed(conn, clinic.place.id, 1))
