"""A duty comes again at the next of its times, and a clock that is set by years lets nothing be counted."""

from datetime import UTC, datetime, timedelta

import pytest
from apscheduler.job import Job
from apscheduler.schedulers.background import BackgroundScheduler
from hypothesis import given
from hypothesis import strategies as st

from appliance.rhythm import Every

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
SPANS = st.timedeltas(timedelta(0), timedelta(days=40_000))


@given(st.integers(1, 100_000), SPANS)
def test_the_next_time_is_the_first_after_now_and_in_step(seconds: int, since: timedelta) -> None:
    every = timedelta(seconds=seconds)
    following = Every(seconds).get_next_fire_time(NOW - since, NOW)
    assert NOW < following <= NOW + every
    assert (following - (NOW - since)) % every == timedelta(0)


@given(st.integers(1, 100_000), SPANS)
def test_a_time_that_is_yet_to_come_is_followed_by_the_one_after_it(seconds: int, until: timedelta) -> None:
    assert Every(seconds).get_next_fire_time(NOW + until, NOW) - (NOW + until) <= 2 * timedelta(
        seconds=seconds
    )


def test_one_that_never_came_comes_after_its_time() -> None:
    assert Every(60).get_next_fire_time(None, NOW) == NOW + timedelta(seconds=60)


@pytest.mark.parametrize("years", [0, 1, 10, 100])
def test_a_clock_that_is_set_by_years_makes_one_time_of_all_that_were_missed(years: int) -> None:
    """Asked as the scheduler asks: all times up to now, however many."""
    scheduler = BackgroundScheduler(timezone=UTC)
    job: Job = scheduler.add_job(lambda: None, Every(5), id="often")
    job._modify(next_run_time=NOW)
    assert job._get_run_times(NOW + timedelta(days=365 * years)) == [NOW]
