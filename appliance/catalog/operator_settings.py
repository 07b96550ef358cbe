"""What an operator has chosen, and every change of it. The only writer of those two tables.

A key without a row is at its default. What a value may be, `appliance.settings` decides. What the box keeps for itself
is in `appliance.catalog.settings`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, func, insert, select
from sqlalchemy.dialects.sqlite import insert as insert_or_update

from appliance.catalog.database import Reading, Transaction
from appliance.catalog.schema import operator_settings, setting_changes

_ONE = "SELECT value FROM operator_settings WHERE key = ?"
_SEVERAL = "SELECT key, value FROM operator_settings WHERE key IN (SELECT value FROM json_each(?))"


@dataclass(frozen=True, slots=True)
class ChangeRow:
    """One change; None as `old` or `new` is the default."""

    id: int
    at_utc: datetime
    actor: str
    key: str
    old: Any
    new: Any
    undoes: int | None


def get(conn: Reading, key: str) -> Any:
    """The JSON value of `key`, None if nothing was chosen."""
    row = conn.exec_driver_sql(_ONE, (key,)).first()
    return None if row is None else json.loads(row[0])


def values(conn: Reading, keys: Sequence[str]) -> dict[str, Any]:
    """The values of those among `keys` that were chosen, in one statement: every request asks for some."""
    return {key: json.loads(value) for key, value in conn.exec_driver_sql(_SEVERAL, (json.dumps(keys),))}


def all_values(conn: Reading) -> dict[str, Any]:
    """Every value that was chosen, by key."""
    return {row.key: row.value for row in conn.execute(select(operator_settings))}


def put(tx: Transaction, key: str, value: Any, now: datetime) -> None:
    """Set `key` to a JSON-able `value`; None goes back to the default."""
    if value is None:
        tx.execute(delete(operator_settings).where(operator_settings.c.key == key))
        return
    statement = insert_or_update(operator_settings).values(key=key, value=value, changed_utc=now)
    tx.execute(
        statement.on_conflict_do_update(
            index_elements=["key"],
            set_={"value": statement.excluded.value, "changed_utc": statement.excluded.changed_utc},
        )
    )


def add_change(
    tx: Transaction, *, key: str, old: Any, new: Any, actor: str, undoes: int | None, now: datetime
) -> ChangeRow:
    """Record a change; gives it back with its id."""
    done = tx.execute(
        insert(setting_changes).values(key=key, old=old, new=new, actor=actor, undoes=undoes, at_utc=now)
    )
    assert done.inserted_primary_key is not None
    return ChangeRow(done.inserted_primary_key[0], now, actor, key, old, new, undoes)


def change(conn: Reading, change_id: int) -> ChangeRow | None:
    """One change."""
    row = conn.execute(select(setting_changes).where(setting_changes.c.id == change_id)).one_or_none()
    return None if row is None else _row(row)


def changes(
    conn: Reading, *, key: str | None = None, limit: int = 100, before: int | None = None
) -> list[ChangeRow]:
    """Changes, the newest first."""
    query = select(setting_changes).order_by(setting_changes.c.id.desc()).limit(limit)
    if key is not None:
        query = query.where(setting_changes.c.key == key)
    if before is not None:
        query = query.where(setting_changes.c.id < before)
    return [_row(row) for row in conn.execute(query)]


def last_change(conn: Reading, key: str | None = None) -> int:
    """The id of the latest change, of `key` or of any; 0 if there was none."""
    query = select(func.max(setting_changes.c.id))
    if key is not None:
        query = query.where(setting_changes.c.key == key)
    return int(conn.execute(query).scalar_one() or 0)


def _row(row: Row[*tuple[Any, ...]]) -> ChangeRow:
    return ChangeRow(row.id, row.at_utc, row.actor, row.key, row.old, row.new, row.undoes)
