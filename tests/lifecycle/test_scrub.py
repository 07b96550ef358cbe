"""Whatever rots is found and mended: objects, manifests, the pages of the catalog; and a pass is never lost."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance import audit, health
from appliance.catalog import deliveries, destinations, settings
from appliance.health import gathering
from appliance.health.gathering import SCRUB, SCRUB_STANDING, SCRUB_STOPPED, SCRUB_UNCHECKED, VERIFICATION
from appliance.lifecycle import asked, scrub
from appliance.model import DestinationSettings, ObjectId
from appliance.pace import LOOK_SECONDS, Load
from appliance.replication.destinations import prepare
from appliance.replication.destinations.archive import object_key
from appliance.store.objects import SealedReader
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
from tests.replication.file_servers import openssh
from tests.unrested import rested

NOW = datetime(2026, 11, 25, 20, tzinfo=UTC)

pytestmark = pytest.mark.slow


@pytest.fixture
def kept(clinic: Clinic) -> Clinic:  # noqa: F811
    """A box whose images are in the archive too."""
    clinic.receive(*IMAGES)
    clinic.deliver()
    return clinic


def objects(clinic: Clinic) -> list[Path]:  # noqa: F811
    return [clinic.box.objects.path(row.object_id) for row in recorded(clinic.box)]


def flip(path: Path, dice: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    path.write_bytes(data)


def finished(clinic: Clinic, slices: int = 50) -> dict[str, object]:  # noqa: F811
    """Scrub until a pass ends; what it found."""
    with clinic.box.catalog.reading() as conn:
        before = settings.get(conn, scrub.FINISHED)
    for number in range(slices):
        scrub.scrub(clinic.box, NOW + timedelta(minutes=number), most=4)
        with clinic.box.catalog.reading() as conn:
            found = settings.get(conn, scrub.FINISHED)
        if found != before:
            assert isinstance(found, dict)
            return found
    raise AssertionError("the pass does not end")


def problems(clinic: Clinic) -> set[str]:  # noqa: F811
    return {each.code for each in health.status(clinic.box, NOW).problems}


def actions(clinic: Clinic) -> list[str]:  # noqa: F811
    with clinic.box.catalog.reading() as conn:
        return [row["action"] for row in audit.export(conn)]


def test_where_nothing_is_wrong_nothing_is_touched(kept: Clinic) -> None:
    before = {path: (path.stat().st_ino, path.read_bytes()) for path in objects(kept)}
    found = finished(kept)
    assert (found["checked"], found["repaired"], found["lost"], found["catalog"]) == (11, 0, [], "")
    assert found["manifests"] == 4
    assert {path: (path.stat().st_ino, path.read_bytes()) for path in objects(kept)} == before
    assert actions(kept)[-1] == "store:scrub"


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(path.read_bytes() + b"x"),
    ],
    ids=["gone", "empty", "cut", "longer"],
)
def test_a_damaged_object_is_mended_from_the_archive(kept: Clinic, damage: Callable[[Path], None]) -> None:
    path = objects(kept)[0]
    whole = path.read_bytes()
    damage(path)
    found = finished(kept)
    assert path.read_bytes() == whole
    assert (found["repaired"], found["lost"]) == (1, [])
    assert contents(kept.box) == as_sent(*IMAGES)


def test_an_object_that_leaves_the_disk_while_it_is_read_is_no_damage(
    kept: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an eviction does: the name goes, and what is open is read to its end."""
    plain = kept.box.objects.open

    def leaving(object_id: ObjectId, key: bytes) -> SealedReader:
        reader = plain(object_id, key)
        kept.box.objects.path(object_id).unlink(missing_ok=True)
        return reader

    with monkeypatch.context() as patch:
        patch.setattr(kept.box.objects, "open", leaving)
        found = finished(kept)
    assert (found["checked"], found["repaired"], found["lost"]) == (11, 0, [])


@pytest.mark.parametrize("seed", range(8))
def test_every_flipped_bit_is_found_and_mended(kept: Clinic, tmp_path: Path, seed: int) -> None:
    """The short form of R7: flips in objects and manifests, and none of them stays."""
    dice = random.Random(seed)
    hurt = dice.sample(objects(kept), 6)
    for path in hurt:
        flip(path, dice)
    manifests = sorted((tmp_path / "usb" / "manifests").iterdir())
    for path in dice.sample(manifests, 2):
        flip(path, dice)
    found = finished(kept)
    assert (found["repaired"], found["lost"], found["rewritten"]) == (6, [], 2)
    assert contents(kept.box) == as_sent(*IMAGES)
    assert actions(kept).count("instance:mend") == 6
    kept.deliver()  # the courier writes the manifests again
    again = finished(kept)
    assert (again["repaired"], again["rewritten"]) == (0, 0)


def copies(clinic: Clinic, tmp_path: Path) -> list[Path]:  # noqa: F811
    return [tmp_path / "usb" / object_key(row.object_id) for row in recorded(clinic.box)]


