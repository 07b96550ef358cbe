"""What became of each version: it waited, started, was left again, or was replaced before it started."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from appliance.updates.history import MOST_KEPT, Outcome, Seen, Update, noted

NOW = datetime(2026, 3, 3, 4, 30, tzinfo=UTC)


def lived(*looks: Seen) -> tuple[Update, ...]:
    """What is told after these looks, an hour apart."""
    history: tuple[Update, ...] = ()
    for number, seen in enumerate(looks):
        history = noted(history, seen, NOW + timedelta(hours=number))
    return history


def told(*looks: Seen) -> list[tuple[str, str]]:
    return [(each.version, each.outcome.value) for each in lived(*looks)]


def test_a_version_that_comes_waits_and_starts() -> None:
    looks = Seen("1"), Seen("1", ("2",)), Seen("1", ("2",)), Seen("2")
    assert told(*looks[:1]) == [("1", "started")]
    assert told(*looks[:3]) == [("2", "waits"), ("1", "started")]
    latest, first = lived(*looks)
    assert latest == Update("2", Outcome.STARTED, NOW + timedelta(hours=3), NOW + timedelta(hours=1))
    assert first == Update("1", Outcome.STARTED, NOW), "what ran when the box first looked did not come to it"


def test_one_that_does_not_prove_itself_is_left_whether_or_not_it_got_so_far_as_to_be_seen() -> None:
    before, after = Seen("1", ("2",)), Seen("1", left=("2",))
    assert told(before, after) == [("2", "left"), ("1", "started")]
    assert told(before, Seen("2"), after) == [("2", "left"), ("1", "started")]
    assert told(before, Seen("2", left=("2",))) == [("2", "started"), ("1", "started")], (
        "its last try, and it holds"
    )
    assert told(before, after, Seen("1", ("3",), ("2",)), Seen("3", left=("2",)))[0] == ("3", "started")


def test_one_that_is_replaced_before_it_starts_says_so() -> None:
    assert told(Seen("1", ("2",)), Seen("1", ("3",))) == [("3", "waits"), ("2", "replaced"), ("1", "started")]


def test_one_that_was_chosen_for_every_start_says_so_and_what_it_keeps_from_starting_was_not_replaced() -> (
    None
):
    kept = Seen("1", chosen="1")
    assert told(Seen("1"), Seen("1", ("2",)), kept) == [("2", "waits"), ("1", "chosen")]
    assert told(Seen("1", ("2",)), kept, Seen("1", ("2",)), Seen("2")) == [("2", "started"), ("1", "started")]
    assert told(Seen("2"), kept) == [("1", "chosen"), ("2", "started")], "the newer one has not failed"
    assert told(Seen("1", ("2",)), kept, Seen("1", ("3",))) == [
        ("3", "waits"),
        ("2", "replaced"),
        ("1", "started"),
    ]
    assert told(Seen("2", left=("2",), chosen="2")) == [("2", "chosen")], (
        "nor has one that was left, and is chosen"
    )
    assert told(kept, Seen("2", chosen="1"))[1] == ("1", "chosen"), (
        "somebody has started the other one by hand"
    )


_VERSIONS = st.sampled_from("12345")
_LOOKS = st.builds(
    Seen,
    _VERSIONS,
    st.lists(_VERSIONS, max_size=1).map(tuple),
    st.lists(_VERSIONS, max_size=2, unique=True).map(tuple),
    st.sampled_from(("", "", "1")),
)


@given(st.lists(_LOOKS, min_size=1, max_size=8))
def test_whatever_is_seen_each_version_is_told_once_and_as_it_was_seen_last(looks: list[Seen]) -> None:
    history = lived(*looks)
    last = looks[-1]
    found = {each.version: each.outcome for each in history}
    assert len(found) == len(history)
    assert found[last.running] is (Outcome.CHOSEN if last.chosen == last.running else Outcome.STARTED)
    for version in {*last.left} - {last.running}:
        assert found[version] is Outcome.LEFT
    waits = {version for version, outcome in found.items() if outcome is Outcome.WAITS}
    told_to_wait = {*last.waiting} - {last.running} - {*last.left}
    assert waits >= told_to_wait if last.chosen else waits == told_to_wait
    assert noted(history, last, NOW + timedelta(days=9)) == history, "a second look changes nothing"


def test_no_more_is_kept_than_somebody_reads() -> None:
    assert len(lived(*(Seen(str(number)) for number in range(2 * MOST_KEPT)))) == MOST_KEPT
