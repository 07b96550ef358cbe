"""What only another archive knows than the one a box was restored from comes too, and until then somebody is told."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType

import pytest

from appliance import health
from appliance.backup import asking, homecoming, making, other_archives, snapshot, unread
from appliance.backup.late_manifests import Trial
from appliance.backup.schedule import Schedule
from appliance.box import Box
from appliance.catalog import destinations, rules, settings
from appliance.errors import Corrupt, Refused, Resting
from appliance.health.problem import Severity
from appliance.lifecycle import freezing, purging
from appliance.lifecycle.acting import Act
from appliance.model import DestinationSettings, Rule
from appliance.replication import manifest, ownership, recall
from appliance.replication.destinations import Archive, prepare
from appliance.replication.destinations.archive import KEPT, MANIFESTS
from appliance.replication.destinations.vault import VaultDestination
from appliance.store.root_key import RootKey
from tests.backup.conftest import IMAGES, Clinic, as_sent, clinic_in, contents
from tests.backup.test_restoring import bring_home, restore
from tests.boxes import box_in, recorded
from tests.instances import Instance
from tests.lifecycle.evicting import NOW, here
from tests.lifecycle.purge import LATER, approve, owed, study_of
from tests.lifecycle.test_bad_sectors import unreadable
from tests.lifecycle.test_scrub import finished
from tests.replication import cloud as in_a_cloud
from tests.rot import last_byte_changed

pytestmark = pytest.mark.slow

BEFORE, SINCE = IMAGES[:9], IMAGES[9:]
"""Of what came since, one is of a study that was there before, and one of a study that was not."""

DAY = timedelta(days=1, seconds=1)


def on_disk(tmp_path: Path, name: str) -> DestinationSettings:
    (tmp_path / name).mkdir()
    return prepare(DestinationSettings(name, "vault", "ciphertext", {"path": str(tmp_path / name)}))


def owe_to(box: Box, place: DestinationSettings) -> DestinationSettings:
    with box.catalog.transaction() as tx:
        place = replace(place, id=destinations.add(tx, place))
        rules.add_rule(tx, Rule(place.id, place.name, place.takes))
    return place


def told(box: Box, now: datetime) -> list[tuple[str, ...]]:
    found = health.status(box, now).problems
    said = {
        "not looked through": "looked through",
        "did not open": "did not open",
        "deep": "lie in deep archive",
    }
    return [
        (each.subject, *(name for name, words in said.items() if words in each.words))
        for each in found
        if each.code == "manifests-unread"
    ]


def look_through(box: Box, now: datetime = NOW, most: int = other_archives.MOST) -> int:
    return other_archives.look_through(box, now, keep_going=lambda: True, most=most)


@pytest.fixture
def nas(tmp_path: Path) -> DestinationSettings:
    return on_disk(tmp_path, "nas")


@pytest.fixture
def burnt(clinic: Clinic, nas: DestinationSettings) -> Clinic:
    """A clinic whose disk lay in a drawer when the last images came, which have gone to the NAS alone."""
    goes_to_another_alone(clinic, nas, *SINCE)
    return clinic


def goes_to_another_alone(clinic: Clinic, to: DestinationSettings, *came: Instance) -> None:
    """The disk has what came before and a backup, and lies in a drawer when `came` come, which go to another archive alone."""
    place = owe_to(clinic.box, to)
    clinic.receive(*BEFORE)
    clinic.deliver()
    clinic.back_up()
    with clinic.box.catalog.transaction() as tx:
        destinations.pause(tx, "usb")
    clinic.receive(*came)
    clinic.deliver_until(lambda: is_whole_in(clinic.box, place))


def is_whole_in(box: Box, place: DestinationSettings) -> bool:
    with box.catalog.reading() as conn:
        owed = conn.exec_driver_sql(
            "SELECT count(*) FROM deliveries WHERE destination = ? AND state <> 'CONFIRMED'", (place.id,)
        ).scalar()
        dirty = conn.exec_driver_sql(
            "SELECT count(*) FROM manifests WHERE destination = ? AND dirty_utc IS NOT NULL", (place.id,)
        ).scalar()
    return not owed and not dirty


@pytest.fixture
def after(burnt: Clinic, tmp_path: Path) -> Iterator[Clinic]:
    """The box that was made again from the disk."""
    restored = restore(tmp_path / "after", burnt.place, burnt.paper)
    assert restored.instances == len(BEFORE)
    with box_in(tmp_path / "after") as box:
        bring_home(box)
        with box.catalog.transaction() as tx:
            destinations.resume(tx, "usb")
        yield Clinic(box, burnt.place, burnt.paper)


def test_what_only_another_archive_knows_comes_and_is_owed_to_the_first(
    after: Clinic, tmp_path: Path
) -> None:
    Schedule().bring_home(after.box, NOW)
    assert contents(after.box) == as_sent(*IMAGES)
    after.deliver()
    after.back_up()
    again = restore(tmp_path / "again", after.place, after.paper)
    assert again.instances == len(IMAGES), "the disk knows it now"


def test_the_manifest_that_this_box_writes_there_names_it(
    after: Clinic, nas: DestinationSettings, tmp_path: Path
) -> None:
    look_through(after.box)
    after.deliver()
    assert restore(tmp_path / "plain", nas, after.paper).instances == len(IMAGES)


def test_what_the_box_wrote_over_before_it_was_read_comes_from_where_it_was_put_aside(
    after: Clinic, tmp_path: Path
) -> None:
    after.receive(Instance(50, study=1 + 9 // 4, pixel_bytes=3_000))  # of the study that has more there
    after.deliver()
    assert list((tmp_path / "nas" / KEPT).iterdir())
    look_through(after.box)
    assert set(as_sent(*IMAGES)) < set(contents(after.box))


def test_it_goes_on_where_it_was_and_reads_each_once(after: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    as_ever = Trial.read

    def noted(self: Trial, key: str, aside: Iterable[str] = ()) -> None:
        read.append(key)
        as_ever(self, key, aside)

    monkeypatch.setattr(Trial, "read", noted)
    for _ in range(6):
        look_through(after.box, most=1)
    with box_in(after.box.config.data) as other_process:
        for _ in range(3):
            look_through(other_process, most=1)
    assert len(read) == len({*read}) == 4
    assert contents(after.box) == as_sent(*IMAGES)


def test_a_disk_in_a_drawer_is_told_and_read_when_it_is_back(after: Clinic, tmp_path: Path) -> None:
    (tmp_path / "nas").rename(tmp_path / "drawer")
    assert look_through(after.box) == 0
    assert told(after.box, datetime.now(UTC)) == [], "the first day it may still come"
    assert told(after.box, datetime.now(UTC) + DAY) == [("nas", "not looked through")]
    (tmp_path / "drawer").rename(tmp_path / "nas")
    assert look_through(after.box) == len(SINCE)
    assert told(after.box, datetime.now(UTC) + DAY) == []
    assert contents(after.box) == as_sent(*IMAGES)


def test_a_recovery_slot_that_is_spoilt_on_this_disk_keeps_nothing_away(
    burnt: Clinic, tmp_path: Path
) -> None:
    restore(tmp_path / "after", burnt.place, burnt.paper)
    with box_in(tmp_path / "after") as box:
        slot = tmp_path / "after" / "keys" / "root.recovery"
        slot.write_bytes(b"\0" + slot.read_bytes()[1:])
        Schedule().bring_home(box, NOW)
        assert contents(box) == as_sent(*IMAGES)


@pytest.mark.parametrize("error", [Corrupt("spoilt"), KeyError("a defect")])
@pytest.mark.parametrize("search", [(asking, "ask"), (unread, "try_again"), (other_archives, "look_through")])
def test_whatever_goes_wrong_in_another_archive_what_is_known_comes_home(
    burnt: Clinic,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    search: tuple[ModuleType, str],
    error: Exception,
) -> None:
    def fail(*_: object, **__: object) -> int:
        raise error

    restore(tmp_path / "after", burnt.place, burnt.paper)
    monkeypatch.setattr(*search, fail)
    with box_in(tmp_path / "after") as box:
        with pytest.raises(type(error)):
            Schedule().bring_home(box, NOW)
        assert here(box) >= len(BEFORE)


def test_one_archive_in_which_something_is_spoilt_keeps_no_other_from_being_read(
    after: Clinic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse = ownership.refuse_another_box

    def spoilt(archive: Archive, name: str, root: RootKey, own: bytes) -> None:
        if name == "first":
            raise Corrupt("what tells whose it is is spoilt")
        refuse(archive, name, root, own)

    monkeypatch.setattr(other_archives, "refuse_another_box", spoilt)
    with after.box.catalog.transaction() as tx:
        destinations.add(tx, on_disk(tmp_path, "first"))
    assert look_through(after.box) == len(SINCE)


def test_one_that_is_paused_is_told_and_read_when_it_is_resumed(after: Clinic) -> None:
    with after.box.catalog.transaction() as tx:
        destinations.pause(tx, "nas")
    assert look_through(after.box) == 0
    assert told(after.box, datetime.now(UTC) + DAY) == [("nas", "not looked through")]
    with after.box.catalog.transaction() as tx:
        destinations.resume(tx, "nas")
    assert look_through(after.box) == len(SINCE)
    assert told(after.box, datetime.now(UTC) + DAY) == []


@pytest.mark.parametrize("harm", [unreadable, lambda at: at.write_bytes(last_byte_changed(at.read_bytes()))])
def test_a_manifest_that_does_not_open_there_is_told_and_tried_each_day(
    after: Clinic, tmp_path: Path, harm: object
) -> None:
    assert callable(harm)
    ours = manifest.key(
        after.box.root, BEFORE[0].study_instance_uid
    )  # by which the archive is known to be this box's
    found = (path for path in (tmp_path / "nas" / MANIFESTS).iterdir() if not ours.endswith(path.name))
    whole = {path: path.read_bytes() for path in found}
    for path in whole:
        harm(path)
    for _ in range(4):
        look_through(after.box)
        look_through(after.box, NOW + timedelta(hours=2))
    assert told(after.box, NOW) == [("nas", "did not open")]
    for path, content in whole.items():
        path.unlink()
        path.write_bytes(content)
    assert look_through(after.box, NOW + timedelta(hours=3)) == 0, "once a day"
    assert look_through(after.box, NOW + timedelta(hours=3) + DAY) == len(SINCE)
    assert told(after.box, NOW) == []
    assert contents(after.box) == as_sent(*IMAGES)


def test_images_for_which_there_is_no_room_wait(after: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as full:
        full.setattr(homecoming, "has_any_room", lambda *_: False)
        assert look_through(after.box) == 0
    assert len(recorded(after.box)) == len(BEFORE)
    assert look_through(after.box) == 0, "it rests, and asks for no list each half minute"
    assert look_through(after.box, NOW + timedelta(hours=1)) == len(SINCE)


def test_what_lies_deep_is_recorded_when_it_has_come_up(
    after: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deep(*_: object) -> None:
        raise Resting("it lies deep", wait_hours=12, hint="")

    with monkeypatch.context() as resting:
        resting.setattr(recall, "fetch", deep)
        assert look_through(after.box) == 0
    assert len(recorded(after.box)) == len(BEFORE), "a study of which nothing is here is an attack"
    assert told(after.box, datetime.now(UTC) + DAY) == [("nas", "deep")], "they were asked for"
    (problem,) = (each for each in health.status(after.box, NOW).problems if "deep" in each.words)
    assert problem.severity is Severity.SOON
    late = datetime.now(UTC) + 6 * DAY
    assert told(after.box, late) == [("nas", "not looked through")], "no cloud takes so long"
    with after.box.catalog.reading() as reading:
        (nas,) = (each for each in making.archives(reading) if each.name == "nas")
        with pytest.raises(Refused, match="was not looked through"):
            other_archives.refuse_if_needed(reading, nas)
    assert look_through(after.box, NOW + DAY) == len(SINCE)
    assert told(after.box, datetime.now(UTC) + DAY) == []
    assert contents(after.box) == as_sent(*IMAGES)


def test_of_an_image_that_is_spoilt_there_somebody_is_told_and_another_archive_may_have_it(
    after: Clinic, tmp_path: Path
) -> None:
    """It is known and missed, by its name; the archive that has it spoilt counts for nothing."""
    third = on_disk(tmp_path, "third")
    shutil.copytree(tmp_path / "nas" / MANIFESTS, tmp_path / "third" / MANIFESTS)
    shutil.copytree(tmp_path / "nas" / "objects", tmp_path / "third" / "objects")
    (lone,) = (tmp_path / "nas" / "objects").rglob(f"*{_object_id_of_the_lone_study(after, tmp_path)}*")
    lone.write_bytes(last_byte_changed(lone.read_bytes()))
    assert look_through(after.box) == len(SINCE)
    assert told(after.box, datetime.now(UTC)) == []
    assert str(finished(after)["lost"]) == f"['{lone.name.partition('.')[0]}']"
    owe_to(after.box, third)
    look_through(after.box)
    asking.ask(after.box, NOW, keep_going=lambda: True)
    assert contents(after.box) == as_sent(*IMAGES)
    assert finished(after)["lost"] == []


def _object_id_of_the_lone_study(after: Clinic, tmp_path: Path) -> str:
    """Of what lies on the NAS alone the largest, which is the only image of its study."""
    here = {each.object_id for each in recorded(after.box)}
    files = (each for each in (tmp_path / "nas" / "objects").rglob("*") if each.is_file())
    return max((each for each in files if not any(name in each.name for name in here)), key=_size).name


def _size(path: Path) -> int:
    return path.stat().st_size


def test_whoever_is_told_to_stop_stops_between_two_images(
    after: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    brought: list[object] = []
    fetch = recall.fetch

    def noted(*of: object) -> None:
        brought.append(of)
        fetch(*of)  # type: ignore[arg-type]

    monkeypatch.setattr(recall, "fetch", noted)
    other_archives.look_through(after.box, NOW, keep_going=lambda: not brought)
    assert len(brought) == 1
    assert look_through(after.box) == len(SINCE) - 1
    assert contents(after.box) == as_sent(*IMAGES)


def test_a_study_that_was_destroyed_meanwhile_does_not_come(burnt: Clinic, tmp_path: Path) -> None:
    approve(burnt.box, study_of(burnt.box, SINCE[-1]).id)
    manifests = {path: path.read_bytes() for path in (tmp_path / "nas" / MANIFESTS).iterdir()}
    purging.carry_out(burnt.box, LATER, purging.Around())
    burnt.deliver_until(lambda: any(path.read_bytes() != was for path, was in manifests.items()))
    restore(tmp_path / "after", on_disk_again(tmp_path), burnt.paper)
    with box_in(tmp_path / "after") as box:
        bring_home(box)
        for _ in range(2):
            look_through(box)
        assert contents(box) == as_sent(*IMAGES[:10])


def on_disk_again(tmp_path: Path) -> DestinationSettings:
    return prepare(DestinationSettings("usb", "vault", "ciphertext", {"path": str(tmp_path / "usb")}))


def test_of_a_study_that_is_destroyed_here_before_an_archive_was_read_comes_what_nobody_decided_about(
    after: Clinic,
) -> None:
    """One image of it is known there alone: whoever decided saw the study without it."""
    study = study_of(after.box, SINCE[0])
    approve(after.box, study.id)
    for _ in range(3):
        purging.carry_out(after.box, LATER, purging.Around())
        after.deliver_until(lambda: not owed(after))
        look_through(after.box, LATER)
    decided = [each for each in BEFORE if each.study_instance_uid == study.study_instance_uid]
    assert contents(after.box) == as_sent(*(each for each in IMAGES if each not in decided))


def test_a_box_that_never_came_back_reads_nothing(burnt: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VaultDestination, "document", lambda *_: pytest.fail("nobody asked"))
    assert look_through(burnt.box) == 0
    assert told(burnt.box, datetime.now(UTC) + DAY) == []


def test_a_box_that_came_back_under_earlier_software_reads_every_archive(after: Clinic) -> None:
    with after.box.catalog.transaction() as tx:
        settings.remove(tx, other_archives.OTHERS)
    assert look_through(after.box) == len(SINCE)
    assert told(after.box, datetime.now(UTC) + DAY) == []


def test_an_archive_that_was_moved_is_looked_through_where_it_is_now(after: Clinic, tmp_path: Path) -> None:
    look_through(after.box)
    moved = on_disk(tmp_path, "moved")
    with after.box.catalog.transaction() as tx:
        place = next(each for each in making.archives(tx) if each.name == "nas")
        recall.let_move(tx, place, moved.options)
        destinations.change(tx, "nas", options=moved.options)
    assert told(after.box, datetime.now(UTC) + DAY) == []
    with after.box.catalog.reading() as reading:
        place = next(each for each in making.archives(reading) if each.name == "nas")
    assert not other_archives.knows(after.box, place)
    look_through(after.box)
    assert other_archives.knows(after.box, place)


# --- a second fire ---------------------------------------------------------------------------------------------------


def test_a_backup_from_before_a_bucket_was_looked_through_hides_nothing_that_lies_there(
    clinic: Clinic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lay in the bucket before the backup is known to it, but not to a box that came back from elsewhere and had not read it."""
    monkeypatch.setattr(snapshot, "OVERLAP", timedelta(0))
    with in_a_cloud.cloud() as running:
        bucket = in_a_cloud.settings(running.url, running.new_bucket(versioned=True))
        goes_to_another_alone(clinic, bucket, *SINCE)
        restore(tmp_path / "after", clinic.place, clinic.paper)
        with box_in(tmp_path / "after") as box:
            with box.catalog.reading() as reading:
                place = next(each for each in making.archives(reading) if each.kind == "s3")
            _pass_a_second()
            Clinic(box, place, clinic.paper).back_up()
        assert restore(tmp_path / "again", bucket, clinic.paper).instances == len(IMAGES)
        with box_in(tmp_path / "again") as box:
            _pass_a_second()
            Clinic(box, place, clinic.paper).back_up()
        third = restore(tmp_path / "third", bucket, clinic.paper)
        assert (third.instances, third.rebuilt.manifests) == (len(IMAGES), 0), "that box had read them all"


