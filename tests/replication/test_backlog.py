"""While more is owed than the line takes, what the archive has already is known there: manifests and tombstones wait for no end of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.catalog import tombstones
from appliance.lifecycle import purging
from appliance.replication import lane
from appliance.replication.batch import Batch, Counts, Errand, Held
from tests.backup.conftest import SOON, Clinic, as_sent, contents
from tests.backup.conftest import clinic as _clinic
from tests.backup.conftest import disk as _disk
from tests.backup.test_restoring import bring_home, restore
from tests.boxes import box_in
from tests.instances import Instance
from tests.lifecycle.purge import GONE, LATER, approve, study_of

pytestmark = pytest.mark.slow

clinic, disk = _clinic, _disk
MANY = [Instance(number, study=1 + number // 2, pixel_bytes=500) for number in range(40)]


@pytest.fixture
def slow_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that takes a twentieth of a second an object, and a minute that is half a second."""
    send = Batch._sent

    def sent(*given: object) -> object:
        time.sleep(0.05)
        return send(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(Batch, "_sent", sent)
    monkeypatch.setattr(lane, "BATCH", 4)
    monkeypatch.setattr(lane, "MANIFEST_LONGEST_SECONDS", 0.5)
    monkeypatch.setattr(lane, "MANIFEST_QUIET_SECONDS", 0.1)


def here(folder: Path, kind: str) -> int:
    return len(list((folder / kind).rglob("*.sealed")))


def test_a_fire_while_a_backlog_drains_leaves_what_the_archive_has(
    clinic: Clinic, slow_line: None, tmp_path: Path
) -> None:
    usb = tmp_path / "usb"
    clinic.receive(*MANY)
    clinic.deliver_until(lambda: here(usb, "objects") >= 30)
    sent = here(usb, "objects")
    assert sent < len(MANY), "it was to burn in the middle"
    restore(tmp_path / "after", clinic.place, clinic.paper)
    with box_in(tmp_path / "after") as box:
        bring_home(box)
        found = contents(box)
    assert len(found) >= sent // 2
    assert found.items() <= as_sent(*MANY).items()


def test_documents_leave_the_line_its_share(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long a manifest takes, and however many are due: by a clock that only sending and writing move."""
    clock, what = [0.0], list[str]()

    def lasting(seconds: float, name: str, plain: Callable[..., object]) -> Callable[..., object]:
        def act(*given: object) -> object:
            clock[0] += seconds
            what.append(name)
            return plain(*given)

        return act

    monkeypatch.setattr(lane, "monotonic", lambda: clock[0])
    monkeypatch.setattr(Batch, "_sent", lasting(5, "sent", Batch._sent))
    monkeypatch.setattr(lane.Lane, "_keep_manifest", lasting(7, "kept", lane.Lane._keep_manifest))
    clinic.receive(*MANY)
    courier = replace(clinic.box.config.courier, workers_per_destination=0)
    box = replace(clinic.box, config=replace(clinic.box.config, courier=courier))
    by_hand = lane.Lane(Errand(box, clinic.place, SOON, Held(), Counts()))
    while by_hand.one_batch():
        pass
    assert what.count("sent") == len(MANY)
    first, last = what.index("kept"), len(what) - what[::-1].index("sent")
    assert what[:first].count("sent") * 5 <= 2 * lane.MANIFEST_LONGEST_SECONDS
    assert 7 * what[:last].count("kept") <= 5 * len(MANY) + 7, "at most half, and the last of a turn"
    assert what.count("kept") >= 10


def test_a_destruction_waits_for_no_backlog(
    clinic: Clinic, slow_line: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    clinic.receive(*GONE)
    clinic.deliver()
    approve(clinic.box, study_of(clinic.box, GONE[0]).id)
    assert purging.carry_out(clinic.box, LATER) == 1
    monkeypatch.setattr(lane, "MANIFEST_LONGEST_SECONDS", 3600.0)
    monkeypatch.setattr(lane, "TOMBSTONE_SECONDS", 0.1)
    clinic.receive(*MANY)

    def lies() -> bool:
        with clinic.box.catalog.reading() as conn:
            return not tombstones.owed(conn, clinic.place.id, 1)

    clinic.deliver_until(lies)
    assert here(tmp_path / "usb", "objects") < len(MANY)
