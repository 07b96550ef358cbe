"""What a homecoming has passed over is known row by row, whatever passes and runs it was in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.backup import awaited
from appliance.backup.awaited import Awaited

LAST = 60

rows_ = st.sets(st.integers(1, LAST))


def one_pass(known: Awaited, rows: set[int], away: set[int], most: int, *, is_first: bool) -> Awaited:
    """All runs of a pass, each with at most so many rows; what it has come to is what it looks at."""
    below = LAST + 1
    while True:
        spans = [(1, below - 1)] if is_first else known.below(below)
        within = sorted(
            (row for row in rows if any(first <= row <= last for first, last in spans)), reverse=True
        )
        looked = [(row, row in away) for row in within[:most]]
        is_end = len(within) < most
        known = known.after(spans, looked, is_end=is_end)
        if is_end:
            return known
        below = looked[-1][0]
        assert below not in known or any(below == each.first for each in known.stretches)


@given(rows_, rows_, rows_, rows_, st.integers(1, 7), st.integers(1, 7))
def test_what_was_passed_over_is_awaited_until_it_has_come_and_nothing_else(
    rows: set[int], away: set[int], later: set[int], destroyed: set[int], most: int, then: int
) -> None:
    known = one_pass(Awaited(), rows, away, most, is_first=True)
    assert {row for row in rows if row in known} == rows & away
    assert known.count == len(rows & away)
    left = rows - destroyed
    again = one_pass(Awaited.of(known.stretches), left, later, then, is_first=False)
    assert {row for row in left if row in again} == left & away & later
    assert again.count == len(left & away & later)


@given(rows_, rows_, st.integers(1, LAST), st.integers(1, LAST))
def test_what_lies_between_is_all_the_rest(rows: set[int], away: set[int], first: int, last: int) -> None:
    known = one_pass(Awaited(), rows, away, 9, is_first=True)
    found = [row for start, end in known.others(first, last) for row in range(start, end + 1)]
    assert found == [row for row in range(first, last + 1) if row not in known]


@given(rows_, rows_, st.integers(1, 7))
def test_of_too_many_the_nearest_are_taken_together(rows: set[int], away: set[int], most: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(awaited, "MOST", 5)
        known = one_pass(Awaited(), rows, away, most, is_first=True)
        assert len(known.stretches) <= 5
        assert all(row in known for row in rows & away), "nothing is missed that is only to come"
        known = one_pass(known, rows, set(), most, is_first=False)
        assert known.stretches == ()


def test_as_many_are_kept_apart_as_may_be() -> None:
    every_other = [(row, row % 2 == 0) for row in range(2 * awaited.MOST + 10, 0, -1)]
    known = Awaited().after([(1, len(every_other))], every_other, is_end=True)
    assert len(known.stretches) == awaited.MOST
    assert sum(row not in known for row, _ in every_other) == awaited.MOST
