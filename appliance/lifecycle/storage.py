"""In which class of storage the images in each bucket lie by the ages that the clinic chose, and what that costs: an estimate.

Chose to reckon from the receipts over asking the bucket, because it costs nothing, needs no line, and says what will be as well
as what is; a bucket whose life cycle was set otherwise, or an object that S3 leaves where it is because it is small, differs.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from appliance import settings as chosen
from appliance.catalog import Reading, destinations, stored
from appliance.lifecycle import prices
from appliance.lifecycle.storage_class import STANDARD, Ages


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket by its name, and its bytes by class; costs are in `prices.CURRENCY`."""

    name: str
    bytes_by_class: dict[str, int]

    @property
    def a_month(self) -> float:
        """What keeping them costs a month."""
        return prices.a_month(self.bytes_by_class)

    @property
    def reading_all(self) -> float:
        """What bringing all of them home once costs."""
        return prices.reading_all(self.bytes_by_class)


def ages(reading: Reading) -> Ages:
    """After how many days images move to cheaper classes, as the clinic chose."""
    return Ages(int(chosen.get(reading, "tiers.warm_days")), int(chosen.get(reading, "tiers.cold_days")))


def buckets(reading: Reading, now: datetime) -> list[Bucket]:
    """Every bucket of the box, with what lies in it by class."""
    steps = ages(reading).steps
    classes = [STANDARD, *(to for _, to in steps)]
    since = [now - timedelta(days=days) for days, _ in steps]
    return [
        Bucket(
            each.name,
            {
                storage.name: count
                for storage, count in zip(classes, stored.bytes_by_age(reading, each.id, since), strict=True)
            },
        )
        for each in destinations.destinations(reading)
        if each.kind == "s3" and each.id is not None
    ]
