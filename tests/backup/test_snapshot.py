"""The format of a snapshot, and which snapshots have had their time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.backup import rotation, snapshot
from appliance.backup.snapshot import Contents, Index, Piece
from appliance.errors import Corrupt

NOW = datetime(2026, 11, 25, 20, 30, tzinfo=UTC)
KEEP = timedelta(days=35)
MOMENTS = st.integers(1_577_836_800, 1_893_456_000).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))


@given(
    MOMENTS,
    st.lists(st.tuples(st.integers(1, 8 << 20), st.text("0123456789abcdef", min_size=64, max_size=64))),
)
def test_an_index_is_read_as_it_was_written(made: datetime, pieces: list[tuple[int, str]]) -> None:
    index = Index(
        snapshot.new_name(made, "0123abcd"),
        made,
        "0.1.0",
        "0004",
        tuple(Piece(*each) for each in pieces),
        Contents(1, 2, 3),
        "7:" + "00" * 32,
    )
    assert snapshot.decode(index.name, snapshot.encode(index)) == index
    assert index.size_bytes == sum(size for size, _ in pieces)


@pytest.mark.parametrize(
    "text", [b"", b"null", b"[]", b"{}", b'{"format": 2}', b'{"format": 1, "made_utc": "yesterday"}', b"\xff"]
)
def test_what_is_no_index_is_corrupt(text: bytes) -> None:
    with pytest.raises(Corrupt):
        snapshot.decode("20261125T203000Z-0123abcd", text)


@given(MOMENTS, MOMENTS)
def test_names_sort_as_moments_do(one: datetime, other: datetime) -> None:
    names = [snapshot.new_name(each, "00000000") for each in (one, other)]
    by_second = [each.replace(microsecond=0) for each in (one, other)]
    assert (names[0] < names[1]) == (by_second[0] < by_second[1])
    assert snapshot.moment_of(names[0]) == by_second[0]


@pytest.mark.parametrize(
    "name",
    ["", "index", "20261125T203000Z", "20261125T203000Z-0123ABCD", "20261399T203000Z-00000000", "../x"],
)
def test_what_is_no_name_has_no_moment(name: str) -> None:
    assert snapshot.moment_of(name) is None


def test_only_what_has_an_index_is_a_snapshot() -> None:
    whole, cut = "20261125T203000Z-0123abcd", "20261125T213000Z-0123abcd"
    keys = [
        snapshot.piece_key(whole, 0),
        snapshot.index_key(whole),
        snapshot.piece_key(cut, 0),
        "snapshots/odd/index",
    ]
    assert snapshot.names_in(keys) == [whole]


@given(st.lists(MOMENTS, unique=True, max_size=40), MOMENTS, st.integers(0, 5))
def test_rotation_keeps_what_is_within_the_time_the_newest_few_and_what_is_to_come(
    moments: list[datetime], now: datetime, least: int
) -> None:
    names = [snapshot.new_name(each, f"{number:08x}") for number, each in enumerate(moments)]
    gone = rotation.obsolete(names, now, KEEP, least=least)
    moment = {name: snapshot.moment_of(name) for name in names}
    for name in names:
        made = moment[name]
        assert made is not None
        if made > now or now - made <= KEEP:
            assert name not in gone
    past = sorted(name for name in names if moment[name] <= now)  # type: ignore[operator]
    assert len(set(past) - set(gone)) >= min(least, len(past))
    assert gone == sorted(gone)


def test_planting_snapshots_pushes_none_out() -> None:
    """With "keep the last n", whoever can make backups can make the good ones go."""
    good = snapshot.new_name(NOW - timedelta(days=20), "00000000")
    planted = [snapshot.new_name(NOW - timedelta(minutes=each), f"{each:08x}") for each in range(1, 500)]
    future = [snapshot.new_name(NOW + timedelta(days=each), f"{each:08x}") for each in range(1, 500)]
    assert rotation.obsolete([good, *planted, *future], NOW, KEEP) == []


def test_a_name_of_a_moment_to_come_has_its_place_by_how_long_the_audit_was() -> None:
    now = datetime(2026, 11, 26, tzinfo=UTC)
    first, second, third = (snapshot.new_name(now - timedelta(days=days), "0" * 8) for days in (3, 2, 1))
    ahead, later = (snapshot.new_name(now + timedelta(days=days), "0" * 8) for days in (3000, 4000))
    rows = {first: 10, second: 20, third: 30}
    everything = [first, later, third, ahead, second]
    assert snapshot.in_order(everything, rows | {ahead: 15, later: 25}, now) == [
        third,
        later,
        second,
        ahead,
        first,
    ]
    assert snapshot.in_order([first, ahead], rows | {ahead: 11}, now) == [ahead, first], "made last indeed"
    assert snapshot.in_order([first, ahead], rows, now) == [first, ahead], "its index says nothing"
    assert snapshot.in_order([ahead, first], {ahead: 15}, now) == [first, ahead], "nor does the other one's"


def test_names_that_no_clock_is_doubted_for_stand_by_their_moments_alone() -> None:
    """A box that came back from an older backup counts the rows of its audit on from there."""
    now = datetime(2026, 11, 26, tzinfo=UTC)
    before, after = (snapshot.new_name(now - timedelta(days=days), "0" * 8) for days in (9, 2))
    assert snapshot.in_order([before, after], {before: 500, after: 60}, now) == [after, before]
    assert not snapshot.is_ahead(snapshot.new_name(now + timedelta(hours=2), "0" * 8), now)


def test_a_blank_box_whose_clock_is_dead_goes_by_the_rows() -> None:
    dead = datetime(2000, 1, 1, tzinfo=UTC)
    names = [snapshot.new_name(datetime(year, 1, 1, tzinfo=UTC), "0" * 8) for year in (2025, 2026, 2036)]
    rows = dict(zip(names, (10, 30, 20), strict=True))
    assert snapshot.in_order(names, rows, dead) == [names[1], names[2], names[0]]
