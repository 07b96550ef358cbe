"""Emergency access: a grant that somebody took, and what was found when it was looked into. Only writer of that table.

The access itself is a grant like any other (`appliance.catalog.grants`), so nothing that asks for studies needs to know
about emergencies.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, func, insert, select, update

from appliance.catalog.access_tables import emergencies, study_grants
from appliance.catalog.database import Reading, Transaction
from appliance.catalog.schema import patients, studies, users

MOST_AT_ONCE = 50


@dataclass(frozen=True, slots=True)
class Emergency:
    """Who took access to which study, why, until when; `reviewed_by` and `finding` are empty until it was looked into."""

    id: int
    study: int
    login: str
    name: str
    reason: str
    taken_utc: datetime
    until_utc: datetime
    reviewed_utc: datetime | None
    reviewed_by: str
    finding: str


_SELECT = (
    select(
        emergencies.c.id,
        study_grants.c.study,
        users.c.login,
        users.c.name,
        study_grants.c.reason,
        study_grants.c.made_utc,
        study_grants.c.expires_utc,
        emergencies.c.reviewed_utc,
        emergencies.c.reviewed_by,
        emergencies.c.finding,
    )
    .join(study_grants, study_grants.c.id == emergencies.c.grant)
    .join(users, users.c.id == study_grants.c.user)
)


def studies_of(conn: Reading, number: str) -> list[int]:
    """The studies of exactly this patient ID or accession number, the latest first; `MOST_AT_ONCE` at most."""
    query = (
        select(studies.c.id)
        .join(patients, patients.c.id == studies.c.patient)
        .where((patients.c.patient_id == number) | (studies.c.accession_number == number))
        .order_by(studies.c.study_date.desc(), studies.c.id.desc())
        .limit(MOST_AT_ONCE)
    )
    return list(conn.execute(query).scalars())


def add(tx: Transaction, grant: int) -> int:
    """Record that a grant was taken in an emergency; its row id."""
    done = tx.execute(insert(emergencies).values(grant=grant))
    assert done.inserted_primary_key is not None
    return int(done.inserted_primary_key[0])


def review(tx: Transaction, emergency_id: int, *, by: str, finding: str, now: datetime) -> bool:
    """Record what was found. False if it is not there, or was looked into before."""
    done = tx.execute(
        update(emergencies)
        .where(emergencies.c.id == emergency_id, emergencies.c.reviewed_utc.is_(None))
        .values(reviewed_utc=now, reviewed_by=by, finding=finding)
    )
    return done.rowcount == 1


def emergency(conn: Reading, emergency_id: int) -> Emergency | None:
    """One of them."""
    row = conn.execute(_SELECT.where(emergencies.c.id == emergency_id)).one_or_none()
    return None if row is None else _emergency(row)


def latest(conn: Reading, *, login: str = "", limit: int = 200) -> list[Emergency]:
    """Those of a person, or all: the ones that nobody has looked into first, then the latest."""
    query = _SELECT.order_by(emergencies.c.reviewed_utc.is_not(None), emergencies.c.id.desc()).limit(limit)
    if login:
        query = query.where(users.c.login == login)
    return [_emergency(row) for row in conn.execute(query)]


def waiting(conn: Reading) -> int:
    """How many nobody has looked into."""
    query = select(func.count()).where(emergencies.c.reviewed_utc.is_(None))
    return int(conn.execute(query).scalar_one())


def _emergency(row: Row[*tuple[Any, ...]]) -> Emergency:
    return Emergency(*row)


def forget(tx: Transaction, study: int) -> None:
    """Forget the emergencies of a study (row id) that is destroyed; its grants go after them."""
    of_study = select(study_grants.c.id).where(study_grants.c.study == study)
    tx.execute(delete(emergencies).where(emergencies.c.grant.in_(of_study)))
