"""For how long the disk lasts: right on a straight line, unmoved by a few odd days, silent without history."""

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.health.forecast import (
    FEWEST_DAYS,
    MOST_DAYS,
    MOST_LEFT_DAYS,
    Forecast,
    Outlook,
    forecast,
    remembered,
    slope,
)

TODAY = date(2026, 3, 2)
GB = 1_000_000_000


def line(days: int, daily_bytes: int, free_bytes: int) -> dict[date, int]:
    """Free bytes that end today at `free_bytes`, each day `daily_bytes` less."""
    return {TODAY - timedelta(days=ago): free_bytes + ago * daily_bytes for ago in range(days)}


@pytest.mark.parametrize("days", [0, 1, FEWEST_DAYS - 1])
def test_a_few_days_are_not_enough_history(days: int) -> None:
    assert forecast(line(days, GB, 50 * GB), TODAY, 50 * GB, GB) == Forecast(Outlook.UNKNOWN)


@given(st.integers(FEWEST_DAYS, 200), st.integers(1, 10_000), st.integers(0, 100_000))
def test_a_steady_pace_is_told_exactly(days: int, daily: int, free: int) -> None:
    told = forecast(line(days, daily, free), TODAY, free, 0)
    if free // daily > MOST_LEFT_DAYS:
        assert told.outlook is Outlook.STEADY
    else:
        assert told == Forecast(Outlook.FILLING, free // daily, daily)


@given(
    st.integers(FEWEST_DAYS + 3, 60),
    st.data(),
)
def test_a_quarter_of_odd_days_turns_nothing_round(days: int, data: st.DataObject) -> None:
    honest = line(days, GB, 100 * GB)
    odd = data.draw(st.sets(st.sampled_from(sorted(honest)), max_size=days // 4))
    # More than half of the pairs are of two honest days, so the median is theirs.
    told = forecast({**honest, **dict.fromkeys(odd, 0)}, TODAY, 100 * GB, 0)
    assert told == Forecast(Outlook.FILLING, 100, GB)


def test_one_great_import_does_not_move_the_pace() -> None:
    points = line(30, GB, 100 * GB)
    for ago in range(10, 30):
        points[TODAY - timedelta(days=ago)] += 200 * GB
    assert forecast(points, TODAY, 100 * GB, 0) == Forecast(Outlook.FILLING, 100, GB)


@pytest.mark.parametrize("daily", [0, -GB])
def test_a_disk_that_does_not_fill_is_steady(daily: int) -> None:
    assert forecast(line(20, daily, 50 * GB), TODAY, 50 * GB, GB).outlook is Outlook.STEADY


def test_the_reserve_is_not_counted_as_room_and_nothing_is_left_below_it() -> None:
    assert forecast(line(20, GB, 11 * GB), TODAY, 11 * GB, GB).days_left == 10
    assert forecast(line(20, GB, GB // 2), TODAY, GB // 2, GB).days_left == 0


def test_days_of_a_clock_that_was_ahead_are_not_looked_at() -> None:
    ahead = {TODAY + timedelta(days=3650 + number): 0 for number in range(30)}
    assert forecast({**line(20, GB, 11 * GB), **ahead}, TODAY, 11 * GB, GB).days_left == 10
    assert forecast(ahead, TODAY, 11 * GB, GB).outlook is Outlook.UNKNOWN


@given(st.dictionaries(st.integers(-400, 400), st.integers(0, 9), max_size=400))
def test_what_is_remembered_is_bounded_and_the_newest_on_either_side(offsets: dict[int, int]) -> None:
    days = {TODAY + timedelta(days=offset): free for offset, free in offsets.items()}
    kept = remembered(days, TODAY, 5)
    assert kept[TODAY] == 5
    past, ahead = [day for day in kept if day <= TODAY], [day for day in kept if day > TODAY]
    assert max(len(past), len(ahead)) <= MOST_DAYS
    dropped = {day for day in days if day not in kept}
    assert all(day < min(past) for day in dropped if day <= TODAY)
    assert all(day < min(ahead) for day in dropped if day > TODAY)


def test_a_slope_is_the_median_of_all_pairs() -> None:
    assert slope([(0, 0), (1, 10), (2, 20), (3, 30), (4, 9000)]) == 10
    assert slope([(0, 4), (2, 8)]) == 2
