"""Disks that do not give back what they hold: the box's own, and those for copies."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from appliance import health
from appliance.catalog import instances, settings
from appliance.errors import Unreadable
from appliance.lifecycle import census, freezing, scrub
from appliance.lifecycle.copies import MOST_UNREAD
from appliance.model import InstanceId
from appliance.replication.destinations.archive import object_key
from appliance.replication.destinations.vault import VaultDestination
from tests.backup.conftest import (  # noqa: F401 - fixtures
    IMAGES,
    Clinic,
    as_sent,
    clinic,
    clinic_in,
    contents,
    disk,
)
from tests.boxes import recorded
from tests.lifecycle.test_scrub import NOW, actions, copies, finished, flip, objects, problems
from tests.lifecycle.test_scrub import kept as _kept

pytestmark = pytest.mark.slow


kept = _kept


class BadSectors:
    """A disk that answers EIO where the files of `hurt` lie, until another file has taken their place."""

    def __init__(self, patch: pytest.MonkeyPatch, held: ExitStack) -> None:
        self.files: set[tuple[int, int]] = set()
        self.folder = ""  # all files in it, too
        self.code = errno.EIO
        self.asked = 0
        self._plain = os.pread
        self._held = held  # so that no new file gets the number of one that went
        patch.setattr(os, "pread", self._pread)

    def hurt(self, path: Path) -> None:
        self._held.enter_context(path.open("rb"))
        found = path.stat()
        self.files.add((found.st_dev, found.st_ino))

    def mend(self) -> None:
        self.files.clear()

    def _pread(self, descriptor: int, length: int, offset: int) -> bytes:
        found = os.fstat(descriptor)
        within = self.folder and os.readlink(f"/proc/self/fd/{descriptor}").startswith(self.folder)
        if within or (found.st_dev, found.st_ino) in self.files:
            self.asked += 1
            raise OSError(self.code, os.strerror(self.code))
        return self._plain(descriptor, length, offset)


@pytest.fixture
def sectors(monkeypatch: pytest.MonkeyPatch) -> Iterator[BadSectors]:
    with ExitStack() as held:
        yield BadSectors(monkeypatch, held)


def in_order(clinic: Clinic) -> list[Path]:  # noqa: F811
    """The objects as a pass comes to them."""
    with clinic.box.catalog.reading() as conn:
        rows = instances.objects_after(conn, InstanceId(0), 100)
    return [clinic.box.objects.path(row[1]) for row in rows]


def test_an_object_on_a_bad_sector_is_mended_from_the_archive(kept: Clinic, sectors: BadSectors) -> None:
    first, *_, last = objects(kept)
    sectors.hurt(first)
    sectors.hurt(last)
    found = finished(kept)
    assert (found["checked"], found["repaired"], found["lost"], found["to_mend"]) == (11, 2, [], [])
    assert actions(kept).count("instance:mend") == 2
    assert contents(kept.box) == as_sent(*IMAGES), "what can be read again took their places"
    assert not problems(kept) & {"damaged", "disk-unreadable"}


def test_an_object_on_a_bad_sector_that_nobody_else_has_is_reported(
    clinic: Clinic,  # noqa: F811
    sectors: BadSectors,
) -> None:
    clinic.receive(*IMAGES)
    hurt = objects(clinic)[2]
    sectors.hurt(hurt)
    assert finished(clinic)["lost"] == [hurt.stem]
    assert hurt.exists(), "a better disk reader may have it yet"
    assert "instance:corrupt" in actions(clinic)
    assert "damaged" in problems(clinic)


def test_a_bad_sector_while_the_archive_is_away_is_said_and_mended_later(
    kept: Clinic, tmp_path: Path, sectors: BadSectors
) -> None:
    hurt = objects(kept)[2]
    sectors.hurt(hurt)
    (tmp_path / "usb").rename(tmp_path / "away")
    assert finished(kept)["to_mend"] == [hurt.stem]
    assert "damaged" in problems(kept)
    (tmp_path / "away").rename(tmp_path / "usb")
    scrub.scrub(kept.box, NOW, most=1)
    assert contents(kept.box) == as_sent(*IMAGES)


def test_a_disk_that_dies_while_the_archive_is_away_is_read_little_and_mended_when_it_is_back(
    kept: Clinic, tmp_path: Path, sectors: BadSectors
) -> None:
    """Each attempt costs a minute of what is left of it, and ten minutes later it was asked again."""
    hurt = in_order(kept)[1:10:2]
    for path in hurt:
        sectors.hurt(path)
    (tmp_path / "usb").rename(tmp_path / "away")

    def read(at: timedelta) -> int:
        before = sectors.asked
        waiting = scrub.scrub(kept.box, NOW + at, most=1).to_mend
        assert {path.stem for path in hurt} == set(waiting)
        return sectors.asked - before

    a_day = timedelta(days=1)
    assert len(scrub.scrub(kept.box, NOW, most=10).to_mend) == 5
    assert [read(timedelta(minutes=minute)) for minute in (10, 20)] == [0, 0], "the pass is at its end"
    with kept.box.catalog.transaction() as tx:  # where none of them is next
        settings.put(tx, scrub.STANDING, settings.get(tx, scrub.STANDING) | {"cursor": 10}, NOW)
    assert read(a_day) == MOST_UNREAD, "a few in a slice"
    (tmp_path / "away").rename(tmp_path / "usb")
    before = sectors.asked
    assert scrub.scrub(kept.box, NOW + a_day + timedelta(hours=1), most=1).to_mend == ()
    assert sectors.asked - before == 2, (
        "those that were not read that day; an archive is asked for the others"
    )
    assert contents(kept.box) == as_sent(*IMAGES)


def test_what_this_disk_gives_back_the_next_day_waits_for_no_archive(
    kept: Clinic, tmp_path: Path, sectors: BadSectors
) -> None:
    sectors.hurt(in_order(kept)[0])
    (tmp_path / "usb").rename(tmp_path / "away")
    assert scrub.scrub(kept.box, NOW, most=1).to_mend
    sectors.mend()
    assert scrub.scrub(kept.box, NOW + timedelta(hours=1), most=1).to_mend, "it is not read all day"
    assert scrub.scrub(kept.box, NOW + timedelta(days=2), most=1).to_mend == ()


def test_what_this_disk_gives_back_again_is_not_lost_because_an_archive_has_it_spoilt(
    kept: Clinic, tmp_path: Path, sectors: BadSectors
) -> None:
    """A cable was loose for a moment: before an object is given up, this disk is read once more, within the day too."""
    hurt = in_order(kept)[0]
    sectors.hurt(hurt)
    (tmp_path / "usb").rename(tmp_path / "away")
    assert scrub.scrub(kept.box, NOW, most=1).to_mend
    sectors.mend()
    (tmp_path / "away").rename(tmp_path / "usb")
    for path in (tmp_path / "usb").rglob(f"*{hurt.stem}*"):
        path.write_bytes(b"spoilt")
    after = scrub.scrub(kept.box, NOW + timedelta(hours=1), most=1)
    assert (after.to_mend, after.lost) == ((), ())
    assert "instance:corrupt" not in actions(kept)


def test_a_disk_that_gives_nothing_back_is_said_and_starts_no_storm(
    kept: Clinic, sectors: BadSectors
) -> None:
    """As one whose cable has come loose: nothing is fetched, nothing called lost, and it goes on when it is back."""
    for path in objects(kept):
        sectors.hurt(path)
    stopped = scrub.scrub(kept.box, NOW)
    assert (stopped.cursor, stopped.repaired, stopped.lost, stopped.to_mend) == (0, 0, (), ())
    assert sectors.asked == scrub.IN_A_ROW, "no more is asked of it"
    assert not {"instance:mend", "instance:corrupt", "store:scrub"} & set(actions(kept))
    assert "disk-unreadable" in problems(kept)
    sectors.mend()
    assert finished(kept)["checked"] == 11
    assert not problems(kept) & {"damaged", "disk-unreadable"}


def test_a_bad_patch_of_many_objects_holds_up_nothing_for_ever(kept: Clinic, sectors: BadSectors) -> None:
    for path in in_order(kept)[:9]:
        sectors.hurt(path)
    assert scrub.scrub(kept.box, NOW).repaired == 0
    second = scrub.scrub(kept.box, NOW)
    assert second.repaired == scrub.IN_A_ROW, "no more than a row at once"
    assert "disk-unreadable" in problems(kept)
    assert finished(kept)["repaired"] == 9
    assert "disk-unreadable" not in problems(kept)
    assert contents(kept.box) == as_sent(*IMAGES)


def test_what_waits_to_be_mended_is_not_forgotten_when_the_disk_fails(
    kept: Clinic, tmp_path: Path, sectors: BadSectors
) -> None:
    first, *others = in_order(kept)
    flip(first, random.Random(3))
    (tmp_path / "usb").rename(tmp_path / "away")
    waiting = scrub.scrub(kept.box, NOW, most=1).to_mend
    assert waiting == (first.stem,)
    for path in others:
        sectors.hurt(path)
    assert scrub.scrub(kept.box, NOW).to_mend == waiting


def test_a_read_that_fails_for_another_reason_is_tried_again_and_mends_nothing(
    kept: Clinic, sectors: BadSectors
) -> None:
    hurt = objects(kept)[4]
    sectors.hurt(hurt)
    sectors.code = errno.ENOMEM
    found = finished(kept)
    assert (found["repaired"], found["to_mend"], found["lost"]) == (0, [hurt.stem], [])
    sectors.mend()
    assert scrub.scrub(kept.box, NOW, most=1).to_mend == ()


def unreadable(path: Path) -> None:
    """A file that opens and is never given back: the kernel answers EIO for the first page of this process's memory."""
    path.unlink()
    path.symlink_to("/proc/self/mem")


