"""Sparing what nobody had decided about loses nothing on the way, brings back nothing that was decided, and holds up nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from appliance.box import Box
from appliance.catalog import deliveries, destinations, destroyed_keys, freezes, obeying, rules, tombstones
from appliance.catalog.destroyed_keys import Tombstone
from appliance.errors import Corrupt, Resting
from appliance.ingest import accept
from appliance.lifecycle import certificate, purging
from appliance.model import DestinationSettings, KeyId, ObjectId, Owed, Rule
from appliance.replication import burial, destructions, manifest
from appliance.replication.destinations.archive import object_key
from appliance.replication.destinations.vault import VaultDestination
from appliance.store.root_key import seal_slot
from tests.backup.conftest import IMAGES, Clinic, as_sent, contents
from tests.backup.conftest import clinic as _clinic
from tests.backup.conftest import disk as _disk
from tests.backup.test_restoring import archive_of, bring_home, restore
from tests.boxes import box_in
from tests.instances import Instance
from tests.lifecycle.purge import GONE, LATER, approve, study_of
from tests.lifecycle.test_away import add, is_looked_through, lies_on
from tests.lifecycle.test_spared import (
    KNOWN,
    MORE,
    _back,
    _destroy,
    _details,
    _keys_on,
    _objects_there,
    cannot_be_had,
)
from tests.lifecycle.test_spared import burnt as _burnt

pytestmark = pytest.mark.slow

clinic, disk, burnt = _clinic, _disk, _burnt
Burnt = tuple[Clinic, DestinationSettings]


def attached(after: Clinic, place: DestinationSettings, folder: Path) -> tuple[str, ...]:
    """The other disk is known, and away when the study is destroyed: its tombstone is owed. Then it comes back; the keys."""
    with after.box.catalog.transaction() as tx:
        rules.add_rule(tx, Rule(destinations.add(tx, place), place.name, place.takes))
    keys = _destroy(after)
    (folder / "zip away").rename(folder / "zip")
    with after.box.catalog.transaction() as tx:
        tx.exec_driver_sql("UPDATE destinations SET breaker_failures = 0, breaker_open_until_utc = NULL")
    return keys


def both_done(box: Box) -> bool:
    return lies_on(box, "zip") and is_looked_through(box, "zip")


@pytest.mark.parametrize("is_owed", [True, False])
def test_a_fire_at_any_moment_loses_nothing(
    burnt: Burnt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_owed: bool
) -> None:
    """The disk as it is after each document that is written there: what nobody decided about can be had from it."""
    after, place = burnt
    put = VaultDestination.put_document
    moments: list[Path] = []

    def spy(self: VaultDestination, key: str, data: bytes) -> None:
        put(self, key, data)
        if self.path == tmp_path / "zip" and key.startswith(("manifests/", "kept/")):
            moments.append(tmp_path / f"zip {len(moments)}")
            shutil.copytree(tmp_path / "zip", moments[-1])

    if is_owed:
        keys = attached(after, place, tmp_path)
    else:
        keys = _destroy(after)
        _back(tmp_path, after.box, place)
    monkeypatch.setattr(VaultDestination, "put_document", spy)
    after.deliver_until(lambda: both_done(after.box))
    monkeypatch.undo()
    assert not _keys_on(after.box, place) & set(keys)
    assert moments
    for number, moment in enumerate(moments):
        then = replace(place, options={**place.options, "path": str(moment)})
        restore(tmp_path / f"box {number}", then, after.paper)
        with box_in(tmp_path / f"box {number}") as box:
            bring_home(box)
            found = contents(box)
            if str(MORE.sop_instance_uid) not in found:  # it lies beside, and is spared by the new box
                with box.catalog.transaction() as tx:
                    known = destinations.destination(tx, "zip")
                    assert known is not None
                    rules.add_rule(tx, Rule(known.id, "zip", "ciphertext"))
                Clinic(box, then, after.paper).deliver_until(lambda box=box: is_looked_through(box, "zip"))  # type: ignore[misc]
                found = contents(box)
            assert found[str(MORE.sop_instance_uid)] == MORE.data_set, (
                f"lost by a fire after document {number}"
            )


def test_what_was_decided_about_after_it_was_spared_is_spared_nowhere_else(
    burnt: Burnt, tmp_path: Path
) -> None:
    after, place = burnt
    shutil.copytree(tmp_path / "zip away", tmp_path / "nas")
    nas = replace(place, name="nas", options={**place.options, "path": str(tmp_path / "nas")})
    (tmp_path / "nas").rename(tmp_path / "nas away")
    _destroy(after)
    _back(tmp_path, after.box, place)
    after.deliver_until(lambda: is_looked_through(after.box, "zip"))
    after.deliver()
    approve(after.box, study_of(after.box, MORE).id)
    assert purging.carry_out(after.box, LATER) == 1
    after.deliver_until(lambda: lies_on(after.box, "zip") and lies_on(after.box, "usb"))
    (tmp_path / "nas away").rename(tmp_path / "nas")
    add(after.box, nas)
    after.deliver_until(lambda: is_looked_through(after.box, "nas"))
    assert contents(after.box) == as_sent(*IMAGES)


def test_a_study_that_has_more_stays_with_the_tombstone_beside_it_and_it_is_said_once(
    burnt: Burnt, tmp_path: Path
) -> None:
    """The box burns once more, and comes back from the disk with more; the other one, with the tombstone, is attached then."""
    after, place = burnt
    keys = _destroy(after)
    (tmp_path / "zip away").rename(tmp_path / "zip")
    (tmp_path / "usb").rename(tmp_path / "usb away")
    restore(tmp_path / "third", place, after.paper)
    with box_in(tmp_path / "third") as box:
        bring_home(box)
        third = Clinic(box, place, after.paper)
        (tmp_path / "usb away").rename(tmp_path / "usb")
        add(box, after.place)
        with box.catalog.transaction() as tx:
            usb = destinations.destination(tx, "usb")
            assert usb is not None
            ids = [row[0] for row in tx.exec_driver_sql("SELECT id FROM instances")]
            deliveries.owe_many(tx, [(each, (Owed(usb.id, 0),)) for each in ids], datetime.now(UTC))
        third.deliver()
        assert contents(box) == as_sent(*IMAGES, KNOWN, MORE)
        assert len(_details(box, "study:return")) == 1, "the one in charge of privacy is told"
        told = [each for document in _manifests(box, after.place) for each in manifest.tombstones(document)]
        assert [set(each.keys) for each in told] == [set(keys)], "what was decided is not forgotten"
        third.receive(GONE[2])
        third.deliver()
        assert len(_details(box, "study:return")) == 1
        approve(box, study_of(box, KNOWN).id)
        assert purging.carry_out(box, LATER) == 1
        third.deliver_until(lambda: lies_on(box, "usb"))
        assert not _keys_on(box, after.place) & set(keys)
    (tmp_path / "zip").rename(tmp_path / "zip away")
    restore(tmp_path / "fourth", after.place, after.paper)
    with box_in(tmp_path / "fourth") as box:
        bring_home(box)
        assert contents(box) == as_sent(*IMAGES)


def test_a_disk_with_such_a_tombstone_brings_everything_back(burnt: Burnt, tmp_path: Path) -> None:
    """Not obeyed, since it names one of the two images that stand beside it."""
    after, place = burnt
    archive, name = (
        archive_of(replace(place, options={**place.options, "path": str(tmp_path / "zip away")})),
        "",
    )
    name = manifest.key(after.box.root, MORE.study_instance_uid)
    told = manifest.unseal(after.box.root, name, archive.document(name))
    known, _ = [ObjectId(row["object_id"]) for row in told["instances"]]
    keys = tuple(KeyId(row["id"]) for row in told["study_keys"])
    beside = Tombstone(keys, "D-1", LATER, (known,))
    archive.put_document(
        name, manifest._seal(after.box.root, name, {**told, "destroyed": [beside.as_told()]})
    )
    restore(
        tmp_path / "third",
        replace(place, options={**place.options, "path": str(tmp_path / "zip away")}),
        after.paper,
    )
    with box_in(tmp_path / "third") as box:
        bring_home(box)
        assert contents(box) == as_sent(*IMAGES, KNOWN, MORE)


def _manifests(box: Box, place: DestinationSettings) -> list[dict[str, Any]]:
    archive = archive_of(place)
    return [
        manifest.unseal(box.root, each.key, archive.document(each.key))
        for each in archive.documents("manifests/")
    ]


@pytest.mark.parametrize("is_owed", [True, False])
def test_a_fault_of_this_box_is_not_taken_for_the_archives(
    burnt: Burnt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_owed: bool
) -> None:
    after, place = burnt
    real = accept
    failed: list[int] = []

    def once(box: Box, arrivals: Any) -> Any:
        if not failed:
            failed.append(1)
            raise Corrupt("the catalog is damaged")
        return real(box, arrivals)

    monkeypatch.setattr(burial, "accept", once)
    monkeypatch.setattr(destructions, "RESTING_SECONDS", 0.2)
    if is_owed:
        attached(after, place, tmp_path)
    else:
        _destroy(after)
        _back(tmp_path, after.box, place)
    after.deliver_until(lambda: both_done(after.box))
    assert failed
    assert contents(after.box) == as_sent(*IMAGES, MORE)


def test_a_guard_that_takes_hold_in_the_middle_is_heeded(
    burnt: Burnt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    after, place = burnt
    real = burial._spare

    def slow(*arguments: Any) -> Any:
        done = real(*arguments)
        with after.box.catalog.transaction() as tx:
            freezes.begin(tx, why=freezes.Why.BY_HAND, evidence={}, by="tests", now=datetime.now(UTC))
        return done

    keys = attached(after, place, tmp_path)
    monkeypatch.setattr(burial, "_spare", slow)

    def is_held() -> bool:
        with after.box.catalog.reading() as conn:
            return freezes.in_force(conn) is not None

    after.deliver_until(is_held)
    after.deliver_until(_a_while())
    assert _keys_on(after.box, place) & set(keys), "nothing is overwritten while it holds"


def _a_while() -> Callable[[], bool]:
    passes = iter(range(60))
    return lambda: next(passes, None) is None


def test_all_that_lie_deep_are_asked_for_at_once(
    burnt: Burnt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    after, place = burnt
    folder = tmp_path / "zip away"
    name = manifest.key(after.box.root, MORE.study_instance_uid)
    _destroy(after)
    with after.box.catalog.transaction() as tx:  # as if nothing had been decided about either
        tx.exec_driver_sql("UPDATE destroyed_images SET object_id = 'other'")
    deep = {object_key(each) for each in _objects_there(after.box, place, folder)}
    read = VaultDestination.blocks
    woken: list[str] = []

    def blocks(self: VaultDestination, key: str) -> Iterator[bytes]:
        if key in deep and deep - set(woken):
            raise Resting("it lies deep", wait_hours=12)
        return read(self, key)

    def ask(_: burial.Grave, object_id: ObjectId) -> None:
        woken.append(object_key(object_id))

    monkeypatch.setattr(VaultDestination, "blocks", blocks)
    monkeypatch.setattr(burial, "_ask_for", ask)
    monkeypatch.setattr(destructions, "RESTING_SECONDS", 0.2)
    _back(tmp_path, after.box, place)
    after.deliver_until(lambda: is_looked_through(after.box, "zip"))
    assert sorted(woken) == sorted(deep)
    assert contents(after.box) == as_sent(*IMAGES, KNOWN, MORE)
    assert name


def test_a_manifest_that_lacks_something_holds_up_nothing_else(
    burnt: Burnt, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    after, place = burnt
    keys = _destroy(after)
    name = manifest.key(after.box.root, MORE.study_instance_uid)
    (tmp_path / "zip away").rename(tmp_path / "zip")
    told = manifest.unseal(after.box.root, name, archive_of(place).document(name))
    for row in told["instances"]:
        del row["image_laterality"]
    (tmp_path / "zip" / name).write_bytes(manifest._seal(after.box.root, name, told))
    add(after.box, place)
    after.deliver_until(lambda: "a destruction waits for what it spares" in caplog.text)
    after.receive(Instance(55, study=4321))
    after.deliver()
    assert _keys_on(after.box, place) & set(keys), "it is not taken for nothing to spare"


def test_the_one_in_charge_of_privacy_is_told_where_the_decision_came_from_an_archive(
    burnt: Burnt, tmp_path: Path
) -> None:
    after, place = burnt
    _destroy(after)
    restore(tmp_path / "third", after.place, after.paper)
    with box_in(tmp_path / "third") as box:
        with box.catalog.transaction() as tx:
            usb = destinations.destination(tx, "usb")
            assert usb is not None
            rules.add_rule(tx, Rule(usb.id, "usb", "ciphertext"))
        bring_home(box)
        third = Clinic(box, after.place, after.paper)
        _back(tmp_path, box, place)
        third.deliver_until(lambda: is_looked_through(box, "zip"))
        assert contents(box) == as_sent(*IMAGES, MORE)
        assert len(_details(box, "study:return")) == 1
        assert any("'zip'" in each or '"zip"' in each for each in _details(box, "instance:recover"))
        assert "MODALITY" not in _details(box, "instance:receive")[-1], "no machine has sent it now"


@pytest.mark.parametrize("is_owed", [True, False])
def test_what_opens_with_a_later_paper_is_not_written_over(
    burnt: Burnt, tmp_path: Path, caplog: pytest.LogCaptureFixture, *, is_owed: bool
) -> None:
    """The box came back with a paper that was replaced in the middle of a rotation: this one cannot tell what lies there."""
    after, place = burnt
    name = manifest.key(after.box.root, MORE.study_instance_uid)
    away = tmp_path / "zip away" / name
    told = manifest.unseal(after.box.root, name, away.read_bytes())
    root = after.box.root.successor(bytes(32))
    away.write_bytes(manifest._seal(root, name, told))
    (tmp_path / "zip away/keys/later-0").write_bytes(seal_slot(root, b"R", bytes(32)))
    later = away.read_bytes()
    if is_owed:
        attached(after, place, tmp_path)
    else:
        _destroy(after)
        _back(tmp_path, after.box, place)
    after.receive(Instance(55, study=4321))
    after.deliver_until(lambda: burial.LATER_PAPER in caplog.text)
    after.deliver()
    assert (tmp_path / "zip" / name).read_bytes() == later
    assert not both_done(after.box)


@pytest.mark.parametrize("is_owed", [True, False])
def test_what_later_software_has_written_is_not_written_over(
    burnt: Burnt, tmp_path: Path, caplog: pytest.LogCaptureFixture, *, is_owed: bool
) -> None:
    """A box that has gone back a version can't tell which images lie there that nobody has decided about."""
    after, place = burnt
    root = after.box.root
    name = manifest.key(root, MORE.study_instance_uid)
    away = tmp_path / "zip away" / name
    told = manifest.unseal(root, name, away.read_bytes())
    away.write_bytes(manifest._seal(root, name, told | {"format": manifest.FORMAT + 1}))
    later = away.read_bytes()
    if is_owed:
        attached(after, place, tmp_path)
    else:
        _destroy(after)
        _back(tmp_path, after.box, place)
    after.deliver_until(lambda: burial.LATER_SOFTWARE in caplog.text)
    after.deliver()
    assert (tmp_path / "zip" / name).read_bytes() == later
    assert not both_done(after.box)


