"""The bench of what a backup sends: the arithmetic, and that a day's pages are counted for what they are."""

from pathlib import Path

import pytest

from . import sending_backups
from .sending_backups import Found, cost, table, uplink_seconds
from .years import by_itself

WHOLE = Found(100_000, 1_000_000_000, 60.0, 12.0, 1_024_000_000, 5_000, 9_000)


def test_a_gigabyte_takes_four_hundred_seconds_and_a_month_of_them_ninety_cents() -> None:
    assert uplink_seconds(1_000_000_000) == 400
    assert cost([1_000_000_000] * 35) == pytest.approx(0.875)


def test_differences_are_counted_by_the_fewer_pages_with_a_whole_one_a_week() -> None:
    assert WHOLE.less_bytes == 5_000 * 4096
    line = table([WHOLE]).splitlines()[-1]
    saved = 0.025 * 30 * (1 - 0.02048)
    assert "| 1000.0 MB | 60.0 s | 12.0 s | 400 s | 0.88 $ | 5000 of 250000 | 9000 | 20.5 MB |" in line
    assert line.endswith(f"| 336 s | {saved:.2f} $ |")


@pytest.mark.slow
def test_a_day_changes_some_pages_of_a_catalog_and_not_all(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sending_backups, "A_DAY", 2)
    found = by_itself(sending_backups.measured, tmp_path, 200)
    pages = found.file_bytes // sending_backups.PAGE_BYTES
    assert 0 < found.file_pages < pages
    assert 0 < found.copy_pages < pages
    assert 0.5 < found.sent_bytes / found.file_bytes <= 1.1
    assert not list(tmp_path.glob("*.db")), "no page lies about opened"