def _pass_a_second() -> None:
    """A bucket's clock counts in seconds."""
    time.sleep(1.1)


def test_a_manifest_that_did_not_open_at_the_first_fire_is_read_at_the_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "OVERLAP", timedelta(0))
    with in_a_cloud.cloud() as running:
        bucket = in_a_cloud.settings(running.url, running.new_bucket(versioned=True))
        name = str(bucket.options["bucket"])
        with clinic_in(tmp_path / "before", bucket) as clinic:
            clinic.receive(*BEFORE)
            clinic.deliver()
            clinic.back_up()
            before = {*running.keys(name, MANIFESTS)}
            clinic.receive(IMAGES[10])
            clinic.deliver()
        (key,) = {*running.keys(name, MANIFESTS)} - before
        whole = running.client().get_object(Bucket=name, Key=key)["Body"].read()
        running.client().put_object(Bucket=name, Key=key, Body=last_byte_changed(whole))
        restored = restore(tmp_path / "after", bucket, clinic.paper)
        assert (restored.instances, len(restored.rebuilt.unread)) == (9, 1)
        running.client().put_object(Bucket=name, Key=key, Body=whole)
        with box_in(tmp_path / "after") as box:
            _pass_a_second()
            with box.catalog.reading() as reading:
                (place,) = making.archives(reading)
            Clinic(box, place, clinic.paper).back_up()
        assert restore(tmp_path / "again", bucket, clinic.paper).instances == 10


def test_a_guard_that_holds_keeps_it_from_no_image(after: Clinic) -> None:
    with after.box.catalog.transaction() as tx:
        freezing.freeze(tx, Act(by="marie", now=NOW, audit_key=after.box.audit_key), reason="a look")
    look_through(after.box)
    assert contents(after.box) == as_sent(*IMAGES)
