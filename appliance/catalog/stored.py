"""How much lies in each archive, by how long it has been there. Reads only."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise

from appliance.catalog.columns import utc_text
from appliance.catalog.database import Reading
from appliance.model import DestinationId


def bytes_by_age(reading: Reading, destination: DestinationId, since: Sequence[datetime]) -> list[int]:
    """The bytes of ciphertext with a receipt of `destination`, in bands: since the first moment, between the first and the second, and
    so on, and before the last. `since` goes back in time.
    """
    bounds = ["9999", *(utc_text(each) for each in since), ""]
    return [
        int(
            reading.exec_driver_sql(
                "SELECT coalesce(sum(i.sealed_bytes), 0) FROM deliveries AS d JOIN instances AS i ON i.id = d.instance"
                " WHERE d.destination = ? AND d.state = 'CONFIRMED' AND d.changed_utc < ? AND d.changed_utc >= ?",
                (destination, newer, older),
            ).scalar()
            or 0
        )
        for newer, older in pairwise(bounds)
    ]
