"""Storage tiers: how much is on this disk, how far away the rest lies in each bucket, what keeps a bucket from moving it, and having
it moved, let leave and brought back now.

What is chosen (when images leave this disk, after how many days they move in the cloud, how they are fetched from deep archive) are
settings like others: `PATCH /settings` sets them, by the same bounds as the console. The box carries them out by itself. What is
begun here by hand takes minutes or hours, and is answered when it is begun: `GET /tiers/work` says how far it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal

from appliance.catalog import Reading, destinations, evictions, sight
from appliance.identity.permissions import Permission
from appliance.lifecycle import eviction, prices, returning, storage, tagging, tier_rules
from appliance.lifecycle.prices import Price
from appliance.lifecycle.storage import Bucket
from appliance.lifecycle.storage_class import Retrieval, Tier, class_of
from appliance.lifecycle.tagging import Trouble
from appliance.lifecycle.tier_rules import Missing
from appliance.lifecycle.tiers import Eviction, Pin
from appliance.replication import recall
from appliance.web import access, forms
from appliance.web.api.operation import operation
from appliance.web.api.shape import Row, Shape
from appliance.web.api.work import Work, begin, work_of
from appliance.web.console import console, now
from appliance.wizard import by_hand

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
class ClassPrice:
    """What a class of storage costs by list price, in `currency`, a gigabyte: for comparing."""

    storage_class: Annotated[str, Shape("By the provider's name.", example="DEEP_ARCHIVE")]
    tier: Tier
    keep_a_month: float
    read: Annotated[float, Shape("By the standard way.")]
    wait_hours: Annotated[int, Shape("By the standard way, at most; 0 is at once.", least=0)]
    read_in_bulk: Annotated[float | None, Shape("By the cheapest way; null where there is none.")]
    bulk_wait_hours: Annotated[int, Shape("By the cheapest way, at most.", least=0)]
    least_days: Annotated[int, Shape("That are paid for in any case.", least=0)]


@dataclass(frozen=True, slots=True)
class LeavingStudy:
    """A study that would leave."""

    study: Row
    images: int
    bytes: int
    touched_utc: Annotated[datetime, Shape("When it last changed or was last opened.")]


@dataclass(frozen=True, slots=True)
class PinnedStudies:
    """How many studies stay, for one reason; a study may have several."""

    why: Pin
    studies: int


@dataclass(frozen=True, slots=True)
class TierPlan:
    """What would leave this disk now, in that order. Nothing is changed by asking."""

    wanted_bytes: Annotated[int, Shape("That should become free, by the water marks.", least=0)]
    leaving_bytes: Annotated[int, Shape("That would.", least=0)]
    leaving: Annotated[tuple[LeavingStudy, ...], Shape(f"{eviction.MOST} at most.")]
    pinned: tuple[PinnedStudies, ...]


@dataclass(frozen=True, slots=True)
class TierWork:
    """How far the latest is of each kind that was begun by hand."""

    move: Work
    evict: Work
    bring_back: Work


@dataclass(frozen=True, slots=True)
class WantedStudy:
    """What of a study is not on this disk, and comes by itself from now on."""

    away_images: Annotated[int, Shape("0 if all of it is here.", least=0)]


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
    retrieval: Annotated[Retrieval, Shape("How what lies in deep archive is fetched.")]
    currency: str
    prices_as_of: str
    prices: tuple[ClassPrice, ...]
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
            retrieval=recall.retrieval(conn),
            prices_as_of=str(prices.AS_OF),
            prices=tuple(_price(each) for each in prices.PRICES),
            buckets=tuple(_buckets(conn, ages.steps != ())),
        )


@operation("GET", "/tiers/plan", Permission.MANAGE_BACKUPS, gives=TierPlan)
def get_tier_plan() -> TierPlan:
    """Get which studies would leave this disk now, and what keeps the others."""
    box = console().box
    plan = eviction.planned(box, now())
    with box.catalog.transaction() as tx:
        seen = {"rows": len(plan.leaving), "studies": [each.id for each in plan.leaving[:1000]]}
        console().record(tx, "tiers:list", "api", forms.actor(), seen)
    return TierPlan(
        plan.wanted_bytes,
        plan.leaving_bytes,
        tuple(LeavingStudy(each.id, each.here, each.here_bytes, each.touched_utc) for each in plan.leaving),
        tuple(PinnedStudies(why, count) for why, count in plan.pinned.items()),
    )


@operation("GET", "/tiers/work", Permission.VIEW_HEALTH, gives=TierWork)
def get_tier_work() -> TierWork:
    """Get how far that is which was begun by hand: telling the buckets, letting leave, bringing back."""
    return _work()


@operation("POST", "/tiers/move", Permission.MANAGE_BACKUPS, gives=TierWork, status=202, refuses=(409, 422))
def move_tiers() -> TierWork:
    """Begin to tell the buckets how far away each study may lie, also those that kept no tags; 409 while that is under way.

    The box does so by itself, by and by. 422 while nothing may be moved: the detail says why.
    """
    box, actor = console().box, forms.actor()
    begin("tiers-by-hand", lambda: by_hand.begin_move(box, actor))
    return _work()


@operation("POST", "/tiers/evict", Permission.MANAGE_BACKUPS, gives=TierWork, status=202, refuses=(409, 422))
def evict_studies() -> TierWork:
    """Begin to make room on this disk, as the clinic has chosen; 409 while that is under way.

    422 if the clinic has chosen that images stay, or while nothing may leave: the detail says why.
    """
    box, actor = console().box, forms.actor()
    begin("tiers-by-hand", lambda: by_hand.begin_eviction(box, actor))
    return _work()


@operation("POST", "/tiers/return", Permission.MANAGE_BACKUPS, gives=TierWork, status=202, refuses=(409, 422))
def return_everything() -> TierWork:
    """Begin to bring everything back that is in archives only; 409 while that is under way.

    422 where this disk would be filled below its low water mark (`tiers.low_percent`): the detail says how much would come and may.
    What lies in deep archive is asked for, which may cost; it comes by itself, hours later.
    """
    box, actor = console().box, forms.actor()
    begin("tiers-by-hand", lambda: by_hand.begin_return(box, actor))
    return _work()


@operation("POST", "/studies/{study_id}/return", Permission.VIEW_STUDIES, gives=WantedStudy, status=202)
def return_study(study_id: int) -> WantedStudy:
    """Have a study brought back to this disk, as opening it would: within a minute, or hours later from deep archive. Twice is as once."""
    with console().box.catalog.reading() as conn:
        row = sight.study(conn, access.sight(), study_id)
        if row is None:
            raise access.not_there("study", study_id)
    with console().box.catalog.transaction() as tx:
        away = evictions.away_of_study(tx, study_id)
        if away:
            returning.want(tx, study_id, now())
        uid = row.study_instance_uid or sight.uid_for_audit(tx, study_id)
        details = {"instances": away}
        console().record(tx, "study:want", f"study:{study_id}", forms.actor(), details, study=uid)
    return WantedStudy(away)


OPERATIONS = (
    get_tiers,
    get_tier_plan,
    get_tier_work,
    move_tiers,
    evict_studies,
    return_everything,
    return_study,
)


def _work() -> TierWork:
    box = console().box
    with box.catalog.reading() as conn:
        return TierWork(
            *(
                work_of(by_hand.latest(box, conn, each))
                for each in (by_hand.MOVE, by_hand.EVICT, by_hand.RETURN)
            )
        )


def _price(each: Price) -> ClassPrice:
    return ClassPrice(
        storage_class=each.storage.name,
        tier=each.storage.tier,
        keep_a_month=each.keep,
        read=each.read,
        wait_hours=each.storage.wait_hours,
        read_in_bulk=each.bulk,
        bulk_wait_hours=each.storage.bulk_hours,
        least_days=each.storage.least_days,
    )


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
