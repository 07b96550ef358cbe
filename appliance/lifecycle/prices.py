"""What images in the cloud cost by list price: an estimate, for whoever chooses ages. Pure, and the only place where a price stands.

Prices are Amazon's for Canada (Central), in US dollars, before taxes, discounts, requests and the least duration and size that
each class is charged for. Other providers have their own. They change, and nobody has checked these against the provider's list
since `AS_OF`: `SOURCE` says where today's are, and whoever makes a release looks there. Nothing is decided by them. The cheapest way out
of deep archive is reckoned by the eighth of the standard one that it is elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from appliance.lifecycle.storage_class import (
    COLD,
    DEEP,
    FLEXIBLE,
    STANDARD,
    WARM,
    Retrieval,
    StorageClass,
)

REGION: Final = "ca-central-1"
CURRENCY: Final = "USD"
AS_OF: Final = "2025"
"""About when. The page says that they are for comparing, and not checked since."""
SOURCE: Final = "https://aws.amazon.com/s3/pricing/"
GB: Final = 10**9
TRANSFER_PER_GB: Final = 0.09
"""What each gigabyte costs that leaves the cloud for a clinic, whatever its class, after the hundred that are free in a month."""


@dataclass(frozen=True, slots=True)
class Price:
    """What a class costs: `keep` for a gigabyte a month, `read` for a gigabyte each time it is read, `bulk` by the cheapest way."""

    storage: StorageClass
    keep: float
    read: float
    bulk: float | None = None

    def reading(self, retrieval: Retrieval) -> float:
        """What a gigabyte costs that is read in that way."""
        return self.bulk if retrieval is Retrieval.BULK and self.bulk is not None else self.read


PRICES: Final = (
    Price(STANDARD, 0.025, 0.0),
    Price(WARM, 0.0138, 0.01),
    Price(COLD, 0.005, 0.03),
    Price(FLEXIBLE, 0.0045, 0.011, 0.0),
    Price(DEEP, 0.002, 0.022, 0.00275),
)
_BY_NAME: Final = {each.storage.name: each for each in PRICES}


def a_month(bytes_by_class: Mapping[str, int]) -> float:
    """What so many bytes of each class cost a month. Raises `KeyError` for a class without a price."""
    return sum(_BY_NAME[name].keep * count / GB for name, count in bytes_by_class.items())


def reading_all(bytes_by_class: Mapping[str, int], retrieval: Retrieval = Retrieval.STANDARD) -> float:
    """What it costs to bring all of them home once, as after a fire: reading, in that way, and the way out of the cloud."""
    return sum(
        (_BY_NAME[name].reading(retrieval) + TRANSFER_PER_GB) * count / GB
        for name, count in bytes_by_class.items()
    )
