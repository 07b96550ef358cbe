"""An archive that is given another place: nothing that the first has counts for it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from appliance.backup import drill, making
from appliance.catalog import counters, deliveries, destinations, tombstones
from appliance.catalog.rules import add_rule
from appliance.errors import Transient
from appliance.lifecycle import certificate, purging
from appliance.model import DestinationSettings, Rule
from appliance.replication import recall
from appliance.replication.batch import Counts, Errand, Held, Surroundings
from appliance.replication.delivery import State
from appliance.replication.destinations import prepare
from appliance.replication.lane import Lane
from tests.backup.conftest import IMAGES, Clinic, as_sent, contents, eventually
from tests.backup.conftest import clinic as _clinic
from tests.backup.conftest import disk as _disk
from tests.backup.test_restoring import bring_home, restore
from tests.boxes import box_in
from tests.lifecycle.purge import GONE, LATER, approve, carry_out, owed, study_of

pytestmark = pytest.mark.slow

clinic, disk = _clinic, _disk


def moved_to(clinic: Clinic, path: Path, mark: str | None = None) -> DestinationSettings:
    """Give the archive another path, and another disk unless the `mark` is of this one."""
    other = DestinationSettings("usb", "vault", "ciphertext", {"path": str(path)})
    if mark is None:
        path.mkdir()
        other = prepare(other)
    else:
        other = replace(other, options={**other.options, "mark": mark})
    with clinic.box.catalog.transaction() as tx:
        before = destinations.destination(tx, "usb")
        assert before is not None
        recall.let_move(tx, before, other.options)
        destinations.change(tx, "usb", other.options)
    return replace(other, id=before.id)


def confirmed(clinic: Clinic) -> tuple[int, int]:
    """How many receipts there are, by their rows and by the count that is kept."""
    with clinic.box.catalog.reading() as conn:
        rows = [
            each for each in deliveries.list_deliveries(conn, limit=1000) if each.state is State.CONFIRMED
        ]
        return len(rows), counters.counters(conn).get(f"{counters.CONFIRMED}{clinic.place.id}", 0)


def test_an_archive_at_another_place_begins_anew(clinic: Clinic, tmp_path: Path) -> None:
    clinic.receive(*IMAGES)
    clinic.deliver()
    clinic.back_up()
    assert confirmed(clinic) == (len(IMAGES), len(IMAGES))
    now = datetime.now(UTC)

    place = moved_to(clinic, tmp_path / "new disk")
    assert confirmed(clinic) == (0, 0), "a receipt of one place is none of another"
    with clinic.box.catalog.reading() as conn:
        assert making.is_due(conn, "usb", now, timedelta(days=1)), "a backup of one place is none of another"
        first = deliveries.list_deliveries(conn, limit=1)[0]
        assert [each.event for each in deliveries.events(conn, first.id)][-1] == "move"
    clinic.deliver()
    assert confirmed(clinic) == (len(IMAGES), len(IMAGES))
    assert restore(tmp_path / "after", place, clinic.paper).instances == len(IMAGES)
    with box_in(tmp_path / "after") as box:
        bring_home(box)
        assert contents(box) == as_sent(*IMAGES)


def test_a_disk_that_is_mounted_elsewhere_keeps_what_it_has(clinic: Clinic, tmp_path: Path) -> None:
    clinic.receive(*IMAGES)
    clinic.deliver()
    (tmp_path / "usb").rename(tmp_path / "elsewhere")
    moved_to(clinic, tmp_path / "elsewhere", mark=str(clinic.place.options["mark"]))
    assert confirmed(clinic) == (len(IMAGES), len(IMAGES))
    clinic.receive(replace(IMAGES[0], number=77))
    clinic.deliver()
    assert confirmed(clinic) == (len(IMAGES) + 1, len(IMAGES) + 1)


def test_what_was_under_way_to_the_first_place_counts_for_it_alone(clinic: Clinic, tmp_path: Path) -> None:
    """The archive moves after an image was sent and before its receipt is written down."""
    clinic.receive(*IMAGES[:3])
    clinic.deliver()
    clinic.receive(IMAGES[5])
    moved: list[DestinationSettings] = []

    def move(step: str) -> None:
        if step == "sent" and not moved:
            moved.append(moved_to(clinic, tmp_path / "new disk"))

    with clinic.box.catalog.reading() as conn:
        before = destinations.destination(conn, "usb")
    assert before is not None
    lane = Lane(Errand(clinic.box, before, Surroundings(reached=move), Held(), Counts()))
    eventually(lambda: bool(moved))
    lane.stop()
    assert lane.join()
    assert len([*(tmp_path / "usb" / "objects").rglob("*.sealed")]) == 4
    assert confirmed(clinic) == (0, 0), "it was sent to the first place"
    clinic.deliver()
    assert confirmed(clinic) == (4, 4)
    assert len([*(tmp_path / "new disk" / "objects").rglob("*.sealed")]) == 4


# --- what is destroyed, and still lies where the archive was ---------------------------------------------------------


def told(clinic: Clinic) -> list[dict[str, Any]]:
    """What the only certificate says of each archive, by name."""
    with clinic.box.catalog.reading() as conn:
        (found,) = tombstones.certificates(conn)
        archives: list[dict[str, Any]] = certificate.document(conn, found, LATER)["archives"]
    return archives


def comes_back_from(place: DestinationSettings, clinic: Clinic, data: Path) -> bool:
    """Whether the patient who was destroyed is readable by whoever has the place and the paper."""
    restore(data, place, clinic.paper)
    with box_in(data) as box:
        bring_home(box)
        return str(GONE[0].sop_instance_uid) in contents(box)


def used(clinic: Clinic) -> DestinationSettings:
    """Deliver and back up; the place where all of it lies."""
    clinic.receive(IMAGES[0], *GONE[:1])
    clinic.deliver()
    clinic.back_up()
    return clinic.place


def settle(clinic: Clinic, path: Path) -> None:
    """Give the archive another disk, and let it get everything."""
    clinic.place = moved_to(clinic, path)
    clinic.deliver()


@pytest.mark.parametrize("when", ["before", "owed", "done"])
def test_a_certificate_says_of_the_place_that_an_archive_has_left_what_is_true_there(
    clinic: Clinic, tmp_path: Path, when: str
) -> None:
    """The archive moves before the destruction, while its tombstone is owed, or when all is done."""
    old = used(clinic)
    number = study_of(clinic.box, GONE[0]).id
    if when == "before":
        settle(clinic, tmp_path / "new disk")
    approve(clinic.box, number)
    purging.carry_out(clinic.box, LATER)
    if when == "done":
        carry_out(clinic)
    if when != "before":
        settle(clinic, tmp_path / "new disk")
    carry_out(clinic)
    is_there = comes_back_from(old, clinic, tmp_path / "from the old disk")
    of_the_old = [each for each in told(clinic) if each["name"].startswith("usb (moved ")]
    assert [each["state"] for each in of_the_old] == ["GIVEN_UP" if is_there else "DONE"]
    assert is_there == (when != "done")
    if is_there:
        assert (of_the_old[0]["where"], of_the_old[0]["has_moved"]) == (str(tmp_path / "usb"), True)
    assert not comes_back_from(clinic.place, clinic, tmp_path / "from the new disk")
    assert {each["state"] for each in told(clinic) if each["name"] == "usb"} <= {"DONE"}


def test_a_backup_at_the_place_that_was_left_counts_though_no_image_ever_came_there(
    clinic: Clinic, tmp_path: Path
) -> None:
    """Names and keys lie in it: with the ciphertext from elsewhere they are the images."""
    clinic.receive(*GONE[:1])
    clinic.back_up()
    clinic.receive(IMAGES[0])
    settle(clinic, tmp_path / "new disk")
    clinic.receive(*[replace(IMAGES[1], study=5)])
    approve(clinic.box, study_of(clinic.box, GONE[0]).id)
    carry_out(clinic)
    assert [(each["name"][:11], each["state"]) for each in told(clinic)] == [
        ("usb", "DONE"),
        ("usb (moved ", "GIVEN_UP"),
    ]


def test_a_study_that_came_later_does_not_lie_where_the_archive_was(clinic: Clinic, tmp_path: Path) -> None:
    clinic.receive(IMAGES[0])
    clinic.deliver()
    clinic.back_up()
    settle(clinic, tmp_path / "new disk")
    clinic.receive(*GONE[:1])
    clinic.deliver()
    approve(clinic.box, study_of(clinic.box, GONE[0]).id)
    carry_out(clinic)
    assert [each["name"] for each in told(clinic)] == ["usb"]


def test_a_place_where_nothing_ever_came_is_not_left_and_what_was_owed_there_goes_along(
    clinic: Clinic, tmp_path: Path
) -> None:
    clinic.receive(*GONE[:1])
    approve(clinic.box, study_of(clinic.box, GONE[0]).id)
    purging.carry_out(clinic.box, LATER)
    assert owed(clinic)
    clinic.place = moved_to(clinic, tmp_path / "new disk")
    assert owed(clinic)
    carry_out(clinic)
    assert [(each["name"], each["state"]) for each in told(clinic)] == [("usb", "DONE")]


def test_an_archive_that_is_back_where_it_was_does_its_part_there(clinic: Clinic, tmp_path: Path) -> None:
    """Somebody types a wrong path, and mends it."""
    old = used(clinic)
    number = study_of(clinic.box, GONE[0]).id
    approve(clinic.box, number)
    purging.carry_out(clinic.box, LATER)
    moved_to(clinic, tmp_path / "mistyped")
    moved_to(clinic, tmp_path / "usb", mark=str(old.options["mark"]))
    assert owed(clinic)
    carry_out(clinic)
    assert [(each["name"], each["state"]) for each in told(clinic)] == [("usb", "DONE")]
    assert not comes_back_from(old, clinic, tmp_path / "after")
    moved_to(clinic, tmp_path / "new disk")  # it may hold something, though nothing came since
    with clinic.box.catalog.reading() as conn:
        (left,) = destinations.left(conn)
        assert destinations.destinations(conn, include_removed=True)[-1].id == left


@pytest.mark.parametrize("added", ["before", "after"])
def test_an_archive_that_was_removed_and_is_added_again_does_its_part(
    clinic: Clinic, tmp_path: Path, added: str
) -> None:
    """It is added again before the destruction, or while its part is owed."""
    old = used(clinic)
    number = study_of(clinic.box, GONE[0]).id
    if added == "after":
        approve(clinic.box, number)
        purging.carry_out(clinic.box, LATER)
    with clinic.box.catalog.transaction() as tx:
        destinations.remove(tx, "usb", datetime.now(UTC))
        clinic.place = replace(old, id=destinations.add(tx, old))
        add_rule(tx, Rule(clinic.place.id, "usb", "ciphertext"))
    clinic.receive(IMAGES[4])
    clinic.deliver()
    if added == "before":
        approve(clinic.box, number)
    carry_out(clinic)
    assert [(each["name"], each["state"]) for each in told(clinic)] == [("usb", "DONE")]
    assert not comes_back_from(old, clinic, tmp_path / "after")


def test_a_disk_that_is_mounted_elsewhere_is_no_place_that_was_left(clinic: Clinic, tmp_path: Path) -> None:
    used(clinic)
    (tmp_path / "usb").rename(tmp_path / "elsewhere")
    clinic.place = moved_to(clinic, tmp_path / "elsewhere", mark=str(clinic.place.options["mark"]))
    approve(clinic.box, study_of(clinic.box, GONE[0]).id)
    carry_out(clinic)
    assert [(each["name"], each["state"]) for each in told(clinic)] == [("usb", "DONE")]


def test_a_removed_archive_is_named_for_what_was_only_in_its_backups(clinic: Clinic, tmp_path: Path) -> None:
    clinic.receive(*GONE[:1])
    clinic.back_up()
    with clinic.box.catalog.transaction() as tx:
        destinations.remove(tx, "usb", datetime.now(UTC))
    approve(clinic.box, study_of(clinic.box, GONE[0]).id)
    for _ in range(2):
        purging.carry_out(clinic.box, LATER)
    assert [(each["state"], each["has_moved"]) for each in told(clinic)] == [("GIVEN_UP", False)]


@pytest.mark.parametrize("step", ["backup made", "drill passed"])
def test_what_was_done_at_the_first_place_is_not_done_at_the_other(
    clinic: Clinic, tmp_path: Path, step: str
) -> None:
    """The archive moves while its older backups are made unreadable."""
    used(clinic)
    approve(clinic.box, study_of(clinic.box, GONE[0]).id)
    purging.carry_out(clinic.box, LATER)
    clinic.deliver_until(lambda: not owed(clinic))
    moved: list[DestinationSettings] = []

    def move(reached: str) -> None:
        if reached == step and not moved:
            moved.append(moved_to(clinic, tmp_path / "new disk"))

    purging.carry_out(clinic.box, LATER, purging.Around(reached=move))
    with clinic.box.catalog.reading() as conn:
        assert making.last(conn, "usb") == {}, "no backup was made at the new place"
        assert drill.last(conn, clinic.box, "usb") == {}, "and none was tried"
    assert [each["state"] for each in told(clinic) if each["name"] == "usb"] == []


def test_a_backup_that_was_begun_for_the_first_place_is_none_of_the_other(
    clinic: Clinic, tmp_path: Path
) -> None:
    clinic.receive(*GONE[:1])
    moved: list[DestinationSettings] = []

    def move(*_: int) -> None:
        if not moved:
            moved.append(moved_to(clinic, tmp_path / "new disk"))

    first = clinic.place
    making.back_up(clinic.box, first, datetime.now(UTC), actor="tests", keep=timedelta(days=1), tell=move)
    with clinic.box.catalog.reading() as conn:
        assert making.last(conn, "usb") == {}
        assert len(destinations.left(conn)) == 1, "it lies at the first place"
    with pytest.raises(Transient):
        making.back_up(clinic.box, first, datetime.now(UTC), actor="tests", keep=timedelta(days=1))


# --- drills ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["moved", "added again"])
def test_an_archive_at_another_place_was_never_tried_there(clinic: Clinic, tmp_path: Path, how: str) -> None:
    now = datetime.now(UTC)
    used(clinic)
    drill.drill(clinic.box, clinic.place, now, actor="tests")
    with clinic.box.catalog.reading() as conn:
        assert not drill.is_due(conn, clinic.box, "usb", now)
    if how == "moved":
        moved_to(clinic, tmp_path / "new disk")
    else:
        with clinic.box.catalog.transaction() as tx:
            destinations.remove(tx, "usb", now)
            destinations.add(tx, replace(clinic.place, options={"path": str(tmp_path / "new disk")}))
    with clinic.box.catalog.reading() as conn:
        assert drill.is_due(conn, clinic.box, "usb", now)
        assert drill.last(conn, clinic.box, "usb") == {}
        (health,) = destinations.health(conn)
        assert health.last_success_utc is None
