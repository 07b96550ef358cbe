"""When patients were last seen, as a person has entered it: what the box can't tell from images. The only writer.

A visit counts for the same person as a hold would (`appliance.catalog.holds`): the patient row itself, and every row of the same patient ID, unless
both name an issuer and they differ. It can only lengthen, so it is asked widely. One that was entered by mistake is withdrawn and stays on record.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import and_, insert, or_, select, union, update

from appliance.catalog.database import Reading, Transaction
from appliance.catalog.lifecycle_tables import visits
from appliance.catalog.schema import instances, patients, series, studies
from appliance.errors import Unknown


@dataclass(frozen=True, slots=True)
class Visit:
    """A visit of a patient (row id); `withdrawn_utc` is None while it counts. The reason may name people: it never leaves the box."""

    id: int
    patient: int
    day: date
    entered_by: str
    entered_utc: datetime
    withdrawn_by: str
    withdrawn_utc: datetime | None
    withdraw_reason: str

    @property
    def counts(self) -> bool:
        """Whether it is taken for true."""
        return self.withdrawn_utc is None


_SAME = or_(
    visits.c.patient == patients.c.id,
    and_(
        visits.c.patient_id != "",
        visits.c.patient_id == patients.c.patient_id,
        or_(visits.c.issuer == patients.c.issuer, visits.c.issuer == "", patients.c.issuer == ""),
    ),
)
_COUNTING = """
SELECT patient, patient_id, issuer, day FROM visits
WHERE withdrawn_utc IS NULL AND (
    patient IN (SELECT value FROM json_each(?1)) OR (patient_id <> '' AND patient_id IN (SELECT value FROM json_each(?2))))
"""
_FORGET = """
DELETE FROM visits WHERE patient = ?1 AND (patient_id = '' OR NOT EXISTS (
    SELECT 1 FROM patients AS p WHERE p.patient_id = visits.patient_id AND p.id <> ?1))
"""
_FORGET_NUMBER = """
DELETE FROM visits WHERE patient_id <> '' AND patient_id = (SELECT patient_id FROM patients WHERE id = ?1)
    AND NOT EXISTS (SELECT 1 FROM patients AS p WHERE p.patient_id = visits.patient_id AND p.id <> ?1)
"""


def add(tx: Transaction, *, study: int, day: date, by: str, now: datetime) -> Visit:
    """Enter that the patient of a study was seen on `day`. Raises `Unknown`."""
    row = tx.execute(
        select(patients.c.id, patients.c.patient_id, patients.c.issuer)
        .join(studies, studies.c.patient == patients.c.id)
        .where(studies.c.id == study)
    ).one_or_none()
    if row is None:
        raise Unknown("there is no such study", hint="go back to the studies")
    done = tx.execute(
        insert(visits).values(
            patient=row[0],
            patient_id=row[1],
            issuer=row[2],
            day=day.isoformat(),
            entered_by=by,
            entered_utc=now,
        )
    )
    assert done.inserted_primary_key is not None
    return visit(tx, int(done.inserted_primary_key[0]))


def withdraw(tx: Transaction, visit_id: int, *, by: str, reason: str, now: datetime) -> bool:
    """Let a visit count no more. False if it didn't, or never was."""
    done = tx.execute(
        update(visits)
        .where(visits.c.id == visit_id, visits.c.withdrawn_utc.is_(None))
        .values(withdrawn_by=by, withdrawn_utc=now, withdraw_reason=reason)
    )
    return done.rowcount == 1


def forget_patient(tx: Transaction, patient: int) -> None:
    """Remove the visits of a patient (row id) who is about to go; not while the same number has other rows, whom they may be of."""
    tx.exec_driver_sql(_FORGET, (patient,))
    tx.exec_driver_sql(_FORGET_NUMBER, (patient,))


def visit(reading: Reading, visit_id: int) -> Visit:
    """One visit. Raises `Unknown`."""
    row = reading.execute(select(visits).where(visits.c.id == visit_id)).one_or_none()
    if row is None:
        raise Unknown("there is no such visit", hint="look at the page of a study of that patient")
    return _visit(row)


def of_study(reading: Reading, study: int) -> list[Visit]:
    """Every visit that counts for a study or did, the latest first; those that were withdrawn after them."""
    persons = union(
        select(studies.c.patient).where(studies.c.id == study),
        select(instances.c.other_patient)
        .join(series, series.c.id == instances.c.series)
        .where(series.c.study == study, instances.c.other_patient.is_not(None)),
    )
    query = (
        select(visits)
        .where(select(patients.c.id).where(patients.c.id.in_(persons), _SAME).correlate(visits).exists())
        .order_by(visits.c.withdrawn_utc.is_not(None), visits.c.day.desc(), visits.c.id.desc())
    )
    return [_visit(row) for row in reading.execute(query)]


def studies_of(reading: Reading, visit_id: int) -> list[int]:
    """The studies (row ids) of whom a visit is: those of the very patient first, the latest first."""
    query = (
        select(studies.c.id)
        .join(patients, patients.c.id == studies.c.patient)
        .join(visits, _SAME)
        .where(visits.c.id == visit_id)
        .order_by(patients.c.id != visits.c.patient, studies.c.id.desc())
    )
    return [int(each) for each in reading.execute(query).scalars()]


def studies_of_number(reading: Reading, patient_id: str, issuer: str | None) -> list[tuple[int, str]]:
    """The studies (row ids) under a patient ID, with who gave it, the latest first; `issuer` None for whoever gave it."""
    query = (
        select(studies.c.id, patients.c.issuer)
        .join(patients, patients.c.id == studies.c.patient)
        .where(patients.c.patient_id == patient_id, patients.c.patient_id != "")
        .order_by(studies.c.id.desc())
    )
    if issuer is not None:
        query = query.where(patients.c.issuer == issuer)
    return [(int(row[0]), str(row[1])) for row in reading.execute(query)]


def counting(reading: Reading, rows: str, numbers: str) -> Sequence[Any]:
    """Patient row, patient ID, issuer and day of what counts; `rows` and `numbers` are JSON lists of row ids and of patient IDs."""
    return reading.exec_driver_sql(_COUNTING, (rows, numbers)).all()


def _visit(row: Any) -> Visit:
    return Visit(
        id=row.id,
        patient=row.patient,
        day=date.fromisoformat(row.day),
        entered_by=row.entered_by,
        entered_utc=row.entered_utc,
        withdrawn_by=row.withdrawn_by,
        withdrawn_utc=row.withdrawn_utc,
        withdraw_reason=row.withdraw_reason,
    )