def test_a_document_that_rotted_into_a_later_paper_is_destroyed_all_the_same(
    burnt: Burnt, tmp_path: Path
) -> None:
    after, place = burnt
    name = manifest.key(after.box.root, MORE.study_instance_uid)
    away = tmp_path / "zip away" / name
    away.write_bytes(manifest._seal(after.box.root.successor(bytes(32)), name, {}))
    keys = attached(after, place, tmp_path)
    after.deliver_until(lambda: both_done(after.box))
    assert not _keys_on(after.box, place) & set(keys)


def test_why_a_destruction_waits_is_on_its_certificate(
    burnt: Burnt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    after, place = burnt
    lies_deep = {object_key(each) for each in _objects_there(after.box, place, tmp_path / "zip away")}
    cannot_be_had(monkeypatch, lies_deep, Resting("the image lies in deep archive", wait_hours=12), [True])
    attached(after, place, tmp_path)

    def reason() -> str:
        with after.box.catalog.reading() as conn:
            (one,) = tombstones.certificates(conn)
            return next(each.reason for each in tombstones.places(conn, one.id) if each.name == "zip")

    after.deliver_until(lambda: reason() == "the image lies in deep archive")
    with after.box.catalog.reading() as conn:
        (one,) = tombstones.certificates(conn)
        told = certificate.document(conn, one, LATER)
    assert [each["waits_for"] for each in told["archives"]] == ["", "the image lies in deep archive"]


def test_each_key_of_a_tombstone_has_its_images(clinic: Clinic) -> None:
    """Two tombstones of two lives may share a key: what the second says of its own key is not forgotten."""
    first, second = KeyId("1" * 32), KeyId("2" * 32)
    a, b = ObjectId("a" * 32), ObjectId("b" * 32)
    early, late = (datetime(2026, month, 1, tzinfo=UTC) for month in (1, 2))
    with clinic.box.catalog.transaction() as tx:
        obeying.obey(tx, "manifests/x.sealed", [Tombstone((first,), "D-1", early, (a,))], LATER)
        obeying.obey(tx, "manifests/x.sealed", [Tombstone((first, second), "D-2", late, (a, b))], LATER)
        told = destroyed_keys.lies_under(tx, "manifests/x.sealed")
    assert all(each.objects == (a, b) for each in told if second in each.keys)
    assert all(each.objects is not None for each in told)
