"""The recovery key of the box's own disk, on its screen once more: who asks is on record, and the time runs out."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance import audit, disk_key, disk_pin
from appliance.audit import Entry
from appliance.box import Box
from appliance.errors import Refused
from tests.boxes import box_in
from tests.told_disk import Root, told_disk

NOW = datetime(2026, 11, 2, 14, tzinfo=UTC)
MOMENT = timedelta(seconds=1)


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    with box_in(tmp_path / "box") as opened:
        yield opened


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Root]:
    with told_disk(tmp_path / "told") as told:
        yield told


def asks(word: str) -> Entry:
    return Entry(f"disk:{word}-key", disk_pin.SUBJECT, "olivia")


def shown(box: Box, now: datetime) -> bool:
    with box.catalog.reading() as conn:
        return disk_key.shown_until(conn, now) is not None


def recorded(box: Box) -> list[str]:
    with box.catalog.reading() as conn:
        return [str(row["action"]) for row in audit.export(conn) if "disk:" in str(row["action"])]


def test_it_is_shown_for_ten_minutes_and_no_longer(box: Box, root: Root) -> None:
    root.says("none")
    assert not shown(box, NOW)
    assert disk_key.show(box, asks("show"), NOW) == NOW + timedelta(minutes=10)
    assert shown(box, NOW)
    assert shown(box, NOW + timedelta(minutes=10) - MOMENT)
    assert not shown(box, NOW + timedelta(minutes=10))
    assert recorded(box) == ["disk:show-key"]


def test_a_clock_that_is_set_back_shows_it_no_longer(box: Box, root: Root) -> None:
    root.says("none")
    disk_key.show(box, asks("show"), NOW)
    assert not shown(box, NOW - timedelta(days=1))


def test_it_is_taken_off_before_its_time_and_that_is_on_record_once(box: Box, root: Root) -> None:
    root.says("wanted")
    disk_key.show(box, asks("show"), NOW)
    for _ in range(2):
        disk_key.hide(box, asks("hide"), NOW + MOMENT)
    assert not shown(box, NOW + MOMENT)
    assert recorded(box) == ["disk:show-key", "disk:hide-key"]


def test_a_machine_without_such_a_disk_says_so(box: Box, root: Root) -> None:
    with pytest.raises(Refused, match="no disk whose key"):
        disk_key.show(box, asks("show"), NOW)
    assert (shown(box, NOW), recorded(box)) == (False, [])
