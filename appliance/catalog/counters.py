"""Running counts, so that no page has to count a table: each is changed in the transaction that changes what it counts."""

from __future__ import annotations

from collections.abc import Mapping

from appliance.catalog.database import Reading, Transaction

STUDY_CHANGE = "study_change"
STUDIES, INSTANCES, BYTES, DUPLICATES = "studies", "instances", "bytes", "duplicates"
CONFIRMED = "confirmed:"
"""Before the id of a destination: how many deliveries to it have a receipt."""

_ADD = """
    INSERT INTO counters (name, value) VALUES (?, ?)
    ON CONFLICT (name) DO UPDATE SET value = value + excluded.value RETURNING value
"""


def add(tx: Transaction, name: str, count: int = 1) -> int:
    """Add `count` to a counter, which begins at nothing; its value then."""
    return int(tx.exec_driver_sql(_ADD, (name, count)).scalar_one())


def counters(reading: Reading) -> Mapping[str, int]:
    """All of them: a handful, and one for each destination."""
    return {row[0]: int(row[1]) for row in reading.exec_driver_sql("SELECT name, value FROM counters")}
