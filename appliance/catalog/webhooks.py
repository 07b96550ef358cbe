"""Webhooks as recorded: where notices are posted to, and how each receiver does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import Row, insert, select, update

from appliance.catalog.database import Reading, Transaction
from appliance.catalog.notice_tables import webhooks as table
from appliance.errors import Refused, Unknown
from appliance.replication.delivery import Breaker


@dataclass(frozen=True, slots=True)
class Webhook:
    """One receiver. `options` are its language, the least severity it hears of, a number to text, a CA of its own.

    `secret` signs what is posted; it is shown once, and never listed, logged or exported.
    """

    name: str
    url: str
    format: str
    options: Mapping[str, str] = field(default_factory=dict)
    on_lan: bool = False
    secret: str = field(default="", repr=False)
    id: int = 0
    breaker: Breaker = field(default_factory=Breaker)
    last_success_utc: datetime | None = None

    @property
    def host(self) -> str:
        """The machine that its address names; the rest of the address may be a secret."""
        return urlsplit(self.url).hostname or ""


def add(tx: Transaction, hook: Webhook, now: datetime) -> int:
    """Record a webhook; its id. Raises `Refused` if the name is taken."""
    if any(each.name == hook.name for each in webhooks(tx)):
        raise Refused(f"there is a webhook named {hook.name} already", hint="choose another name")
    values = insert(table).values(
        name=hook.name,
        url=hook.url,
        secret=hook.secret,
        format=hook.format,
        options=dict(hook.options),
        on_lan=hook.on_lan,
        created_utc=now,
    )
    return int(tx.execute(values.returning(table.c.id)).scalar_one())


def remove(tx: Transaction, name: str) -> Webhook:
    """Take a webhook away; what it was. Raises `Unknown`."""
    found = by_name(tx, name)
    tx.execute(
        update(table)
        .where(table.c.id == found.id)
        .values(removed=True, secret="", name=f"{name} (removed {found.id})")
    )
    return found


def webhooks(conn: Reading) -> list[Webhook]:
    """Those that are not removed, by name."""
    return [
        _webhook(row)
        for row in conn.execute(select(table).where(table.c.removed.is_(False)).order_by(table.c.name))
    ]


def webhook(conn: Reading, webhook_id: int) -> Webhook | None:
    """One webhook, unless it was removed."""
    row = conn.execute(
        select(table).where(table.c.id == webhook_id, table.c.removed.is_(False))
    ).one_or_none()
    return None if row is None else _webhook(row)


def by_name(conn: Reading, name: str) -> Webhook:
    """The webhook of that name. Raises `Unknown`."""
    for each in webhooks(conn):
        if each.name == name:
            return each
    raise Unknown(f"there is no webhook named {name}", hint="list the webhooks to see their names")


def set_breaker(tx: Transaction, webhook_id: int, breaker: Breaker) -> None:
    """Record the circuit breaker of a webhook."""
    tx.execute(
        update(table)
        .where(table.c.id == webhook_id)
        .values(
            breaker_failures=breaker.failures,
            breaker_open_until_utc=breaker.open_until_utc,
            breaker_reason=breaker.reason,
        )
    )


def succeeded(tx: Transaction, webhook_id: int, now: datetime) -> None:
    """Record that something has arrived there."""
    tx.execute(
        update(table)
        .where(table.c.id == webhook_id)
        .values(last_success_utc=now, breaker_failures=0, breaker_open_until_utc=None, breaker_reason="")
    )


def _webhook(row: Row[*tuple[Any, ...]]) -> Webhook:
    return Webhook(
        name=row.name,
        url=row.url,
        format=row.format,
        options=row.options,
        on_lan=row.on_lan,
        secret=row.secret,
        id=row.id,
        breaker=Breaker(row.breaker_failures, row.breaker_open_until_utc, row.breaker_reason),
        last_success_utc=row.last_success_utc,
    )
