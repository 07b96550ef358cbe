"""What an archive is said to have and does not give back comes home from another one that nobody knew to have it."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from appliance.backup import asking, homecoming
from appliance.backup.schedule import Schedule
from appliance.box import Box
from appliance.catalog import destinations, evictions, rules, settings, unreceipted
from appliance.model import DestinationId, DestinationSettings, ObjectId, Rule
from appliance.replication import recall
from appliance.replication.destinations import prepare
from appliance.replication.destinations.archive import MANIFESTS, object_key
from tests.backup.conftest import IMAGES, Clinic, as_sent, contents
from tests.backup.test_asking import SIX, as_they_came, home, hurt, missing
from tests.backup.test_other_archives import SINCE, goes_to_another_alone, on_disk
from tests.backup.test_restoring import restore
from tests.boxes import box_in
from tests.lifecycle.evicting import NOW, here
from tests.rot import last_byte_changed

pytestmark = pytest.mark.slow


def with_zip(box: Box, folder: Path) -> None:
    """A second archive, with what `folder` / "objects" has, and no manifest."""
    (folder / "zip").mkdir()
    zip_disk = prepare(DestinationSettings("zip", "vault", "ciphertext", {"path": str(folder / "zip")}))
    shutil.copytree(folder / "objects", folder / "zip" / "objects", dirs_exist_ok=True)
    with box.catalog.transaction() as tx:
        rules.add_rule(tx, Rule(destinations.add(tx, zip_disk), "zip", "ciphertext"))


def test_what_is_spoilt_in_the_archive_that_has_its_receipt_comes_from_one_that_has_none(
    clinic: Clinic, tmp_path: Path
) -> None:
    clinic.receive(*SIX)
    clinic.deliver()
    clinic.back_up()
    kept = [tmp_path / "usb" / object_key(row.object_id) for row in as_they_came(clinic.box)]
    shutil.copytree(tmp_path / "usb" / "objects", tmp_path / "objects")
    kept[0].write_bytes(kept[1].read_bytes())
    kept[2].unlink()
    kept[3].unlink()
    (tmp_path / kept[3].relative_to(tmp_path / "usb")).unlink()
    restore(tmp_path / "after", clinic.place, clinic.paper)
    with box_in(tmp_path / "after") as box:
        home(box)
        assert (here(box), missing(box)) == (3, 3)
        with_zip(box, tmp_path)
        home(box)
        assert (here(box), missing(box)) == (5, 1)
        rows = as_they_came(box)
        assert [recall.is_here(box, row.object_id) for row in rows] == [True] * 3 + [False] + [True] * 2
        with box.catalog.reading() as conn:
            assert [each.name for each in recall.holders(conn, rows[0].object_id)] == ["zip", "usb"]


def test_what_another_archive_had_that_burnt_too_comes_from_one_that_nobody_knew_to_have_it(
    clinic: Clinic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clinic.receive(*SIX)
    clinic.deliver()
    clinic.back_up()
    shutil.copytree(tmp_path / "usb" / "objects", tmp_path / "objects")
    restore(tmp_path / "after", clinic.place, clinic.paper)
    (tmp_path / "usb").rename(tmp_path / "burnt")
    with box_in(tmp_path / "after") as box:
        with_zip(box, tmp_path)
        home(box)
        assert (here(box), missing(box)) == (6, 0)
        assert contents(box) == as_sent(*SIX)
        asked = hurt(monkeypatch, lambda _: None)
        home(box)
        assert not asked, "once is enough"


def test_what_has_left_this_disk_on_purpose_is_not_doubted(clinic: Clinic, tmp_path: Path) -> None:
    clinic.receive(*SIX)
    clinic.deliver()
    with clinic.box.catalog.reading() as conn:
        (usb,) = destinations.destinations(conn)
        assert unreceipted.in_one(conn, usb.id, 1, 100) == []
        rows = unreceipted.in_one(conn, DestinationId(usb.id + 1), 1, 100)
    assert [each.instance for each in rows] == [row.id for row in reversed(as_they_came(clinic.box))]
    with clinic.box.catalog.transaction() as tx:
        left_here = evictions.Proven(rows[0].instance, rows[0].object_id, "0" * 64, "0" * 64, (usb.id,))
        evictions.gone(tx, rows[0].study, [left_here], NOW)
        left = unreceipted.in_one(tx, DestinationId(usb.id + 1), 1, 100)
    assert left == rows[1:]


def test_an_archive_that_has_given_what_came_to_be_known_late_is_asked_for_the_rest(
    clinic: Clinic, tmp_path: Path
) -> None:
    """What the NAS had not whole came from the third by its own manifest: then nothing of that is left to ask the third for."""
    with clinic.box.catalog.transaction() as tx:
        destinations.add(tx, on_disk(tmp_path, "third"))
    goes_to_another_alone(clinic, on_disk(tmp_path, "nas"), *SINCE)
    for part in ("objects", MANIFESTS):
        shutil.copytree(tmp_path / "nas" / part, tmp_path / "third" / part, dirs_exist_ok=True)
    old, late = (as_they_came(clinic.box)[number] for number in (0, -1))
    for place, image in (("usb", old), ("nas", old), ("nas", late)):
        path = tmp_path / place / object_key(image.object_id)
        path.write_bytes(last_byte_changed(path.read_bytes()))
    restore(tmp_path / "after", clinic.place, clinic.paper)
    with box_in(tmp_path / "after") as box:
        for hours in range(0, 48, 6):
            Schedule().bring_home(box, NOW + timedelta(hours=hours))
        assert missing(box) == 0
        assert contents(box) == as_sent(*IMAGES)


def ask_also_for(box: Box, object_id: ObjectId) -> dict[str, list[int]]:
    """Which rows are asked for besides by then, by the archive."""
    with box.catalog.transaction() as tx:
        places = {each.name: each for each in destinations.destinations(tx)}
        asking.also(tx, [object_id], NOW)
        told = settings.get(tx, asking.ASKED)
    return {name: told["more"].get(str(each.id), []) for name, each in places.items()}


def test_a_box_that_came_back_under_earlier_software_asks_for_what_came_to_be_known_late_too(
    clinic: Clinic, tmp_path: Path
) -> None:
    clinic.receive(*SIX)
    with clinic.box.catalog.transaction() as tx:
        destinations.add(tx, on_disk(tmp_path, "nas"))
        told = {"at_utc": NOW.isoformat(), "from": "usb", "missing": 0, "home": False, "lives": 1}
        settings.put(tx, homecoming.LAST, told, NOW)
    row = as_they_came(clinic.box)[0]
    assert ask_also_for(clinic.box, row.object_id)["usb"] == [row.id]


def test_an_archive_that_is_moved_is_not_asked_for_what_was_to_be_in_its_first_place(
    clinic: Clinic, tmp_path: Path
) -> None:
    """Its manifests are read anew there, and say what is in it."""
    clinic.receive(*SIX)
    nas, moved = on_disk(tmp_path, "nas"), on_disk(tmp_path, "moved")
    with clinic.box.catalog.transaction() as tx:
        destinations.add(tx, nas)
        told = {"at_utc": NOW.isoformat(), "from": "usb", "last": 3, "missing": 0, "home": False, "lives": 1}
        settings.put(tx, homecoming.LAST, told, NOW)
    row = as_they_came(clinic.box)[5]
    assert ask_also_for(clinic.box, row.object_id)["nas"] == [row.id]
    with clinic.box.catalog.transaction() as tx:
        (place,) = [each for each in destinations.destinations(tx) if each.name == "nas"]
        recall.let_move(tx, place, moved.options)
        assert str(place.id) not in settings.get(tx, asking.ASKED)["more"]
