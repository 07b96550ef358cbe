"""What the campaign of the support line says of its figures, and when it calls the promise kept."""

import pytest

from tests.campaigns.support_line import WAYS, Outcome


def outcome(**others: list[float]) -> Outcome:
    return Outcome({way: [0.4, 1.2, 0.8] for way in WAYS} | others)


def test_it_says_the_median_and_the_worst_of_each_way() -> None:
    assert str(outcome(hung=[1.0, 4.99])) == (
        "idle  3 sessions: gone 0.80 s after the end (median), 1.20 s at worst\n"
        "hung  2 sessions: gone 3.00 s after the end (median), 4.99 s at worst\n"
        "busy  3 sessions: gone 0.80 s after the end (median), 1.20 s at worst\n"
        "cut   3 sessions: gone 0.80 s after the end (median), 1.20 s at worst\n"
        "within 5 s: yes"
    )


@pytest.mark.parametrize("found", [outcome(cut=[0.4, 5.01]), outcome(idle=[]), Outcome()])
def test_one_that_took_longer_breaks_it_and_so_does_a_way_that_was_not_tried(found: Outcome) -> None:
    assert outcome().is_kept
    assert not found.is_kept
    assert str(found).endswith("within 5 s: NO")
