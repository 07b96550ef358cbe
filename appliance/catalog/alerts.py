"""What is remembered of each trouble between two judgements, and what a clinic has changed of the rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.dialects.sqlite import insert

from appliance.catalog.database import Reading, Transaction
from appliance.catalog.notice_tables import alert_rules, alert_states


@dataclass(frozen=True, slots=True)
class AlertState:
    """One trouble; `notice` is None while it hasn't stood long enough to be told."""

    kind: str
    subject: str
    since_utc: datetime
    gone_utc: datetime | None
    notice: int | None
    told_utc: datetime | None


def states(conn: Reading) -> list[AlertState]:
    """Everything that is remembered."""
    return [
        AlertState(row.kind, row.subject, row.since_utc, row.gone_utc, row.notice, row.told_utc)
        for row in conn.execute(select(alert_states).order_by(alert_states.c.kind, alert_states.c.subject))
    ]


def remember(tx: Transaction, state: AlertState) -> None:
    """Write one trouble."""
    values = {
        "since_utc": state.since_utc,
        "gone_utc": state.gone_utc,
        "notice": state.notice,
        "told_utc": state.told_utc,
    }
    statement = insert(alert_states).values(kind=state.kind, subject=state.subject, **values)
    tx.execute(statement.on_conflict_do_update(index_elements=["kind", "subject"], set_=values))


def forget(tx: Transaction, kind: str, subject: str) -> None:
    """A trouble is over, or wasn't one."""
    tx.execute(delete(alert_states).where(alert_states.c.kind == kind, alert_states.c.subject == subject))


def changes(conn: Reading) -> dict[str, Mapping[str, Any]]:
    """What the clinic has changed of the rules, by kind."""
    return {row.kind: row.changes for row in conn.execute(select(alert_rules))}


def change_rule(tx: Transaction, kind: str, changed: Mapping[str, Any], now: datetime) -> None:
    """Keep what the clinic changes of the rule of `kind`; with nothing changed it follows the delivered one again."""
    if not changed:
        tx.execute(delete(alert_rules).where(alert_rules.c.kind == kind))
        return
    values = {"changes": dict(changed), "changed_utc": now}
    statement = insert(alert_rules).values(kind=kind, **values)
    tx.execute(statement.on_conflict_do_update(index_elements=["kind"], set_=values))
