"""A clock that is wrong, by an hour or by ten years, back or ahead: it makes backups that look odd, and does away with none."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance.backup import choice, inventory, making, snapshot
from appliance.backup.fetching import age_of
from appliance.backup.schedule import Schedule
from appliance.catalog import destinations
from appliance.lifecycle import retention
from appliance.lifecycle.acting import Act
from appliance.model import DestinationSettings
from appliance.replication.destinations import prepare
from tests.backup.conftest import IMAGES, KEEP, Clinic, clinic, disk  # noqa: F401 - fixtures
from tests.backup.test_restoring import archive_of, restore
from tests.boxes import box_in

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
    assert choice.look(archive_of(clinic.place), clinic.paper).damaged == 0


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


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_the_newest_backup_is_the_one_made_last_whatever_the_clock_was(
    kept: tuple[Clinic, set[str], datetime], wrong: timedelta
) -> None:
    """That of the box when it made it, and that of the blank box which looks."""
    clinic, _, now = kept  # noqa: F811
    made = [clinic.back_up(now + wrong + timedelta(minutes=each)).name for each in (1, 0)]
    for blank in (now, now + wrong, datetime(1970, 1, 1, tzinfo=UTC)):
        found = choice.look(archive_of(clinic.place), clinic.paper, now=blank)
        assert [each.name for each in found.snapshots[:2]] == list(reversed(made))
    listed = inventory.take(clinic.box, clinic.place, now=now)
    assert [each.name for each in listed.held[:2]] == list(reversed(made))


def test_a_box_that_came_back_from_an_older_backup_is_the_newer_one(
    kept: tuple[Clinic, set[str], datetime], tmp_path: Path
) -> None:
    """It counts the rows of its audit on from there, and its clock is dead besides."""
    clinic, good, now = kept  # noqa: F811
    archive, names_then = archive_of(clinic.place), sorted(good)
    for name in names_then[1:]:  # all but the oldest can't be read that night
        (tmp_path / "usb" / "snapshots" / name / "index").rename(tmp_path / name)
    restore(tmp_path / "after", clinic.place, clinic.paper)
    for name in names_then[1:]:
        (tmp_path / name).rename(tmp_path / "usb" / "snapshots" / name / "index")
    with box_in(tmp_path / "after") as box:
        after = making.back_up(box, clinic.place, now - timedelta(days=3650), actor="tests", keep=KEEP)
    rows = {each.name: age_of(each) for each in choice.look(archive, clinic.paper, now=now).snapshots}
    assert rows[after.name].lives == 1
    assert max(rows, key=rows.__getitem__) == after.name
    assert choice.look(archive, clinic.paper, now=now).snapshots[0].name == after.name


def test_a_box_that_came_back_by_manifests_alone_makes_the_newest_backup(
    kept: tuple[Clinic, set[str], datetime], tmp_path: Path
) -> None:
    """Its backups, which nobody could read that night, are there again in the morning; among them are those of its second life."""
    clinic, _, now = kept  # noqa: F811
    snapshots = tmp_path / "usb" / "snapshots"
    restore(tmp_path / "second", clinic.place, clinic.paper)
    with box_in(tmp_path / "second") as box:
        making.back_up(box, clinic.place, now, actor="tests", keep=KEEP)
    snapshots.rename(tmp_path / "unreadable")
    restore(tmp_path / "third", clinic.place, clinic.paper)
    (tmp_path / "unreadable").rename(snapshots)
    with box_in(tmp_path / "third") as box:
        made = [
            making.back_up(box, clinic.place, now - each * timedelta(days=1), actor="tests", keep=KEEP).name
            for each in range(2)
        ]
    found = choice.look(archive_of(clinic.place), clinic.paper, now=now).snapshots
    assert [each.name for each in found[:2]] == list(reversed(made))


def test_a_box_that_came_back_counts_past_what_another_archive_remembers(
    kept: tuple[Clinic, set[str], datetime], tmp_path: Path
) -> None:
    """It had come back from its disk twice, which the other disk never heard of, and comes back from that one."""
    clinic, _, now = kept  # noqa: F811
    (tmp_path / "other").mkdir()
    path = {"path": str(tmp_path / "other")}
    other = prepare(DestinationSettings("other", "vault", "ciphertext", path))
    with clinic.box.catalog.transaction() as tx:
        other = replace(other, id=destinations.add(tx, other))
    making.back_up(clinic.box, other, now, actor="tests", keep=KEEP)
    for life in ("second", "third"):
        restore(tmp_path / life, clinic.place, clinic.paper)
        with box_in(tmp_path / life) as box:
            making.back_up(box, clinic.place, now, actor="tests", keep=KEEP)
    restore(tmp_path / "fourth", other, clinic.paper)
    with box_in(tmp_path / "fourth") as box:
        made = making.back_up(box, clinic.place, now, actor="tests", keep=KEEP)
    assert choice.look(archive_of(clinic.place), clinic.paper, now=now).snapshots[0].name == made.name


def test_the_box_before_switched_on_once_more_does_not_count_past_the_one_in_its_place(
    kept: tuple[Clinic, set[str], datetime], tmp_path: Path
) -> None:
    clinic, _, now = kept  # noqa: F811
    restore(tmp_path / "second", clinic.place, clinic.paper)
    with box_in(tmp_path / "second") as second:
        making.back_up(second, clinic.place, now, actor="tests", keep=KEEP)
        restore(tmp_path / "third", clinic.place, clinic.paper)
        with box_in(tmp_path / "third") as third:
            made = making.back_up(third, clinic.place, now, actor="tests", keep=KEEP)
        for before in (second, clinic.box):
            making.back_up(before, clinic.place, now + timedelta(days=1), actor="tests", keep=KEEP)
    assert choice.look(archive_of(clinic.place), clinic.paper, now=now).snapshots[0].name == made.name
