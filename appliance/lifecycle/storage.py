"""In which class of storage the images in each bucket lie, by what the box has said of each, and what that costs: an estimate.

Chose to reckon from the receipts and the tags over asking the bucket, because it costs nothing and needs no line; a bucket that lacks
the rules, or an object that S3 leaves where it is because it is small, differs.
"""

from __future__ import annotations

from dataclasses import dataclass

from appliance import settings as chosen
from appliance.catalog import Reading, destinations, stored
from appliance.lifecycle import prices
from appliance.lifecycle.storage_class import OF_TIER, Ages, Retrieval
from appliance.replication import recall


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket by its name, and its bytes by class; costs are in `prices.CURRENCY`, of what lies deep by `retrieval`."""

    name: str
    bytes_by_class: dict[str, int]
    retrieval: Retrieval = Retrieval.STANDARD

    @property
    def a_month(self) -> float:
        """What keeping them costs a month."""
        return prices.a_month(self.bytes_by_class)

    @property
    def reading_all(self) -> float:
        """What bringing all of them home once costs."""
        return prices.reading_all(self.bytes_by_class, self.retrieval)


def ages(reading: Reading) -> Ages:
    """After how many days without being opened studies move to cheaper classes, as the clinic chose."""
    return Ages(
        int(chosen.get(reading, "tiers.warm_days")),
        int(chosen.get(reading, "tiers.cold_days")),
        int(chosen.get(reading, "tiers.deep_days")),
    )


def buckets(reading: Reading) -> list[Bucket]:
    """Every bucket of the box, with what lies in it by class."""
    how = recall.retrieval(reading)
    return [
        Bucket(
            each.name,
            {OF_TIER[tier].name: count for tier, count in stored.bytes_by_tier(reading, each.id).items()},
            how,
        )
        for each in destinations.destinations(reading)
        if each.kind == "s3" and each.id is not None
    ]
