"""The format of a snapshot, and which snapshots have had their time."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.backup import choice, rotation, snapshot
from appliance.backup.snapshot import Age, Contents, Index, Piece
from appliance.errors import Corrupt

NOW = datetime(2026, 11, 25, 20, 30, tzinfo=UTC)
KEEP = timedelta(days=35)
MOMENTS = st.integers(1_577_836_800, 1_893_456_000).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))
INDEX = Index(
    snapshot.new_name(NOW, "0123abcd"), NOW, "0.1.0", "0004", (), Contents(1, 2, 3), "7:" + "00" * 32
)


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
    "text",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"format": 2}',
        b'{"format": 0, "software": "0.1"}',
        b'{"format": "2", "software": "7"}',
        b'{"format": 1, "made_utc": "yesterday"}',
        b"\xff",
    ],
)
def test_what_is_no_index_is_corrupt(text: bytes) -> None:
    with pytest.raises(Corrupt):
        snapshot.decode("20261125T203000Z-0123abcd", text)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {
            "made_utc": "2026-11-25T20:30:00+00:00",
            "pieces": {"a": 1},
            "contents": None,
            "audit": "9:aa",
            "lives": 3,
        },
        {"lives": "often", "contents": [], "pieces": 7},
    ],
)
def test_an_index_of_a_later_format_says_which_software_can_read_it(more: dict[str, object]) -> None:
    told = {"format": 2, "software": "7.1.0", **more}
    index = snapshot.decode(INDEX.name, json.dumps(told).encode())
    assert (index.name, index.software, index.format, index.made_utc) == (INDEX.name, "7.1.0", 2, NOW)
    assert (index.pieces, index.audit) == ((), more.get("audit", ""))
    assert choice.is_too_new(index)
    assert index.lives == (3 if more.get("lives") == 3 else 0)
    like_ours = snapshot.decode(INDEX.name, snapshot.encode(replace(INDEX, format=2, lives=4)))
    assert (like_ours, choice.is_too_new(like_ours)) == (replace(INDEX, format=2, lives=4), True)


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


@pytest.mark.parametrize(
    ("box", "first", "expected"),
    [
        (timedelta(0), timedelta(hours=3), timedelta(0)),  # by earlier software, on a slow line
        (timedelta(days=3650), timedelta(0), timedelta(0)),  # the box's clock was ahead
        (timedelta(days=-3650), timedelta(0), timedelta(days=-3650)),  # or behind: more is read, no less
        (timedelta(0), timedelta(days=90), timedelta(0)),  # all of it was copied from another bucket since
    ],
)
def test_what_came_after_is_counted_from_the_earliest_that_is_told(
    box: timedelta, first: timedelta, expected: timedelta
) -> None:
    index = replace(INDEX, made_utc=NOW + box)
    other = snapshot.new_name(NOW, "99999999")
    written = {
        snapshot.piece_key(index.name, 0): NOW + first,
        snapshot.index_key(index.name): NOW + first + timedelta(hours=5),
        snapshot.piece_key(other, 0): NOW - timedelta(days=1),
    }
    assert snapshot.came_after(index, written) == NOW + expected - snapshot.OVERLAP


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


def aged(**rows: int) -> dict[str, Age]:
    return {name: Age(0, count) for name, count in rows.items()}


def test_a_name_of_a_moment_to_come_has_its_place_by_how_long_the_audit_was() -> None:
    now = datetime(2026, 11, 26, tzinfo=UTC)
    first, second, third = (snapshot.new_name(now - timedelta(days=days), "0" * 8) for days in (3, 2, 1))
    ahead, later = (snapshot.new_name(now + timedelta(days=days), "0" * 8) for days in (3000, 4000))
    ages = aged(**{first: 10, second: 20, third: 30})
    everything = [first, later, third, ahead, second]
    assert snapshot.in_order(everything, ages | aged(**{ahead: 15, later: 25}), now) == [
        third,
        later,
        second,
        ahead,
        first,
    ]
    assert snapshot.in_order([first, ahead], ages | aged(**{ahead: 11}), now) == [ahead, first], "made last"
    assert snapshot.in_order([first, ahead], ages, now) == [first, ahead], "its index says nothing"
    assert snapshot.in_order([ahead, first], {}, now) == [first, ahead], "nor does the other one's"


@pytest.mark.parametrize("now", [datetime(year, 1, 2, tzinfo=UTC) for year in (1970, 2020, 2026, 2099)])
def test_backups_of_a_week_with_a_dead_clock_are_newer_whatever_any_clock_says(now: datetime) -> None:
    """The box began to think that it is 2020; the blank one may think anything."""
    good = [snapshot.new_name(datetime(2026, 1, day, tzinfo=UTC), "0" * 8) for day in (1, 2, 3)]
    dead = [snapshot.new_name(datetime(2020, 1, day, tzinfo=UTC), "0" * 8) for day in (1, 2, 3)]
    ages = aged(**dict(zip(good + dead, range(10, 70, 10), strict=True)))
    assert snapshot.in_order(good + dead, ages, now) == [*reversed(dead), *reversed(good)]


def test_a_box_that_came_back_from_an_older_backup_makes_newer_ones_with_fewer_rows() -> None:
    now = datetime(2026, 11, 26, tzinfo=UTC)
    before, after = (snapshot.new_name(now - timedelta(days=days), "0" * 8) for days in (9, 2))
    ages = {before: Age(0, 500), after: Age(1, 60)}
    assert snapshot.in_order([before, after], ages, now) == [after, before]


def test_one_that_says_nothing_stands_where_its_name_does() -> None:
    now = datetime(2026, 11, 26, tzinfo=UTC)
    names = [snapshot.new_name(now - timedelta(days=days), "0" * 8) for days in (1, 2, 3, 4)]
    ages = aged(**{names[1]: 20, names[3]: 10})
    assert snapshot.in_order(list(reversed(names)), ages, now) == names
