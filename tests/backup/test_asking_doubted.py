"""What an archive is said to have and does not give back comes home from another one that nobody knew to have it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from appliance.box import Box
from appliance.catalog import destinations, evictions, rules, unreceipted
from appliance.model import DestinationId, DestinationSettings, Rule
from appliance.replication import recall
from appliance.replication.destinations import prepare
from appliance.replication.destinations.archive import object_key
from tests.backup.conftest import Clinic, as_sent, contents
from tests.backup.test_asking import SIX, as_they_came, home, hurt, missing
from tests.backup.test_restoring import restore
from tests.boxes import box_in
from tests.lifecycle.evicting import NOW, here

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
