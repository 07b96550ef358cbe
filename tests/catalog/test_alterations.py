"""What somebody else has altered in an archive: counted once, told for as long as its key may be in somebody's hands, and no longer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from appliance.catalog import Catalog, alterations, destinations
from appliance.catalog.alterations import REMEMBERED, Alterations
from appliance.model import DestinationId, DestinationSettings, ObjectId
from appliance.replication import recall
from appliance.replication.destinations.bucket_policy import KEPT_DAYS

NOW = datetime(2026, 11, 27, 9, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
ONE, TWO = ObjectId("aa11"), ObjectId("bb22")
FIRST = {"version_id": "v1", "at_utc": "2026-11-01T08:00:00+00:00"}
AGAIN = {"version_id": "v2", "at_utc": "2026-11-27T09:00:00+00:00"}
CLOUD = DestinationSettings(
    "cloud",
    "s3",
    "ciphertext",
    {"bucket": "b", "region": "ca-central-1", "access_key_id": "AKIA1"},
    "secret",
)


@pytest.fixture
def cloud(catalog: Catalog) -> DestinationId:
    with catalog.transaction() as tx:
        return destinations.add(tx, CLOUD)


def note(
    catalog: Catalog,
    place: DestinationId,
    object_id: ObjectId = ONE,
    receipt: Mapping[str, str] = FIRST,
    now: datetime = NOW,
    done_utc: datetime | None = None,
) -> None:
    with catalog.transaction() as tx:
        alterations.note(tx, place, object_id, receipt, now, done_utc)


def told(catalog: Catalog, place: DestinationId, now: datetime = NOW) -> Alterations | None:
    with catalog.reading() as conn:
        return alterations.of(conn, [place], now).get(place)


def change(catalog: Catalog, now: datetime, key: str = "AKIA1", secret: str | None = None) -> None:
    with catalog.transaction() as tx:
        options = {**CLOUD.options, "access_key_id": key}
        destinations.change(tx, "cloud", options, secret, now)


def test_it_is_told_as_long_as_a_bucket_keeps_what_was_written_over() -> None:
    assert timedelta(days=KEPT_DAYS) == REMEMBERED


def test_an_alteration_that_is_met_twice_counts_once_and_is_no_later(
    catalog: Catalog, cloud: DestinationId
) -> None:
    assert told(catalog, cloud) is None
    note(catalog, cloud)
    note(catalog, cloud, now=NOW + HOUR)
    assert told(catalog, cloud) == Alterations(1, NOW, NOW)
    note(catalog, cloud, TWO, now=NOW + 2 * HOUR)
    assert told(catalog, cloud) == Alterations(2, NOW, NOW + 2 * HOUR)


def test_an_image_that_is_altered_again_once_it_was_written_again_was_so_later_and_is_one(
    catalog: Catalog, cloud: DestinationId
) -> None:
    note(catalog, cloud)
    note(catalog, cloud, receipt=AGAIN, now=NOW + DAY)
    assert told(catalog, cloud) == Alterations(1, NOW, NOW + DAY)


def test_each_destination_has_its_own(catalog: Catalog, cloud: DestinationId) -> None:
    other = DestinationId(cloud + 1)
    note(catalog, cloud)
    note(catalog, other)
    note(catalog, other, TWO)
    with catalog.reading() as conn:
        found = alterations.of(conn, [cloud, other], NOW)
    assert {place: each.count for place, each in found.items()} == {cloud: 1, other: 2}


def test_it_ends_thirty_five_days_after_the_last_one_and_begins_anew_with_the_next(
    catalog: Catalog, cloud: DestinationId
) -> None:
    note(catalog, cloud)
    note(catalog, cloud, TWO, now=NOW + DAY)
    second = timedelta(seconds=1)
    assert told(catalog, cloud, NOW + DAY + REMEMBERED - second) is not None
    assert told(catalog, cloud, NOW + DAY + REMEMBERED) is None
    late = NOW + DAY + REMEMBERED + HOUR
    note(catalog, cloud, TWO, now=late)
    assert told(catalog, cloud, late) is None, "it is the one that is known"
    note(catalog, cloud, receipt=AGAIN, now=late)
    assert told(catalog, cloud, late) == Alterations(1, late, late)


def test_a_clock_that_was_set_back_ends_nothing(catalog: Catalog, cloud: DestinationId) -> None:
    note(catalog, cloud)
    assert told(catalog, cloud, NOW - 900 * DAY) is not None


@pytest.mark.parametrize(
    ("key", "secret", "ends"),
    [
        ("AKIA2", "other", True),
        ("AKIA2", None, True),
        ("AKIA1", "other", True),
        ("AKIA1", "secret", False),
        ("AKIA1", None, False),
        (" AKIA1 ", None, False),
    ],
)
def test_another_access_key_ends_it_and_the_same_one_does_not(
    catalog: Catalog, cloud: DestinationId, key: str, secret: str | None, ends: bool
) -> None:
    note(catalog, cloud)
    change(catalog, NOW + HOUR, key, secret)
    assert (told(catalog, cloud, NOW + HOUR) is None) == ends


def test_what_is_known_when_the_key_changes_is_not_told_again_when_it_is_mended(
    catalog: Catalog, cloud: DestinationId
) -> None:
    """It was recalled before, and its bucket is asked after; a store that does not say when it was done is enough."""
    note(catalog, cloud)
    change(catalog, NOW + HOUR, secret="other")
    note(catalog, cloud, now=NOW + 2 * HOUR)
    assert told(catalog, cloud, NOW + 2 * HOUR) is None
    note(catalog, cloud, receipt=AGAIN, now=NOW + 3 * HOUR)
    assert told(catalog, cloud, NOW + 3 * HOUR) == Alterations(1, NOW + 3 * HOUR, NOW + 3 * HOUR)


def test_what_is_found_later_is_laid_to_the_key_of_the_time_when_it_was_done(
    catalog: Catalog, cloud: DestinationId
) -> None:
    changed, found = NOW + HOUR, NOW + 9 * DAY
    change(catalog, changed, secret="other")
    note(catalog, cloud, now=found, done_utc=NOW)
    assert told(catalog, cloud, found) is None
    note(catalog, cloud, now=found, done_utc=changed)
    assert told(catalog, cloud, found) == Alterations(1, found, found), "in that second or after it"
    note(catalog, cloud, TWO, now=found)
    assert told(catalog, cloud, found) == Alterations(2, found, found), "or nobody knows when"


@pytest.mark.parametrize("ahead", [3650 * DAY, 2 * DAY])
def test_a_key_that_was_changed_under_a_clock_that_was_ahead_hides_nothing(
    catalog: Catalog, cloud: DestinationId, ahead: timedelta
) -> None:
    change(catalog, NOW + ahead, secret="other")
    note(catalog, cloud, now=NOW + DAY, done_utc=NOW + HOUR)  # the clock is right by now
    assert told(catalog, cloud, NOW + DAY) is not None
    if ahead > REMEMBERED:
        note(catalog, cloud, TWO, now=NOW + ahead + DAY, done_utc=NOW + HOUR)  # or is not yet
        found = told(catalog, cloud, NOW + ahead + DAY)
        assert found is not None and found.count == 1


def test_a_destination_that_is_removed_or_moved_has_none_any_more(
    catalog: Catalog, cloud: DestinationId
) -> None:
    note(catalog, cloud)
    with catalog.transaction() as tx:
        recall.let_move(tx, replace(CLOUD, id=cloud), {**CLOUD.options, "canadian": True})
    assert told(catalog, cloud) is not None, "it is where it was"
    with catalog.transaction() as tx:
        recall.let_move(tx, replace(CLOUD, id=cloud), {**CLOUD.options, "bucket": "another"})
    assert told(catalog, cloud) is None
    note(catalog, cloud)
    with catalog.transaction() as tx:
        destinations.remove(tx, "cloud", NOW)
    assert told(catalog, cloud) is None


def test_so_many_that_nobody_counts_them_are_said_to_be_more(
    catalog: Catalog, cloud: DestinationId, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alterations, "MOST", 3)
    for number in range(5):
        note(catalog, cloud, ObjectId(f"object{number}"), now=NOW + number * HOUR)
    assert told(catalog, cloud) == Alterations(3, NOW, NOW + 4 * HOUR, are_more=True)
    change(catalog, NOW + 5 * HOUR, secret="other")
    assert told(catalog, cloud, NOW + 5 * HOUR) is None
