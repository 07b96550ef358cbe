"""Delivery states, waits and the circuit breaker: the table told again, independently, and what follows from it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import Refused
from appliance.replication.delivery import (
    CLOSED,
    OPEN_STATES,
    TRANSITIONS,
    Breaker,
    Event,
    State,
    after_failure,
    after_test,
    back_off,
    break_seconds,
    is_over,
    next_state,
    rest_while_down,
    states_before,
)

NOW = datetime(2026, 11, 22, 9, tzinfo=UTC)
EVERY_STATE = "PENDING SENDING WAITING PAUSED CONFIRMED FAILED CANCELLED"

# event: the states it can happen in, and where it leads
RESTATED = {
    "claim": ("PENDING WAITING", "SENDING"),
    "confirm": ("PENDING SENDING WAITING PAUSED FAILED CANCELLED", "CONFIRMED"),
    "postpone": ("SENDING", "WAITING"),
    "refuse": ("SENDING", "FAILED"),
    "expire": ("SENDING", "PENDING"),
    "release": ("SENDING", "PENDING"),
    "pause": ("PENDING SENDING WAITING", "PAUSED"),
    "resume": ("PAUSED", "PENDING"),
    "retry": ("WAITING FAILED CANCELLED", "PENDING"),
    "move": ("CONFIRMED", "PENDING"),
    "cancel": ("PENDING SENDING WAITING PAUSED FAILED", "CANCELLED"),
}

jitters = st.floats(0, 1, exclude_max=True)
attempts = st.integers(1, 10_000)


@pytest.mark.parametrize("state", EVERY_STATE.split())
@pytest.mark.parametrize("event", RESTATED)
def test_the_table_is_what_was_agreed(state: str, event: str) -> None:
    before, after = RESTATED[event]
    if state in before.split():
        assert next_state(State(state), Event(event)) == after
    else:
        with pytest.raises(Refused):
            next_state(State(state), Event(event))


def test_the_table_knows_no_other_states_or_events() -> None:
    assert {str(each) for each in TRANSITIONS} == set(EVERY_STATE.split())
    assert {str(each) for each in Event} == set(RESTATED)


@pytest.mark.parametrize("event", Event)
def test_states_before_is_the_inverse_of_the_table(event: Event) -> None:
    assert sorted(states_before(event)) == sorted(RESTATED[event][0].split())


def test_an_obligation_ends_only_by_receipt_refusal_or_decision() -> None:
    assert set(State) - OPEN_STATES == {State.CONFIRMED, State.FAILED, State.CANCELLED}


def test_every_state_but_confirmed_can_still_be_confirmed() -> None:
    for state in set(State) - {State.CONFIRMED}:
        assert next_state(state, Event.CONFIRM) is State.CONFIRMED


@given(attempts, jitters)
def test_back_off_never_gives_up_and_never_exceeds_ten_minutes(attempts: int, jitter: float) -> None:
    assert 1.0 <= back_off(attempts, jitter) <= 600.0


@given(st.integers(1, 1_000), jitters)
def test_back_off_never_shrinks_with_more_attempts(attempts: int, jitter: float) -> None:
    assert back_off(attempts + 1, jitter) >= back_off(attempts, jitter)


@given(jitters)
def test_an_object_rests_ten_minutes_while_its_destination_is_down(jitter: float) -> None:
    assert 600.0 <= rest_while_down(jitter) <= 660.0


@given(attempts, jitters)
def test_a_destination_is_tested_at_least_every_ten_minutes(failures: int, jitter: float) -> None:
    assert 0.9 <= break_seconds(failures, jitter) <= 600.0


def test_a_breaker_opens_for_longer_with_each_failure_in_a_row() -> None:
    breaker, now, waits = CLOSED, NOW, []
    for _ in range(12):
        breaker = after_failure(breaker, "no answer", now, 0.0)
        assert breaker.open_until_utc is not None
        assert not breaker.lets_send()
        assert not breaker.test_is_due(now)
        waits.append((breaker.open_until_utc - now).total_seconds())
        now = breaker.open_until_utc
        assert breaker.test_is_due(now)
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600]


def test_failures_that_were_under_way_together_count_once() -> None:
    first = after_failure(CLOSED, "no answer", NOW, 0.0)
    assert after_failure(first, "no answer", NOW + timedelta(seconds=0.5), 0.0) == first


def test_a_successful_test_lets_objects_go_but_does_not_forget() -> None:
    failed = after_failure(CLOSED, "no answer", NOW, 0.0)
    tested = after_test(failed)
    assert tested.lets_send()
    again = after_failure(tested, "no answer", NOW + timedelta(seconds=3), 0.0)
    assert again.failures == 2


@pytest.mark.parametrize("years", [-10, 10])
def test_a_clock_that_is_set_never_lengthens_a_wait(years: int) -> None:
    breaker = after_failure(CLOSED, "no answer", NOW, 0.0)
    assert breaker.test_is_due(NOW.replace(year=NOW.year + years))
    assert is_over(NOW + timedelta(seconds=660), NOW.replace(year=NOW.year + years))


def test_a_wait_is_not_over_before_its_time() -> None:
    assert not is_over(NOW + timedelta(seconds=660), NOW)
    assert is_over(NOW, NOW)


def test_a_closed_breaker_lets_send() -> None:
    assert Breaker().lets_send()
    assert not Breaker().test_is_due(NOW)
