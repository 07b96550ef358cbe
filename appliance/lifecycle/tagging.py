"""Saying in the buckets how far away each study may lie: a tag on every object of it, which the bucket's own rules go by.

::

    studies that nobody opened for long, or that have tags (catalog.tier_tags)      slice by slice
      └──▶ decided anew, and written down without a settled hour                    one transaction
             └──▶ a tag on every object that the bucket has a receipt for           may be cut anywhere
                    └──▶ written down as settled, with the audit                    one transaction

Chose tags over moving objects, because a tag makes no new version, leaves lock and receipt as they are, and costs one small request;
the bucket moves what has it, and nothing without the rule of that tier. What is tagged too low because a run was cut is tagged
again in the next one; what lies deep all the same comes when it is asked for.

Nothing is said while the clock is doubted, the guard holds or images are coming home after a restore: what looks untouched may not be.
That is asked again before every study, and the hour of a run goes on by itself, so that a clock which is set meanwhile makes nothing old.
Studies that are held, asked for or wanted while they have a tag come first in every run.
A bucket that can't be reached is asked another time, and the reason stands on the page of the tiers. One that keeps no tags at all is not
asked again until it has another address or a person asks (`appliance tiers move`): that is how it is, and no trouble of this night.

A run ends after `MOST_SECONDS`, in the middle of a study too, and the next one goes on behind the last image that has its tag: however
slow a bucket is, no more than one request waits beyond that.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from appliance import audit
from appliance import settings as chosen
from appliance.box import Box
from appliance.catalog import Reading, Transaction, destinations, settings, studies, tier_tags
from appliance.errors import ApplianceError, Unknown
from appliance.lifecycle import eviction, storage, tier_rules
from appliance.lifecycle.storage_class import Ages, Tier
from appliance.lifecycle.tier_policy import CloudFacts, tier_of
from appliance.model import DestinationSettings
from appliance.replication.destinations import build
from appliance.replication.destinations.archive import KeepsNoTags, Tiered, object_key

log = logging.getLogger(__name__)

ACTOR: Final = "jobs"
EVERY_SECONDS: Final = 1800
AT_ONCE: Final = 200
"""How many studies are looked at together."""
MOST_STUDIES: Final = 20_000
MOST_OBJECTS: Final = 2_000
MOST_SECONDS: Final = 120.0
"""How many are looked at, how many tags are set, and for how long, in one run."""
_LONG_AGO: Final = datetime(1900, 1, 1, tzinfo=UTC)
_TROUBLES: Final = "tier_tags"


@dataclass(frozen=True, slots=True)
class Standing:
    """What the clinic has chosen: the ages, and how many latest studies of a patient never lie deep."""

    ages: Ages
    newest_studies: int


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a bucket took no tags: message and hint of the error; `at` is the address of one that keeps none, and empty for the others."""

    message: str
    hint: str
    at: str = ""


@dataclass(slots=True)
class Run:
    """What a run has done so far: studies that are settled, and tags that were set; `after` is where the next one begins, if it
    ended before all were looked at (`has_more`).

    `took` are the buckets that took tags, and `troubles` why others did not, by name. `obstacle` is what forbids to go on.
    """

    studies: int = 0
    objects: int = 0
    after: int = 0
    has_more: bool = False
    took: set[str] = field(default_factory=set)
    troubles: dict[str, Trouble] = field(default_factory=dict)
    obstacle: str = ""


@dataclass(frozen=True, slots=True)
class Around:
    """What a run is given: whether to go on, who acts, and the clock that nobody sets, which says when it has lasted long enough.

    `asks_again` also those that keep no tags, because a person wants to know.
    """

    keep_going: Callable[[], bool] = lambda: True
    actor: str = ACTOR
    monotonic: Callable[[], float] = time.monotonic
    asks_again: bool = False


def standing(reading: Reading) -> Standing:
    """What the clinic has chosen."""
    return Standing(storage.ages(reading), int(chosen.get(reading, "tiers.newest_studies")))


def troubles(reading: Reading) -> dict[str, Trouble]:
    """The buckets that took no tags when there were some to set, and none since, by name."""
    found = settings.get(reading, _TROUBLES)
    return {name: Trouble(*told) for name, told in found.items()} if isinstance(found, dict) else {}


