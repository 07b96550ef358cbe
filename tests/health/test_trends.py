"""The series by the clinic's own days and hours: each record in one of them, gaps left as gaps."""

from datetime import UTC, date, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from appliance.figures import Figures
from appliance.health.trends import by_day, by_hour, together

QUEBEC = timezone(timedelta(hours=-5))
TODAY = date(2026, 3, 2)
NOON = datetime(2026, 3, 2, 17, 30, tzinfo=UTC)  # half past noon there


def test_the_evening_belongs_to_the_day_of_the_clinic() -> None:
    late = datetime(2026, 3, 2, 4, 30, tzinfo=UTC)  # the first of March, half past eleven at night
    before, today = by_day([(late, Figures(received=3))], TODAY, 2, QUEBEC)
    assert before.figures == Figures(received=3)
    assert (today.at.date(), today.figures) == (TODAY, None)


def test_hours_end_with_this_one_and_gaps_stay_gaps() -> None:
    points = by_hour(
        [(NOON, Figures(received=1)), (NOON - timedelta(hours=2), Figures(received=4))], NOON, 4, QUEBEC
    )
    assert [each.at.hour for each in points] == [9, 10, 11, 12]
    assert [each.figures.received if each.figures else None for each in points] == [None, 4, None, 1]


@given(st.lists(st.tuples(st.integers(0, 29 * 24 * 60), st.integers(0, 50)), max_size=80))
def test_nothing_is_lost_or_doubled_on_the_way_to_days(minutes: list[tuple[int, int]]) -> None:
    records = [(NOON - timedelta(minutes=ago), Figures(received=count)) for ago, count in minutes]
    days = by_day(records, TODAY, 31, QUEBEC)
    assert sum(each.figures.received for each in days if each.figures) == together(records).received
    assert together(records).received == sum(count for _, count in minutes)
