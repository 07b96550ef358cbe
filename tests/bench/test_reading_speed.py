"""How large an archive is read within thirty days: the arithmetic, and that the objects are really read."""

from pathlib import Path

import pytest

from . import reading_speed
from .reading_speed import Speed, reach, told


def test_thirty_days_read_so_many_bytes_and_a_share_of_the_time_that_share() -> None:
    assert reach(1 / 100e6, 1) == pytest.approx(259.2e12)
    assert reach(1 / 100e6, 1 / 8) == pytest.approx(32.4e12)


@pytest.mark.parametrize(
    ("processors", "million", "terabytes"), [(2, 162, 16), (4, 324, 32), (32, 2592, 259)]
)
def test_more_processors_leave_the_scrub_more(processors: int, million: int, terabytes: int) -> None:
    said = told(Speed(0.001, 0.0005, 1 / 100e6, 1 / 800e6), processors)
    assert "in 1.0 ms (0.5 ms of processor), large ones at 100 MB/s (800 MB a second of processor)" in said
    assert "2592 million small objects or 259 TB of large ones while the box has time to spare" in said
    assert f"{million} million or {terabytes} TB on {processors} processors that never have any" in said


@pytest.mark.slow
def test_objects_are_read_by_the_scrub_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(reading_speed, "SMALL", 3)
    monkeypatch.setattr(reading_speed, "LARGE", 1)
    speed = reading_speed.measured(tmp_path)
    assert speed.object_seconds > 0 and speed.byte_seconds > 0
    assert speed.object_seconds > speed.byte_seconds * 1000
    assert list(tmp_path.iterdir()) == []