def run(box: Box, clock: Callable[[], datetime], after: int = 0, around: Around = Around()) -> Run:
    """Look at the studies after one (row id; 0 begins), and say of each how far away it may lie, in every bucket that has it.

    `clock` goes on by itself from when the run began. Raises `Taken` while another process does it, and what the catalog
    raises; what a bucket raises ends its part of the run, and is written down.
    """
    done = Run(after=after)
    with box.catalog.reading() as reading:
        wanted = standing(reading)
        idle = not wanted.ages.steps and not tier_tags.is_anything_low(reading)
        if idle or eviction.obstacle(reading, clock()):
            return Run()
    with eviction.alone(
        box, "tagging.lock", "the buckets are being told already how far away images may lie"
    ):
        _run(box, clock, wanted, around, done)
    return done


def run_through(
    box: Box,
    clock: Callable[[], datetime],
    around: Around = Around(),
    heard: Callable[[Run], None] = lambda _: None,
) -> Run:
    """`run` until all studies were looked at or a bucket has made trouble, as a person wants it; `heard` is told each run, with all
    studies so far. Raises as `run`.
    """
    studies, after = 0, 0
    while True:
        done = run(box, clock, after, around)
        studies, after = studies + done.studies, done.after
        done.studies = studies
        heard(done)
        if done.troubles or done.obstacle or not done.has_more or not around.keep_going():
            return done


def _run(box: Box, clock: Callable[[], datetime], wanted: Standing, around: Around, done: Run) -> None:
    until = around.monotonic() + MOST_SECONDS
    places = _places(box, done, around)
    before = min((clock() - timedelta(days=days) for days, _ in wanted.ages.steps[:1]), default=_LONG_AGO)

    def has_time() -> bool:
        is_enough = done.obstacle or done.objects >= MOST_OBJECTS or around.monotonic() >= until
        return not is_enough and around.keep_going()

    def goes_on() -> bool:
        return any(place.name not in done.troubles for place, _ in places) and has_time()

    def say_of(numbers: Sequence[int]) -> int | None:
        """The first of them that is still to be said; None if none is."""
        for study, place, archive in _to_do(box, numbers, places, wanted, clock()):
            if not goes_on():
                return study
            if place.name in done.troubles:
                continue
            try:
                is_said = _say(box, place, archive, study, wanted, clock, around.actor, has_time, done)
            except ApplianceError as error:
                done.troubles[place.name] = _trouble(box, place, error)
                if not goes_on():
                    return study
            else:
                if not is_said:
                    return study
        return None

    with box.catalog.reading() as reading:
        urgent = tier_tags.too_low(reading, AT_ONCE)
    say_of(urgent)
    looked = 0
    while looked < MOST_STUDIES and goes_on():
        with box.catalog.reading() as reading:
            numbers = tier_tags.next_studies(reading, done.after, before, AT_ONCE)
        if not numbers:
            done.after, done.has_more = 0, False
            break
        looked += len(numbers)
        left = say_of(numbers)
        done.after, done.has_more = numbers[-1] if left is None else left - 1, True
    _look_at_rules(box, places, done, clock())
    _write_down(box, done, clock())
    if done.studies:
        log.info("studies that may lie elsewhere in the cloud: %d; tags: %d", done.studies, done.objects)


def _places(box: Box, done: Run, around: Around) -> list[tuple[DestinationSettings, Tiered]]:
    found: list[tuple[DestinationSettings, Tiered]] = []
    with box.catalog.reading() as reading:
        known, before = destinations.destinations(reading), troubles(reading)
    for each in known:
        if each.takes != "ciphertext" or each.paused:
            continue
        if not around.asks_again and each.name in before and before[each.name].at == tier_rules.address(each):
            continue
        try:
            built = build(each, box)
        except ApplianceError as error:
            done.troubles[each.name] = Trouble(error.message, error.hint)
            continue
        if isinstance(built, Tiered):
            found.append((each, built))
    return found


def _trouble(box: Box, place: DestinationSettings, error: ApplianceError) -> Trouble:
    """What is to be remembered of a bucket that took no tag. What was begun in one that keeps none lies as it lay."""
    if not isinstance(error, KeepsNoTags):
        log.warning("%s takes no tags: %s", place.name, error.message)
        return Trouble(error.message, error.hint)
    with box.catalog.transaction() as tx:
        if tier_tags.has_any_settled(tx, place.id):  # it has kept some: something stands before it now
            log.warning("%s takes no tags any more: %s", place.name, error.message)
            return Trouble(error.message, error.hint)
        if place in destinations.destinations(tx):
            tier_tags.take_back(tx, place.id)
    log.info("%s keeps no tags: its images stay in its ordinary class", place.name)
    return Trouble(error.message, error.hint, tier_rules.address(place))


