"""Percentiles out of buckets: never below the truth, at most 41 % above it, and the same however they were added up."""

from math import sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.latency import BOUNDS_SECONDS, Histogram, added

seconds = st.floats(BOUNDS_SECONDS[0], BOUNDS_SECONDS[-1], allow_nan=False)
several = st.lists(seconds, max_size=60)


def of(values: list[float]) -> Histogram:
    made = Histogram()
    for each in values:
        made.observe(each)
    return made


@given(st.lists(seconds, min_size=1, max_size=200), st.sampled_from([0.5, 0.95, 0.99, 1.0]))
def test_a_percentile_is_at_or_above_the_truth_by_41_percent_at_most(
    values: list[float], share: float
) -> None:
    rank = next(rank for rank in range(1, len(values) + 1) if rank >= share * len(values) - 1e-9)
    truth = sorted(values)[rank - 1]
    told = of(values).percentile(share)
    assert told is not None
    assert truth <= told <= truth * sqrt(2) * (1 + 1e-9)


def test_of_nothing_there_is_no_percentile() -> None:
    assert Histogram().percentile(0.5) is None


@pytest.mark.parametrize("value", [0.0, 1e-9, BOUNDS_SECONDS[0]])
def test_what_takes_no_time_is_in_the_first_bucket(value: float) -> None:
    assert of([value]).counts[0] == 1


def test_what_takes_too_long_is_counted_too() -> None:
    endless = of([10_000.0])
    assert endless.total == 1
    assert endless.percentile(0.5) == BOUNDS_SECONDS[-1]


@given(several, several)
def test_added_up_is_as_if_measured_together(one: list[float], other: list[float]) -> None:
    together = added([of(one), of(other)])
    assert together.counts == of(one + other).counts
    assert together.seconds == pytest.approx(sum(one) + sum(other))


@given(several)
def test_a_histogram_survives_its_own_json(values: list[float]) -> None:
    read = Histogram.of_detail(of(values).as_detail())
    assert read.counts == of(values).counts
    assert read.seconds == pytest.approx(of(values).seconds, abs=1e-6)


@pytest.mark.parametrize(
    "detail", [None, 3, {}, {"counts": 3}, {"counts": {"x": 1, "999": 2, "3": "y"}, "seconds": "z"}]
)
def test_what_is_no_histogram_is_an_empty_one(detail: object) -> None:
    assert Histogram.of_detail(detail).total == 0


@given(several, several)
def test_what_is_new_is_what_came_on_top(before: list[float], more: list[float]) -> None:
    assert of(before + more).since(of(before)).counts == of(more).counts


def test_a_process_that_began_anew_is_counted_whole() -> None:
    assert of([0.5]).since(of([0.1, 0.1, 0.5])).counts == of([0.5]).counts
