"""What a disk does not give back when a box is restored holds up nothing else, is told, and comes once the disk gives it back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance import health
from appliance.backup import choice, homecoming, making, rebuilding, unread
from appliance.backup.schedule import Schedule
from appliance.box import Box
from appliance.catalog import destinations, settings
from appliance.errors import Unreadable
from appliance.replication import recall
from appliance.replication.destinations.archive import MANIFESTS
from tests.backup.conftest import IMAGES, Clinic, as_sent, contents
from tests.backup.test_restoring import archive_of, bring_home, restore
from tests.boxes import box_in
from tests.lifecycle.evicting import NOW
from tests.lifecycle.test_bad_sectors import unreadable
from tests.lifecycle.test_scrub import finished
from tests.rot import last_byte_changed

pytestmark = pytest.mark.slow

BEFORE, SINCE = IMAGES[:8], IMAGES[8:]
DAY = timedelta(days=1, seconds=1)
UNKNOWN = "images that only they speak of are not known here"
Harm = Callable[[Path], None]


def spoil(path: Path) -> None:
    path.write_bytes(last_byte_changed(path.read_bytes()))


def in_archive(tmp_path: Path) -> set[Path]:
    return {*(tmp_path / "usb" / MANIFESTS).iterdir()}


@pytest.fixture
def since(clinic: Clinic, tmp_path: Path) -> list[Path]:
    """The manifests of two studies that came after the backup: of two images, and of one."""
    clinic.receive(*BEFORE)
    clinic.deliver()
    clinic.back_up()
    before = in_archive(tmp_path)
    clinic.receive(*SINCE)
    clinic.deliver()
    found = in_archive(tmp_path) - before
    assert len(found) == 2
    return sorted(found)


@pytest.fixture
def mend(since: list[Path]) -> Iterator[Callable[[], None]]:
    """Let the disk give back again what it had."""
    whole = {path: path.read_bytes() for path in since}

    def again() -> None:
        for path, content in whole.items():
            path.unlink()
            path.write_bytes(content)

    yield again


def told(box: Box) -> list[tuple[str, str]]:
    found = health.status(box, NOW).problems
    return [(each.subject, each.words) for each in found if each.code == "manifests-unread"]


def read_again(box: Box, days: int) -> int:
    return unread.try_again(box, NOW + days * DAY, keep_going=lambda: True)


@pytest.mark.parametrize("harm", [unreadable, spoil])
def test_a_manifest_that_does_not_open_is_told_and_its_images_come_once_it_does(
    clinic: Clinic, since: list[Path], mend: Callable[[], None], tmp_path: Path, harm: Harm
) -> None:
    for path in since:
        harm(path)
    restored = restore(tmp_path / "after", clinic.place, clinic.paper)
    assert (restored.instances, restored.rebuilt.manifests, len(restored.rebuilt.unread)) == (8, 4, 2)
    with box_in(tmp_path / "after") as box:
        bring_home(box)
        assert told(box) == [
            (
                "usb",
                f"study manifests in usb that did not open when this box was restored: 2; {UNKNOWN}",
            )
        ]
        assert read_again(box, 0) == 0
        mend()
        assert read_again(box, 0) == 0, "once a day"
        assert len(told(box)) == 1
        assert read_again(box, 1) == 3
        assert contents(box) == as_sent(*IMAGES)
        assert told(box) == []
        assert read_again(box, 2) == 0
        found = finished(Clinic(box, clinic.place, clinic.paper))
        assert (found["lost"], found["to_mend"]) == ([], [])


def test_the_job_reads_them_again_and_the_box_writes_a_manifest_that_names_them(
    clinic: Clinic, since: list[Path], mend: Callable[[], None], tmp_path: Path
) -> None:
    unreadable(since[0])
    restore(tmp_path / "after", clinic.place, clinic.paper)
    mend()
    with box_in(tmp_path / "after") as box:
        Schedule().bring_home(box, NOW)
        bring_home(box)
        assert contents(box) == as_sent(*IMAGES)
        after = Clinic(box, clinic.place, clinic.paper)
        after.deliver()
    since[0].read_bytes()
    plain = restore(tmp_path / "plain", clinic.place, clinic.paper)
    assert (plain.instances, plain.rebuilt.unread) == (11, ())


def test_a_disk_that_dies_is_read_little_and_those_not_come_to_are_the_first_of_the_next_day(
    clinic: Clinic,
    since: list[Path],
    mend: Callable[[], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for path in since:
        unreadable(path)
    restore(tmp_path / "after", clinic.place, clinic.paper)
    monkeypatch.setattr(homecoming, "UNREAD_AT_ONCE", 1)
    with box_in(tmp_path / "after") as box:
        first, second = keys(box)
        read_again(box, 0)
        assert keys(box) == [second, first]
        read_again(box, 0)
        assert keys(box) == [second, first], "not before the next day"
        read_again(box, 1)
        assert keys(box) == [first, second]
        mend()
        assert read_again(box, 2) == 3


def keys(box: Box) -> list[str]:
    with box.catalog.reading() as reading:
        return list(settings.get(reading, unread.UNREAD)["keys"])


def test_an_archive_that_is_away_or_paused_is_asked_when_it_is_back(
    clinic: Clinic, since: list[Path], mend: Callable[[], None], tmp_path: Path
) -> None:
    unreadable(since[0])
    restore(tmp_path / "after", clinic.place, clinic.paper)
    mend()
    with box_in(tmp_path / "after") as box:
        (tmp_path / "usb").rename(tmp_path / "drawer")
        assert read_again(box, 0) == 0
        (tmp_path / "drawer").rename(tmp_path / "usb")
        with box.catalog.transaction() as tx:
            destinations.pause(tx, "usb")
        assert read_again(box, 0) == 0
        with box.catalog.transaction() as tx:
            destinations.resume(tx, "usb")
        assert len(told(box)) == 1
        assert read_again(box, 0) > 0, "nothing was tried yet today"


def test_what_is_not_where_the_archive_has_moved_to_is_looked_for_no_longer(
    clinic: Clinic, since: list[Path], tmp_path: Path
) -> None:
    for path in since:
        unreadable(path)
    restore(tmp_path / "after", clinic.place, clinic.paper)
    with box_in(tmp_path / "after") as box:
        bring_home(box)
        assert read_again(box, 0) == 0
        first, second = since
        for path in since:
            path.unlink()
        assert read_again(box, 1) == 0
        assert len(told(box)) == 1, "gone from where it was: nobody has read it"
        (tmp_path / "new").mkdir()
        with box.catalog.transaction() as tx:
            (place,) = making.archives(tx)
            moved = {**place.options, "path": str(tmp_path / "new"), "mark": ""}
            recall.let_move(tx, place, moved)
            destinations.change(tx, place.name, options=moved)
        with box.catalog.reading() as reading:
            (place,) = making.archives(reading)
        (tmp_path / "new" / MANIFESTS).mkdir()
        (tmp_path / "new" / MANIFESTS / first.name).write_bytes(b"spoilt")
        assert read_again(box, 2) == 0
        assert len(keys(box)) == 1, f"{second.name} is not there"


def test_images_for_which_there_is_no_room_are_not_recorded_before_there_is(
    clinic: Clinic,
    since: list[Path],
    mend: Callable[[], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for path in since:
        unreadable(path)
    restore(tmp_path / "after", clinic.place, clinic.paper)
    mend()
    with box_in(tmp_path / "after") as box:
        with monkeypatch.context() as full:
            full.setattr(homecoming, "has_any_room", lambda *_: False)
            assert read_again(box, 0) == 0
            assert len(told(box)) == 1
        assert read_again(box, 0) == 3


def test_the_backup_before_is_taken_where_the_newest_is_not_given_back(
    clinic: Clinic, since: list[Path], tmp_path: Path
) -> None:
    first = clinic.back_up(datetime.now(UTC) - timedelta(hours=2))
    newest = clinic.back_up()
    unreadable(tmp_path / "usb" / "snapshots" / newest.name / "index")
    assert choice.look(archive_of(clinic.place), clinic.paper).damaged == 1
    restored = restore(tmp_path / "after", clinic.place, clinic.paper)
    assert restored.snapshot is not None
    assert (restored.snapshot.name, restored.damaged_snapshots, restored.instances) == (first.name, 1, 11)


def test_a_disk_that_gives_back_nothing_makes_no_empty_box(
    clinic: Clinic, since: list[Path], tmp_path: Path
) -> None:
    for path in (*(tmp_path / "usb" / "snapshots").glob("*/index"), *in_archive(tmp_path)):
        unreadable(path)
    with pytest.raises(Unreadable) as error:
        restore(tmp_path / "after", clinic.place, clinic.paper)
    assert "cable" in (error.value.hint or "")


def test_many_in_a_row_that_are_not_given_back_are_more_than_bad_spots(
    clinic: Clinic,
    since: list[Path],
    mend: Callable[[], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rebuilding, "MOST_IN_A_ROW", 2)
    for path in in_archive(tmp_path) - {*since}:
        path.unlink()
    for path in since:
        unreadable(path)
    with pytest.raises(Unreadable):
        restore(tmp_path / "after", clinic.place, clinic.paper)
    mend()
    assert restore(tmp_path / "after", clinic.place, clinic.paper).instances == 11
