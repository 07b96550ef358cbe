"""What a person proves with beside a password: one-time codes, passkeys, recovery codes. Only writer of those tables.

What lies here is sealed, public or a digest: a copy of the catalog proves nothing. Nobody commits here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, func, insert, select, update

from appliance.catalog.access_tables import one_time_codes, passkeys, recovery_codes
from appliance.catalog.database import Reading, Transaction
from appliance.errors import Refused


@dataclass(frozen=True, slots=True)
class OneTimeSecret:
    """The sealed secret of somebody's one-time codes; `confirmed_utc` is None until one code was right."""

    sealed: bytes
    last_step: int
    created_utc: datetime
    confirmed_utc: datetime | None


@dataclass(frozen=True, slots=True)
class Passkey:
    """A key that lives in somebody's device. `host` is the name under which it was made."""

    id: int
    person_id: int
    credential_id: bytes
    public_key: bytes
    host: str
    name: str
    sign_count: int
    transports: tuple[str, ...]
    created_utc: datetime
    last_used_utc: datetime | None
    blocked_utc: datetime | None


# --- one-time codes --------------------------------------------------------------------------------------------------


def one_time_secret(conn: Reading, person_id: int) -> OneTimeSecret | None:
    """The secret of a person, confirmed or not."""
    row = conn.execute(select(one_time_codes).where(one_time_codes.c.user == person_id)).one_or_none()
    if row is None:
        return None
    return OneTimeSecret(row.sealed, row.last_step, row.created_utc, row.confirmed_utc)


def put_one_time_secret(tx: Transaction, person_id: int, sealed: bytes, now: datetime) -> None:
    """Keep a new secret, not yet confirmed, in the place of any other."""
    remove_one_time_secret(tx, person_id)
    tx.execute(insert(one_time_codes).values(user=person_id, sealed=sealed, created_utc=now))


def confirm_one_time_secret(tx: Transaction, person_id: int, now: datetime) -> None:
    """From now on the codes of this secret count."""
    tx.execute(update(one_time_codes).where(one_time_codes.c.user == person_id).values(confirmed_utc=now))


def use_step(tx: Transaction, person_id: int, step: int) -> bool:
    """Record that the code of a time step was accepted. False if that one, or a later one, had been already."""
    done = tx.execute(
        update(one_time_codes)
        .where(one_time_codes.c.user == person_id, one_time_codes.c.last_step < step)
        .values(last_step=step)
    )
    return done.rowcount == 1


def remove_one_time_secret(tx: Transaction, person_id: int) -> bool:
    """Forget the secret. Whether there was one."""
    return tx.execute(delete(one_time_codes).where(one_time_codes.c.user == person_id)).rowcount == 1


# --- passkeys --------------------------------------------------------------------------------------------------------


def passkeys_of(conn: Reading, person_id: int) -> list[Passkey]:
    """The passkeys of a person, the oldest first, blocked ones too."""
    query = select(passkeys).where(passkeys.c.user == person_id).order_by(passkeys.c.id)
    return [_passkey(row) for row in conn.execute(query)]


def passkey(conn: Reading, credential_id: bytes) -> Passkey | None:
    """The passkey that names itself so."""
    row = conn.execute(select(passkeys).where(passkeys.c.credential_id == credential_id)).one_or_none()
    return None if row is None else _passkey(row)


def add_passkey(
    tx: Transaction,
    person_id: int,
    *,
    credential_id: bytes,
    public_key: bytes,
    host: str,
    name: str,
    sign_count: int,
    transports: Sequence[str],
    now: datetime,
) -> None:
    """Record a passkey. Raises `Refused` if it is recorded already, for whomever."""
    if passkey(tx, credential_id) is not None:
        raise Refused(
            "this passkey is registered already", hint="use another device, or remove the old one first"
        )
    tx.execute(
        insert(passkeys).values(
            user=person_id,
            credential_id=credential_id,
            public_key=public_key,
            host=host,
            name=name,
            sign_count=sign_count,
            transports=list(transports),
            created_utc=now,
        )
    )


def use_passkey(tx: Transaction, passkey_id: int, sign_count: int, now: datetime) -> None:
    """Record a use, with the counter that the device showed."""
    tx.execute(
        update(passkeys).where(passkeys.c.id == passkey_id).values(sign_count=sign_count, last_used_utc=now)
    )


def block_passkey(tx: Transaction, passkey_id: int, now: datetime) -> None:
    """Let a passkey open nothing any more, and stay where its owner sees it."""
    tx.execute(update(passkeys).where(passkeys.c.id == passkey_id).values(blocked_utc=now))


def remove_passkey(tx: Transaction, person_id: int, passkey_id: int) -> bool:
    """Forget a passkey of a person. Whether there was one."""
    done = tx.execute(delete(passkeys).where(passkeys.c.id == passkey_id, passkeys.c.user == person_id))
    return done.rowcount == 1


def remove_passkeys(tx: Transaction, person_id: int) -> int:
    """Forget all passkeys of a person. How many there were."""
    return tx.execute(delete(passkeys).where(passkeys.c.user == person_id)).rowcount


def _passkey(row: Row[*tuple[Any, ...]]) -> Passkey:
    return Passkey(
        id=row.id,
        person_id=row.user,
        credential_id=row.credential_id,
        public_key=row.public_key,
        host=row.host,
        name=row.name,
        sign_count=row.sign_count,
        transports=tuple(row.transports),
        created_utc=row.created_utc,
        last_used_utc=row.last_used_utc,
        blocked_utc=row.blocked_utc,
    )


# --- recovery codes --------------------------------------------------------------------------------------------------


def put_recovery_codes(tx: Transaction, person_id: int, digests: Sequence[str], now: datetime) -> None:
    """Keep the digests of new codes, and forget all earlier ones."""
    remove_recovery_codes(tx, person_id)
    if digests:
        tx.execute(
            insert(recovery_codes),
            [{"digest": each, "user": person_id, "created_utc": now} for each in digests],
        )


def use_recovery_code(tx: Transaction, person_id: int, digest: str, now: datetime) -> bool:
    """Use a code up. False if it is none of this person's, or was used."""
    done = tx.execute(
        update(recovery_codes)
        .where(
            recovery_codes.c.digest == digest,
            recovery_codes.c.user == person_id,
            recovery_codes.c.used_utc.is_(None),
        )
        .values(used_utc=now)
    )
    return done.rowcount == 1


def recovery_codes_left(conn: Reading, person_id: int) -> int:
    """How many codes of a person are unused."""
    query = select(func.count()).where(
        recovery_codes.c.user == person_id, recovery_codes.c.used_utc.is_(None)
    )
    return int(conn.execute(query).scalar_one())


def remove_recovery_codes(tx: Transaction, person_id: int) -> None:
    """Forget the codes of a person, used or not."""
    tx.execute(delete(recovery_codes).where(recovery_codes.c.user == person_id))
