"""Which backups a destruction makes unreadable: those that may know what was destroyed, and no others of this box."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance.audit import Entry
from appliance.backup import making, standing
from appliance.backup.snapshot import Index
from appliance.lifecycle import purging
from tests.backup.conftest import IMAGES, KEEP, Clinic
from tests.backup.conftest import clinic as _clinic
from tests.backup.conftest import disk as _disk
from tests.boxes import box_in
from tests.lifecycle.purge import GONE, LATER, approve, carry_out, owed, study_of
from tests.lifecycle.test_purging import archive_of

pytestmark = pytest.mark.slow

clinic, disk = _clinic, _disk

NOW = datetime.now(UTC)
YEARS = timedelta(days=10 * 365)


@pytest.fixture
def decided(clinic: Clinic) -> Clinic:
    """One in which two people have decided on a study."""
    clinic.receive(*IMAGES[:2], *GONE[:2])
    clinic.deliver()
    approve(clinic.box, study_of(clinic.box, GONE[0]).id)
    return clinic


def destroyed(clinic: Clinic) -> None:
    """As far as the tombstones: the older backups are next."""
    purging.carry_out(clinic.box, LATER)
    clinic.deliver_until(lambda: not owed(clinic))


def names(clinic: Clinic) -> set[str]:
    return set(standing.look(archive_of(clinic.place)).names)


def test_no_name_says_which_backups_know_a_patient(decided: Clinic) -> None:
    """A clock that ran ahead has named an older one, and one that was dead a newer one."""
    decided.back_up(LATER + YEARS)
    destroyed(decided)
    after = decided.back_up(NOW - YEARS)
    carry_out(decided)
    of_purge = names(decided) - {after.name}
    assert after.name in names(decided), "it is newer, and shredded for nothing"
    assert len(of_purge) <= 1


def test_a_backup_of_a_copy_of_the_box_proves_nothing(decided: Clinic, tmp_path: Path) -> None:
    """Its own audit went on where the destruction is in ours, and got longer than that: it knows the patient."""
    shutil.copytree(decided.box.config.data, tmp_path / "copy")
    destroyed(decided)
    with box_in(tmp_path / "copy") as copy:
        copy.record([Entry("user:expire", "sessions", "jobs", {"sessions": 1})] * 200, NOW)
        theirs: Index = making.back_up(copy, decided.place, NOW, actor="tests", keep=KEEP)
    assert theirs.name in names(decided)
    carry_out(decided)
    assert len(names(decided)) == 1 and theirs.name not in names(decided)
