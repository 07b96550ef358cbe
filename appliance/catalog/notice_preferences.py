"""What each person has chosen to hear of: one JSON value a person, read by `appliance.notify.preferences`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects.sqlite import insert

from appliance.catalog.database import Reading, Transaction
from appliance.catalog.notice_tables import notice_preferences as table


def choices(conn: Reading) -> dict[int, Mapping[str, Any]]:
    """What those who have chosen chose, by person."""
    return {row.user: row.value for row in conn.execute(select(table))}


def choose(tx: Transaction, person: int, value: Mapping[str, Any], now: datetime) -> None:
    """Keep what a person chooses."""
    values = {"value": dict(value), "changed_utc": now}
    statement = insert(table).values(user=person, **values)
    tx.execute(statement.on_conflict_do_update(index_elements=["user"], set_=values))
