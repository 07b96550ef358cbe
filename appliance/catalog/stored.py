"""How much lies in each archive, by how far away the box has said it may lie. Reads only."""

from __future__ import annotations

from appliance.catalog.database import Reading
from appliance.lifecycle.storage_class import DOWNWARDS, Tier
from appliance.model import DestinationId

_BY_TIER = """
SELECT coalesce(g.deepest, 'hot'), sum(i.sealed_bytes)
 FROM deliveries AS d JOIN instances AS i ON i.id = d.instance JOIN series AS s ON s.id = i.series
 LEFT JOIN tier_tags AS g ON g.study = s.study AND g.destination = d.destination
 WHERE d.destination = ? AND d.state = 'CONFIRMED' GROUP BY 1
"""


def bytes_by_tier(reading: Reading, destination: DestinationId) -> dict[Tier, int]:
    """The bytes of ciphertext with a receipt of `destination`, by the furthest tier that was said of each, the nearest first."""
    found = {Tier(tier): int(count) for tier, count in reading.exec_driver_sql(_BY_TIER, (destination,))}
    return {each: found.get(each, 0) for each in DOWNWARDS if each is Tier.HOT or each in found}
