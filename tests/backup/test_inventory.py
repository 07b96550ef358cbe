"""What an archive holds: as the archive says, proved or not, damaged or gone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance.backup import drill, inventory, snapshot
from appliance.backup.inventory import Proof
from appliance.replication.destinations.vault import VaultDestination
from tests.backup.conftest import IMAGES, Clinic


def test_an_archive_says_what_it_holds_and_a_drill_proves_only_what_it_tried(clinic: Clinic) -> None:
    assert inventory.take(clinic.box, clinic.place).held == ()
    clinic.receive(*IMAGES[:2])
    clinic.deliver()
    now = datetime.now(UTC)
    older = clinic.back_up(now - timedelta(days=2))
    clinic.receive(IMAGES[4])
    clinic.deliver()
    newer = clinic.back_up(now)
    assert drill.drill(clinic.box, clinic.place, now, actor="tests").passed
    first, second = inventory.take(clinic.box, clinic.place).held
    assert (first.index, first.proof) == (newer, Proof.PASSED)
    assert (second.index, second.proof) == (older, Proof.UNTRIED)
    assert first.index is not None and second.index is not None
    assert (first.index.contents.instances, second.index.contents.instances) == (3, 2)
    only = inventory.take(clinic.box, clinic.place, most=1)
    assert ([each.name for each in only.held], only.older) == ([newer.name], 1)

    file_of(clinic, snapshot.index_key(newer.name)).write_bytes(b"rotten")
    first, second = inventory.take(clinic.box, clinic.place).held
    assert (first.index, first.proof, first.made_utc) == (None, Proof.DAMAGED, snapshot.moment_of(newer.name))
    assert second.index == older, "one that is damaged hides no other"
    for path in Path(str(clinic.place.options["path"])).glob("objects/**/*.sealed"):
        path.write_bytes(b"rotten")
    assert not drill.drill(clinic.box, clinic.place, now, actor="tests", name=older.name).passed
    assert inventory.take(clinic.box, clinic.place).held[1].proof is Proof.FAILED
    for path in sorted(file_of(clinic, snapshot.index_key(older.name)).parent.iterdir()):
        path.unlink()
    assert [each.name for each in inventory.take(clinic.box, clinic.place).held] == [newer.name]


def test_an_index_is_read_again_only_once_it_was_written_again(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    clinic.receive(IMAGES[0])
    made = [clinic.back_up(datetime.now(UTC) - timedelta(hours=hours)) for hours in (3, 2, 1)]
    read: list[str] = []
    document = VaultDestination.document

    def counted(self: VaultDestination, key: str) -> bytes:
        read.append(key)
        return document(self, key)

    monkeypatch.setattr(VaultDestination, "document", counted)
    first = inventory.take(clinic.box, clinic.place)
    assert sorted(read) == [snapshot.index_key(each.name) for each in made]
    read.clear()
    assert inventory.take(clinic.box, clinic.place) == first and read == []
    index = snapshot.index_key(made[1].name)
    file_of(clinic, index).write_bytes(b"rotten")
    proofs = {each.name: each.proof for each in inventory.take(clinic.box, clinic.place).held}
    assert read == [index] and proofs[made[1].name] is Proof.DAMAGED
    monkeypatch.setattr(inventory, "MOST_KEPT", 2)
    clinic.back_up()
    for _ in range(2):
        read.clear()
        inventory.take(clinic.box, clinic.place)
        assert read, "only the latest few are kept"


def file_of(clinic: Clinic, key: str) -> Path:
    """Where the disk keeps the document `key`."""
    folder = Path(str(clinic.place.options["path"]))
    (found,) = [each for each in folder.rglob(key.rsplit("/", 1)[1]) if each.as_posix().endswith(key)]
    return found
