"""A clock that is wrong, by an hour or by ten years, back or ahead: it makes backups that look odd, and does away with none."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance.backup import making, restoring, snapshot
from appliance.backup.schedule import Schedule
from appliance.lifecycle import retention
from appliance.lifecycle.acting import Act
from tests.backup.conftest import IMAGES, KEEP, Clinic, clinic, disk  # noqa: F401 - fixtures
from tests.backup.test_restoring import archive_of

pytestmark = pytest.mark.slow

WRONG = [
    timedelta(days=-3650),
    timedelta(days=-1),
    timedelta(hours=-1),
    timedelta(hours=1),
    timedelta(days=1),
    timedelta(days=3650),
]


def watch(clinic: Clinic, now: datetime) -> None:  # noqa: F811
    """As the job does, on a box that follows no time server."""
    with clinic.box.catalog.transaction() as tx:
        retention.watch_clock(tx, now, follows_time_server=False)


def names(clinic: Clinic) -> set[str]:  # noqa: F811
    return set(snapshot.names_in([each.key for each in archive_of(clinic.place).documents(snapshot.PREFIX)]))


@pytest.fixture
def kept(clinic: Clinic) -> tuple[Clinic, set[str], datetime]:  # noqa: F811
    """A box with a backup of each of the last five weeks, by a clock that was right.

    The oldest has days left: that a clock is a day wrong is not told from a box that was off for a day.
    """
    now = datetime.now(UTC)
    clinic.receive(*IMAGES[:2])
    clinic.deliver()
    for days in (32, 25, 18, 11, 4):
        clinic.back_up(now - timedelta(days=days))
    watch(clinic, now)
    good = names(clinic)
    assert len(good) == 5
    return clinic, good, now


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_a_wrong_clock_does_away_with_no_backup(
    kept: tuple[Clinic, set[str], datetime], wrong: timedelta
) -> None:
    clinic, good, now = kept  # noqa: F811
    for hours in range(4):  # as many as would push all of them out of the newest few
        at = now + wrong + timedelta(hours=hours)
        watch(clinic, at)
        clinic.back_up(at)
    assert good <= names(clinic)
    assert restoring.look(archive_of(clinic.place), clinic.paper).damaged == 0


def test_a_clock_that_jumps_does_away_with_no_backup_and_makes_the_due_ones(
    kept: tuple[Clinic, set[str], datetime],
) -> None:
    clinic, good, now = kept  # noqa: F811
    schedule, before = Schedule(), len(good)
    for number, wrong in enumerate([*WRONG, *reversed(WRONG)], start=1):
        at = now + wrong + timedelta(minutes=number)
        watch(clinic, at)
        schedule.make(clinic.box, at)
    assert good <= names(clinic)
    assert len(names(clinic)) > before


def test_a_box_that_slept_three_months_waits_for_a_person_before_it_removes_one(
    kept: tuple[Clinic, set[str], datetime], tmp_path: Path
) -> None:
    clinic, good, now = kept  # noqa: F811
    later = now + timedelta(days=90)
    watch(clinic, later)
    clinic.back_up(later)
    assert good <= names(clinic)
    with clinic.box.catalog.transaction() as tx:
        retention.trust_clock(tx, Act(by="marie", now=later, audit_key=clinic.box.audit_key))
    made = making.back_up(clinic.box, clinic.place, later, actor="tests", keep=KEEP)
    left = names(clinic)
    assert made.name in left
    assert len(left) == 3, "a clock that is believed rotates as before: the newest few stay"
    assert not (good - left) & {path.name for path in (tmp_path / "usb" / "snapshots").iterdir()}
