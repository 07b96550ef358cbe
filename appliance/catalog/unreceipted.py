"""Which instances no archive has given a receipt for, and what becomes of their deliveries once one turns out to have them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from appliance.catalog import deliveries
from appliance.catalog.database import Reading, Transaction
from appliance.model import DeliveryId, InstanceId, KeyId, ObjectId


@dataclass(frozen=True, slots=True)
class Unreceipted:
    """An instance that no archive has a receipt for: of which study (row id), and its ciphertext."""

    instance: InstanceId
    study: int
    object_id: ObjectId
    key_id: KeyId
    sealed_bytes: int


def between(reading: Reading, first: int, below: int) -> list[Unreceipted]:
    """Those in the rows from `first` on and below `below`, the last recorded first."""
    rows = reading.exec_driver_sql(
        "SELECT i.id, s.study, i.object_id, i.key_id, i.sealed_bytes"
        " FROM instances AS i JOIN series AS s ON s.id = i.series WHERE i.id >= ? AND i.id < ?"
        " AND NOT EXISTS (SELECT 1 FROM deliveries AS d JOIN destinations AS p ON p.id = d.destination"
        "  WHERE d.instance = i.id AND d.state = 'CONFIRMED' AND p.takes = 'ciphertext' AND NOT p.removed)"
        " ORDER BY i.id DESC",
        (first, below),
    )
    return [
        Unreceipted(InstanceId(row[0]), int(row[1]), ObjectId(row[2]), KeyId(row[3]), int(row[4]))
        for row in rows
    ]


def among(reading: Reading, rows: Sequence[int]) -> list[Unreceipted]:
    """Those of `rows`, in their order."""
    return [each for row in rows for each in between(reading, row, row + 1)]


def try_again(tx: Transaction, instance: InstanceId, now: datetime) -> None:
    """Send an instance once more wherever that has failed: nobody had it then."""
    rows = tx.exec_driver_sql(
        "SELECT id FROM deliveries WHERE instance = ? AND state = 'FAILED'", (instance,)
    ).all()
    for row in rows:
        deliveries.retry(tx, DeliveryId(row[0]), now)
