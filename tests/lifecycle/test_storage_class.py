"""Whether an object can be read at once is told by its class and by what the store says of its return."""

from __future__ import annotations

import pytest

from appliance.lifecycle.storage_class import CLASSES, Rest, Tier, class_of, rest_of
from appliance.replication.destinations import bucket_policy

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


def test_what_is_read_at_once_is_not_deep_and_what_is_deep_takes_hours() -> None:
    assert {each.tier is Tier.DEEP for each in CLASSES.values() if each.wait_hours} == {True}
    assert not any(each.tier is Tier.DEEP for each in CLASSES.values() if not each.wait_hours)
    assert class_of("").tier is Tier.HOT


def test_the_box_may_ask_for_what_lies_deep_and_that_undoes_nothing() -> None:
    assert "s3:RestoreObject" in bucket_policy.ON_OBJECTS
    assert "s3:RestoreObject" not in bucket_policy.NEVER
