"""What an archive holds: as the archive says, proved or not, damaged or gone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from appliance.backup import drill, inventory, snapshot
from appliance.backup.inventory import Proof
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


def file_of(clinic: Clinic, key: str) -> Path:
    """Where the disk keeps the document `key`."""
    folder = Path(str(clinic.place.options["path"]))
    (found,) = [each for each in folder.rglob(key.rsplit("/", 1)[1]) if each.as_posix().endswith(key)]
    return found
