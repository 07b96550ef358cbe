"""The days that are left: never negative, never more with more arriving, from history once there is some."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from appliance.wizard.forecast import BYTES, EXPECTED, MOST_DAYS, Basis, forecast

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
counts = st.fixed_dictionaries({kind: st.integers(0, 10_000) for kind in BYTES})


def days(usable: int, expected, *, kept: int = 0, since: timedelta | None = None):
    first = None if since is None else NOW - since
    return forecast(
        usable_bytes=usable, kept_bytes=kept, first_received_utc=first, expected=expected, now=NOW
    )


@given(st.integers(-(10**12), 10**15), counts)
def test_it_is_a_number_of_days_whatever_is_expected(usable: int, expected) -> None:
    assert 0 <= days(usable, expected).days <= MOST_DAYS


@given(st.integers(0, 10**13), counts, st.sampled_from(sorted(BYTES)))
def test_more_images_never_last_longer(usable: int, expected, kind: str) -> None:
    more = expected | {kind: expected[kind] + 10}
    assert days(usable, more).days <= days(usable, expected).days


def test_a_guess_counts_five_days_a_week() -> None:
    found = days(7_000_000_000, {"cbct": 2})
    assert found.basis is Basis.EXPECTED
    assert found.bytes_a_day == 800_000_000 * 5 // 7
    assert found.days == 12


def test_a_week_of_history_is_believed_more_than_a_guess() -> None:
    young = days(10**12, EXPECTED, kept=10**9, since=timedelta(days=6))
    grown = days(10**12, EXPECTED, kept=10**9, since=timedelta(days=10))
    assert (young.basis, grown.basis) == (Basis.EXPECTED, Basis.HISTORY)
    assert grown.bytes_a_day == 10**8
    assert grown.days == 10_000


def test_a_clock_that_was_set_back_does_not_make_history() -> None:
    assert days(10**12, EXPECTED, kept=10**9, since=timedelta(days=-3000)).basis is Basis.EXPECTED
