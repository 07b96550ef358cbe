"""How far away a study may lie: by how long nobody has opened it, and never far while something keeps it near."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.lifecycle.storage_class import DOWNWARDS, Ages, Tier
from appliance.lifecycle.tier_policy import CloudFacts, tier_of

NOW = datetime(2026, 11, 26, tzinfo=UTC)
AGES = Ages(60, 365, 1095)
OLD = CloudFacts(
    last_received_utc=NOW - timedelta(days=4000),
    last_used_utc=None,
    rank=5,
    is_held=False,
    is_asked_for=False,
    is_owed=False,
    is_doubted=False,
    is_wanted=False,
)


def ago(days: float) -> datetime:
    return NOW - timedelta(days=days)


@pytest.mark.parametrize(
    ("days", "tier"),
    [
        (0, Tier.HOT),
        (59.9, Tier.HOT),
        (60, Tier.WARM),
        (364.9, Tier.WARM),
        (365, Tier.COLD),
        (1094.9, Tier.COLD),
        (1095, Tier.DEEP),
        (-400, Tier.HOT),
    ],
)
def test_what_nobody_opened_goes_down_step_by_step_however_old_it_is(days: float, tier: Tier) -> None:
    assert tier_of(replace(OLD, last_used_utc=ago(days)), AGES, 2, NOW) is tier
    assert tier_of(replace(OLD, last_received_utc=ago(days)), AGES, 2, NOW) is tier


@pytest.mark.parametrize("why", ["is_held", "is_asked_for", "is_owed", "is_doubted", "is_wanted"])
def test_what_somebody_may_need_today_stays_hot(why: str) -> None:
    assert tier_of(OLD, AGES, 2, NOW) is Tier.DEEP
    assert tier_of(replace(OLD, **{why: True}), AGES, 2, NOW) is Tier.HOT  # type: ignore[arg-type]


def test_a_patients_latest_studies_never_lie_deep() -> None:
    assert [tier_of(replace(OLD, rank=rank), AGES, 2, NOW) for rank in range(3)] == [
        Tier.COLD,
        Tier.COLD,
        Tier.DEEP,
    ]
    assert tier_of(replace(OLD, rank=0), Ages(deep_days=180), 1, NOW) is Tier.HOT


def test_nothing_moves_until_the_clinic_chooses_and_nothing_lies_deep_until_it_chooses_that() -> None:
    assert tier_of(OLD, Ages(), 0, NOW) is Tier.HOT
    assert tier_of(OLD, Ages(60, 365), 0, NOW) is Tier.COLD


@given(
    st.integers(-1000, 5000),
    st.none() | st.integers(-1000, 5000),
    st.integers(0, 9),
    st.booleans(),
    st.integers(0, 2000),
)
def test_time_alone_never_brings_a_study_nearer_and_a_use_never_sends_it_away(
    received: int, used: int | None, rank: int, held: bool, later: int
) -> None:
    study = replace(
        OLD,
        last_received_utc=ago(received),
        last_used_utc=None if used is None else ago(used),
        rank=rank,
        is_held=held,
    )
    then = NOW + timedelta(days=later)
    before, after = tier_of(study, AGES, 2, NOW), tier_of(study, AGES, 2, then)
    assert DOWNWARDS.index(before) <= DOWNWARDS.index(after)
    opened = replace(study, last_used_utc=then)
    assert tier_of(opened, AGES, 2, then) is Tier.HOT
