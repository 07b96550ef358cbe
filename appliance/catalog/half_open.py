"""Sign-ins that have come half way, and challenges that wait for their answer. The only writer of those two tables.

A sign-in that still owes its second factor lies in a table of its own, so that nothing that looks for a session can
take it for one. Nobody commits here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, insert, select, update

from appliance.catalog.access_tables import challenges, half_open_sign_ins
from appliance.catalog.database import Reading, Transaction

MOST_CHALLENGES = 2_000
"""Kept at a time; those that expire first go first. Each visitor of the door may ask for one."""


@dataclass(frozen=True, slots=True)
class HalfOpen:
    """A browser whose password was right. `stage` is a word of `appliance.identity.stages`."""

    id: str
    person_id: int
    stage: str
    expires_utc: datetime
    password_hash: str
    agent: str
    tries: int


def add(
    tx: Transaction,
    *,
    half_open_id: str,
    person_id: int,
    stage: str,
    password_hash: str,
    agent: str,
    now: datetime,
    expires_utc: datetime,
) -> None:
    """Record a sign-in that owes its second factor."""
    tx.execute(
        insert(half_open_sign_ins).values(
            id=half_open_id,
            user=person_id,
            stage=stage,
            password_hash=password_hash,
            agent=agent[:200],
            created_utc=now,
            expires_utc=expires_utc,
        )
    )


def find(conn: Reading, half_open_id: str) -> HalfOpen | None:
    """The half-open sign-in of that digest, however old."""
    row = conn.execute(
        select(half_open_sign_ins).where(half_open_sign_ins.c.id == half_open_id)
    ).one_or_none()
    if row is None:
        return None
    return HalfOpen(row.id, row.user, row.stage, row.expires_utc, row.password_hash, row.agent, row.tries)


def count_try(tx: Transaction, half_open_id: str) -> None:
    """Count a proof that was not the right one."""
    tx.execute(
        update(half_open_sign_ins)
        .where(half_open_sign_ins.c.id == half_open_id)
        .values(tries=half_open_sign_ins.c.tries + 1)
    )


def remove(tx: Transaction, half_open_id: str) -> None:
    """Forget a half-open sign-in and what was asked of it."""
    tx.execute(delete(half_open_sign_ins).where(half_open_sign_ins.c.id == half_open_id))
    tx.execute(delete(challenges).where(challenges.c.holder == half_open_id))


def remove_of(tx: Transaction, person_id: int) -> None:
    """Forget all half-open sign-ins of a person."""
    tx.execute(delete(half_open_sign_ins).where(half_open_sign_ins.c.user == person_id))


def remove_expired(tx: Transaction, now: datetime) -> None:
    """Forget what nobody may finish any more."""
    tx.execute(delete(half_open_sign_ins).where(half_open_sign_ins.c.expires_utc <= now))
    tx.execute(delete(challenges).where(challenges.c.expires_utc <= now))


# --- challenges ------------------------------------------------------------------------------------------------------


def put_challenge(
    tx: Transaction, holder: str, purpose: str, challenge: bytes, expires_utc: datetime
) -> None:
    """Keep what `holder` is asked to sign, in the place of what it was asked before for the same purpose."""
    tx.execute(delete(challenges).where(challenges.c.holder == holder, challenges.c.purpose == purpose))
    tx.execute(
        insert(challenges).values(
            holder=holder, purpose=purpose, challenge=challenge, expires_utc=expires_utc
        )
    )
    surplus = (
        select(challenges.c.holder, challenges.c.purpose)
        .order_by(challenges.c.expires_utc.desc())
        .offset(MOST_CHALLENGES)
        .limit(10)
    )
    for row in tx.execute(surplus).all():
        tx.execute(
            delete(challenges).where(challenges.c.holder == row.holder, challenges.c.purpose == row.purpose)
        )


def take_challenge(tx: Transaction, holder: str, purpose: str, now: datetime) -> bytes | None:
    """The challenge, if it waits and is in time. It is answered once, rightly or wrongly."""
    where = (challenges.c.holder == holder) & (challenges.c.purpose == purpose)
    row = tx.execute(select(challenges).where(where)).one_or_none()
    tx.execute(delete(challenges).where(where))
    return row.challenge if row is not None and row.expires_utc > now else None