def test_a_copy_on_a_bad_sector_of_a_disk_is_written_again(kept: Clinic, tmp_path: Path) -> None:
    there = copies(kept, tmp_path)
    whole = there[3].read_bytes()
    unreadable(there[3])
    found = finished(kept)
    assert (found["copies"], found["lost"], found["to_mend"]) == (1, [], [])
    assert not there[3].is_symlink()
    assert there[3].read_bytes() == whole


def test_a_copy_on_a_bad_sector_that_was_the_only_one_is_said_and_tried_again(
    kept: Clinic, tmp_path: Path
) -> None:
    (row, *_) = recorded(kept.box)
    kept.box.objects.path(row.object_id).unlink()
    there = tmp_path / "usb" / object_key(row.object_id)
    whole = there.read_bytes()
    unreadable(there)
    found = finished(kept)
    assert (found["lost"], found["to_mend"]) == ([], [row.object_id])
    assert "damaged" in problems(kept)
    there.unlink()
    there.write_bytes(whole)
    assert scrub.scrub(kept.box, NOW + timedelta(days=2), most=1).to_mend == ()


def test_a_disk_that_dies_is_read_little_and_each_of_its_images_once_a_day(
    kept: Clinic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has the only copies, and each attempt costs a minute of what is left of it."""
    for path in objects(kept):
        path.unlink()
    asked: list[str] = []
    plain = VaultDestination.blocks

    def blocks(place: VaultDestination, key: str) -> Iterator[bytes]:
        if not key.startswith("objects/"):
            return plain(place, key)
        asked.append(key)
        raise Unreadable("bad")

    monkeypatch.setattr(VaultDestination, "blocks", blocks)

    def tried(day: int, may: Callable[[], bool] = lambda: True) -> list[str]:
        asked.clear()
        scrub.scrub(kept.box, NOW + timedelta(days=day), most=4, keep_going=may)
        assert len(asked) <= MOST_UNREAD + 1, "it is left alone for the rest of the slice"
        return list(asked)

    first = [tried(0) for _ in range(12)]
    assert first[-1] == [], "all were tried lately"
    assert len({each for of in first for each in of}) == len(IMAGES)
    with kept.box.catalog.reading() as conn:
        assert len(settings.get(conn, scrub.STANDING)["to_mend"]) == len(IMAGES), "none is forgotten"
    assert tried(1, Times(0)) == [], "whoever stops it does not wait for the rest"
    scrub.scrub(kept.box, NOW)
    monkeypatch.undo()
    for _ in range(2):
        scrub.scrub(kept.box, NOW + timedelta(days=4))
    assert contents(kept.box) == as_sent(*IMAGES)


class Times:
    """Says so many times that it may go on."""

    def __init__(self, times: int) -> None:
        self._left = times

    def __call__(self) -> bool:
        self._left -= 1
        return self._left >= 0


def test_a_disk_of_the_box_that_does_not_give_back_what_came_says_nothing_of_the_archive(
    kept: Clinic, sectors: BadSectors
) -> None:
    hurt = objects(kept)[2]
    flip(hurt, random.Random(4))
    sectors.folder = str(kept.box.objects.recalls)
    found = finished(kept)
    assert sectors.asked
    assert (found["lost"], found["to_mend"]) == ([], [hurt.stem])
    assert "instance:corrupt" not in actions(kept)
    sectors.folder = ""
    assert scrub.scrub(kept.box, NOW, most=1).to_mend == ()
    assert contents(kept.box) == as_sent(*IMAGES)


@pytest.mark.parametrize("is_kept", [True, False])
def test_bad_sectors_do_not_trip_the_ransomware_guard(
    clinic: Clinic,  # noqa: F811
    tmp_path: Path,
    sectors: BadSectors,
    is_kept: bool,
) -> None:
    """Here, mended or not, and on a disk for copies: an error of a disk is no attack."""
    clinic.receive(*IMAGES)
    if is_kept:
        clinic.deliver()
        for path in copies(clinic, tmp_path)[4:6]:
            unreadable(path)
    for path in objects(clinic)[:4]:
        sectors.hurt(path)
    found = finished(clinic)
    assert (found["repaired"], found["copies"]) == ((4, 2) if is_kept else (0, 0))
    assert len(found["lost"]) == (0 if is_kept else 4)  # type: ignore[arg-type]
    with clinic.box.catalog.reading() as conn:
        assert freezing._reported(conn, freezing.Standing(), NOW) == 0
    flip(objects(clinic)[7], random.Random(5))
    finished(clinic)
    with clinic.box.catalog.reading() as conn:
        assert freezing._reported(conn, freezing.Standing(), NOW) == 1, "what is altered counts as before"


def test_bad_sectors_at_the_beginning_of_objects_do_not_trip_the_count_either(
    kept: Clinic, sectors: BadSectors
) -> None:
    """Three of eleven is far more than the guard takes for usual, and altered they are a mass."""
    for path in objects(kept)[:4]:
        sectors.hurt(path)
    assert census.take(kept.box, NOW) is None
    assert sectors.asked >= 4, "it has looked at them"
    sectors.mend()
    for path in objects(kept)[:4]:
        data = bytearray(path.read_bytes())
        data[0] ^= 1
        path.write_bytes(data)
    assert census.take(kept.box, NOW) is not None, "what is altered trips it as before"


def test_a_disk_that_gives_back_no_copy_at_all_is_left_alone(kept: Clinic, tmp_path: Path) -> None:
    for path in copies(kept, tmp_path):
        unreadable(path)
    arriving = tmp_path / "usb" / ".arriving"
    arriving.rename(tmp_path / "arriving")
    arriving.write_bytes(b"a disk that takes no file")
    found = finished(kept)
    assert (found["copies"], found["lost"], found["to_mend"]) == (0, [], []), "it is not there"
    assert "disk-unreadable" not in problems(kept)
    arriving.unlink()
    assert scrub.scrub(kept.box, NOW).copies == MOST_UNREAD, "no more than a few in a slice"


def test_a_pass_in_which_a_disk_was_left_alone_is_not_whole_and_the_disk_is_named(
    kept: Clinic, tmp_path: Path
) -> None:
    for path in copies(kept, tmp_path):
        unreadable(path)
    first = scrub.scrub(kept.box, NOW, most=20)
    assert (first.checked, first.copies, first.lost) == (MOST_UNREAD, MOST_UNREAD, ())
    assert first.to_mend == (in_order(kept)[MOST_UNREAD].stem,)
    told = [each for each in health.status(kept.box, NOW).problems if each.code == "disk-unreadable"]
    assert [each.subject for each in told] == ["usb"]
    last = scrub.scrub(kept.box, NOW, most=20)
    assert (last.copies, last.to_mend) == (MOST_UNREAD + 1, ())
    assert "disk-unreadable" not in problems(kept), "what was not given back is whole again"
    with kept.box.catalog.reading() as conn:
        assert settings.get(conn, scrub.STANDING)["cursor"] == 0, "the pass came to its end"
        assert settings.get(conn, scrub.FINISHED) is None
    for _ in range(4):
        scrub.scrub(kept.box, NOW, most=20)
    found = finished(kept)
    assert (found["checked"], found["lost"], found["to_mend"]) == (11, [], [])
    assert not {"disk-unreadable", "damaged"} & problems(kept)
    assert not [path for path in copies(kept, tmp_path) if path.is_symlink()]


def test_a_row_of_other_errors_does_not_stop_reading(kept: Clinic, sectors: BadSectors) -> None:
    for path in objects(kept):
        sectors.hurt(path)
    sectors.code = errno.ENOMEM
    standing = scrub.scrub(kept.box, NOW)
    assert len(standing.to_mend) == 11
    assert "disk-unreadable" not in problems(kept)


def test_a_slice_that_stops_reads_the_manifests_all_the_same(kept: Clinic, sectors: BadSectors) -> None:
    for path in objects(kept):
        sectors.hurt(path)
    stopped = scrub.scrub(kept.box, NOW)
    assert (stopped.cursor, stopped.manifests) == (0, 4)
