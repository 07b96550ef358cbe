"""How large a part is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from appliance.replication.destinations.multipart import MOST_PARTS, Uplink, part_bytes, parts_of

MIB = 1 << 20
lengths = st.integers(1, 5 << 40)
rates = st.one_of(st.none(), st.floats(1.0, 1e10))


@given(rates, lengths)
def test_a_part_is_within_the_limits_of_s3_for_any_line_and_object(rate: float | None, total: int) -> None:
    size = part_bytes(rate, total)
    assert 5 * MIB <= size <= 5 << 30
    assert size % MIB == 0
    assert -(-total // size) <= MOST_PARTS


@given(st.floats(5 * MIB / 300, 1e10), st.integers(1, 40 << 30))
def test_a_part_takes_less_than_five_minutes_on_the_measured_line(rate: float, total: int) -> None:
    assert part_bytes(rate, total) / rate <= 300


@given(st.integers(0, 400 * MIB), st.integers(5, 64))
def test_parts_cover_the_file_once_in_order(total: int, size_mib: int) -> None:
    parts = parts_of(total, size_mib * MIB)
    assert [part.number for part in parts] == list(range(1, len(parts) + 1))
    assert [part.offset for part in parts] == [sum(p.length for p in parts[:n]) for n in range(len(parts))]
    assert sum(part.length for part in parts) == total


def test_a_slow_line_makes_parts_smaller_again() -> None:
    uplink = Uplink()
    assert uplink.part_bytes() == 5 * MIB
    uplink.measured(32 * MIB, 1.0)
    fast = uplink.part_bytes()
    for _ in range(30):
        uplink.measured(5 * MIB, 100.0)
    assert fast == 32 * MIB
    assert uplink.part_bytes() == 5 * MIB


def test_tiny_requests_say_nothing_of_the_line() -> None:
    uplink = Uplink()
    uplink.measured(1000, 10.0)
    assert uplink.part_bytes() == 5 * MIB
