"""How archives are looked through after a restore where something is in the way: a bad line, a large study, an emptied archive, a third one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance import health
from appliance import settings as operator
from appliance.backup import homecoming, making, other_archives, rebuilding, unread
from appliance.catalog import destinations, rules
from appliance.errors import Refused, Resting, Transient
from appliance.ingest.orphans import OrphanSweep
from appliance.lifecycle import census, purging
from appliance.lifecycle.request import Method
from appliance.model import DestinationSettings, Rule
from appliance.replication import manifest, recall
from appliance.replication.destinations.archive import MANIFESTS
from appliance.store.guard import DiskGuard
from tests.backup.conftest import IMAGES, Clinic, as_sent, clinic_in, contents
from tests.backup.test_other_archives import (
    BEFORE,
    DAY,
    SINCE,
    after,
    burnt,
    goes_to_another_alone,
    is_whole_in,
    look_through,
    nas,
    on_disk,
    on_disk_again,
    owe_to,
    told,
)
from tests.backup.test_restoring import archive_of, bring_home, restore
from tests.boxes import box_in, recorded
from tests.instances import Instance
from tests.lifecycle.evicting import NOW
from tests.lifecycle.purge import LATER, approve, carry_out, study_of
from tests.rot import last_byte_changed

pytestmark = pytest.mark.slow

__all__ = ["after", "burnt", "nas"]

LARGE = [Instance(60 + number, study=30, pixel_bytes=3_000) for number in range(12)]


@pytest.fixture
def large(clinic: Clinic, nas: DestinationSettings, tmp_path: Path) -> Iterator[Clinic]:
    """A box that was made again from its disk; the NAS alone knows of a study of twelve images."""
    goes_to_another_alone(clinic, nas, *LARGE)
    restore(tmp_path / "after", clinic.place, clinic.paper)
    with box_in(tmp_path / "after") as box:
        bring_home(box)
        yield Clinic(box, clinic.place, clinic.paper)


def test_a_line_that_loses_requests_brings_each_image_once(
    large: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch, asked, came = recall.fetch, [0], list[object]()

    def lossy(*of: object) -> None:
        asked[0] += 1
        if asked[0] % 5 == 0:
            raise Transient("the line is down")
        fetch(*of)  # type: ignore[arg-type]
        came.append(of[2])

    monkeypatch.setattr(recall, "fetch", lossy)
    for number in range(6):
        look_through(large.box, NOW + number * timedelta(seconds=30))
    assert len(came) == len({*came}) == len(LARGE)
    assert contents(large.box) == as_sent(*BEFORE, *LARGE)


def test_a_study_that_comes_for_longer_than_orphans_stay_comes_whole(
    large: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch, sweep, seconds = recall.fetch, OrphanSweep(large.box), [0.0]

    def slow(*of: object) -> None:
        fetch(*of)  # type: ignore[arg-type]
        seconds[0] += 1200
        sweep.sweep(seconds[0])

    monkeypatch.setattr(recall, "fetch", slow)
    for _ in range(8):
        look_through(large.box)
    assert contents(large.box) == as_sent(*BEFORE, *LARGE)
    assert census.take(large.box, NOW) is None


def test_an_archive_of_which_only_the_manifests_are_left_is_no_attack(large: Clinic, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "nas" / "objects")
    look_through(large.box)
    assert len(recorded(large.box)) == len(BEFORE) + len(LARGE), "they are known, and missed"
    with large.box.catalog.reading() as reading:
        assert homecoming.missing(reading) == len(LARGE)
    assert census.take(large.box, NOW) is None


def test_what_beyond_a_thousand_waits_is_read_too(
    after: Clinic,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def deep(*_: object) -> None:
        raise Resting("it lies deep", wait_hours=12, hint="")

    monkeypatch.setattr(unread, "MOST_NOTED", 1)
    with monkeypatch.context() as resting:
        resting.setattr(recall, "fetch", deep)
        look_through(after.box)
    for hours in range(0, 96, 12):
        look_through(after.box, NOW + timedelta(hours=hours))
    assert contents(after.box) == as_sent(*IMAGES)
    assert told(after.box, datetime.now(UTC) + DAY) == []


def test_images_come_until_the_last_mark_where_others_may_leave_for_them(
    after: Clinic,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A homecoming ends at the clinic's own mark, and so does what leaves: between the two nothing would come."""
    with after.box.catalog.transaction() as tx:
        operator.change(tx, after.box.audit_key, {"tiers.eviction": "when-needed"}, actor="marie", now=NOW)
    space = after.box.guard.space()
    full = space.__class__(**{**_fields(space), "free_bytes": space.total_bytes * 29 // 100})
    monkeypatch.setattr(DiskGuard, "space", lambda _: full)
    with after.box.catalog.reading() as reading:
        assert not homecoming.has_room(after.box, reading, 1000)
    assert look_through(after.box) == len(SINCE)


def _fields(space: object) -> dict[str, int]:
    return {name: getattr(space, name) for name in space.__dataclass_fields__}  # type: ignore[attr-defined]


def destroyed_in_a_third(clinic: Clinic, nas: DestinationSettings, tmp_path: Path, name: str) -> None:
    """A study is destroyed while the NAS is away, which has it; the archive of this name has it too, and is told."""
    third, second = owe_to(clinic.box, on_disk(tmp_path, name)), owe_to(clinic.box, nas)
    clinic.receive(*BEFORE)
    clinic.deliver()
    clinic.back_up()
    with clinic.box.catalog.transaction() as tx:
        destinations.pause(tx, "usb")
    clinic.receive(*SINCE)
    clinic.deliver_until(lambda: is_whole_in(clinic.box, second) and is_whole_in(clinic.box, third))
    with clinic.box.catalog.transaction() as tx:
        destinations.pause(tx, "nas")
    approve(clinic.box, study_of(clinic.box, SINCE[-1]).id)
    manifests = {path: path.read_bytes() for path in (tmp_path / name / MANIFESTS).iterdir()}
    purging.carry_out(clinic.box, LATER, purging.Around())
    clinic.deliver_until(lambda: any(path.read_bytes() != was for path, was in manifests.items()))


@pytest.mark.parametrize("name", ["aaa", "third"])
def test_what_a_third_archive_knows_as_destroyed_goes_again_whichever_was_read_before(
    clinic: Clinic,
    nas: DestinationSettings,
    tmp_path: Path,
    name: str,
) -> None:
    destroyed_in_a_third(clinic, nas, tmp_path, name)
    restore(tmp_path / "after", on_disk_again(tmp_path), clinic.paper)
    with box_in(tmp_path / "after") as box:
        bring_home(box)
        for _ in range(2):
            look_through(box)
        assert contents(box) == as_sent(*IMAGES[:10])


def test_a_copy_without_whoever_it_is_of_comes_back_for_archives_alone(
    clinic: Clinic, tmp_path: Path
) -> None:
    clear = [Instance(number, study=40, side=16) for number in range(3)]
    clinic.receive(*BEFORE, *clear)
    clinic.deliver()
    approve(clinic.box, study_of(clinic.box, clear[0]).id, method=Method.ANONYMISE)
    carry_out(clinic)
    clinic.deliver()
    archive = archive_of(clinic.place)
    documents = [
        manifest.unseal(clinic.box.root, each.key, archive.document(each.key))
        for each in archive.documents(MANIFESTS)
    ]
    assert any(
        each.get("instances") and each["instances"][0]["origin_name"] == "anonymised" for each in documents
    )
    with box_in(tmp_path / "after") as box, box.catalog.transaction() as tx:
        for place in (clinic.place, DestinationSettings("pacs", "folder", "dicom", {"path": str(tmp_path)})):
            rules.add_rule(tx, Rule(destinations.add(tx, place), place.name, place.takes))
        here = next(each for each in making.archives(tx) if each.name == clinic.place.name)
        for each in documents:
            rebuilding.record(tx, box, here, each, "tests", {})
        owed = tx.exec_driver_sql(
            "SELECT i.origin_name = 'anonymised', count(*) FROM deliveries AS d JOIN instances AS i ON i.id = d.instance"
            " JOIN destinations AS p ON p.id = d.destination WHERE p.name = 'pacs' GROUP BY 1"
        ).all()
    assert [tuple(each) for each in owed] == [(0, len(BEFORE))], "the others are owed as ever"


def test_an_archive_that_is_added_years_later_is_no_news(
    after: Clinic,
    tmp_path: Path,
) -> None:
    look_through(after.box)
    much_later = datetime.now(UTC) + timedelta(days=700)
    owe_to(after.box, on_disk(tmp_path, "new"))
    assert told(after.box, much_later) == []
    look_through(after.box, much_later)
    assert told(after.box, much_later + DAY) == []


def test_another_box_s_archive_is_not_taken_for_a_spoilt_one(
    after: Clinic,
    tmp_path: Path,
) -> None:
    theirs = on_disk(tmp_path, "theirs")
    with clinic_in(tmp_path / "another", theirs) as another:
        another.receive(*IMAGES)
        another.deliver()
    with after.box.catalog.transaction() as tx:
        destinations.add(tx, theirs)
    look_through(after.box)
    problems = health.status(after.box, datetime.now(UTC) + DAY).problems
    assert not [each for each in problems if "did not open" in each.words]


def test_an_archive_is_not_taken_off_before_it_was_looked_through(after: Clinic, tmp_path: Path) -> None:
    with after.box.catalog.reading() as reading:
        known = {each.name: each for each in making.archives(reading)}
        with pytest.raises(Refused, match="was not looked through"):
            other_archives.refuse_if_needed(reading, known["nas"])
        other_archives.refuse_if_needed(reading, known["usb"])
        other_archives.refuse_if_needed(reading, replace(known["nas"], paused=True))  # it burnt with the box
    added = owe_to(after.box, on_disk(tmp_path, "by mistake"))
    shutil.rmtree(tmp_path / "by mistake")
    look_through(after.box)
    with after.box.catalog.reading() as reading:
        other_archives.refuse_if_needed(reading, known["nas"])
        other_archives.refuse_if_needed(reading, added)


def test_a_manifest_that_somebody_removes_because_it_is_spoilt_is_told_of_no_longer(
    after: Clinic, tmp_path: Path
) -> None:
    ours = manifest.key(after.box.root, BEFORE[0].study_instance_uid)
    spoilt = [path for path in (tmp_path / "nas" / MANIFESTS).iterdir() if not ours.endswith(path.name)]
    for path in spoilt:
        path.write_bytes(last_byte_changed(path.read_bytes()))
    look_through(after.box)
    assert told(after.box, NOW) == [("nas", "did not open")]
    for path in spoilt[1:]:
        path.unlink()
    look_through(after.box, NOW + DAY)
    assert told(after.box, NOW) == [("nas", "did not open")], "one of them is there still"
    spoilt[0].unlink()
    look_through(after.box, NOW + 2 * DAY)
    assert told(after.box, NOW) == []


def test_where_nothing_is_named_any_more_nothing_was_removed_by_a_person(
    after: Clinic, tmp_path: Path
) -> None:
    """A share that is not mounted shows an empty folder."""
    manifests = tmp_path / "nas" / MANIFESTS
    ours = manifest.key(after.box.root, BEFORE[0].study_instance_uid)
    for path in manifests.iterdir():
        if not ours.endswith(path.name):
            path.write_bytes(last_byte_changed(path.read_bytes()))
    look_through(after.box)
    for path in manifests.iterdir():
        path.unlink()
    look_through(after.box, NOW + DAY)
    assert told(after.box, NOW) == [("nas", "did not open")]
