"""The audit as rows. What they mean and how they are chained is `appliance.audit`'s; this only keeps them.

Rows come back exactly as they lie in the table, so that a row that was tampered with is found, not choked on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert

from appliance.catalog.database import Transaction
from appliance.catalog.schema import audit
from appliance.catalog.statement import compiled


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One row as it lies in the table; columns other than `id` have whatever type somebody gave them."""

    id: int
    at_utc: Any
    actor: Any
    actor_kind: Any
    address: Any
    action: Any
    subject: Any
    study: Any
    outcome: Any
    details: Any
    format: Any
    chain: Any


@dataclass(frozen=True, slots=True)
class AuditHead:
    """How many rows there are, the chain value of the last, and what authenticates both."""

    count: Any
    chain: Any
    mac: Any


COLUMNS = AuditRow.__slots__
_ADD = compiled(insert(audit), *COLUMNS)
_ROWS = f"SELECT {', '.join(COLUMNS)} FROM audit WHERE id > ? ORDER BY id LIMIT 1000"  # noqa: S608 - constants
_NEWEST = f"SELECT {', '.join(COLUMNS)} FROM audit WHERE id < ? ORDER BY id DESC LIMIT ?"  # noqa: S608 - constants
_LAST_ID = "SELECT coalesce(max(id), 0) FROM audit"
_HEAD = "SELECT count, chain, mac FROM audit_head WHERE id = 1"
_PUT_HEAD = """
    INSERT INTO audit_head (id, count, chain, mac) VALUES (1, ?, ?, ?)
    ON CONFLICT (id) DO UPDATE SET count = excluded.count, chain = excluded.chain, mac = excluded.mac
"""
_ALL_IDS = 1 << 62


def head(reading: Connection) -> AuditHead | None:
    """The head; None before the first row."""
    row = reading.exec_driver_sql(_HEAD).first()
    return None if row is None else AuditHead(*row)


def last_id(reading: Connection) -> int:
    """The highest row id, 0 if there is none."""
    return int(reading.exec_driver_sql(_LAST_ID).scalar_one())


def add(tx: Transaction, rows: Sequence[AuditRow], new_head: AuditHead) -> None:
    """Add `rows` and replace the head."""
    tx.exec_driver_sql(
        _ADD,
        [tuple(getattr(row, name) for name in COLUMNS) for row in rows],
    )
    tx.exec_driver_sql(_PUT_HEAD, (new_head.count, new_head.chain, new_head.mac))


def rows(reading: Connection) -> Iterator[AuditRow]:
    """Every row, by id; a thousand in memory at a time."""
    after = -_ALL_IDS
    while found := reading.exec_driver_sql(_ROWS, (after,)).fetchall():
        for row in found:
            yield AuditRow(*row)
        after = found[-1][0]


def after(reading: Connection, number: int, *, limit: int) -> list[AuditRow]:
    """The `limit` rows that follow row `number`, by id."""
    query = f"SELECT {', '.join(COLUMNS)} FROM audit WHERE id > ? ORDER BY id LIMIT ?"  # noqa: S608 - constants
    return [AuditRow(*row) for row in reading.exec_driver_sql(query, (number, limit))]


def newest(reading: Connection, *, limit: int, before: int | None = None) -> list[AuditRow]:
    """The latest `limit` rows, the newest first; those with an id below `before` when it is given."""
    bound = _ALL_IDS if before is None else before
    return [AuditRow(*row) for row in reading.exec_driver_sql(_NEWEST, (bound, limit))]
