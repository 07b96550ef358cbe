"""What is a mass: never what a box does on an ordinary day, always more than a twentieth of what was kept."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from appliance.lifecycle import freezing
from appliance.lifecycle.mass_loss import (
    LEAST,
    MARGIN,
    MOST_USUAL,
    Count,
    Evidence,
    Kind,
    Usual,
    accepted,
    judge,
    used_to,
)

usuals = st.builds(Usual, share=st.floats(0, 1))


@st.composite
def counts(draw: st.DrawFn, low: float = 0.0, high: float = 1.0) -> Count:
    """A count of which a share between the two is lost, gone or altered."""
    looked = draw(st.integers(LEAST, 2000))
    lost = draw(
        st.integers(int(looked * low) + 1 if low else 0, max(int(looked * low) + 1, int(looked * high)))
    )
    lost = min(lost, looked)
    missing = draw(st.integers(0, lost))
    return Count(looked, missing=missing, altered=lost - missing, opened=min(40, looked))


@given(counts(low=MARGIN + MOST_USUAL), usuals)
def test_more_than_a_twentieth_lost_always_trips_whatever_was_usual(count: Count, usual: Usual) -> None:
    lost = count.missing + count.altered
    assert (judge(Evidence((count,), count.looked), usual) is not None) == (lost >= LEAST)


@given(st.integers(LEAST, 2000), st.lists(st.integers(0, 2000), max_size=11), st.integers(0, 1 << 40), usuals)
def test_nothing_that_the_box_does_on_purpose_trips_it(
    looked: int, before: list[int], kept: int, usual: Usual
) -> None:
    """Reception grows what is looked at, an approved purge shrinks it; neither makes one of them missing."""
    window = tuple(Count(each, opened=min(40, each)) for each in (*before, looked))
    assert judge(Evidence(window, kept), usual) is None


@given(st.integers(1, 1_000_000), st.floats(0, 1), st.integers(0, 2000))
def test_after_a_restore_what_no_archive_had_whole_is_no_news(kept: int, share: float, looked: int) -> None:
    known = int(kept * share)
    missing = min(looked, int(looked * known / kept))
    assert judge(Evidence((Count(looked, missing=missing),), kept, known=known), Usual()) is None


def test_what_no_archive_had_is_a_share_of_what_is_expected_here_and_not_of_what_is_to_come() -> None:
    count = Count(100, missing=50, opened=40)
    assert judge(Evidence((count,), 10_000, known=50), Usual()) is Kind.VANISHED
    assert judge(Evidence((count,), 10_000, known=50, expected=100), Usual()) is None


@given(st.lists(counts(high=0.019), min_size=1, max_size=60))
def test_a_disk_that_rots_slowly_is_no_attack_and_never_becomes_a_reason_to_sleep(
    history: list[Count],
) -> None:
    usual = Usual()
    for end in range(1, len(history) + 1):
        window = tuple(history[max(0, end - 12) : end])
        assert judge(Evidence(window, 100_000), usual) is None
        usual = used_to(usual, window)
    assert usual.level <= MOST_USUAL
    blow = Count(1000, missing=51, opened=40)
    assert judge(Evidence((blow,), 1000), usual) is Kind.VANISHED


@given(counts(), st.integers(0, 40))
def test_what_a_person_released_is_no_news_and_a_twentieth_more_is(count: Count, unreadable: int) -> None:
    count = replace(count, unreadable=min(unreadable, count.opened))
    usual = accepted((count,))
    assert judge(Evidence((count,), count.looked), usual) is None
    more = int(0.05 * count.looked) + 2
    if count.missing + count.altered + more <= count.looked and more >= LEAST:
        worse = replace(count, missing=count.missing + more)
        if usual.accepted <= (count.missing + count.altered) / count.looked:
            assert judge(Evidence((worse,), count.looked), usual) is not None


def test_what_was_accepted_lasts_until_half_of_it_is_mended() -> None:
    usual = accepted((Count(1000, missing=400),))
    assert used_to(usual, (Count(1000, missing=380),)).accepted == 0.4
    assert used_to(usual, (Count(1000, missing=100),)).accepted == 0.1


def test_objects_that_keep_their_look_and_do_not_open_are_found_over_the_window() -> None:
    window = tuple(Count(2000, opened=40, unreadable=1) for _ in range(12))
    assert judge(Evidence(window, 100_000), Usual()) is Kind.ALTERED
    assert judge(Evidence(window[:2], 100_000), Usual()) is None, "two are not a mass"


def test_what_others_report_counts_against_all_that_is_kept() -> None:
    assert judge(Evidence((), 100, reported=3), Usual()) is Kind.REPORTED
    assert judge(Evidence((), 1000, reported=20), Usual()) is None
    assert judge(Evidence((), 2, reported=2), Usual()) is None


def test_no_box_is_so_large_that_the_reports_that_are_counted_are_never_a_mass() -> None:
    """A million images, a tenth of them gone in a bucket: no more reports than so many are looked at."""
    assert judge(Evidence((), 1_000_000, reported=freezing.MOST_REPORTS), Usual()) is Kind.REPORTED
    assert (
        judge(Evidence((), 1_000_000, reported=freezing.MOST_REPORTS), Usual(share=MOST_USUAL))
        is Kind.REPORTED
    )
    assert judge(Evidence((), 1_000_000, reported=1000), Usual()) is None, "a disk that has a bad day"
