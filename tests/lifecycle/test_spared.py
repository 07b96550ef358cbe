"""What lies in an archive under a destroyed key, and nobody had decided about: it is taken in again before the key goes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance import audit
from appliance.box import Box
from appliance.catalog import destroyed_keys, obeying, rules, studies
from appliance.catalog.destroyed_keys import Tombstone
from appliance.errors import OutOfResources, Resting, Transient
from appliance.lifecycle import purging
from appliance.model import DestinationSettings, ObjectId, Rule
from appliance.replication import manifest
from appliance.replication.destinations.archive import object_key
from appliance.replication.destinations.vault import VaultDestination
from tests.backup.conftest import IMAGES, Clinic, as_sent, contents
from tests.backup.conftest import clinic as _clinic
from tests.backup.conftest import disk as _disk
from tests.backup.test_restoring import archive_of, bring_home, restore
from tests.boxes import box_in
from tests.lifecycle.purge import GONE, LATER, approve, secrets_of, study_of
from tests.lifecycle.test_away import add, is_looked_through, lies_on
from tests.lifecycle.test_away import zip_disk as _zip_disk

pytestmark = pytest.mark.slow

clinic, disk, zip_disk = _clinic, _disk, _zip_disk

KNOWN, MORE = GONE[0], GONE[1]


@pytest.fixture
def burnt(clinic: Clinic, tmp_path: Path) -> Iterator[tuple[Clinic, DestinationSettings]]:
    """A box that came back from a disk with one image of a study, while another disk, which is away, has two; and that disk."""
    from appliance.replication.destinations import prepare

    (tmp_path / "zip").mkdir()
    place = prepare(DestinationSettings("zip", "vault", "ciphertext", {"path": str(tmp_path / "zip")}))
    add(clinic.box, place)
    clinic.receive(*IMAGES, KNOWN)
    clinic.deliver()
    (tmp_path / "usb").rename(tmp_path / "usb away")
    clinic.receive(MORE)
    clinic.deliver_until(lambda: _is_named(clinic.box, place, MORE))
    (tmp_path / "usb away").rename(tmp_path / "usb")
    (tmp_path / "zip").rename(tmp_path / "zip away")
    restore(tmp_path / "after", clinic.place, clinic.paper)
    with box_in(tmp_path / "after") as box:
        with box.catalog.transaction() as tx:
            rules.add_rule(tx, Rule(clinic.place.id, "usb", "ciphertext"))
        bring_home(box)
        yield Clinic(box, clinic.place, clinic.paper), place


def _is_named(box: Box, place: DestinationSettings, image: object) -> bool:
    archive = archive_of(place)
    name = manifest.key(box.root, MORE.study_instance_uid)
    told = manifest.unseal(box.root, name, archive.document(name))
    return len(told["instances"]) == 2


def _destroy(after: Clinic) -> tuple[str, ...]:
    """Two people decide about what the box knows, and it is carried out; the keys."""
    study = study_of(after.box, KNOWN)
    assert study.instances == 1, "the box knows one image"
    keys = secrets_of(after.box, KNOWN).keys
    approve(after.box, study.id)
    assert purging.carry_out(after.box, LATER) == 1
    after.deliver_until(lambda: lies_on(after.box, "usb"))
    return keys


def _back(tmp_path: Path, box: Box, place: DestinationSettings) -> None:
    (tmp_path / "zip away").rename(tmp_path / "zip")
    add(box, place)


def _keys_on(box: Box, place: DestinationSettings) -> set[str]:
    archive = archive_of(place)
    found = set()
    for each in [*archive.documents("manifests/"), *archive.documents("kept/")]:
        name = f"manifests/{each.key.rpartition('/')[2].partition('.')[0].partition('-')[0]}.sealed"
        told = manifest.unseal(box.root, name, archive.document(each.key))
        found |= {row["id"] for row in told.get("study_keys", [])}
    return found


def _objects_there(box: Box, place: DestinationSettings, folder: Path) -> list[ObjectId]:
    """What a disk that is away names of the study."""
    name = manifest.key(box.root, MORE.study_instance_uid)
    told = manifest.unseal(box.root, name, (folder / name).read_bytes())
    return [ObjectId(row["object_id"]) for row in told["instances"]]


def cannot_be_had(
    monkeypatch: pytest.MonkeyPatch, keys: set[str], why: Exception, while_: list[bool]
) -> None:
    """These objects of any disk cannot be read, for as long as there is something in `while_`."""
    read = VaultDestination.blocks

    def blocks(self: VaultDestination, key: str) -> Iterator[bytes]:
        if while_ and key in keys:
            raise why
        return read(self, key)

    monkeypatch.setattr(VaultDestination, "blocks", blocks)


def _details(box: Box, action: str) -> list[str]:
    with box.catalog.reading() as conn:
        return [str(row) for row in audit.export(conn) if row["action"] == action]


@pytest.mark.parametrize("is_attached", [True, False])
def test_what_nobody_decided_about_is_taken_in_again(
    burnt: tuple[Clinic, DestinationSettings], tmp_path: Path, *, is_attached: bool
) -> None:
    """Whether the other disk is known when the study is destroyed, or comes to the box afterwards."""
    after, place = burnt
    if is_attached:
        with after.box.catalog.transaction() as tx:
            from appliance.catalog import destinations

            rules.add_rule(tx, Rule(destinations.add(tx, place), place.name, place.takes))
    keys = _destroy(after)
    if is_attached:
        (tmp_path / "zip away").rename(tmp_path / "zip")
        with after.box.catalog.transaction() as tx:
            tx.exec_driver_sql("UPDATE destinations SET breaker_failures = 0, breaker_open_until_utc = NULL")
        after.deliver_until(lambda: lies_on(after.box, "zip") and is_looked_through(after.box, "zip"))
    else:
        _back(tmp_path, after.box, place)
        after.deliver_until(lambda: is_looked_through(after.box, "zip"))

    assert contents(after.box) == as_sent(*IMAGES, MORE)
    assert not set(secrets_of(after.box, MORE).keys) & set(keys), "it is under a key of its own"
    after.deliver()
    for each in (after.place, place):
        assert not _keys_on(after.box, each) & set(keys)
    assert any("spared" in each for each in _details(after.box, "tombstone:lay"))
    assert len(_details(after.box, "study:return")) == 1, "the one in charge of privacy is told"
    assert study_of(after.box, MORE).last_received_utc < LATER

    restore(tmp_path / "third", place, after.paper)
    with box_in(tmp_path / "third") as box:
        bring_home(box)
        assert contents(box) == as_sent(*IMAGES, MORE)


def test_it_comes_once_however_often_the_tombstone_is_begun(
    burnt: tuple[Clinic, DestinationSettings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    after, place = burnt
    _destroy(after)
    put = VaultDestination.put_document
    cut: list[str] = []

    def cut_short(self: VaultDestination, key: str, data: bytes) -> None:
        if key.startswith("manifests/") and not cut and "zip" in str(self.path):
            cut.append(key)
            raise Transient("the disk was pulled out")
        put(self, key, data)

    monkeypatch.setattr(VaultDestination, "put_document", cut_short)
    _back(tmp_path, after.box, place)
    after.deliver_until(lambda: bool(cut))
    assert contents(after.box) == as_sent(*IMAGES, MORE)
    with after.box.catalog.transaction() as tx:
        tx.exec_driver_sql("UPDATE destinations SET breaker_failures = 0, breaker_open_until_utc = NULL")
    after.deliver_until(lambda: is_looked_through(after.box, "zip"))
    assert contents(after.box) == as_sent(*IMAGES, MORE)
    assert study_of(after.box, MORE).instances == 1
    assert list(after.box.objects.recalls.iterdir()) == []


@pytest.mark.parametrize("why", [Resting("it lies deep", wait_hours=12), OutOfResources("the disk is full")])
def test_the_tombstone_waits_for_what_cannot_be_had_yet(
    burnt: tuple[Clinic, DestinationSettings],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    why: Exception,
) -> None:
    """That is no fault of the archive's: everything else goes on."""
    after, place = burnt
    lies_deep = {object_key(each) for each in _objects_there(after.box, place, tmp_path / "zip away")}
    keys = _destroy(after)
    waits = [True]
    cannot_be_had(monkeypatch, lies_deep, why, waits)
    _back(tmp_path, after.box, place)
    after.receive(GONE[2])
    after.deliver_until(lambda: "a destruction waits for what it spares" in caplog.text)
    after.deliver()
    assert _keys_on(after.box, place) & set(keys), "nothing was destroyed there"
    assert not is_looked_through(after.box, "zip")
    waits.clear()
    after.deliver_until(lambda: is_looked_through(after.box, "zip"))
    assert contents(after.box) == as_sent(*IMAGES, *GONE[1:])
    after.deliver()
    assert not _keys_on(after.box, place) & set(keys)


