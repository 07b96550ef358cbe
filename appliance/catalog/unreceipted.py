"""Which instances no archive, or not one of them, has given a receipt for, and what becomes of their deliveries once one turns out to have them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from appliance.catalog import deliveries
from appliance.catalog.database import Reading, Transaction
from appliance.model import DeliveryId, DestinationId, InstanceId, KeyId, ObjectId

_ROWS: Final = (
    "SELECT i.id, s.study, i.object_id, i.key_id, i.sealed_bytes"
    " FROM instances AS i JOIN series AS s ON s.id = i.series WHERE i.id >= ? AND i.id < ?"
)
_NO_RECEIPT: Final = (
    " AND NOT EXISTS (SELECT 1 FROM deliveries AS d JOIN destinations AS p ON p.id = d.destination"
    " WHERE d.instance = i.id AND d.state = 'CONFIRMED' AND p.takes = 'ciphertext' AND NOT p.removed"
)
_THERE: Final = _NO_RECEIPT + " AND p.id = ?)"
_ANYWHERE: Final = _NO_RECEIPT + ")"
_NOT_AWAY: Final = " AND NOT EXISTS (SELECT 1 FROM evictions AS e WHERE e.instance = i.id)"
_LATEST_FIRST: Final = " ORDER BY i.id DESC"


@dataclass(frozen=True, slots=True)
class Unreceipted:
    """An instance that an archive has no receipt for: of which study (row id), and its ciphertext."""

    instance: InstanceId
    study: int
    object_id: ObjectId
    key_id: KeyId
    sealed_bytes: int


def between(reading: Reading, first: int, below: int) -> list[Unreceipted]:
    """Those without a receipt anywhere in the rows from `first` on and below `below`, the last recorded first."""
    return _found(reading, _ROWS + _ANYWHERE + _LATEST_FIRST, first, below)


def in_one(reading: Reading, place_id: DestinationId, first: int, below: int) -> list[Unreceipted]:
    """As `between`, those that should be on this disk and have no receipt of one archive, whatever others are known to have."""
    return _found(reading, _ROWS + _THERE + _NOT_AWAY + _LATEST_FIRST, first, below, place_id)


def among(reading: Reading, place_id: DestinationId, rows: Sequence[int]) -> list[Unreceipted]:
    """Those of `rows` without a receipt of one archive, in their order."""
    return [each for row in rows for each in _found(reading, _ROWS + _THERE, row, row + 1, place_id)]


def nowhere(reading: Reading, rows: Sequence[int]) -> list[Unreceipted]:
    """Those of `rows` without a receipt anywhere."""
    return [each for row in rows for each in _found(reading, _ROWS + _ANYWHERE, row, row + 1)]


def _found(reading: Reading, statement: str, *values: int) -> list[Unreceipted]:
    return [
        Unreceipted(InstanceId(row[0]), int(row[1]), ObjectId(row[2]), KeyId(row[3]), int(row[4]))
        for row in reading.exec_driver_sql(statement, values)
    ]


def try_again(tx: Transaction, instance: InstanceId, now: datetime) -> None:
    """Send an instance once more wherever that has failed: nobody had it then."""
    rows = tx.exec_driver_sql(
        "SELECT id FROM deliveries WHERE instance = ? AND state = 'FAILED'", (instance,)
    ).all()
    for row in rows:
        deliveries.retry(tx, DeliveryId(row[0]), now)
