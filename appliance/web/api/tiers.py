"""Storage tiers: how much is on this disk, how far away the rest lies in each bucket, and what keeps a bucket from moving it.

What is chosen (when images leave this disk, after how many days they move in the cloud) are settings like others: `PATCH /settings`
sets them, by the same bounds as the console. The box carries them out by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from appliance.catalog import Reading, destinations, evictions
from appliance.identity.permissions import Permission
from appliance.lifecycle import eviction, prices, storage, tagging, tier_rules
from appliance.lifecycle.storage import Bucket
from appliance.lifecycle.storage_class import Tier, class_of
from appliance.lifecycle.tagging import Trouble
from appliance.lifecycle.tier_rules import Missing
from appliance.lifecycle.tiers import Eviction
from appliance.web.api.operation import operation
from appliance.web.api.shape import Row, Shape
from appliance.web.console import console, now

Bytes = Annotated[int, Shape("Of ciphertext, by what the box has said of each study.")]


@dataclass(frozen=True, slots=True)
class BucketTiers:
    """A bucket. `rules` says whether it has the rules that the chosen days need, as it was when it was asked last."""

    destination: Row
    name: str
    hot_bytes: Bytes
    warm_bytes: Bytes
    cold_bytes: Bytes
    deep_bytes: Bytes
    a_month: Annotated[str, Shape("What keeping them costs a month: an estimate.", example="12.34")]
    reading_all: Annotated[str, Shape("What bringing all of them home once costs: an estimate.")]
    tags: Annotated[Literal["taken", "refused", "not kept"], Shape("Whether it takes what the box says.")]
    cause: Annotated[str, Shape("Why it does not; or empty.")]
    remedy: Annotated[str, Shape("What a person does about that; or empty.")]
    rules: Literal["well", "missing", "not told"]
    missing_rules: Annotated[
        str, Shape("To be added to its life cycle, as JSON in S3's own words; or empty.")
    ]


@dataclass(frozen=True, slots=True)
class Tiers:
    """What was chosen, and how much is where. A number of days is 0 for never."""

    eviction: Annotated[Eviction, Shape("When images leave this disk.")]
    obstacle: Annotated[str, Shape("Why nothing moves at present; or empty.")]
    here_images: int
    here_bytes: int
    away_images: int
    away_bytes: int
    warm_days: int
    cold_days: int
    deep_days: int
    currency: str
    prices_as_of: str
    buckets: tuple[BucketTiers, ...]


@operation("GET", "/tiers", Permission.VIEW_HEALTH, gives=Tiers)
def get_tiers() -> Tiers:
    """Get how much is on this disk and in which class of the cloud, and what keeps a bucket from moving it."""
    with console().box.catalog.reading() as conn:
        tally, ages = evictions.tally(conn), storage.ages(conn)
        return Tiers(
            eviction=eviction.choices(conn).eviction,
            obstacle=str(eviction.obstacle(conn, now()) or ""),
            here_images=tally.here,
            here_bytes=tally.here_bytes,
            away_images=tally.away,
            away_bytes=tally.away_bytes,
            warm_days=ages.warm_days,
            cold_days=ages.cold_days,
            deep_days=ages.deep_days,
            currency=prices.CURRENCY,
            prices_as_of=str(prices.AS_OF),
            buckets=tuple(_buckets(conn, ages.steps != ())),
        )


OPERATIONS = (get_tiers,)


def _buckets(conn: Reading, moves: bool) -> list[BucketTiers]:
    known = {each.name: each for each in destinations.destinations(conn)}
    troubles = tagging.troubles(conn) if moves else {}
    return [
        _bucket(
            each,
            int(known[each.name].id),
            troubles.get(each.name),
            tier_rules.missing(conn, known[each.name]),
        )
        for each in storage.buckets(conn)
    ]


def _bucket(each: Bucket, number: int, trouble: Trouble | None, missing: Missing | None) -> BucketTiers:
    by_tier = {class_of(name).tier: count for name, count in each.bytes_by_class.items()}
    return BucketTiers(
        destination=number,
        name=each.name,
        hot_bytes=by_tier.get(Tier.HOT, 0),
        warm_bytes=by_tier.get(Tier.WARM, 0),
        cold_bytes=by_tier.get(Tier.COLD, 0),
        deep_bytes=by_tier.get(Tier.DEEP, 0),
        a_month=f"{each.a_month:.2f}",
        reading_all=f"{each.reading_all:.2f}",
        tags="taken" if trouble is None else "not kept" if trouble.at else "refused",
        cause=trouble.message if trouble else "",
        remedy=trouble.hint if trouble else "",
        rules="well" if missing is None else "missing" if missing.is_told else "not told",
        missing_rules=missing.rules if missing else "",
    )
