"""The deep examination: it does what receiving does, finds what is broken, leaves nothing, and can't be made a burden."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance.box import Box, open_box
from appliance.catalog import settings
from appliance.health import deep
from appliance.health.deep import EXAMINED, Examiner
from appliance.store.disk import Buffer, Disk
from tests.boxes import config_in

NOW = datetime.now(UTC)


@pytest.fixture
def box(data_dir: Path) -> Iterator[Box]:
    opened = open_box(config_in(data_dir))
    yield opened
    opened.close()


def files(box: Box) -> set[Path]:
    return {path for path in (box.config.data / "objects").rglob("*") if path.is_file()}


def test_a_sound_box_is_found_so_and_nothing_stays(box: Box) -> None:
    before = files(box)
    found = Examiner(box).examine(NOW)
    assert found.is_sound
    assert [(step.name, step.cause) for step in found.steps] == [("store", ""), ("catalog", "")]
    assert files(box) == before
    with box.catalog.reading() as conn:
        assert settings.get(conn, EXAMINED) == {"at_utc": NOW.isoformat()}


def test_a_full_disk_is_found(data_dir: Path) -> None:
    box = open_box(config_in(data_dir, reserve_bytes=1 << 60))
    try:
        found = Examiner(box).examine(NOW)
        assert not found.is_sound
        assert [bool(step.cause) for step in found.steps] == [True, False]
    finally:
        box.close()


class Flipping(Disk):
    """A disk that changes a bit of whatever it writes."""

    def write(self, descriptor: int, buffers: Sequence[Buffer]) -> None:
        whole = bytearray(b"".join(buffers))
        whole[len(whole) // 2] ^= 1
        super().write(descriptor, [whole])


def test_a_disk_that_gives_back_something_else_is_found(data_dir: Path) -> None:
    box = open_box(config_in(data_dir), disk=Flipping())
    try:
        store, catalog = Examiner(box).examine(NOW).steps
        assert store.cause
        assert not catalog.cause
        assert not files(box)
    finally:
        box.close()


def test_asking_often_makes_the_disk_work_once(box: Box) -> None:
    clock = [0.0]
    examiner = Examiner(box, lambda: clock[0])
    first = examiner.examine(NOW)
    clock[0] = deep.AGAIN_SECONDS - 0.1
    assert examiner.examine(NOW + timedelta(seconds=5)) is first
    clock[0] = deep.AGAIN_SECONDS
    assert examiner.examine(NOW + timedelta(seconds=10)) is not first
