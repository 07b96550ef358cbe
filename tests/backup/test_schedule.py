"""When backups are made: by what is recorded, whatever the clock does, and into every archive on its own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance import audit, health
from appliance.backup import making, snapshot
from appliance.backup.schedule import Schedule
from appliance.catalog import destinations, instances
from appliance.errors import OutOfResources, Transient
from appliance.health import attempts
from appliance.health.facts import Outcome
from appliance.lifecycle import retention
from appliance.model import DestinationSettings
from appliance.replication.destinations.s3 import S3Destination
from appliance.replication.destinations.vault import VaultDestination
from tests.backup.conftest import IMAGES, KEEP, Clinic
from tests.catalog.arrivals import received

NOW = datetime(2026, 11, 25, 20, tzinfo=UTC)


def made_at(clinic: Clinic) -> list[datetime]:
    archive = making.archive_at(clinic.box, clinic.place)
    names = snapshot.names_in([each.key for each in archive.documents(snapshot.PREFIX)])
    return sorted(moment for name in names if (moment := snapshot.moment_of(name)))


def test_a_backup_a_day_however_often_it_is_asked(clinic: Clinic) -> None:
    for minutes in range(0, 49 * 60, 15):
        Schedule().make(clinic.box, NOW + timedelta(minutes=minutes))
    assert made_at(clinic) == [NOW, NOW + timedelta(days=1), NOW + timedelta(days=2)]


@pytest.mark.parametrize("jump", [timedelta(days=3650), timedelta(days=-3650)])
def test_a_clock_that_jumps_makes_one_backup_and_loses_none(clinic: Clinic, jump: timedelta) -> None:
    Schedule().make(clinic.box, NOW)
    for minutes in (0, 15, 30):
        Schedule().make(clinic.box, NOW + jump + timedelta(minutes=minutes))
    assert made_at(clinic) == sorted([NOW, NOW + jump])


def test_an_archive_that_fails_keeps_no_other_from_its_backup(clinic: Clinic, tmp_path: Path) -> None:
    with clinic.box.catalog.transaction() as tx:
        gone = {"path": str(tmp_path / "not plugged in")}
        destinations.add(tx, DestinationSettings("away", "vault", "ciphertext", gone))
    with pytest.raises(Transient, match="is not there"):
        Schedule().make(clinic.box, NOW)
    assert made_at(clinic) == [NOW]
    with clinic.box.catalog.reading() as conn:
        told = attempts.standing(attempts.backups(conn))
        actions = [row["action"] for row in audit.export(conn)]
    assert told is not None
    assert (told.outcome, told.succeeded_utc) == (Outcome.FAILED, NOW)
    assert {"backup:make", "backup:fail"} <= set(actions)
    with pytest.raises(Transient):
        Schedule().make(clinic.box, NOW + timedelta(minutes=15))
    assert made_at(clinic) == [NOW], "the one that has its backup is not asked again"


def test_a_disk_that_failed_and_is_paused_is_no_failed_backup(clinic: Clinic, tmp_path: Path) -> None:
    with clinic.box.catalog.transaction() as tx:
        gone = {"path": str(tmp_path / "not plugged in")}
        destinations.add(tx, DestinationSettings("away", "vault", "ciphertext", gone))
    with pytest.raises(Transient, match="is not there"):
        Schedule().make(clinic.box, NOW)

    def is_told(now: datetime) -> bool:
        return "backup-failed" in {each.code for each in health.status(clinic.box, now).problems}

    assert is_told(NOW)
    with clinic.box.catalog.transaction() as tx:
        destinations.pause(tx, "away")
    assert not is_told(NOW), "at once"
    Schedule().make(clinic.box, NOW + timedelta(days=1))
    assert not is_told(NOW + timedelta(days=1))
    with clinic.box.catalog.transaction() as tx:
        destinations.resume(tx, "away")
    assert is_told(NOW + timedelta(days=1))


def test_what_health_reads_is_what_a_backup_writes(clinic: Clinic) -> None:
    assert making.LAST == attempts.BACKUP
    clinic.back_up(NOW)
    with clinic.box.catalog.reading() as conn:
        told = attempts.standing(attempts.backups(conn))
    assert told is not None
    assert (told.outcome, told.succeeded_utc, told.reason) == (Outcome.SUCCEEDED, NOW, "")


def test_an_image_that_comes_during_a_backup_keeps_no_disk_from_its_rotation(clinic: Clinic) -> None:
    for days in range(60, 0, -10):
        with clinic.box.catalog.transaction() as tx:
            retention.watch_clock(tx, NOW - timedelta(days=days), follows_time_server=True)
        clinic.back_up(NOW - timedelta(days=days))

    def receive(done: int, total: int) -> None:
        with clinic.box.catalog.transaction() as tx:
            instances.record(tx, received(NOW + timedelta(microseconds=1)), version=0)

    with clinic.box.catalog.transaction() as tx:
        retention.watch_clock(tx, NOW, follows_time_server=True)
    making.back_up(clinic.box, clinic.place, NOW, actor="tests", keep=KEEP, tell=receive)
    assert made_at(clinic) == [NOW - timedelta(days=days) for days in (30, 20, 10, 0)]


def test_an_image_of_a_moment_to_come_still_keeps_a_disk_from_its_rotation(clinic: Clinic) -> None:
    for days in range(60, -1, -10):
        with clinic.box.catalog.transaction() as tx:
            retention.watch_clock(tx, NOW - timedelta(days=days), follows_time_server=True)
            if days == 40:
                instances.record(tx, received(NOW + timedelta(minutes=5)), version=0)
        clinic.back_up(NOW - timedelta(days=days))
    assert made_at(clinic) == [NOW - timedelta(days=days) for days in range(60, -1, -10)]


def test_a_disk_is_rotated_and_what_cut_attempts_left_goes_too(clinic: Clinic, tmp_path: Path) -> None:
    for days in range(60, -1, -10):
        with clinic.box.catalog.transaction() as tx:
            retention.watch_clock(tx, NOW - timedelta(days=days), follows_time_server=True)
        clinic.back_up(NOW - timedelta(days=days))
    assert made_at(clinic) == [NOW - timedelta(days=days) for days in (30, 20, 10, 0)]
    cut = tmp_path / "usb" / "snapshots" / snapshot.new_name(NOW - timedelta(days=2), "deadbeef") / "000000"
    under_way = tmp_path / "usb" / "snapshots" / snapshot.new_name(NOW, "deadbeef") / "000000"
    for each in (cut, under_way):
        each.parent.mkdir()
        each.write_bytes(b"piece")
    clinic.back_up(NOW + timedelta(minutes=1))
    assert (cut.exists(), under_way.exists()) == (False, True)


def test_a_backup_leaves_no_copy_behind_and_makes_room_for_none_that_is_not_there(
    clinic: Clinic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clinic.receive(*IMAGES)
    archive = making.archive_at(clinic.box, clinic.place)
    asked = 0

    def twice() -> bool:
        nonlocal asked
        asked += 1
        return asked < 2

    with pytest.raises(Transient, match="interrupted"):
        making.make(clinic.box, archive, NOW, keep_going=twice)
    left = tmp_path / "before" / "backups" / "catalog-00000000.db"
    left.write_bytes(b"left by a crash")
    making.make(clinic.box, archive, NOW)
    assert [each.name for each in (tmp_path / "before" / "backups").iterdir()] == [".lock"]

    def full(size_bytes: int = 0) -> None:
        if size_bytes:
            raise OutOfResources("the data disk is full up to its reserve")

    monkeypatch.setattr(type(clinic.box.guard), "admit", lambda _, size_bytes=0: full(size_bytes))
    with pytest.raises(OutOfResources):
        clinic.back_up(NOW)


def test_two_backups_at_once_take_turns(clinic: Clinic) -> None:
    archive = making.archive_at(clinic.box, clinic.place)

    def meanwhile() -> bool:
        with pytest.raises(Transient, match="being made already"):
            making.make(clinic.box, archive, NOW)
        return True

    making.make(clinic.box, archive, NOW, keep_going=meanwhile)


def test_a_snapshot_holds_no_word_of_a_patient(clinic: Clinic, tmp_path: Path) -> None:
    clinic.receive(*IMAGES)
    clinic.deliver()
    clinic.back_up()
    marks = [
        text.encode(how)
        for text in ("MARK0001", "Marqueur", "Éloïse", "Autre^Patient")
        for how in ("utf-8", "latin-1")
    ]
    marks += [each.study_instance_uid.encode() for each in IMAGES]
    files = [path for path in (tmp_path / "usb").rglob("*") if path.is_file()]
    assert len(files) > 15
    for path in files:
        data = path.read_bytes() + str(path.relative_to(tmp_path)).encode()
        assert not any(mark in data for mark in marks), path


def test_in_a_bucket_the_box_removes_nothing(clinic: Clinic) -> None:
    class Bucket:
        """An archive of which the box can remove nothing, as it is for cloud storage."""

        def __init__(self, vault: VaultDestination) -> None:
            self.put_document, self.document = vault.put_document, vault.document
            self.documents, self.blocks = vault.documents, vault.blocks

    vault = making.archive_at(clinic.box, clinic.place)
    assert isinstance(vault, VaultDestination)
    for days in (100, 99, 98, 97, 96):
        making.make(clinic.box, vault, NOW - timedelta(days=days))
    assert not hasattr(S3Destination, "remove")
    before = [each.key for each in vault.documents("snapshots/")]
    assert making._rotate(clinic.box, Bucket(vault), NOW, KEEP, "bucket") == 0
    assert [each.key for each in vault.documents("snapshots/")] == before
    assert making._rotate(clinic.box, vault, NOW, KEEP, "usb") > 0