def test_a_copy_that_a_disk_let_rot_is_written_again(kept: Clinic, tmp_path: Path) -> None:
    there = copies(kept, tmp_path)
    whole = [path.read_bytes() for path in there]
    dice = random.Random(11)
    for path in there[:3]:
        flip(path, dice)
    there[3].unlink()
    there[4].write_bytes(whole[4][:-1])
    found = finished(kept)
    assert (found["copies"], found["repaired"], found["lost"]) == (5, 0, [])
    assert [path.read_bytes() for path in there] == whole
    assert actions(kept).count("instance:mend") == 5
    assert finished(kept)["copies"] == 0


def test_a_copy_that_a_file_server_let_rot_is_written_again(tmp_path: Path) -> None:
    with (
        openssh(tmp_path / "nas") as server,
        clinic_in(tmp_path / "box", server.trusted(server.folder)) as kept,
    ):
        kept.receive(*IMAGES[:3])
        kept.deliver()
        first, second, _ = [server.folder / object_key(row.object_id) for row in recorded(kept.box)]
        whole = first.read_bytes(), second.read_bytes()
        flip(first, random.Random(5))
        second.unlink()
        found = finished(kept)
        assert (found["copies"], found["lost"]) == (2, [])
        assert (first.read_bytes(), second.read_bytes()) == whole


def test_a_copy_is_written_again_from_another_disk_when_the_image_is_not_here(
    kept: Clinic, tmp_path: Path
) -> None:
    (tmp_path / "second").mkdir()
    second = prepare(DestinationSettings("second", "vault", "ciphertext", {"path": str(tmp_path / "second")}))
    (row, *_) = recorded(kept.box)
    shutil.copytree(tmp_path / "usb" / "objects", tmp_path / "second" / "objects")
    with kept.box.catalog.transaction() as tx:
        deliveries.hold(tx, destinations.add(tx, second), row.id, {"proof": "read back"}, NOW)
    kept.box.objects.path(row.object_id).unlink()
    there = tmp_path / "usb" / object_key(row.object_id)
    whole = there.read_bytes()
    flip(there, random.Random(5))
    assert finished(kept)["copies"] == 1
    assert there.read_bytes() == whole


def test_a_copy_that_was_the_only_one_is_reported_and_stays(kept: Clinic, tmp_path: Path) -> None:
    (row, *_) = recorded(kept.box)
    kept.box.objects.path(row.object_id).unlink()
    there = tmp_path / "usb" / object_key(row.object_id)
    flip(there, random.Random(6))
    hurt = there.read_bytes()
    assert finished(kept)["lost"] == [row.object_id]
    assert there.read_bytes() == hurt
    assert "instance:corrupt" in actions(kept)


def test_what_nobody_has_whole_is_reported_and_stays(kept: Clinic, tmp_path: Path) -> None:
    path = objects(kept)[0]
    copy = tmp_path / "usb" / "objects" / path.parent.name / path.name
    dice = random.Random(7)
    flip(path, dice)
    flip(copy, dice)
    hurt = path.read_bytes()
    found = finished(kept)
    assert found["lost"] == [path.stem]
    assert path.read_bytes() == hurt, "nothing is thrown away"
    with kept.box.catalog.reading() as conn:
        assert settings.get(conn, VERIFICATION)["damaged"] == 1
    assert "instance:corrupt" in actions(kept)
    mine = scrub.VERIFICATION, scrub.FINISHED, scrub.STANDING, scrub.STOPPED, scrub.UNCHECKED
    assert mine == (VERIFICATION, SCRUB, SCRUB_STANDING, SCRUB_STOPPED, SCRUB_UNCHECKED)
    judged = gathering.SCRUB_COPIES_UNREAD, gathering.SCRUB_FAR, gathering.SCRUB_FAR_LOST
    assert judged == (scrub.COPIES_UNREAD, asked.FAR, asked.LOST)


def test_a_pass_goes_on_where_it_was_whatever_the_clock_says(kept: Clinic) -> None:
    seen = [
        scrub.scrub(kept.box, moment, most=4).cursor
        for moment in (NOW, NOW - timedelta(days=3650), NOW + timedelta(days=3650))
    ]
    assert seen == sorted(set(seen))


def test_a_slice_stops_when_the_process_does(kept: Clinic) -> None:
    left = iter([True, True, False])
    assert scrub.scrub(kept.box, NOW, keep_going=lambda: next(left, False)).checked == 2
    assert finished(kept)["checked"] == 11


def test_an_archive_that_is_away_is_no_finding(kept: Clinic, tmp_path: Path) -> None:
    (tmp_path / "usb").rename(tmp_path / "away")
    found = finished(kept)
    assert (found["rewritten"], found["lost"]) == (0, [])


