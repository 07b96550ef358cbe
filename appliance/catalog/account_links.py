"""Links with which a person chooses a password, once. The only writer of that table; kept under their SHA-256."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, insert, select

from appliance.catalog.access_tables import account_links
from appliance.catalog.database import Reading, Transaction


@dataclass(frozen=True, slots=True)
class AccountLink:
    """A link that has not been used. `id` is the digest of what it holds, `made_by` a login or a command line."""

    id: str
    user: int
    made_by: str
    made_utc: datetime
    expires_utc: datetime


def put(tx: Transaction, link: AccountLink) -> None:
    """Record a link; the one that its user had before is worth nothing from now on."""
    forget_of(tx, link.user)
    tx.execute(insert(account_links).values(**{name: getattr(link, name) for name in AccountLink.__slots__}))


def find(conn: Reading, digest: str) -> AccountLink | None:
    """The link of that digest, however old."""
    row = conn.execute(select(account_links).where(account_links.c.id == digest)).one_or_none()
    return None if row is None else AccountLink(*row)


def of(conn: Reading, user: int) -> AccountLink | None:
    """The link of a user, however old."""
    row = conn.execute(select(account_links).where(account_links.c.user == user)).one_or_none()
    return None if row is None else AccountLink(*row)


def forget_of(tx: Transaction, user: int) -> None:
    """Forget the link of a user, used or not."""
    tx.execute(delete(account_links).where(account_links.c.user == user))


def forget_expired(tx: Transaction, now: datetime) -> int:
    """Forget the links whose time is over. How many there were."""
    return tx.execute(delete(account_links).where(account_links.c.expires_utc <= now)).rowcount
