"""An archive was away when a study was destroyed, and the box burnt before it came back: what it holds of the study is destroyed too."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance import audit
from appliance.box import Box
from appliance.catalog import destinations, rules, tombstones
from appliance.lifecycle import purging
from appliance.model import DestinationSettings, Rule
from appliance.replication import manifest
from appliance.replication.destinations import prepare
from appliance.replication.destinations.archive import object_key
from appliance.replication.tombstone import lives
from tests.backup.conftest import IMAGES, Clinic, as_sent, contents
from tests.backup.conftest import clinic as _clinic
from tests.backup.conftest import disk as _disk
from tests.backup.test_restoring import archive_of, bring_home, restore
from tests.boxes import box_in
from tests.lifecycle.purge import GONE, LATER, approve, secrets_of, study_of

pytestmark = pytest.mark.slow

clinic, disk = _clinic, _disk


@pytest.fixture
def zip_disk(tmp_path: Path, clinic: Clinic) -> DestinationSettings:
    """A second disk, with all that the first has."""
    (tmp_path / "zip").mkdir()
    place = prepare(DestinationSettings("zip", "vault", "ciphertext", {"path": str(tmp_path / "zip")}))
    add(clinic.box, place)
    clinic.receive(*IMAGES, *GONE)
    clinic.deliver()
    return place


def add(box: Box, place: DestinationSettings) -> None:
    with box.catalog.transaction() as tx:
        rules.add_rule(tx, Rule(destinations.add(tx, place), place.name, place.takes))


def lies_on(box: Box, name: str) -> bool:
    """Whether all tombstones that are owed to an archive lie there."""
    with box.catalog.reading() as conn:
        found = destinations.destination(conn, name)
        assert found is not None
        return not tombstones.owed(conn, found.id, 1)


def is_looked_through(box: Box, name: str) -> bool:
    with box.catalog.reading() as conn:
        found = destinations.destination(conn, name)
        assert found is not None
        return not tombstones.unlooked(conn, found.id, lives(conn), 1)[1]


@pytest.mark.parametrize("has_backup", [True, False])
def test_a_disk_that_comes_back_after_a_fire_is_told_what_was_destroyed(
    clinic: Clinic, zip_disk: DestinationSettings, tmp_path: Path, has_backup: bool
) -> None:
    if has_backup:
        clinic.back_up()
    secrets = secrets_of(clinic.box, GONE[0])
    (tmp_path / "zip").rename(tmp_path / "zip away")
    approve(clinic.box, study_of(clinic.box, GONE[0]).id)
    assert purging.carry_out(clinic.box, LATER) == 1
    clinic.deliver_until(lambda: lies_on(clinic.box, "usb"))
    assert not lies_on(clinic.box, "zip")

    told = restore(tmp_path / "after", clinic.place, clinic.paper)
    assert (told.snapshot is not None) == has_backup
    (tmp_path / "zip away").rename(tmp_path / "zip")
    with box_in(tmp_path / "after") as box:
        if not has_backup:
            add(box, zip_disk)
        after = Clinic(box, clinic.place, clinic.paper)
        after.deliver_until(lambda: is_looked_through(box, "zip"))
        with box.catalog.reading() as conn:
            laid = [row for row in audit.export(conn) if row["action"] == "tombstone:lay"]
        assert any('"zip"' in str(row) or "'zip'" in str(row) for row in laid)
        zip_now = archive_of(zip_disk)
        for each in zip_now.documents("manifests/"):
            document = manifest.unseal(box.root, each.key, zip_now.document(each.key))
            assert not {row["id"] for row in document.get("study_keys", [])} & set(secrets.keys)
    for object_id in secrets.objects:
        assert not (tmp_path / "zip" / object_key(object_id)).exists()
    assert restore(tmp_path / "third", zip_disk, clinic.paper).instances == len(IMAGES)
    with box_in(tmp_path / "third") as box:
        bring_home(box)
        assert contents(box) == as_sent(*IMAGES)


def test_each_life_of_the_box_looks_anew_and_no_second_time(
    clinic: Clinic, zip_disk: DestinationSettings, tmp_path: Path
) -> None:
    approve(clinic.box, study_of(clinic.box, GONE[0]).id)
    assert purging.carry_out(clinic.box, LATER) == 1
    clinic.deliver_until(lambda: is_looked_through(clinic.box, "zip") and lies_on(clinic.box, "zip"))
    with clinic.box.catalog.reading() as conn:
        number = destinations.destination(conn, "zip")
        assert number is not None
        upto, names = tombstones.unlooked(conn, number.id, life=1, limit=9)
    assert (upto > 0, len(names)) == (True, 1), "a box that came back asks every archive again"
    laid = [row for row in _rows(clinic.box) if row["action"] == "tombstone:lay"]
    assert len(laid) == 2, "one to a disk, and none again for what lies there"


def test_a_manifest_that_nobody_can_read_is_left(
    clinic: Clinic, zip_disk: DestinationSettings, tmp_path: Path
) -> None:
    """It gives no key away, and somebody may know more of it."""
    (tmp_path / "zip").rename(tmp_path / "zip away")
    approve(clinic.box, study_of(clinic.box, GONE[0]).id)
    assert purging.carry_out(clinic.box, LATER) == 1
    clinic.deliver_until(lambda: lies_on(clinic.box, "usb"))
    restore(tmp_path / "after", clinic.place, clinic.paper)
    (tmp_path / "zip away").rename(tmp_path / "zip")
    uid = GONE[0].study_instance_uid
    with box_in(tmp_path / "after") as box:
        path = tmp_path / "zip" / manifest.key(box.root, uid)
        path.write_bytes(path.read_bytes()[:-1])
        damaged = path.read_bytes()
        add(box, zip_disk)
        Clinic(box, clinic.place, clinic.paper).deliver_until(lambda: is_looked_through(box, "zip"))
        assert path.read_bytes() == damaged


def _rows(box: Box) -> list[dict[str, object]]:
    with box.catalog.reading() as conn:
        return [dict(row) for row in audit.export(conn)]
