"""What may leave the disk: nothing that one reason pins, no more than is wanted, what was untouched longest first."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.lifecycle.tiers import Choices, Eviction, Pin, Space, StudyFacts, pins, plan, wanted

NOW = datetime(2026, 11, 25, 20, tzinfo=UTC)
CHOICES = Choices(
    eviction=Eviction.BY_AGE,
    keep_days=730,
    unused_days=180,
    newest_studies=2,
    copies=1,
    low_percent=20,
    enough_percent=30,
)
FREE = StudyFacts(
    id=1,
    here=4,
    here_bytes=1000,
    last_received_utc=NOW - timedelta(days=2000),
    last_used_utc=None,
    rank=5,
    is_held=False,
    is_asked_for=False,
    is_owed=False,
    is_doubted=False,
    copies=1,
    kinds=frozenset({"s3"}),
)
FULL, ROOMY = Space(1_000_000, 100_000), Space(1_000_000, 900_000)


@pytest.mark.parametrize(
    ("fact", "pin"),
    [
        ({"last_received_utc": NOW - timedelta(days=729)}, Pin.RECENT),
        ({"last_received_utc": NOW + timedelta(days=9000)}, Pin.RECENT),
        ({"last_used_utc": NOW - timedelta(days=179)}, Pin.USED),
        ({"rank": 1}, Pin.NEWEST),
        ({"is_held": True}, Pin.HELD),
        ({"is_asked_for": True}, Pin.DESTRUCTION),
        ({"is_owed": True}, Pin.OWED),
        ({"is_doubted": True}, Pin.DOUBTED),
        ({"copies": 0, "kinds": frozenset()}, Pin.COPIES),
        ({"copies": 3, "kinds": frozenset({"vault"})}, Pin.COPIES),
    ],
)
def test_one_reason_keeps_a_study(fact: dict[str, Any], pin: Pin) -> None:
    assert pins(FREE, CHOICES, NOW) == frozenset()
    study = replace(FREE, **fact)
    assert pins(study, CHOICES, NOW) == {pin}
    assert plan([study], CHOICES, FULL, NOW).leaving == ()
    assert plan([study], CHOICES, FULL, NOW).pinned[pin] == 1


def test_as_many_copies_as_the_clinic_wants() -> None:
    two = replace(CHOICES, copies=2)
    assert pins(FREE, two, NOW) == {Pin.COPIES}
    assert pins(replace(FREE, copies=2, kinds=frozenset({"s3", "vault"})), two, NOW) == frozenset()
    assert pins(replace(FREE, copies=0, kinds=frozenset({"s3"})), replace(CHOICES, copies=0), NOW)


def test_off_means_never() -> None:
    off = replace(CHOICES, eviction=Eviction.OFF)
    assert wanted(Space(1_000_000, 0), off) == 0
    assert plan([FREE], off, Space(1_000_000, 0), NOW).leaving == ()


def test_room_is_made_from_the_low_mark_to_the_high_one() -> None:
    needed = replace(CHOICES, eviction=Eviction.WHEN_NEEDED)
    assert wanted(Space(1000, 200), needed) == 0
    assert wanted(Space(1000, 199), needed) == 101
    found = [replace(FREE, id=number, here_bytes=60_000) for number in range(9)]
    assert [each.id for each in plan(found, needed, FULL, NOW).leaving] == [0, 1, 2, 3]
    assert plan(found, needed, ROOMY, NOW).leaving == ()
    short = plan(found[:2], needed, FULL, NOW)
    assert short.is_short and len(short.leaving) == 2


STUDIES = st.lists(
    st.builds(
        StudyFacts,
        id=st.integers(1, 40),
        here=st.integers(0, 5),
        here_bytes=st.integers(0, 400_000),
        last_received_utc=st.integers(-3000, 300).map(lambda days: NOW + timedelta(days=days)),
        last_used_utc=st.none() | st.integers(-3000, 300).map(lambda days: NOW + timedelta(days=days)),
        rank=st.integers(0, 6),
        is_held=st.booleans(),
        is_asked_for=st.booleans(),
        is_owed=st.booleans(),
        is_doubted=st.booleans(),
        copies=st.integers(0, 3),
        kinds=st.frozensets(st.sampled_from(["s3", "vault"])),
    ),
    max_size=12,
    unique_by=lambda each: each.id,
)


@given(STUDIES, st.sampled_from(Eviction), st.integers(0, 1_000_000))
def test_whatever_is_there_nothing_pinned_leaves_and_no_more_than_wanted(
    found: list[StudyFacts], eviction: Eviction, free_bytes: int
) -> None:
    choices = replace(CHOICES, eviction=eviction)
    made = plan(found, choices, Space(1_000_000, free_bytes), NOW)
    for each in made.leaving:
        assert not pins(each, choices, NOW)
        assert each.copies >= 1 and "s3" in each.kinds and not each.is_held and not each.is_owed
    assert list(made.leaving) == sorted(made.leaving, key=lambda each: (each.touched_utc, each.id))
    if eviction is Eviction.WHEN_NEEDED and made.leaving:
        assert made.leaving_bytes - made.leaving[-1].here_bytes < made.wanted_bytes
        stayed = [
            each for each in found if each not in made.leaving and each.here and not pins(each, choices, NOW)
        ]
        assert not made.is_short or not stayed
    if eviction is Eviction.OFF:
        assert not made.leaving


@given(STUDIES, st.integers(0, 4000))
def test_a_clock_that_was_set_back_frees_nothing_more(found: list[StudyFacts], days: int) -> None:
    now = {each.id for each in plan(found, CHOICES, FULL, NOW).leaving}
    earlier = {each.id for each in plan(found, CHOICES, FULL, NOW - timedelta(days=days)).leaving}
    assert earlier <= now
