"""A box with images whose ciphertext is in an archive, and the paper with its recovery key."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance.backup import making
from appliance.backup.snapshot import Index
from appliance.box import Box
from appliance.catalog import destinations, rules
from appliance.ingest import Reception
from appliance.model import DestinationSettings, Rule
from appliance.replication import courier
from appliance.replication.batch import Surroundings
from appliance.replication.delivery import State
from appliance.replication.destinations import prepare
from appliance.store import keys
from appliance.store.recovery import RecoveryKey
from tests.boxes import box_in, data_set_of, delivery_states, recorded, send
from tests.instances import Instance

KEEP = timedelta(days=35)
SOON = Surroundings(settle_seconds=0.2)
IMAGES = [Instance(number, study=1 + number // 4, pixel_bytes=3_000) for number in range(10)] + [
    Instance(99, study=9, pixel_bytes=2_400_000, patient_id="OTHER", patient_name="Autre^Patient")
]


@dataclass
class Clinic:
    """A box before the fire."""

    box: Box
    place: DestinationSettings
    paper: RecoveryKey

    def receive(self, *images: Instance) -> None:
        reception = Reception(self.box, "worker")
        for each in images:
            send(reception, each)
        reception.close()

    def deliver(self) -> None:
        """Let the courier work until everything owed has a receipt and every manifest is written."""
        self.deliver_until(self._is_delivered)

    def deliver_until(self, holds: Callable[[], bool]) -> None:
        """Let the courier work until `holds`."""
        stop = threading.Event()
        working = threading.Thread(target=courier.run, args=(self.box, stop, SOON))
        working.start()
        try:
            eventually(holds)
        finally:
            stop.set()
            working.join(60)

    def _is_delivered(self) -> bool:
        with self.box.catalog.reading() as conn:
            states = delivery_states(conn)
            dirty = conn.exec_driver_sql(
                "SELECT count(*) FROM manifests WHERE dirty_utc IS NOT NULL"
            ).scalar()
        return set(states) <= {State.CONFIRMED} and not dirty

    def back_up(self, now: datetime | None = None) -> Index:
        return making.back_up(self.box, self.place, now or datetime.now(UTC), actor="tests", keep=KEEP)


def eventually(holds: Callable[[], bool], seconds: float = 60) -> None:
    import time

    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it has not come to pass"
        time.sleep(0.05)


def contents(box: Box) -> dict[str, bytes]:
    """Every image by its UID."""
    return {str(row.sop_instance_uid): data_set_of(box, row) for row in recorded(box)}


def as_sent(*images: Instance) -> dict[str, bytes]:
    return {str(each.sop_instance_uid): each.data_set for each in images}


@contextmanager
def clinic_in(data: Path, place: DestinationSettings) -> Iterator[Clinic]:
    """A new box that owes everything to `place`."""
    with box_in(data) as box:
        paper = keys.show_recovery(data / "keys", box.root)
        with box.catalog.transaction() as tx:
            from dataclasses import replace

            place = replace(place, id=destinations.add(tx, place))
            rules.add_rule(tx, Rule(place.id, place.name, place.takes))
        yield Clinic(box, place, paper)


@pytest.fixture
def disk(tmp_path: Path) -> DestinationSettings:
    """A USB disk."""
    (tmp_path / "usb").mkdir()
    return prepare(DestinationSettings("usb", "vault", "ciphertext", {"path": str(tmp_path / "usb")}))


@pytest.fixture
def clinic(tmp_path: Path, disk: DestinationSettings) -> Iterator[Clinic]:
    with clinic_in(tmp_path / "before", disk) as clinic:
        yield clinic