def _to_do(
    box: Box,
    numbers: Sequence[int],
    places: Sequence[tuple[DestinationSettings, Tiered]],
    wanted: Standing,
    now: datetime,
) -> list[tuple[int, DestinationSettings, Tiered]]:
    """The studies among `numbers` of which something else is to be said, with the bucket, in order."""
    with box.catalog.reading() as reading:
        tiers = {
            study: _tier(each, wanted, now) for study, each in tier_tags.facts_of(reading, numbers).items()
        }
        told = {place.id: tier_tags.tagged(reading, place.id, numbers) for place, _ in places}
    return [
        (study, place, archive)
        for study, tier in tiers.items()
        for place, archive in places
        if not _is_said(told[place.id].get(study, tier_tags.UNTAGGED), tier)
    ]


def _tier(facts: CloudFacts, wanted: Standing, now: datetime) -> Tier:
    return tier_of(facts, wanted.ages, wanted.newest_studies, now)


def _is_said(told: tier_tags.Tagged, tier: Tier) -> bool:
    return told.is_settled and told.tier is tier


def _say(
    box: Box,
    place: DestinationSettings,
    archive: Tiered,
    study: int,
    wanted: Standing,
    clock: Callable[[], datetime],
    actor: str,
    has_time: Callable[[], bool],
    done: Run,
) -> bool:
    """Tag every object of a study, after it was decided anew; whether nothing of it is left for the next run. Raises what the bucket
    raises.
    """
    with box.catalog.transaction() as tx:
        now = clock()
        if why := eviction.obstacle(tx, now):
            done.obstacle = str(why)
            return False
        if place not in destinations.destinations(tx):  # it is another bucket by now, or none
            return True
        facts = tier_tags.facts_of(tx, [study]).get(study)
        objects = tier_tags.objects_in(tx, place.id, study)
        if facts is None or not objects:
            return True
        tier = _tier(facts, wanted, now)
        if _is_said(tier_tags.tagged(tx, place.id, [study]).get(study, tier_tags.UNTAGGED), tier):
            return True
        said_to = tier_tags.begin(tx, place.id, study, tier, now)
    is_whole = False
    try:
        for instance, object_id in objects:
            if instance <= said_to:
                continue
            if not has_time():
                return False
            done.objects += 1
            try:
                archive.say_tier(object_key(object_id), tier)
                done.took.add(place.name)
            except Unknown:
                log.error("%s does not hold an object that it has a receipt for", place.name)
            said_to = instance
        is_whole = True
    finally:
        with box.catalog.transaction() as tx:
            if place in destinations.destinations(tx):
                if is_whole:
                    tier_tags.settle(tx, place.id, study)
                    _record(tx, box, study, place, tier, len(objects), actor, clock())
                else:
                    tier_tags.reach(tx, place.id, study, said_to)
    done.studies += 1
    return True


def _record(
    tx: Transaction,
    box: Box,
    study: int,
    place: DestinationSettings,
    tier: Tier,
    objects: int,
    actor: str,
    now: datetime,
) -> None:
    found = studies.study_by_id(tx, study)
    details = {"destination": place.name, "tier": str(tier), "instances": objects}
    uid = found.study_instance_uid if found else ""
    audit.append(
        tx, box.audit_key, [audit.Entry("study:tier", f"study:{study}", actor, details, study=uid)], now
    )


def _look_at_rules(
    box: Box, places: Sequence[tuple[DestinationSettings, Tiered]], done: Run, now: datetime
) -> None:
    """Whether the buckets that took tags, and those that had no rule for them when they were asked last, move anything by them."""
    with box.catalog.reading() as reading:
        lacking = {place.name for place, _ in places if tier_rules.missing(reading, place)}
    for place, archive in places:
        if place.name in (done.took | lacking) - done.troubles.keys():
            try:
                tier_rules.look(box, place, archive, now)
            except ApplianceError as error:
                log.warning("%s does not say what it moves: %s", place.name, error.message)


def _write_down(box: Box, done: Run, now: datetime) -> None:
    with box.catalog.transaction() as tx:
        before = troubles(tx)
        known = {each.name: tier_rules.address(each) for each in destinations.destinations(tx)}
        found = {
            name: each
            for name, each in before.items()
            if name in known.keys() - done.took and each.at in {"", known[name]}
        } | done.troubles
        if found != before:
            told = {name: [each.message, each.hint, each.at] for name, each in found.items()}
            settings.put(tx, _TROUBLES, told, now)
