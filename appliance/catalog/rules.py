"""Rules as recorded: which instances are owed to which destination."""

from __future__ import annotations

from sqlalchemy import Connection, delete, insert, select

from appliance.catalog.database import Transaction
from appliance.catalog.schema import destinations
from appliance.catalog.schema import rules as table
from appliance.errors import Unknown
from appliance.model import Rule

_RULES = (
    select(table, destinations.c.name.label("destination_name"), destinations.c.takes)
    .join(destinations)
    .where(destinations.c.removed.is_(False))
    .order_by(table.c.id)
)


def rules(reading: Connection) -> tuple[Rule, ...]:
    """Every rule whose destination still exists, in the order in which they were made."""
    return tuple(
        Rule(
            destination_id=row.destination,
            destination=row.destination_name,
            takes=row.takes,
            device=row.device,
            modality=row.modality,
            priority=row.priority,
            id=row.id,
        )
        for row in reading.execute(_RULES)
    )


def add_rule(tx: Transaction, rule: Rule) -> int:
    """Add `rule` for what is received from now on; its id."""
    values = insert(table).values(
        destination=rule.destination_id,
        device=rule.device or None,
        modality=rule.modality or None,
        priority=rule.priority,
    )
    return int(tx.execute(values.returning(table.c.id)).scalar_one())


def remove_rule(tx: Transaction, rule_id: int) -> None:
    """Remove a rule; what it made owed stays owed. Raises `Unknown` if there is none."""
    if tx.execute(delete(table).where(table.c.id == rule_id)).rowcount == 0:
        raise Unknown(f"there is no rule {rule_id}", hint="see: appliance rule list")
