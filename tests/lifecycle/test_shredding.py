"""Which backups a destruction makes unreadable: those that may know what was destroyed, and no others of this box."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance.audit import Entry
from appliance.backup import drill, making, sampling, snapshot, standing
from appliance.backup.schedule import Schedule
from appliance.backup.snapshot import Index
from appliance.catalog import audit_search, destinations, tombstones
from appliance.catalog.tombstones import Place, PlaceState
from appliance.errors import ApplianceError
from appliance.lifecycle import purging
from appliance.model import DestinationSettings
from appliance.store import keys
from tests.backup.conftest import IMAGES, KEEP, Clinic
from tests.backup.conftest import clinic as _clinic
from tests.backup.conftest import disk as _disk
from tests.backup.test_restoring import restore
from tests.boxes import box_in
from tests.lifecycle.purge import GONE, LATER, approve, carry_out, owed, study_of
from tests.lifecycle.test_purging import archive_of

pytestmark = pytest.mark.slow

clinic, disk = _clinic, _disk

NOW = datetime.now(UTC)
YEARS = timedelta(days=10 * 365)


@pytest.fixture
def decided(clinic: Clinic) -> Clinic:
    """One in which two people have decided on a study."""
    clinic.receive(*IMAGES[:2], *GONE[:2])
    clinic.deliver()
    approve(clinic.box, study_of(clinic.box, GONE[0]).id)
    return clinic


def destroyed(clinic: Clinic) -> None:
    """As far as the tombstones: the older backups are next."""
    purging.carry_out(clinic.box, LATER)
    clinic.deliver_until(lambda: not owed(clinic))


def names(clinic: Clinic) -> set[str]:
    return set(standing.look(archive_of(clinic.place)).names)


def test_no_name_says_which_backups_know_a_patient(decided: Clinic) -> None:
    """A clock that ran ahead has named an older one, and one that was dead a newer one."""
    decided.back_up(LATER + YEARS)
    destroyed(decided)
    after = decided.back_up(NOW - YEARS)
    carry_out(decided)
    of_purge = names(decided) - {after.name}
    assert after.name in names(decided), "it is newer, and shredded for nothing"
    assert len(of_purge) <= 1


def test_a_backup_of_a_copy_of_the_box_proves_nothing(decided: Clinic, tmp_path: Path) -> None:
    """Its own audit went on where the destruction is in ours, and got longer than that: it knows the patient."""
    shutil.copytree(decided.box.config.data, tmp_path / "copy")
    destroyed(decided)
    with box_in(tmp_path / "copy") as copy:
        copy.record([Entry("user:expire", "sessions", "jobs", {"sessions": 1})] * 200, NOW)
        theirs: Index = making.back_up(copy, decided.place, NOW, actor="tests", keep=KEEP)
    assert theirs.name in names(decided)
    carry_out(decided)
    assert len(names(decided)) == 1 and theirs.name not in names(decided)


def test_a_box_that_is_switched_on_beside_the_one_in_its_place_destroys_none_of_that_ones_backups(
    decided: Clinic, tmp_path: Path
) -> None:
    decided.back_up()
    restore(tmp_path / "after", decided.place, decided.paper)
    with box_in(tmp_path / "after") as box:
        theirs = making.back_up(box, decided.place, NOW, actor="tests", keep=KEEP)
        assert theirs.lives > 0
    destroyed(decided)
    for _ in range(3):
        purging.carry_out(decided.box, LATER)
    assert theirs.name in names(decided)
    assert told(decided).state is PlaceState.LAID
    assert "restored in the place of this one" in told(decided).reason
    assert len(names(decided)) == 3, "and makes one of its own in a day"


# --- a drill that does not pass --------------------------------------------------------------------------------------


def flip(place: DestinationSettings) -> None:
    """Let the disk rot under every image, or mend it."""
    for path in Path(str(place.options["path"])).rglob("objects/??/*.sealed"):
        path.chmod(0o600)
        data = bytearray(path.read_bytes())
        data[200] ^= 1
        path.write_bytes(data)


def told(clinic: Clinic) -> Place:
    with clinic.box.catalog.reading() as conn:
        (certificate,) = tombstones.certificates(conn)
        (place,) = tombstones.places(conn, certificate.id)
    return place


def done(clinic: Clinic, action: str) -> int:
    with clinic.box.catalog.reading() as conn:
        return len(audit_search.find(conn, audit_search.Wanted(actions=(action,)), limit=1000))


def test_a_drill_that_fails_is_no_backup_and_drill_every_two_minutes(decided: Clinic) -> None:
    decided.back_up()
    destroyed(decided)
    flip(decided.place)
    made, tried = done(decided, "backup:make"), done(decided, "backup:drill")
    for minutes in range(0, 3 * 24 * 60, 30):
        purging.carry_out(decided.box, LATER + timedelta(minutes=minutes))
    assert done(decided, "backup:make") - made == 3, "one of each day"
    assert 8 <= done(decided, "backup:drill") - tried <= 11
    assert (told(decided).state, told(decided).reason) == (
        PlaceState.LAID,
        "the newest backup in usb did not pass its drill, so the older ones stay",
    )
    assert told(decided).changed_utc < LATER + timedelta(hours=1), "it has waited for that since"
    flip(decided.place)
    purging.carry_out(decided.box, LATER + timedelta(days=3))
    assert told(decided).state is PlaceState.LAID, "it rests"
    assert drill.drill(decided.box, decided.place, LATER + timedelta(days=3), actor="marie").passed
    purging.carry_out(decided.box, LATER + timedelta(days=3))
    assert told(decided).state is PlaceState.DONE, "not once a person has seen that it is mended"
    assert told(decided).detail["snapshot"] in names(decided)


def test_the_night_s_backup_is_tried_where_it_does_not_know_the_patient(decided: Clinic) -> None:
    old = decided.back_up()
    destroyed(decided)
    tonight = decided.back_up(LATER - timedelta(hours=20))
    carry_out(decided)
    assert (told(decided).detail["snapshot"], told(decided).detail["older"]) == (tonight.name, 1)
    assert names(decided) == {tonight.name} and old.name != tonight.name


def test_what_has_failed_while_a_disk_lay_in_a_drawer_keeps_no_purge_waiting(
    decided: Clinic, tmp_path: Path
) -> None:
    decided.back_up()
    destroyed(decided)
    (tmp_path / "usb").rename(tmp_path / "drawer")
    for hours in range(12):
        with pytest.raises(ApplianceError):
            Schedule().drill(decided.box, LATER + timedelta(hours=hours))
    (tmp_path / "drawer").rename(tmp_path / "usb")
    purging.carry_out(decided.box, LATER + timedelta(hours=11))
    assert told(decided).state is PlaceState.DONE


@pytest.mark.parametrize("weekly", [0, 5])
def test_a_disk_for_backups_alone_comes_to_an_end_where_no_archive_has_an_image(
    tmp_path: Path,
    disk: DestinationSettings,
    weekly: int,
) -> None:
    """No older backup would show more; however often its drill has not passed before."""
    with box_in(tmp_path / "box") as box:
        paper = keys.show_recovery(tmp_path / "box" / "keys", box.root)
        with box.catalog.transaction() as tx:
            alone = Clinic(box, replace(disk, id=destinations.add(tx, disk)), paper)
        alone.receive(*IMAGES[:2], *GONE[:2])
        old = alone.back_up()
        approve(box, study_of(box, GONE[0]).id)
        destroyed(alone)
        for _ in range(weekly):
            assert not drill.drill(box, alone.place, LATER, actor="tests").passed
        carry_out(alone)
        assert told(alone).state is PlaceState.DONE
        (newest,) = names(alone)
        assert newest != old.name
        with box.catalog.reading() as conn:
            assert drill.last(conn, box, "usb")["outcome"] == "failed", "and nobody is told that it restores"


def test_a_backup_that_is_damaged_itself_is_not_enough(decided: Clinic) -> None:
    found = drill.Certificate("", "usb", "", "", 1, 1, 0, 0, 0, 0, (sampling.NONE_OPENED,))
    assert found.is_whole and not found.passed
    assert not replace(found, findings=(*found.findings, "the backup lacks the key of an image")).is_whole
    old = decided.back_up()
    destroyed(decided)
    tonight = decided.back_up(LATER)
    archive_of(decided.place).put_document(snapshot.slot_key(tonight.name), b"?")
    purging.carry_out(decided.box, LATER)
    assert told(decided).state is PlaceState.LAID and names(decided) == {old.name, tonight.name}
    purging.carry_out(decided.box, LATER + timedelta(days=1))
    assert told(decided).state is PlaceState.DONE, "the next day another is made"
    assert not {old.name} & names(decided)
