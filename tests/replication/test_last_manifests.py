"""A courier that is stopped leaves no image in an archive without the manifest that names it: after it somebody may take the machine away."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.backup.snapshot import Index
from appliance.errors import Transient
from appliance.replication import documents
from appliance.replication.delivery import State
from appliance.replication.destinations.archive import MANIFESTS
from appliance.replication.destinations.vault import VaultDestination
from tests.backup.conftest import IMAGES, Clinic, as_sent, clinic, contents, disk
from tests.backup.test_restoring import bring_home, restore
from tests.boxes import box_in, delivery_states

__all__ = ["clinic", "disk"]
pytestmark = pytest.mark.slow


@pytest.fixture
def restless(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> Index:
    """The archive has a backup and the manifest of a first image, and no study comes to rest any more; that backup."""
    clinic.receive(IMAGES[0])
    clinic.deliver()
    for name in ("MANIFEST_QUIET_SECONDS", "MANIFEST_LONGEST_SECONDS"):
        monkeypatch.setattr(documents, name, 3600.0)
    return clinic.back_up()


def confirmed(clinic: Clinic, count: int) -> bool:
    with clinic.box.catalog.reading() as conn:
        return delivery_states(conn) == {State.CONFIRMED: count}


def unwritten(clinic: Clinic) -> int:
    with clinic.box.catalog.reading() as conn:
        return int(
            conn.exec_driver_sql("SELECT count(*) FROM manifests WHERE dirty_utc IS NOT NULL").scalar() or 0
        )


def test_what_was_delivered_last_is_restored_by_a_backup_from_before_it(
    clinic: Clinic, restless: Index, tmp_path: Path
) -> None:
    clinic.receive(IMAGES[1])
    clinic.deliver_until(lambda: confirmed(clinic, 2))
    assert unwritten(clinic) == 0
    restore(tmp_path / "after", clinic.place, clinic.paper)
    with box_in(tmp_path / "after") as box:
        bring_home(box)
        assert contents(box) == as_sent(*IMAGES[:2])


def test_an_archive_that_is_away_holds_up_no_stop_and_gets_them_at_the_next_start(
    clinic: Clinic, restless: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = VaultDestination.put_document

    def away(vault: VaultDestination, key: str, data: bytes) -> None:
        if key.startswith(MANIFESTS):
            raise Transient("the disk was pulled out")
        write(vault, key, data)

    with monkeypatch.context() as pulled:
        pulled.setattr(VaultDestination, "put_document", away)
        clinic.receive(IMAGES[1])
        clinic.deliver_until(lambda: confirmed(clinic, 2))
        assert unwritten(clinic) == 1, "nothing is called written that is not"
    monkeypatch.undo()
    clinic.deliver()
    assert unwritten(clinic) == 0
