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