def test_what_is_damaged_while_its_archive_is_away_is_mended_when_it_is_back(
    kept: Clinic, tmp_path: Path
) -> None:
    flip(objects(kept)[0], random.Random(3))
    (tmp_path / "usb").rename(tmp_path / "away")
    found = finished(kept)
    assert (found["lost"], found["repaired"]) == ([], 0)
    with kept.box.catalog.reading() as conn:
        assert settings.get(conn, VERIFICATION)["damaged"] == 1, "it is said meanwhile"
    (tmp_path / "away").rename(tmp_path / "usb")
    scrub.scrub(kept.box, NOW, most=1)
    assert contents(kept.box) == as_sent(*IMAGES)


def test_a_destination_that_cannot_be_built_holds_up_nothing(kept: Clinic, tmp_path: Path) -> None:
    (tmp_path / "usb").rename(tmp_path / "away")
    (tmp_path / "usb").write_bytes(b"a file where the folder was")
    assert finished(kept)["checked"] == 11


def test_a_month_of_working_days_is_enough_for_a_pass_however_many_images_there_are() -> None:
    slices = 30 * 5 / 7 * 12 * 3600 / scrub.EVERY_SECONDS  # on for twelve hours on working days
    for total in (1, 1_000, 1_000_000, 50_000_000):
        assert scrub.slice_of(total) * slices >= total


def test_it_rests_between_the_pieces_of_objects_and_of_copies(kept: Clinic) -> None:
    """The largest image has three segments, here and on the disk."""
    rests = 0

    def rest() -> None:
        nonlocal rests
        rests += 1

    scrub.scrub(kept.box, NOW, rest=rest)
    assert rests == 2 * (10 + 3)


def test_while_others_wait_for_the_disk_it_rests_for_most_of_the_time() -> None:
    """As told by the clock on the wall: who reads a disk computes next to nothing."""
    slept: list[float] = []
    calm = scrub.pace(slept.append)
    calm.processors, calm.load = 2, lambda: Load(0.0, 1.0)
    time.sleep(1.5 * LOOK_SECONDS)
    with rested():
        calm.rest()
    assert sum(slept) >= 7 * LOOK_SECONDS


# --- a catalog that can't be read, and passes that are late -----------------------------------------------------------


def test_a_catalog_that_could_not_be_copied_is_not_checked_and_ends_no_pass(
    kept: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk must not make an earlier finding disappear, nor a pass complete."""
    finished(kept)
    with kept.box.catalog.transaction() as tx:
        before = {**settings.get(tx, scrub.FINISHED), "catalog": "row 3 missing"}
        settings.put(tx, scrub.FINISHED, before, NOW)
    with monkeypatch.context() as patch:
        patch.setattr(kept.box.guard, "reserve_bytes", 1 << 60)
        ways = [scrub.scrub(kept.box, NOW + timedelta(minutes=number), most=6) for number in range(8)]
    assert ways[-1].begun_utc > ways[0].begun_utc, "the objects are read again all the same"
    with kept.box.catalog.reading() as conn:
        assert settings.get(conn, scrub.FINISHED) == before
        assert settings.get(conn, scrub.UNCHECKED)["done"]["checked"] == 11
    assert {"catalog-damaged", "index-unread"} <= problems(kept)
    assert actions(kept).count("store:scrub") == 1

    scrub.scrub(kept.box, NOW + timedelta(hours=1), most=1)
    assert "index-unread" in problems(kept), "tried again the next day, not in every slice"
    scrub.scrub(kept.box, NOW + timedelta(hours=25), most=1)
    with kept.box.catalog.reading() as conn:
        found = settings.get(conn, scrub.FINISHED)
    assert (found["checked"], found["catalog"]) == (11, "")
    assert found["finished_utc"] == (NOW + timedelta(hours=25)).isoformat()
    assert actions(kept).count("store:scrub") == 2
    assert not {"catalog-damaged", "index-unread"} & problems(kept)


def test_a_pass_that_does_not_end_is_said_after_thirty_days(
    clinic: Clinic,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whether nothing was ever read, a pass never came to its end, its catalog was never checked, or the last is long ago."""

    def late(days: int) -> bool:
        found = health.status(clinic.box, datetime.now(UTC) + timedelta(days=days)).problems
        return ("read-again-late", "") in {(each.code, each.subject) for each in found}

    assert not late(40), "a box without images owes nothing"
    clinic.receive(*IMAGES)
    now = datetime.now(UTC)
    assert (late(32), late(34)) == (False, True)
    scrub.scrub(clinic.box, now - timedelta(days=10), most=4)
    assert (late(22), late(24)) == (False, True)
    with monkeypatch.context() as patch:
        patch.setattr(clinic.box.guard, "reserve_bytes", 1 << 60)
        for _ in range(6):
            scrub.scrub(clinic.box, now, most=6)
    assert (late(22), late(24)) == (False, True)
    scrub.scrub(clinic.box, now + timedelta(days=2), most=6)
    assert (late(34), late(36)) == (False, True)
