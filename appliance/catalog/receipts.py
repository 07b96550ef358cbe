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
from appliance.model import DestinationId, ObjectId


def of_object(reading: Reading, object_id: ObjectId) -> dict[DestinationId, dict[str, Any]]:
    """The receipt of each archive that has one for an object, the latest first."""
    rows = reading.exec_driver_sql(
        "SELECT d.destination, d.receipt FROM deliveries AS d JOIN instances AS i ON i.id = d.instance"
        " WHERE i.object_id = ? AND d.state = 'CONFIRMED' ORDER BY d.changed_utc DESC",
        (object_id,),
    )
    return {DestinationId(row[0]): json.loads(row[1]) if row[1] else {} for row in rows}


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
