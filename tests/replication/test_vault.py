"""The vault: a disk that keeps ciphertext, and knows when it is not there."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.errors import Refused, Transient, Unknown
from appliance.model import DestinationSettings
from appliance.replication.destinations import Parcel, build
from appliance.replication.destinations.archive import object_key
from appliance.replication.destinations.vault import VaultDestination
from tests.replication.archive_contract import ArchiveContract
from tests.replication.contract import DestinationContract, NamesContract, Place


class TestVault(DestinationContract, NamesContract):
    @pytest.fixture
    def place(self, tmp_path: Path) -> Place:
        folder = tmp_path / "usb"
        folder.mkdir()
        return Place(
            destination=VaultDestination(folder),
            unreachable=VaultDestination(tmp_path / "not-plugged-in"),
            closed_to_us=VaultDestination(Path("/sys/kernel")),
            refusing=None,
            held=lambda parcel: (folder / object_key(parcel.object_id)).read_bytes(),
            count=lambda: len([each for each in folder.glob("objects/**/*") if each.is_file()]),
        )

    def test_a_copy_that_was_altered_there_is_written_again(
        self, place: Place, parcels: list[Parcel], tmp_path: Path
    ) -> None:
        with place.destination.open(parcels) as session:
            session.send(parcels[0])
            copy = tmp_path / "usb" / object_key(parcels[0].object_id)
            copy.write_bytes(copy.read_bytes()[:-2] + b"??")
            session.send(replace(parcels[0], tried_before=True))
        assert copy.read_bytes() == parcels[0].sealed_path.read_bytes()

    def test_a_courier_that_stops_leaves_nothing_half_written(
        self, place: Place, parcels: list[Parcel], tmp_path: Path
    ) -> None:
        stopping = replace(parcels[2], keep_going=lambda: False)
        with place.destination.open(parcels) as session, pytest.raises(Transient):
            session.send(stopping)
        assert not [each for each in (tmp_path / "usb").rglob("*") if each.is_file()]


class TestVaultAsArchive(ArchiveContract):
    @pytest.fixture
    def archive(self, tmp_path: Path) -> VaultDestination:
        (tmp_path / "usb").mkdir()
        return VaultDestination(tmp_path / "usb")

    @pytest.fixture
    def unreachable(self, tmp_path: Path) -> VaultDestination:
        return VaultDestination(tmp_path / "not-plugged-in")


def test_an_empty_mount_point_is_not_taken_for_the_disk(tmp_path: Path) -> None:
    """Unplugged, its folder is still there, and what was written into it would fill the box's own disk."""
    mount_point = tmp_path / "usb"
    mount_point.mkdir()
    mark = VaultDestination.prepare(mount_point)
    assert VaultDestination.prepare(mount_point) == mark
    settings = DestinationSettings("usb", "vault", "ciphertext", {"path": str(mount_point), "mark": mark})
    vault = build(settings, None)  # type: ignore[arg-type]
    assert isinstance(vault, VaultDestination)
    vault.put_document("manifests/one.sealed", b"one")
    mount_point.rename(tmp_path / "pulled out")
    mount_point.mkdir()
    for act in (
        vault.check,
        lambda: vault.put_document("manifests/two.sealed", b"two"),
        lambda: vault.document("manifests/one.sealed"),
        lambda: list(vault.documents("manifests/")),
    ):
        with pytest.raises(Transient, match="is not there"):
            act()
    assert list(mount_point.iterdir()) == []
    VaultDestination.prepare(mount_point)
    with pytest.raises(Transient):
        vault.check()  # another disk


def test_what_a_crash_left_is_cleared_away_a_day_later(tmp_path: Path) -> None:
    vault = VaultDestination(tmp_path)
    vault.check()
    old, new = tmp_path / ".arriving" / "old", tmp_path / ".arriving" / "new"
    for each in (old, new):
        each.write_bytes(b"half")
    os.utime(old, (time.time() - 90_000,) * 2)
    vault.check()
    assert (old.exists(), new.exists()) == (False, True)


def test_what_a_cut_left_of_a_document_or_an_image_is_removed_and_nothing_else(tmp_path: Path) -> None:
    vault, mine, image = VaultDestination(tmp_path), "ab" * 32, "0123456789abcdef0123456789abcdef"
    keys = [f"manifests/{mine}.sealed", f"objects/01/{image}.sealed"]
    vault.remove_parts(keys)  # nothing ever came
    vault.put_document(keys[0], b"a tombstone")
    stay = [f"{'cd' * 32}-01234567", "key-01234567"]
    for each in (f"{mine}-01234567", f"{image}.sealed-01234567", *stay):
        (tmp_path / ".arriving" / each).write_bytes(b"what a cut left")
    vault.remove_parts(keys)
    assert sorted(each.name for each in (tmp_path / ".arriving").iterdir()) == sorted(stay)
    assert vault.document(keys[0]) == b"a tombstone"
    with pytest.raises(Transient):
        VaultDestination(tmp_path / "not there").remove_parts(keys)


@pytest.mark.parametrize("key", ["../outside", "objects/../../x", "/etc/passwd", "", "a/\0"])
def test_no_key_leads_out_of_the_vault(tmp_path: Path, key: str) -> None:
    vault = VaultDestination(tmp_path / "usb")
    (tmp_path / "usb").mkdir()
    with pytest.raises((Refused, Unknown)):
        vault.document(key)
    with pytest.raises(Refused):
        vault.put_document(key, b"x")
