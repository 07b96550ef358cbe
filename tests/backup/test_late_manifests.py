"""Images that a manifest names when the box is in service already: whose they are, and what becomes of those that do not come at once."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import permutations
from pathlib import Path

import pytest

from appliance.backup import asking, homecoming, late_manifests, other_archives, rebuilding
from appliance.backup.schedule import Schedule
from appliance.box import Box
from appliance.catalog import Transaction, destinations, instances, settings
from appliance.errors import Corrupt, Refused, Resting, Unreadable
from appliance.model import DestinationSettings
from appliance.replication import manifest, recall
from appliance.replication.destinations.archive import MANIFESTS
from tests.backup.conftest import IMAGES, Clinic, as_sent, contents
from tests.backup.test_looking_through import LARGE, large
from tests.backup.test_other_archives import (
    BEFORE,
    DAY,
    SINCE,
    after,
    burnt,
    goes_to_another_alone,
    look_through,
    nas,
    on_disk,
    owe_to,
    told,
)
from tests.backup.test_restoring import archive_of, bring_home, restore
from tests.boxes import box_in, recorded
from tests.instances import Instance
from tests.lifecycle.evicting import NOW
from tests.rot import last_byte_changed

pytestmark = pytest.mark.slow

__all__ = ["after", "burnt", "large", "nas"]

OF_THE_PATIENT = [
    Instance(70 + number, study=31, pixel_bytes=3_000, patient_id="P", patient_name="Right^Person")
    for number in range(2)
]
OF_ANOTHER = Instance(90, study=31, pixel_bytes=3_000, patient_id="Q", patient_name="Wrong^Person")
MIXED = ("Right^Person", True, 3, ["Wrong^Person"])
"""A study of one patient with one image that names another: whose it is, that it is flagged, its images, and whom the others name."""


def whose(box: Box) -> tuple[str, bool, int, list[str]]:
    with box.catalog.reading() as reading:
        return _whose(reading)


def _whose(reading: object) -> tuple[str, bool, int, list[str]]:
    uid = (OF_ANOTHER.study_instance_uid,)
    name, is_flagged, count = reading.exec_driver_sql(  # type: ignore[attr-defined]
        "SELECT p.name, s.patient_conflict, s.instances FROM studies AS s JOIN patients AS p ON p.id = s.patient"
        " WHERE s.study_instance_uid = ?",
        uid,
    ).one()
    others = reading.exec_driver_sql(  # type: ignore[attr-defined]
        "SELECT p.name FROM instances AS i JOIN patients AS p ON p.id = i.other_patient JOIN series AS e ON e.id = i.series"
        " JOIN studies AS s ON s.id = e.study WHERE s.study_instance_uid = ?",
        uid,
    )
    return name, bool(is_flagged), count, list(others.scalars())


# --- whose a study is ------------------------------------------------------------------------------------------------


@pytest.fixture
def mixed(clinic: Clinic, nas: DestinationSettings, tmp_path: Path) -> Iterator[Box]:
    """A box that was made again; the NAS alone knows of a study in which one image, the last, names another patient."""
    goes_to_another_alone(clinic, nas, *OF_THE_PATIENT, OF_ANOTHER)
    assert whose(clinic.box) == MIXED
    restore(tmp_path / "after", clinic.place, clinic.paper)
    with box_in(tmp_path / "after") as box:
        bring_home(box)
        yield box


def _ways_of_not_coming() -> dict[str, Exception]:
    return {
        "deep": Resting("it lies deep", wait_hours=12),
        "spoilt": Corrupt("it is spoilt"),
        "a bad sector": Unreadable("a bad sector"),
    }


@pytest.mark.parametrize("way", [*_ways_of_not_coming()])
def test_a_study_is_its_patient_s_whichever_of_its_images_comes_first(
    mixed: Box, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    fetch, held_back = recall.fetch, _ways_of_not_coming()[way]
    of_another = _object_of_another(mixed)

    def only_the_other(*of: object) -> None:
        if of[2] != of_another:
            raise held_back
        fetch(*of)  # type: ignore[arg-type]

    with monkeypatch.context() as away:
        away.setattr(recall, "fetch", only_the_other)
        look_through(mixed)
    assert whose(mixed)[0::3] == MIXED[0::3], "flagged as it was, under the name that it had"
    for days in range(1, 4):
        Schedule().bring_home(mixed, NOW + days * DAY)
    assert whose(mixed) == MIXED
    assert contents(mixed) == as_sent(*BEFORE, *OF_THE_PATIENT, OF_ANOTHER)


def _object_of_another(box: Box) -> str:
    with box.catalog.reading() as reading:
        place = next(each for each in destinations.destinations(reading) if each.name == "nas")
    named = manifest.key(box.root, OF_ANOTHER.study_instance_uid)
    rows = manifest.unseal(box.root, named, archive_of(place).document(named))["instances"]
    (found,) = (row["object_id"] for row in rows if row["other_patient"] is not None)
    return str(found)


class _TakenBack(Exception):
    pass


def test_a_study_is_its_patient_s_in_whichever_order_and_however_few_of_it_are_recorded(mixed: Box) -> None:
    with mixed.catalog.reading() as reading:
        place = next(each for each in destinations.destinations(reading) if each.name == "nas")
    named = manifest.key(mixed.root, OF_ANOTHER.study_instance_uid)
    all_of_it = manifest.unseal(mixed.root, named, archive_of(place).document(named))
    for order in (*permutations(all_of_it["instances"]), *((row,) for row in all_of_it["instances"])):
        with pytest.raises(_TakenBack), mixed.catalog.transaction() as tx:
            for row in order:
                part = {**all_of_it, "instances": [row]}
                rebuilding.record(tx, mixed, place, part, "tests", {})
            others = [row for row in order if row["other_patient"] is not None]
            assert _whose(tx) == ("Right^Person", bool(others), len(order), ["Wrong^Person"] * len(others))
            raise _TakenBack


# --- what does not come at once --------------------------------------------------------------------------------------


def first_asked_for(
    monkeypatch: pytest.MonkeyPatch, error: Exception, which: Callable[[int], bool], *, once: bool = False
) -> list[object]:
    """Let the archive give an error for those that are asked for first, second, …, as `which` says; all that were asked for."""
    fetch, seen, failed = recall.fetch, list[object](), set[object]()

    def some(*of: object) -> None:
        if of[2] not in seen:
            seen.append(of[2])
        if which(seen.index(of[2])) and not (once and of[2] in failed):
            failed.add(of[2])
            raise error
        fetch(*of)  # type: ignore[arg-type]

    monkeypatch.setattr(recall, "fetch", some)
    return seen


def here(box: Box) -> int:
    return sum(recall.is_here(box, each.object_id) for each in recorded(box))


def missing(box: Box) -> int:
    with box.catalog.reading() as reading:
        return homecoming.missing(reading)


def test_one_bad_sector_keeps_no_other_image_of_its_study_away(
    large: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as bad:
        first_asked_for(bad, Unreadable("a bad sector"), lambda index: index == 2)
        look_through(large.box)
        assert here(large.box) == len(BEFORE) + len(LARGE) - 1
        assert missing(large.box) == 1, "and of it somebody is told"
        Schedule().bring_home(large.box, NOW)
        with large.box.catalog.reading() as reading:
            (place,) = (each for each in destinations.destinations(reading) if each.name == "nas")
            with pytest.raises(Refused, match="does not give them back"):
                other_archives.refuse_if_needed(reading, place)
            other_archives.refuse_if_needed(reading, replace(place, paused=True))
    Schedule().bring_home(large.box, NOW + DAY)
    assert contents(large.box) == as_sent(*BEFORE, *LARGE)
    assert missing(large.box) == 0


def test_a_disk_that_dies_is_asked_for_little_and_gives_all_that_it_still_has(
    large: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = first_asked_for(monkeypatch, Unreadable("a bad sector"), lambda index: index < 7)
    look_through(large.box)
    assert len(asked) == homecoming.UNREAD_AT_ONCE
    assert told(large.box, NOW) == [("nas", "did not open")], "the rest of it was not come to"
    for days in range(1, 4):
        look_through(large.box, NOW + days * DAY)
    assert len(asked) == len(LARGE)
    assert here(large.box) == len(BEFORE) + len(LARGE) - 7
    assert missing(large.box) == 7
    assert told(large.box, NOW) == []


def test_an_image_that_was_spoilt_on_the_way_is_asked_for_again_there(
    after: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    first_asked_for(monkeypatch, Corrupt("spoilt on the way"), lambda index: index == 0, once=True)
    Schedule().bring_home(after.box, NOW)
    assert missing(after.box) == 1
    Schedule().bring_home(after.box, NOW + timedelta(minutes=1))
    assert contents(after.box) == as_sent(*IMAGES)
    assert missing(after.box) == 0


def test_what_is_spoilt_indeed_is_asked_for_once_more_and_then_left_alone(
    after: Clinic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = {each.object_id for each in recorded(after.box)}
    for path in [each for each in (tmp_path / "nas" / "objects").rglob("*") if each.is_file()]:
        if path.name.partition(".")[0] not in named:
            path.write_bytes(last_byte_changed(path.read_bytes()))
    for number in range(4):
        Schedule().bring_home(after.box, NOW + number * timedelta(minutes=1))
    assert missing(after.box) == len(SINCE)
    asked = first_asked_for(monkeypatch, Corrupt("spoilt"), lambda _: True)
    Schedule().bring_home(after.box, NOW + timedelta(minutes=9))
    assert asked == []


def test_what_is_missing_is_counted_once_and_no_longer_when_it_has_come(
    large: Clinic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(homecoming, "MOST_NOTED", 2)
    (tmp_path / "nas" / "objects").rename(tmp_path / "saved")
    look_through(large.box)
    assert missing(large.box) == len(LARGE)
    _read_anew(large.box)
    look_through(large.box)
    assert missing(large.box) == len(LARGE), "each is counted"
    shutil.copytree(tmp_path / "saved", tmp_path / "nas" / "objects")
    _read_anew(large.box)
    look_through(large.box)
    asking.ask(large.box, NOW, keep_going=lambda: True)
    assert contents(large.box) == as_sent(*BEFORE, *LARGE)
    assert missing(large.box) == 0


def _read_anew(box: Box) -> None:
    """As where more did not open than are noted, or a manifest names images that lie deep beside the others."""
    with box.catalog.transaction() as tx:
        settings.remove(tx, other_archives.OTHERS)


def test_images_that_come_are_not_taken_for_those_that_are_missing(large: Clinic) -> None:
    """More are missing since the restore than are noted, and none of them is one that an archive brings now."""
    with large.box.catalog.transaction() as tx:
        last = settings.get(tx, homecoming.LAST)
        assert isinstance(last, dict)
        settings.put(tx, homecoming.LAST, {**last, "missing": 20}, NOW)
    look_through(large.box)
    assert contents(large.box) == as_sent(*BEFORE, *LARGE)
    assert missing(large.box) == 20


def test_of_an_archive_without_its_images_so_many_are_noted_in_one_run_and_all_at_once(
    large: Clinic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(tmp_path / "nas" / "objects")
    monkeypatch.setattr(late_manifests, "MOST_FETCHED", 5)
    noted, also = list[int](), asking.also

    def counted(tx: Transaction, object_ids: list[str], *more: object) -> None:
        noted.append(len(object_ids))
        if not more[1:]:
            assert all(instances.row_of(tx, each) for each in object_ids)  # type: ignore[arg-type]
        also(tx, object_ids, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(asking, "also", counted)
    came = [look_through(large.box) for _ in range(4)]
    assert came == [5, 5, 2, 0]
    assert [each for each in noted if each in {1, 2, 5}] == [5, 5, 5, 2]
    assert missing(large.box) == len(LARGE)


def test_an_archive_that_is_added_later_is_asked_for_what_its_manifests_name_and_is_missing(
    large: Clinic, tmp_path: Path
) -> None:
    third = on_disk(tmp_path, "third")
    for folder in ("objects", MANIFESTS):
        shutil.copytree(tmp_path / "nas" / folder, tmp_path / "third" / folder)
    shutil.rmtree(tmp_path / "nas" / "objects")
    for number in range(3):
        Schedule().bring_home(large.box, NOW + number * timedelta(minutes=1))
    assert missing(large.box) == len(LARGE)
    owe_to(large.box, third)
    for number in range(3, 6):
        Schedule().bring_home(large.box, NOW + number * timedelta(minutes=1))
    assert contents(large.box) == as_sent(*BEFORE, *LARGE)
    assert missing(large.box) == 0
