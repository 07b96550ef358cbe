"""An archive that is given another place: nothing that the first has counts for it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance.backup import drill, making
from appliance.catalog import counters, deliveries, destinations
from appliance.model import DestinationSettings
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


@pytest.mark.parametrize("how", ["moved", "added again"])
def test_an_archive_at_another_place_was_never_tried_there(clinic: Clinic, tmp_path: Path, how: str) -> None:
    now = datetime.now(UTC)
    clinic.receive(IMAGES[0])
    clinic.deliver()
    clinic.back_up()
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
