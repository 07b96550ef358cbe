"""A backup that the power cut, in the instant in which its key was to get its name, gives nothing of a patient who is destroyed later."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from appliance.backup import snapshot
from appliance.errors import Corrupt
from appliance.model import DestinationSettings
from appliance.replication.destinations import prepare
from tests.backup.conftest import IMAGES, Clinic, clinic_in
from tests.lifecycle.purge import GONE, approve, carry_out, study_of
from tests.replication.file_servers import openssh
from tests.replication.shares import samba

pytestmark = pytest.mark.slow


@pytest.fixture(params=["disk", "sftp", "smb"])
def clinic(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Clinic]:
    """One whose archive lies below ``there``, behind a server or not."""
    there = tmp_path / "there"
    with ExitStack() as stack:
        match request.param:
            case "sftp":
                place = stack.enter_context(openssh(there)).trusted()
            case "smb":
                place = prepare(stack.enter_context(samba(there)).settings())
            case _:
                there.mkdir()
                place = prepare(DestinationSettings("usb", "vault", "ciphertext", {"path": str(there)}))
        yield stack.enter_context(clinic_in(tmp_path / "before", place))


def cut(there: Path, name: str) -> Path:
    """Put the backup `name` back to where it was when its key was whole and had no name yet; where that key is."""
    (folder,) = there.rglob(f"snapshots/{name}")
    arriving = folder.parents[1] / ".arriving"
    assert arriving.is_dir()
    (folder / "index").unlink()
    return (folder / "key").rename(arriving / "key-0badcafe")


def keys_of(clinic: Clinic, there: Path, name: str) -> list[Path]:
    """The files, under whatever name, that give the key to a backup."""
    found = []
    for path in there.rglob("*"):
        if path.is_file():
            try:
                clinic.box.root.unseal(path.read_bytes(), snapshot.key_context(name))
            except Corrupt:
                continue
            found.append(path)
    return found


def test_the_key_of_a_backup_that_was_cut_outlives_no_destruction(clinic: Clinic, tmp_path: Path) -> None:
    there = tmp_path / "there"
    clinic.receive(IMAGES[0], *GONE)
    clinic.deliver()
    name = clinic.back_up().name
    left = cut(there, name)
    assert keys_of(clinic, there, name) == [left], "its pages lie there too, with every name of that day"
    approve(clinic.box, study_of(clinic.box, GONE[0]).id)
    carry_out(clinic)
    assert keys_of(clinic, there, name) == []


def test_the_next_backup_clears_it_away(clinic: Clinic, tmp_path: Path) -> None:
    there = tmp_path / "there"
    clinic.receive(IMAGES[0])
    left = cut(there, clinic.back_up().name)
    made = clinic.back_up().name
    assert not left.exists()
    assert len(keys_of(clinic, there, made)) == 1
