"""After a restore nothing is sent to a PACS that an archive within reach knows as destroyed, and nothing that should go there is forgotten."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance.backup import homecoming, other_archives
from appliance.backup.late_manifests import Trial
from appliance.box import Box
from appliance.catalog import deliveries, destinations, rules
from appliance.catalog.delivery_lists import DeliveryRow
from appliance.errors import ApplianceError
from appliance.model import DestinationSettings, Rule
from appliance.replication import batch, embargo
from appliance.replication.batch import Batch
from appliance.replication.delivery import State
from tests.backup.conftest import IMAGES, Clinic, as_sent, contents
from tests.backup.test_looking_through import destroyed_in_a_third
from tests.backup.test_other_archives import (
    BEFORE,
    DAY,
    SINCE,
    goes_to_another_alone,
    is_whole_in,
    nas,
    on_disk,
    on_disk_again,
    owe_to,
)
from tests.backup.test_restoring import bring_home, restore
from tests.boxes import box_in
from tests.instances import Instance

pytestmark = pytest.mark.slow

__all__ = ["nas"]

NEW = Instance(70, study=20, pixel_bytes=3_000)
"""What comes after the restore."""


def now() -> datetime:
    return datetime.now(UTC)


def look_through(box: Box, at: datetime | None = None) -> int:
    return other_archives.look_through(box, at or now(), keep_going=lambda: True)


def with_pacs(box: Box, tmp_path: Path) -> None:
    """A PACS to which everything goes."""
    (tmp_path / "pacs").mkdir()
    pacs = DestinationSettings("pacs", "folder", "dicom", {"path": str(tmp_path / "pacs")})
    with box.catalog.transaction() as tx:
        rules.add_rule(tx, Rule(destinations.add(tx, pacs), "pacs", "dicom"))


def for_pacs(box: Box) -> dict[str, DeliveryRow]:
    """What is owed to the PACS or was sent there, by image."""
    with box.catalog.reading() as reading:
        found = deliveries.list_deliveries(reading, destination="pacs")
    return {str(each.sop_instance_uid): each for each in found}


def sent(box: Box) -> set[str]:
    return {uid for uid, each in for_pacs(box).items() if each.state is State.CONFIRMED}


def is_tried(box: Box) -> bool:
    """Whether the courier has looked at all that goes to the PACS."""
    return all(each.state in {State.CONFIRMED, State.WAITING} for each in for_pacs(box).values())


@pytest.fixture
def after(clinic: Clinic, nas: DestinationSettings, tmp_path: Path) -> Iterator[Clinic]:
    """A box that was made again from its disk; the NAS still has a study that the third archive knows as destroyed."""
    destroyed_in_a_third(clinic, nas, tmp_path, "third")
    restore(tmp_path / "after", on_disk_again(tmp_path), clinic.paper)
    with box_in(tmp_path / "after") as box:
        bring_home(box)
        with_pacs(box, tmp_path)
        yield Clinic(box, clinic.place, clinic.paper)


def test_what_a_third_archive_knows_as_destroyed_goes_to_no_pacs_whichever_was_read_before(
    after: Clinic, tmp_path: Path
) -> None:
    (tmp_path / "third").rename(tmp_path / "drawer")
    assert look_through(after.box) == len(SINCE)
    after.receive(NEW)
    after.deliver_until(lambda: is_tried(after.box))
    assert sent(after.box) == {*as_sent(NEW)}, "what comes now goes at once"
    assert {each.reason for each in for_pacs(after.box).values() if each.state is State.WAITING} == {
        "an archive that may tell of its destruction was not looked through yet"
    }
    (tmp_path / "drawer").rename(tmp_path / "third")
    look_through(after.box)
    after.deliver_until(lambda: sent(after.box) == {*as_sent(NEW, SINCE[0])})
    assert for_pacs(after.box).keys() == sent(after.box)
    assert contents(after.box) == as_sent(*IMAGES[:10], NEW)


def held_back(box: Box, at: datetime) -> set[str]:
    """Which images go to archives alone at a moment."""
    with box.catalog.reading() as reading:
        return {
            str(sop_instance_uid)
            for number, sop_instance_uid in reading.exec_driver_sql(
                "SELECT id, sop_instance_uid FROM instances"
            )
            if embargo.is_on(reading, at) and embargo.is_of_before(reading, number)
        }


def test_those_that_come_back_together_are_waited_for_before_the_first_is_read(
    after: Clinic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("nas", "third"):
        (tmp_path / name).rename(tmp_path / f"{name} in a drawer")
    assert look_through(after.box) == 0
    back = now() + DAY / 2
    for name in ("nas", "third"):
        (tmp_path / f"{name} in a drawer").rename(tmp_path / name)
    seen: list[set[str]] = []
    as_ever = Trial.read

    def noted(self: Trial, key: str, aside: Iterable[str] = ()) -> None:
        as_ever(self, key, aside)
        seen.append(held_back(after.box, back))

    monkeypatch.setattr(Trial, "read", noted)
    look_through(after.box, back)
    assert {*as_sent(SINCE[-1])} < set.union(*seen), "it was here for a while"
    assert all({*as_sent(*BEFORE)} <= each for each in seen)
    assert held_back(after.box, back) == set()


def test_what_the_backup_owed_already_waits_too_for_a_day_for_one_that_stays_away(
    clinic: Clinic, nas: DestinationSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "HELD_SECONDS", 1.0)
    with_pacs(clinic.box, tmp_path)
    with clinic.box.catalog.transaction() as tx:
        destinations.pause(tx, "pacs")
    owe_to(clinic.box, nas)
    clinic.receive(*BEFORE)
    with clinic.box.catalog.reading() as reading:
        places = [each for each in destinations.destinations(reading) if each.takes == "ciphertext"]
    clinic.deliver_until(lambda: all(is_whole_in(clinic.box, each) for each in places))
    clinic.back_up()
    restore(tmp_path / "after", clinic.place, clinic.paper)
    (tmp_path / "nas").rename(tmp_path / "drawer")
    with box_in(tmp_path / "after") as box:
        bring_home(box)
        with box.catalog.transaction() as tx:
            destinations.resume(tx, "pacs")
        again = Clinic(box, clinic.place, clinic.paper)
        look_through(box)
        again.deliver_until(lambda: is_tried(box))
        assert sent(box) == set()
        assert held_back(box, now()) == {*as_sent(*BEFORE)}
        look_through(box, now() + DAY)
        assert held_back(box, now() + DAY) == set()
        with box.catalog.transaction() as tx:
            destinations.pause(tx, "nas")
        again.deliver_until(lambda: sent(box) == {*as_sent(*BEFORE)})


def test_one_that_answers_and_can_t_be_read_to_its_end_is_waited_for_a_day_or_until_it_is_paused(
    after: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(homecoming, "has_any_room", lambda *_: False)
    look_through(after.box, now() + DAY / 2)
    assert held_back(after.box, now() + DAY / 2) == {*as_sent(*BEFORE)}
    look_through(after.box, now() + DAY)
    assert held_back(after.box, now() + DAY) == set()
    with after.box.catalog.transaction() as tx:
        destinations.pause(tx, "nas")
        destinations.pause(tx, "third")
    assert held_back(after.box, now() + DAY / 2) == set()


def test_an_archive_that_is_added_later_holds_nothing_back(after: Clinic, tmp_path: Path) -> None:
    look_through(after.box)
    assert held_back(after.box, now()) == set()
    owe_to(after.box, on_disk(tmp_path, "later"))
    (tmp_path / "later").rename(tmp_path / "not there")
    look_through(after.box)
    assert held_back(after.box, now()) == set()


def test_what_is_held_back_keeps_nobody_waiting_at_a_pacs_that_fails(
    after: Clinic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is called for it: a PACS that has failed gets one image at a time until one arrives."""
    opened: list[object] = []
    send = Batch._send_in_session

    def noted(self: Batch) -> ApplianceError | None:
        if self._errand.settings.name == "pacs":
            opened.extend(self._left)
        return send(self)

    monkeypatch.setattr(Batch, "_send_in_session", noted)
    (tmp_path / "third").rename(tmp_path / "drawer")
    look_through(after.box)
    after.deliver_until(lambda: is_tried(after.box))
    assert opened == []


def test_a_box_that_never_came_back_holds_nothing_back(clinic: Clinic, nas: DestinationSettings) -> None:
    goes_to_another_alone(clinic, nas, *SINCE)
    assert held_back(clinic.box, now()) == set()
