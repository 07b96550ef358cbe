"""What newer software has laid in an archive is neither damaged nor passed over: it is said which version is needed."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance.backup import choice, drill, inventory, restoring, snapshot
from appliance.errors import OperatorNeeded
from appliance.replication import manifest
from appliance.replication.destinations.archive import MANIFESTS
from tests.backup.conftest import IMAGES, Clinic
from tests.backup.test_restoring import archive_of, restore
from tests.boxes import config_in

pytestmark = pytest.mark.slow


def lay_later(clinic: Clinic, name: str, *, reads: bool) -> None:
    """Write the index of a backup over as a later version would, in a format that this one can read, or not; it still says the software."""
    archive, root = archive_of(clinic.place), clinic.box.root
    where, context = snapshot.index_key(name), snapshot.context(name)
    told = json.loads(root.unseal(archive.document(where), context))
    told |= {"format": 2, "software": "7.1.0"} | (
        {} if reads else {"pieces": {"tree": "aa"}, "contents": "many"}
    )
    archive.put_document(where, root.seal(json.dumps(told).encode(), context))


@pytest.mark.parametrize("reads", [True, False])
@pytest.mark.parametrize("is_named", [True, False])
def test_a_snapshot_of_a_later_format_is_refused_with_its_version_and_no_older_one_is_taken(
    clinic: Clinic, tmp_path: Path, reads: bool, is_named: bool
) -> None:
    clinic.receive(*IMAGES[:2])
    clinic.deliver()
    older = clinic.back_up(datetime.now(UTC) - timedelta(hours=2))
    newer = clinic.back_up()
    lay_later(clinic, newer.name, reads=reads)
    with pytest.raises(OperatorNeeded, match=r"newer software \(7\.1\.0\)") as refusal:
        restoring.restore(
            config_in(tmp_path / "after"),
            archive_of(clinic.place),
            clinic.place,
            clinic.paper,
            tell=lambda *_: None,
            actor="tests",
            backup=newer.name if is_named else "",
        )
    assert "7.1.0" in refusal.value.hint
    assert not (tmp_path / "after" / "keys").exists()
    found = choice.look(archive_of(clinic.place), clinic.paper)
    assert ([each.name for each in found.too_new], found.snapshots, found.damaged) == (
        [newer.name],
        (older,),
        0,
    )
    with pytest.raises(OperatorNeeded, match=r"newer software \(7\.1\.0\)"):
        found.check()
    with pytest.raises(OperatorNeeded, match=r"newer software \(7\.1\.0\)"):
        drill.drill(clinic.box, clinic.place, datetime.now(UTC), actor="tests")
    assert [each.name for each in inventory.take(clinic.box, clinic.place).held] == [newer.name, older.name]


def test_a_manifest_of_newer_software_is_no_damaged_one(clinic: Clinic, tmp_path: Path) -> None:
    clinic.receive(*IMAGES)
    clinic.deliver()
    archive, root = archive_of(clinic.place), clinic.box.root
    (first, *_) = [each.key for each in archive.documents(MANIFESTS)]
    told = manifest.unseal(root, first, archive.document(first))
    archive.put_document(first, manifest._seal(root, first, told | {"format": 2}))
    with pytest.raises(OperatorNeeded, match="written by newer software") as refusal:
        restore(tmp_path / "after", clinic.place, clinic.paper)
    assert "newest version" in refusal.value.hint
    archive.put_document(first, manifest._seal(root, first, told))
    assert restore(tmp_path / "after", clinic.place, clinic.paper).instances == len(IMAGES)
