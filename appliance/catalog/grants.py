"""Which study was granted to whom, by whom, why and until when. The only writer of that table.

A grant that was taken back, or is over, stays as a row: it says who could see a study at a time (R-22.1 s.103).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Select, delete, insert, select, update

from appliance.catalog import studies as study_rows
from appliance.catalog.access_tables import study_grants
from appliance.catalog.database import Reading, Transaction
from appliance.catalog.schema import users
from appliance.errors import Unknown


@dataclass(frozen=True, slots=True)
class Grant:
    """A study shown to a user. `by` and `revoked_by` are logins, or a command line."""

    id: int
    study: int
    user: int
    login: str
    name: str
    by: str
    reason: str
    made_utc: datetime
    expires_utc: datetime
    revoked_utc: datetime | None
    revoked_by: str

    def holds(self, at: datetime) -> bool:
        """Whether the study may be seen by it."""
        return self.revoked_utc is None and at < self.expires_utc


_SELECT = select(
    study_grants.c.id,
    study_grants.c.study,
    study_grants.c.user,
    users.c.login,
    users.c.name,
    study_grants.c.by,
    study_grants.c.reason,
    study_grants.c.made_utc,
    study_grants.c.expires_utc,
    study_grants.c.revoked_utc,
    study_grants.c.revoked_by,
).join(users, users.c.id == study_grants.c.user)


def studies_granted(user: int, at: datetime) -> Select[int]:
    """The query for the row ids of the studies that a user may see by a grant."""
    return select(study_grants.c.study).where(
        study_grants.c.user == user, study_grants.c.revoked_utc.is_(None), study_grants.c.expires_utc > at
    )


def add(
    tx: Transaction, *, study: int, user: int, by: str, reason: str, now: datetime, expires_utc: datetime
) -> int:
    """Record a grant, in place of one that holds for the same two; the new row's id."""
    _revoke(tx, by, now, study=study, user=user)
    done = tx.execute(
        insert(study_grants).values(
            study=study, user=user, by=by, reason=reason, made_utc=now, expires_utc=expires_utc
        )
    )
    assert done.inserted_primary_key is not None
    study_rows.touch(tx, [study])
    return int(done.inserted_primary_key[0])


def revoke(tx: Transaction, grant_id: int, *, by: str, now: datetime) -> Grant:
    """Take a grant back; one that is over, or was taken back, stays as it is. Raises `Unknown`."""
    found = grant(tx, grant_id)
    _revoke(tx, by, now, id=grant_id)
    study_rows.touch(tx, [found.study])
    return found


def grant(conn: Reading, grant_id: int) -> Grant:
    """One grant. Raises `Unknown`."""
    row = conn.execute(_SELECT.where(study_grants.c.id == grant_id)).one_or_none()
    if row is None:
        raise Unknown("there is no such grant", hint="go back to the study")
    return Grant(*row)


def of_study(conn: Reading, study: int) -> list[Grant]:
    """To whom a study is and was granted, the latest first."""
    query = _SELECT.where(study_grants.c.study == study).order_by(study_grants.c.id.desc())
    return [Grant(*row) for row in conn.execute(query)]


def of_user(conn: Reading, user: int) -> list[Grant]:
    """What is and was granted to a user, the latest first."""
    query = _SELECT.where(study_grants.c.user == user).order_by(study_grants.c.id.desc())
    return [Grant(*row) for row in conn.execute(query)]


def _revoke(tx: Transaction, by: str, now: datetime, **which: int) -> None:
    tx.execute(
        update(study_grants)
        .where(
            *(study_grants.c[name] == value for name, value in which.items()),
            study_grants.c.revoked_utc.is_(None),
            study_grants.c.expires_utc > now,
        )
        .values(revoked_utc=now, revoked_by=by)
    )


def forget(tx: Transaction, study: int) -> None:
    """Forget who was granted a study (row id) that is destroyed: the audit keeps who could see it, and when."""
    tx.execute(delete(study_grants).where(study_grants.c.study == study))
