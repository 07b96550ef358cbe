"""What each archive gave as the proof that it holds an object, and the later proof that takes its place.

A receipt is written when a delivery is confirmed, and stays. When an object is found to be there still and whole, but as another version
(somebody has copied the bucket, or the box has written it again), the receipt is renewed: it would be found different for ever.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from appliance.catalog.columns import canonical_json, utc_text
from appliance.catalog.database import Reading, Transaction
from appliance.model import DestinationId, KeyId, ObjectId


def of_object(reading: Reading, object_id: ObjectId) -> dict[DestinationId, dict[str, Any]]:
    """The receipt of each archive that has one for an object, the latest first."""
    rows = reading.exec_driver_sql(
        "SELECT d.destination, d.receipt FROM deliveries AS d JOIN instances AS i ON i.id = d.instance"
        " WHERE i.object_id = ? AND d.state = 'CONFIRMED' ORDER BY d.changed_utc DESC",
        (object_id,),
    )
    return {DestinationId(row[0]): json.loads(row[1]) if row[1] else {} for row in rows}


def in_order(
    reading: Reading, destination_id: DestinationId, after: str, most: int
) -> list[tuple[ObjectId, KeyId, int, dict[str, Any]]]:
    """The next `most` objects that an archive has a receipt for, in the order of their ids: each with its key, its sealed size and the receipt."""
    rows = reading.exec_driver_sql(
        "SELECT i.object_id, i.key_id, i.sealed_bytes, d.receipt FROM instances AS i"
        " CROSS JOIN deliveries AS d"  # in this order: by the index of the ids
        " WHERE d.destination = ? AND d.instance = i.id AND d.state = 'CONFIRMED' AND i.object_id > ?"
        " ORDER BY i.object_id LIMIT ?",
        (destination_id, after, most),
    )
    return [(ObjectId(row[0]), KeyId(row[1]), row[2], json.loads(row[3]) if row[3] else {}) for row in rows]


def renew(
    tx: Transaction,
    destination_id: DestinationId,
    object_id: ObjectId,
    receipt: Mapping[str, Any],
    now: datetime,
) -> None:
    """Put a later receipt in the place of one that a destination has given, if it has given one."""
    tx.exec_driver_sql(
        "UPDATE deliveries SET receipt = ?, changed_utc = ? WHERE destination = ? AND state = 'CONFIRMED'"
        " AND instance = (SELECT id FROM instances WHERE object_id = ?)",
        (canonical_json(dict(receipt)), utc_text(now), destination_id, object_id),
    )
