"""The clinic's own figures of retention, with their history. The only writer of that table.

A change is a new row, and the newest row of a record type and start is the one that holds; a row without years takes the
clinic's figure back. So the table is its own history: who kept what for how long, since when, and why.

For which province the figures that hold were given stands beside them (`GIVEN_FOR`), and for none that earlier software wrote.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import func, insert, select

from appliance.catalog import settings
from appliance.catalog.database import Reading, Transaction
from appliance.catalog.lifecycle_tables import retention_rules
from appliance.lifecycle.laws import OwnFigure
from appliance.lifecycle.policy import RecordType, Starts

GIVEN_FOR: Final = "retention.given-for"
"""A key of `appliance.catalog.settings`: by row id of `retention_rules`, the province for which a figure was given."""


@dataclass(frozen=True, slots=True)
class FigureChange:
    """A change of one figure; `years` is None where the clinic has taken its figure back."""

    id: int
    record_type: RecordType
    starts: Starts
    years: int | None
    reason: str
    by: str
    at_utc: datetime


def own(reading: Reading) -> tuple[OwnFigure, ...]:
    """The figures that hold, each with who gave it, when and why."""
    newest = select(func.max(retention_rules.c.id)).group_by(
        retention_rules.c.record_type, retention_rules.c.starts
    )
    query = (
        select(retention_rules)
        .where(retention_rules.c.id.in_(newest), retention_rules.c.years.is_not(None))
        .order_by(retention_rules.c.record_type, retention_rules.c.starts)
    )
    rows = reading.execute(query).all()
    given_for = settings.get(reading, GIVEN_FOR, {}) if rows else {}
    return tuple(
        OwnFigure(
            RecordType(row.record_type),
            Starts(row.starts),
            int(row.years),
            reason=row.reason,
            by=row.by,
            at_utc=row.at_utc,
            province=str(given_for.get(str(row.id), "")),
        )
        for row in rows
    )


def put(
    tx: Transaction,
    record_type: RecordType,
    starts: Starts,
    years: int | None,
    *,
    province: str,
    reason: str,
    by: str,
    now: datetime,
) -> None:
    """Give a figure for the province in which the clinic is, or take it back."""
    done = tx.execute(
        insert(retention_rules).values(
            record_type=record_type, starts=starts, years=years, reason=reason, by=by, at_utc=now
        )
    )
    assert done.inserted_primary_key is not None
    given_for = settings.get(tx, GIVEN_FOR, {})
    settings.put(tx, GIVEN_FOR, {**given_for, str(done.inserted_primary_key[0]): province}, now)


def history(reading: Reading, *, limit: int = 100) -> list[FigureChange]:
    """Changes, the latest first."""
    query = select(retention_rules).order_by(retention_rules.c.id.desc()).limit(limit)
    return [
        FigureChange(
            row.id, RecordType(row.record_type), Starts(row.starts), row.years, row.reason, row.by, row.at_utc
        )
        for row in reading.execute(query)
    ]


def last_change(reading: Reading) -> int:
    """A number that every change makes greater."""
    return int(reading.execute(select(func.max(retention_rules.c.id))).scalar() or 0)
