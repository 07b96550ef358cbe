"""Heartbeats: every process says now and then that it lives, so that the others can tell when one does not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, select
from sqlalchemy.dialects.sqlite import insert

from appliance.catalog.database import Transaction
from appliance.catalog.schema import processes as table


@dataclass(frozen=True, slots=True)
class ProcessRow:
    """The latest heartbeat of a process, e.g. ``courier`` or ``dicom-0``."""

    name: str
    pid: int
    started_utc: datetime
    beat_utc: datetime
    detail: Mapping[str, Any]


def beat(
    tx: Transaction,
    name: str,
    pid: int,
    started: datetime,
    now: datetime,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Note that the process `name` lives; `detail` is JSON-able."""
    values = {"pid": pid, "started_utc": started, "beat_utc": now, "detail": dict(detail or {})}
    statement = insert(table).values(name=name, **values)
    tx.execute(statement.on_conflict_do_update(index_elements=["name"], set_=values))


def processes(reading: Connection) -> list[ProcessRow]:
    """The latest heartbeat of every process, by name."""
    return [
        ProcessRow(row.name, row.pid, row.started_utc, row.beat_utc, row.detail)
        for row in reading.execute(select(table).order_by(table.c.name))
    ]


def forget(tx: Transaction, name: str) -> None:
    """Take a process that was stopped on purpose off the list."""
    tx.execute(delete(table).where(table.c.name == name))