def test_what_is_not_whole_there_holds_up_no_destruction(
    burnt: tuple[Clinic, DestinationSettings], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    after, place = burnt
    keys = _destroy(after)
    name = manifest.key(after.box.root, MORE.study_instance_uid)
    (tmp_path / "zip away").rename(tmp_path / "zip")
    told = manifest.unseal(after.box.root, name, archive_of(place).document(name))
    for row in told["instances"]:
        path = tmp_path / "zip" / object_key(ObjectId(row["object_id"]))
        path.write_bytes(path.read_bytes()[:-1])
    add(after.box, place)
    after.deliver_until(lambda: is_looked_through(after.box, "zip"))
    assert contents(after.box) == as_sent(*IMAGES)
    assert "nobody had decided about is not whole there" in caplog.text
    assert not _keys_on(after.box, place) & set(keys)


def test_earlier_software_has_destroyed_all_that_was_under_its_keys(
    burnt: tuple[Clinic, DestinationSettings], tmp_path: Path
) -> None:
    """It did not write down which images those were."""
    after, place = burnt
    keys = _destroy(after)
    with after.box.catalog.transaction() as tx:
        tx.exec_driver_sql("DELETE FROM destroyed_images")
    _back(tmp_path, after.box, place)
    after.deliver_until(lambda: is_looked_through(after.box, "zip"))
    assert contents(after.box) == as_sent(*IMAGES)
    assert not _keys_on(after.box, place) & set(keys)


def test_a_study_with_more_than_was_decided_about_is_not_destroyed_on_an_archives_word(
    clinic: Clinic,
) -> None:
    clinic.receive(KNOWN, MORE)
    secrets = secrets_of(clinic.box, KNOWN)
    one = Tombstone(secrets.keys, "D-1", LATER, secrets.objects[:1])
    every = Tombstone(secrets.keys, "D-1", LATER, secrets.objects)
    with clinic.box.catalog.transaction() as tx:
        assert obeying.obey(tx, "manifests/a.sealed", [one], LATER) == ()
        assert studies.study(tx, KNOWN.study_instance_uid) is not None
        assert len(obeying.obey(tx, "manifests/a.sealed", [every], LATER)) == 1
        assert destroyed_keys.lies_under(tx, "manifests/a.sealed")[0].objects == tuple(
            sorted(secrets.objects)
        )


def test_what_was_decided_about_in_another_life_is_known_as_decided(clinic: Clinic) -> None:
    clinic.receive(KNOWN)
    secrets = secrets_of(clinic.box, KNOWN)
    other = ObjectId("f" * 32)
    with clinic.box.catalog.transaction() as tx:
        obeying.obey(
            tx, "manifests/a.sealed", [Tombstone(secrets.keys, "D-1", LATER, secrets.objects)], LATER
        )
        more = Tombstone(secrets.keys, "D-1", LATER, (*secrets.objects, other))
        assert obeying.obey(tx, "manifests/a.sealed", [more], LATER) == ()
        assert other in (destroyed_keys.lies_under(tx, "manifests/a.sealed")[0].objects or ())


def test_a_tombstone_reads_as_it_was_told() -> None:
    for objects in (None, (), (ObjectId("a" * 32),)):
        told = Tombstone((), "D-1", LATER, objects)
        assert Tombstone.read(told.as_told()) == told
