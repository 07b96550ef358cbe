"""A protection of a bucket that was there and is gone is a problem; one that was never there is none, and nor is a bucket that is away."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from appliance import duties, health
from appliance.box import Box
from appliance.catalog import destinations
from appliance.catalog import settings as catalog_settings
from appliance.health import Severity
from appliance.health.problem import Problem, Verb
from appliance.lifecycle import safeguards
from appliance.lifecycle.buckets import OBJECTS
from appliance.lifecycle.safeguards import LOOKS_AGAIN, LOOKS_EVERY, NEXT, Standing
from appliance.model import DestinationSettings
from appliance.replication.destinations import bucket_policy, build
from appliance.replication.destinations.archive import (
    KEYS,
    LATER_SLOT,
    RECOVERY_SLOT,
    SNAPSHOTS,
)
from appliance.replication.destinations.protection import PROBE, PROBE_TEXT, Protection, State
from appliance.replication.place import place_of
from appliance.store.root_key import newest_generation
from tests.lifecycle.test_tier_rules import box as _box
from tests.lifecycle.test_tier_rules import the_cloud as _the_cloud
from tests.lifecycle.test_tier_rules import the_line as _the_line
from tests.replication.cloud import Cloud, Fault, Line, Request, settings
from tests.replication.test_protection import SETTINGS, protected_bucket
from tests.test_jobs import WATCHES

pytestmark = pytest.mark.slow

NOW = datetime.now(UTC)
SECOND, HOUR, WEEK = timedelta(seconds=1), timedelta(hours=1), timedelta(days=7)


box, the_cloud, the_line = _box, _the_cloud, _the_line


def add(box: Box, wanted: DestinationSettings) -> DestinationSettings:
    with box.catalog.transaction() as tx:
        return replace(wanted, id=destinations.add(tx, wanted))


@pytest.fixture
def place(box: Box, the_cloud: Cloud, the_line: Line) -> DestinationSettings:
    """A bucket set as it is printed. Its key may do everything here, so that it lacks one protection from the first."""
    return add(box, settings(the_line.url, protected_bucket(the_cloud)))


def versioning(cloud: Cloud, place: DestinationSettings, status: str) -> None:
    cloud.client().put_bucket_versioning(
        Bucket=str(place.options["bucket"]), VersioningConfiguration={"Status": status}
    )


def lock(cloud: Cloud, place: DestinationSettings, found: dict[str, Any]) -> None:
    cloud.client().put_object_lock_configuration(
        Bucket=str(place.options["bucket"]), ObjectLockConfiguration=found
    )


def problems(box: Box, now: datetime) -> list[Problem]:
    return [each for each in health.status(box, now).problems if each.code.startswith("protection")]


def codes(box: Box, now: datetime) -> list[str]:
    return [each.code for each in problems(box, now)]


def test_versioning_that_is_switched_off_is_a_problem_until_it_is_mended_and_tried(
    box: Box, place: DestinationSettings, the_cloud: Cloud
) -> None:
    safeguards.look_where_due(box, NOW)
    assert problems(box, NOW) == []
    lock(the_cloud, place, {"ObjectLockEnabled": "Enabled"})
    versioning(the_cloud, place, "Suspended")
    safeguards.look_where_due(box, NOW + WEEK - SECOND)
    assert problems(box, NOW + WEEK) == [], "a week has not gone"
    safeguards.look_where_due(box, NOW + WEEK)
    (told,) = problems(box, NOW + WEEK)
    assert (told.code, told.subject, told.severity) == ("protection-lost", "cloud", Severity.NOW)
    assert told.words.endswith(": what is overwritten is gone at once; versions are not locked")
    assert "at the cloud account" in told.fix and "test the destination" in told.fix
    assert told.acts[0].verb is Verb.TEST and told.acts[0].destination == place.id
    safeguards.look_where_due(box, NOW + 2 * WEEK)
    assert codes(box, NOW + 2 * WEEK) == ["protection-lost"], "as long as it is so"
    versioning(the_cloud, place, "Enabled")
    tried = safeguards.look(box, place, build(place, box), NOW + 2 * WEEK + HOUR)
    assert {each.name for each in tried} == {"versioning", "object lock", "life cycle", "removal"}
    (told,) = problems(box, NOW + 2 * WEEK + HOUR)
    assert told.words.endswith(": versions are not locked"), "what is mended is said no more"
    lock(the_cloud, place, SETTINGS["ObjectLockConfiguration"])
    safeguards.look(box, place, build(place, box), NOW + 2 * WEEK + 2 * HOUR)
    assert problems(box, NOW + 2 * WEEK + 2 * HOUR) == []


def test_what_a_person_has_tried_is_what_is_compared_with(
    box: Box, place: DestinationSettings, the_cloud: Cloud
) -> None:
    safeguards.look(box, place, build(place, box), NOW)
    versioning(the_cloud, place, "Suspended")
    safeguards.look(box, place, build(place, box), NOW + HOUR)
    assert codes(box, NOW + HOUR) == ["protection-lost"]


def test_a_bucket_that_never_had_them_is_no_alarm_and_its_last_look_is_known(
    box: Box, the_cloud: Cloud, the_line: Line
) -> None:
    place = add(box, settings(the_line.url, the_cloud.new_bucket()))
    with box.catalog.reading() as reading:
        assert safeguards.last(reading, place) is None
    for weeks in range(3):
        safeguards.look_where_due(box, NOW + weeks * WEEK)
    assert problems(box, NOW + 2 * WEEK) == []
    with box.catalog.reading() as reading:
        told = safeguards.last(reading, place)
    assert told is not None and told[0] == NOW + 2 * WEEK
    assert {each.name: each.state for each in told[1]} == {
        "versioning": State.MISSING,
        "object lock": State.MISSING,
        "life cycle": State.ON,
        "removal": State.MISSING,
    }


def test_a_bucket_that_is_away_keeps_what_was_found_and_is_asked_the_next_day(
    box: Box, place: DestinationSettings, the_cloud: Cloud, the_line: Line
) -> None:
    safeguards.look_where_due(box, NOW)
    the_line.down = True
    later = NOW + WEEK
    safeguards.look_where_due(box, later)
    assert problems(box, later) == []
    with box.catalog.reading() as reading:
        told = safeguards.last(reading, place)
    assert told is not None and told[0] == NOW, "nothing was seen since"
    the_line.down = False
    versioning(the_cloud, place, "Suspended")
    the_line.requests.clear()
    safeguards.look_where_due(box, later + LOOKS_AGAIN - SECOND)
    assert not the_line.requests
    safeguards.look_where_due(box, later + LOOKS_AGAIN)
    assert codes(box, later + LOOKS_AGAIN) == ["protection-lost"]
    the_line.down = True
    safeguards.look_where_due(box, later + 2 * WEEK)
    assert codes(box, later + 2 * WEEK) == ["protection-lost"]
    the_line.down = False
    versioning(the_cloud, place, "Enabled")
    safeguards.look_where_due(box, later + 2 * WEEK + LOOKS_AGAIN)
    assert problems(box, later + 2 * WEEK + LOOKS_AGAIN) == []


@pytest.mark.parametrize("fault", [Fault.FORBIDDEN, Fault.NOT_IMPLEMENTED])
def test_what_is_not_told_any_longer_is_a_warning_when_it_stays_so(
    box: Box, place: DestinationSettings, the_line: Line, fault: Fault
) -> None:
    safeguards.look_where_due(box, NOW)
    the_line.fault = _of_versioning(fault)
    later = NOW + WEEK
    safeguards.look_where_due(box, later)
    assert problems(box, later) == [], "once may be chance"
    later += LOOKS_AGAIN
    safeguards.look_where_due(box, later)
    (told,) = problems(box, later)
    assert (told.code, told.severity) == ("protection-untold", Severity.SOON)
    assert told.words.endswith(": whether earlier versions are kept is not told")
    the_line.fault = lambda _: None
    safeguards.look_where_due(box, later + LOOKS_AGAIN)
    assert codes(box, later + LOOKS_AGAIN) == ["protection-untold"], "asked as seldom as ever by then"
    safeguards.look_where_due(box, later + WEEK)
    assert problems(box, later + WEEK) == []


def test_what_is_lost_stays_lost_when_nobody_may_look_any_longer(
    box: Box, place: DestinationSettings, the_cloud: Cloud, the_line: Line
) -> None:
    safeguards.look_where_due(box, NOW)
    versioning(the_cloud, place, "Suspended")
    safeguards.look_where_due(box, NOW + WEEK)
    the_line.fault = _of_versioning(Fault.FORBIDDEN)
    safeguards.look_where_due(box, NOW + 2 * WEEK)
    safeguards.look_where_due(box, NOW + 3 * WEEK)
    (told,) = problems(box, NOW + 3 * WEEK)
    assert told.code == "protection-lost"
    assert told.words.endswith(": what is overwritten is gone at once")


def test_one_that_is_paused_or_removed_is_no_problem_and_is_not_asked(
    box: Box, place: DestinationSettings, the_cloud: Cloud, the_line: Line
) -> None:
    _lose(box, place, the_cloud)
    with box.catalog.transaction() as tx:
        destinations.pause(tx, place.name)
    the_line.requests.clear()
    safeguards.look_where_due(box, NOW + 2 * WEEK)
    assert problems(box, NOW + 2 * WEEK) == []
    assert not the_line.requests
    with box.catalog.transaction() as tx:
        destinations.resume(tx, place.name)
    assert codes(box, NOW + 2 * WEEK) == ["protection-lost"], "nothing was mended"
    with box.catalog.transaction() as tx:
        destinations.remove(tx, place.name, NOW)
    assert problems(box, NOW + 2 * WEEK) == []
    again = add(box, replace(place, paused=False))
    safeguards.look_where_due(box, NOW + 2 * WEEK)
    assert problems(box, NOW + 2 * WEEK) == [], "another destination, which never had it"
    assert set(_kept(box)) == {str(again.id)}


def test_another_bucket_under_the_same_name_begins_anew_at_once(
    box: Box, place: DestinationSettings, the_cloud: Cloud
) -> None:
    _lose(box, place, the_cloud)
    options = {**place.options, "bucket": the_cloud.new_bucket()}
    with box.catalog.transaction() as tx:
        destinations.change(tx, place.name, options)
    assert problems(box, NOW + WEEK) == [], "before it was asked"
    safeguards.look_where_due(box, NOW + WEEK + SECOND)
    assert problems(box, NOW + WEEK + SECOND) == []
    with box.catalog.reading() as reading:
        told = safeguards.last(reading, replace(place, options=options))
        assert safeguards.last(reading, place) is None
    assert told is not None and told[0] == NOW + WEEK + SECOND, "and without a week's wait"


def test_what_was_found_of_a_bucket_that_moved_meanwhile_is_not_kept(
    box: Box, place: DestinationSettings, the_cloud: Cloud
) -> None:
    archive = build(place, box)
    with box.catalog.transaction() as tx:
        destinations.change(tx, place.name, {**place.options, "bucket": "another"})
    safeguards.look(box, place, archive, NOW)
    assert _kept(box) == {}


def test_another_access_key_is_held_to_what_the_first_one_could_not_do(
    box: Box, place: DestinationSettings, the_cloud: Cloud
) -> None:
    _lose(box, place, the_cloud)
    with box.catalog.transaction() as tx:
        destinations.change(tx, place.name, {**place.options, "access_key_id": "other"}, "other")
    assert codes(box, NOW + WEEK) == ["protection-lost"]


def test_a_clock_that_is_set_ahead_and_back_costs_a_look_and_loses_nothing(
    box: Box, place: DestinationSettings, the_cloud: Cloud, the_line: Line
) -> None:
    safeguards.look_where_due(box, NOW)
    years = timedelta(days=3650)
    safeguards.look_where_due(box, NOW + years)
    assert problems(box, NOW + years) == []
    versioning(the_cloud, place, "Suspended")
    safeguards.look_where_due(box, NOW + HOUR)
    assert codes(box, NOW + HOUR) == ["protection-lost"], "a look in the years to come was no look"
    the_line.requests.clear()
    safeguards.look_where_due(box, NOW + 2 * HOUR)
    assert not the_line.requests, "and one was enough"


@pytest.mark.parametrize(
    ("since", "due"),
    [
        (timedelta(0), False),
        (LOOKS_EVERY - SECOND, False),
        (LOOKS_EVERY, True),
        (timedelta(days=9999), True),
        (-SECOND, True),
    ],
)
def test_a_look_is_due_after_a_week_or_when_the_last_is_still_to_come(since: timedelta, due: bool) -> None:
    place = settings("https://s3.example.ca", "clinic")
    told = {"place": place_of(place.options), "tried_utc": NOW.isoformat(), "is_answered": True, "found": []}
    assert safeguards.is_due(told, place, NOW + since) is due


def test_it_costs_a_few_requests_and_one_small_version(
    box: Box, place: DestinationSettings, the_cloud: Cloud, the_line: Line
) -> None:
    safeguards.look_where_due(box, NOW)
    assert len(the_line.requests) <= 8
    assert [each.path.partition("/keys/")[2] for each in the_line.requests if each.method == "PUT"] == [
        PROBE.removeprefix(KEYS)
    ]
    assert len(PROBE_TEXT) <= 100


def test_nothing_takes_the_probe_for_something_else_and_the_printed_life_cycle_removes_what_was_written_over() -> (
    None
):
    """Those who look below ``keys/`` go by these names or by what is inside; scrub and lists look at objects alone."""
    assert PROBE.startswith(KEYS) and not PROBE.startswith((OBJECTS, SNAPSHOTS, LATER_SLOT))
    assert not PROBE.endswith(RECOVERY_SLOT)
    assert newest_generation(PROBE_TEXT) == 0
    rules = SETTINGS["LifecycleConfiguration"]["Rules"]
    assert bucket_policy.ends_versions(rules) == bucket_policy.KEPT_DAYS
    assert not bucket_policy.expires_current(rules)


def test_the_duty_ends_with_its_process_and_shares_no_thread_with_what_watches(
    box: Box, place: DestinationSettings, the_line: Line
) -> None:
    jobs = {each.name: each for each in duties.duties(box)}
    mine = jobs["protections"]
    assert mine.lane not in {jobs[each].lane for each in WATCHES}
    assert timedelta(seconds=mine.every_seconds) <= HOUR, "it asks itself whether a look is due"
    mine.interrupt()
    mine.act(box, NOW)
    assert not the_line.requests and _kept(box) == {}


def test_what_is_kept_holds_no_secret(box: Box, the_cloud: Cloud, the_line: Line) -> None:
    bucket = protected_bucket(the_cloud)
    add(box, replace(settings(the_line.url, bucket, access_key_id="AKIDENTITY"), secret="of-nobody-else"))
    safeguards.look_where_due(box, NOW)
    told = str(_kept(box))
    assert bucket in told
    assert "of-nobody-else" not in told and "AKIDENTITY" not in told


N, H, D, U, L = Standing
ON, MISSING, NOT_TOLD = State


@pytest.mark.parametrize(
    ("before", "found", "then"),
    [
        *((each, ON, H) for each in Standing),
        (N, MISSING, N),
        *((each, MISSING, L) for each in (H, D, U, L)),
        (N, NOT_TOLD, N),
        (H, NOT_TOLD, D),
        (D, NOT_TOLD, U),
        (U, NOT_TOLD, U),
        (L, NOT_TOLD, L),
    ],
)
def test_what_becomes_of_a_protection(before: Standing, found: State, then: Standing) -> None:
    assert NEXT[before][found] is then
    kept = {"standing": str(before), "lacks": "earlier"}
    told = safeguards.after(kept, Protection("versioning", found, "now"))
    assert told["standing"] == then
    assert ("lacks" in told) is (then in (L, U))
    if before is L and found is NOT_TOLD:
        assert told["lacks"] == "earlier"
    elif "lacks" in told:
        assert told["lacks"] == "now"


def _of_versioning(fault: Fault) -> Any:
    def broken(asked: Request) -> Fault | None:
        return fault if asked.method == "GET" and "versioning" in asked.query else None

    return broken


def _lose(box: Box, place: DestinationSettings, cloud: Cloud) -> None:
    safeguards.look_where_due(box, NOW)
    versioning(cloud, place, "Suspended")
    safeguards.look_where_due(box, NOW + WEEK)
    assert codes(box, NOW + WEEK) == ["protection-lost"]


def _kept(box: Box) -> dict[str, Any]:
    with box.catalog.reading() as reading:
        found: dict[str, Any] = catalog_settings.get(reading, catalog_settings.PROTECTIONS, {})
    return found
