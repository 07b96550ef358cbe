"""Tokens that people made for machines, in use, over or taken back. The only writer of that table.

A token is kept under its SHA-256: a copy of the catalog opens nothing. Rows stay when a token is over, because the
audit names tokens by their row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, insert, select, update

from appliance.catalog.access_tables import api_tokens
from appliance.catalog.database import Reading, Transaction
from appliance.catalog.schema import users


@dataclass(frozen=True, slots=True)
class ApiToken:
    """A token. `login` is whose; `scopes` are words of permissions; `revoked_by` is a login or a command line.

    `made_with` is the row of the token that asked for it, None for one that a person made.
    """

    id: int
    person_id: int
    login: str
    name: str
    scopes: tuple[str, ...]
    created_utc: datetime
    expires_utc: datetime
    last_used_utc: datetime | None
    last_address: str
    revoked_utc: datetime | None
    revoked_by: str
    made_with: int | None


_SELECT = select(api_tokens, users.c.login).join(users, users.c.id == api_tokens.c.user)


def add(
    tx: Transaction,
    person_id: int,
    *,
    digest: str,
    name: str,
    scopes: Sequence[str],
    now: datetime,
    expires_utc: datetime,
    made_with: int | None = None,
) -> ApiToken:
    """Record a new token."""
    done = tx.execute(
        insert(api_tokens).values(
            digest=digest,
            user=person_id,
            name=name,
            scopes=list(scopes),
            created_utc=now,
            expires_utc=expires_utc,
            made_with=made_with,
        )
    )
    assert done.inserted_primary_key is not None
    added = token(tx, done.inserted_primary_key[0])
    assert added is not None
    return added


def token(conn: Reading, token_id: int) -> ApiToken | None:
    """The token of that row."""
    row = conn.execute(_SELECT.where(api_tokens.c.id == token_id)).one_or_none()
    return None if row is None else _token(row)


def find(conn: Reading, digest: str) -> ApiToken | None:
    """The token of that digest, in use or not."""
    row = conn.execute(_SELECT.where(api_tokens.c.digest == digest)).one_or_none()
    return None if row is None else _token(row)


def tokens(conn: Reading, person_id: int | None = None) -> list[ApiToken]:
    """The tokens of a person, or of everybody, the latest first."""
    query = _SELECT.order_by(api_tokens.c.id.desc())
    if person_id is not None:
        query = query.where(api_tokens.c.user == person_id)
    return [_token(row) for row in conn.execute(query)]


def use(tx: Transaction, token_id: int, address: str, now: datetime) -> None:
    """Record a use."""
    tx.execute(
        update(api_tokens).where(api_tokens.c.id == token_id).values(last_used_utc=now, last_address=address)
    )


def revoke(tx: Transaction, token_id: int, by: str, now: datetime) -> bool:
    """Take a token back. Whether it was there and had not been."""
    done = tx.execute(
        update(api_tokens)
        .where(api_tokens.c.id == token_id, api_tokens.c.revoked_utc.is_(None))
        .values(revoked_utc=now, revoked_by=by)
    )
    return done.rowcount == 1


def made_with(conn: Reading, token_id: int) -> list[ApiToken]:
    """The tokens that were made with a token, and with those, and so on; the oldest first."""
    family = select(api_tokens.c.id).where(api_tokens.c.made_with == token_id).cte(recursive=True)
    family = family.union(select(api_tokens.c.id).join(family, api_tokens.c.made_with == family.c.id))
    query = _SELECT.where(api_tokens.c.id.in_(select(family.c.id))).order_by(api_tokens.c.id)
    return [_token(row) for row in conn.execute(query)]


def _token(row: Row[*tuple[Any, ...]]) -> ApiToken:
    return ApiToken(
        id=row.id,
        person_id=row.user,
        login=row.login,
        name=row.name,
        scopes=tuple(row.scopes),
        created_utc=row.created_utc,
        expires_utc=row.expires_utc,
        last_used_utc=row.last_used_utc,
        last_address=row.last_address,
        revoked_utc=row.revoked_utc,
        revoked_by=row.revoked_by,
        made_with=row.made_with,
    )
