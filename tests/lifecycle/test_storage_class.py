"""Whether an object can be read at once is told by its class and by what the store says of its return."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

from appliance.errors import Resting
from appliance.lifecycle.storage_class import (
    CLASSES,
    INTELLIGENT,
    Rest,
    Retrieval,
    Tier,
    class_of,
    hours_by,
    hours_of,
    rest_of,
)
from appliance.replication.destinations import bucket_policy
from appliance.replication.destinations.s3_errors import in_our_terms

ONGOING = 'ongoing-request="true"'
UP = 'ongoing-request="false", expiry-date="Fri, 04 Dec 2026 00:00:00 GMT"'


@pytest.mark.parametrize(
    ("name", "restore", "rest"),
    [
        ("", "", Rest.READY),
        ("STANDARD", "", Rest.READY),
        ("STANDARD_IA", "", Rest.READY),
        ("GLACIER_IR", "", Rest.READY),
        ("A_PROVIDER'S_OWN", "", Rest.READY),
        ("GLACIER", "", Rest.RESTING),
        ("DEEP_ARCHIVE", "", Rest.RESTING),
        ("DEEP_ARCHIVE", "nonsense", Rest.RESTING),
        ("DEEP_ARCHIVE", ONGOING, Rest.WAKING),
        ("GLACIER", UP, Rest.READY),
    ],
)
def test_whether_an_object_can_be_read(name: str, restore: str, rest: Rest) -> None:
    assert rest_of(name, restore) is rest


@pytest.mark.parametrize(
    ("archive", "restore", "hours", "rest"),
    [
        ("", "", 0, Rest.READY),
        ("ARCHIVE_ACCESS", "", 5, Rest.RESTING),
        ("DEEP_ARCHIVE_ACCESS", "", 12, Rest.RESTING),
        ("DEEP_ARCHIVE_ACCESS", ONGOING, 12, Rest.WAKING),
    ],
)
def test_what_s3_itself_has_sunk_is_fetched_too(archive: str, restore: str, hours: int, rest: Rest) -> None:
    assert hours_of(INTELLIGENT, archive) == hours
    assert rest_of(INTELLIGENT, restore, archive) is rest
    assert rest_of("STANDARD", "", archive) is Rest.READY


@pytest.mark.parametrize(
    ("told", "hours"),
    [
        ({"StorageClass": "GLACIER"}, 5),
        ({"StorageClass": "DEEP_ARCHIVE"}, 12),
        ({"StorageClass": INTELLIGENT, "AccessTier": "ARCHIVE_ACCESS"}, 5),
        ({"StorageClass": INTELLIGENT, "AccessTier": "DEEP_ARCHIVE_ACCESS"}, 12),
        ({}, 12),
    ],
)
def test_a_refusal_tells_how_long_it_takes_by_the_class_and_the_longest_if_it_does_not(
    told: dict[str, str], hours: int
) -> None:
    with pytest.raises(Resting) as resting, in_our_terms("reading an object back"):
        raise ClientError({"Error": {"Code": "InvalidObjectState", **told}}, "GetObject")  # type: ignore[typeddict-item]
    assert resting.value.wait_hours == hours


def test_what_is_read_at_once_is_not_deep_and_what_is_deep_takes_hours() -> None:
    assert {each.tier is Tier.DEEP for each in CLASSES.values() if each.wait_hours} == {True}
    assert not any(each.tier is Tier.DEEP for each in CLASSES.values() if not each.wait_hours)
    assert class_of("").tier is Tier.HOT


def test_the_box_may_ask_for_what_lies_deep_and_that_undoes_nothing() -> None:
    assert "s3:RestoreObject" in bucket_policy.ON_OBJECTS
    assert "s3:RestoreObject" not in bucket_policy.NEVER


def test_the_cheapest_way_is_never_sooner_and_what_is_at_hand_stays_at_hand() -> None:
    for each in CLASSES.values():
        assert hours_by(Retrieval.STANDARD, each.wait_hours) == each.wait_hours
        assert hours_by(Retrieval.BULK, each.wait_hours) == (each.bulk_hours or each.wait_hours)
        assert hours_by(Retrieval.BULK, each.wait_hours) >= each.wait_hours
        assert bool(each.bulk_hours) is bool(each.wait_hours)
