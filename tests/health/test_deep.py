"""The deep examination: it does what receiving does, finds what is broken, leaves nothing, and can't be made a burden."""

import contextlib
import json
import logging
import socket
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from appliance import audit
from appliance.box import Box, open_box
from appliance.catalog import devices, instances, settings
from appliance.dicom.association_request import EXPLICIT_VR_LITTLE_ENDIAN, Peer, Proposal
from appliance.dicom.scu import Timeouts, associate
from appliance.errors import OperatorNeeded, OutOfResources
from appliance.health import deep
from appliance.health.deep import EXAMINED, Examiner
from appliance.ingest import OrphanSweep, Reception, rehearsal
from appliance.ingest.orphans import GRACE_SECONDS
from appliance.model import AETitle, Intake, Origin, Uid
from appliance.store.disk import Buffer, Disk
from tests.boxes import config_in, recorded, send
from tests.dicom.conftest import eventually
from tests.instances import EXPLICIT_LITTLE_ENDIAN, Instance
from tests.receiving import at_port, receiving
from tests.system.running import appliance

NOW = datetime.now(UTC)


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


@pytest.fixture
def box(data_dir: Path, listening: socket.socket) -> Iterator[Box]:
    opened = open_box(at_port(config_in(data_dir), listening))
    yield opened
    opened.close()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """An examination that does not wait as long for what is never going to come."""
    monkeypatch.setattr(deep, "_PATIENCE", Timeouts(5, 1, 1, 1))
    monkeypatch.setattr(deep, "RECORDED_SECONDS", 0.5)


def files(box: Box) -> set[Path]:
    return {path for path in (box.config.data / "objects").rglob("*") if path.is_file()}


def causes(found: deep.Examination) -> dict[str, str]:
    return {step.name: step.cause for step in found.steps}


def left(box: Box) -> dict[str, Any]:
    """All that an image could leave behind, but for the one setting."""
    with box.catalog.reading() as conn:
        tables = [
            row[0]
            for row in conn.exec_driver_sql(
                "SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage"
            )
            if row[0] not in ("settings", "processes", "sqlite_stat1")
        ]
        rows = {each: conn.exec_driver_sql(f"SELECT * FROM {each}").fetchall() for each in sorted(tables)}
        kept = {key for (key,) in conn.exec_driver_sql("SELECT key FROM settings")} - {EXAMINED}
    return {**rows, "settings": kept, "files": files(box)}


def test_a_sound_box_is_found_so_and_nothing_stays(box: Box, listening: socket.socket) -> None:
    with receiving(box, listening) as (reception, door, tally):
        before = left(box)
        found = Examiner(box).examine(NOW)
        assert causes(found) == {"store": "", "catalog": "", "reception": "", "pictures": ""}
        assert found.is_sound
        eventually(lambda: not reception.waiting, "what was received still waits")
        assert left(box) == before
        assert not door.has_notes()
        assert (tally.received, tally.received_bytes) == (0, 0)
    with box.catalog.reading() as conn:
        assert settings.get(conn, EXAMINED) == {"at_utc": NOW.isoformat()}


def test_both_ways_in_are_gone(box: Box, listening: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """One image through the intake log, one that is a file from its first segment."""
    ways: list[bool] = []
    acknowledge = Reception._acknowledge

    def watched(self: Reception, sealing: Any, header: Any, received_utc: datetime) -> None:
        ways.append(sealing.body is not None)
        acknowledge(self, sealing, header, received_utc)

    monkeypatch.setattr(Reception, "_acknowledge", watched)
    with receiving(box, listening):
        assert Examiner(box).examine(NOW).is_sound
    assert sorted(ways) == [False, True]


@pytest.mark.usefixtures("hasty")
def test_reception_that_does_not_run_is_found(data_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        config = at_port(config_in(data_dir), gone)
    with contextlib.closing(open_box(config)) as box:
        found = causes(Examiner(box).examine(NOW))
    assert "cannot be reached" in found.pop("reception")
    assert found == {"store": "", "catalog": "", "pictures": ""}


@pytest.mark.usefixtures("hasty")
def test_reception_that_hangs_is_found(box: Box) -> None:
    """The port is open, as systemd keeps it, and nobody answers there."""
    assert "timed out" in causes(Examiner(box).examine(NOW))["reception"]


@pytest.mark.usefixtures("hasty")
def test_reception_that_keeps_what_it_takes_is_found(
    box: Box, listening: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It acknowledges, and nothing comes as far as the catalog; when it does after all, nothing of it stays."""
    held = Event()
    settle = Reception._settle

    def late(self: Reception, batch: Any, **how: Any) -> None:
        held.wait(60)
        settle(self, batch, **how)

    monkeypatch.setattr(Reception, "_settle", late)
    with receiving(box, listening) as (reception, _, _):
        before = left(box)
        assert "not recorded in time" in causes(Examiner(box).examine(NOW))["reception"]
        held.set()
        eventually(lambda: not reception.waiting, "what was received still waits")
        rehearsal.clear(box)  # as the next examination does at its beginning
        assert left(box) == before


def test_a_version_that_can_record_nothing_is_found(
    box: Box, listening: socket.socket, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And what it could not record is not set aside, as a clinic's image would be."""
    caplog.set_level(logging.ERROR, "appliance")

    def broken(*_: object) -> None:
        raise TypeError("a defect")

    with receiving(box, listening):
        before = left(box)
        monkeypatch.setattr(instances, "record_many", broken)
        found = causes(Examiner(box).examine(NOW))
        assert found["reception"] == "what was received could not be recorded: TypeError"
        assert left(box) == before
    assert not (box.intake_folder / "held").exists()


def test_a_full_disk_is_found(data_dir: Path, listening: socket.socket) -> None:
    opened = open_box(at_port(config_in(data_dir), listening))
    with contextlib.closing(opened) as box, receiving(box, listening):
        box.guard.reserve_bytes = 1 << 60
        found = causes(Examiner(box).examine(NOW))
    assert found["store"]
    assert not found["catalog"]
    assert "limit of connections" in found["reception"] or "congested" in found["reception"]


def test_a_disk_full_up_to_its_reserve_is_no_fault_of_the_version(
    data_dir: Path, listening: socket.socket
) -> None:
    """Else no version would be kept that comes while the disk is full, not even one that mends it."""
    opened = open_box(at_port(config_in(data_dir), listening))
    with contextlib.closing(opened) as box, receiving(box, listening):
        box.guard.reserve_bytes = box.guard.space().free_bytes * 3 // 2
        with pytest.raises(OutOfResources):
            box.guard.admit()
        assert Examiner(box).examine(NOW).is_sound
        with pytest.raises(OutOfResources):
            send(Reception(box, "dicom-1"), Instance(1))


def test_it_needs_no_device_and_lets_nobody_else_in(box: Box, listening: socket.socket) -> None:
    with box.catalog.reading() as conn:
        assert not devices.devices(conn)
    play = rehearsal.new_rehearsal(box)
    forged = AETitle(play.calling[:-1] + ("A" if play.calling[-1] != "A" else "B"))
    with receiving(box, listening), pytest.raises(OperatorNeeded, match="does not know our AE title"):
        call(box, forged)
    assert rehearsal.calls(box, play.calling, "127.0.0.1")
    assert not rehearsal.calls(box, play.calling, "192.168.1.20"), "only this machine itself rehearses"


def call(box: Box, calling: AETitle) -> None:
    peer = Peer("127.0.0.1", box.config.dicom.port, box.config.ae_title, calling)
    with associate(peer, [Proposal(deep._SOP_CLASS, EXPLICIT_VR_LITTLE_ENDIAN)]):
        pass


def test_an_image_of_the_clinic_is_never_taken_for_its_own(box: Box) -> None:
    """Whoever may call as a rehearsal loses nothing by it: another study is an image like any other."""
    play = rehearsal.new_rehearsal(box)
    image = Instance(1)
    reception = Reception(box, "dicom-0")
    arrival = reception.begin(
        Origin(Intake.DICOM, play.calling, "127.0.0.1"),
        sop_class_uid=image.sop_class_uid,
        sop_instance_uid=image.sop_instance_uid,
        transfer_syntax_uid=EXPLICIT_LITTLE_ENDIAN,
    )
    arrival.write(memoryview(image.data_set))
    arrival.finish()
    reception.close()
    assert [row.sop_instance_uid for row in recorded(box)] == [image.sop_instance_uid]


def test_what_a_crash_leaves_of_it_goes_away(box: Box, listening: socket.socket) -> None:
    """The examination ended between the acknowledgement and its end, and reception starts again on its log."""
    with receiving(box, listening):
        before = left(box)
        play = rehearsal.new_rehearsal(box)
        sop = Uid("2.25.77")
        Examiner(box)._send(play, {sop: deep._data_set(play, sop, 64)})
    with receiving(box, listening):
        sweep = OrphanSweep(box)
        assert sweep.sweep(0.0) == 0
        assert sweep.sweep(GRACE_SECONDS) == 1
        assert files(box) == before["files"]
        assert Examiner(box).examine(NOW).is_sound
        assert left(box) == before


def test_who_waits_for_an_examination_does_not_wait_for_long(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reception that hangs must not take the console's threads with it."""
    monkeypatch.setattr(deep, "WAIT_SECONDS", 0.01)
    under_way, go_on = Event(), Event()

    def slow(_: Examiner) -> None:
        under_way.set()
        go_on.wait(60)

    monkeypatch.setattr(Examiner, "_reception", slow)
    examiner = Examiner(box)
    first = Thread(target=examiner.examine, args=(NOW,))
    first.start()
    try:
        assert under_way.wait(60)
        found = examiner.examine(NOW)
        assert not found.is_sound
        assert causes(found) == {"reception": "the first examination is still under way"}
    finally:
        go_on.set()
        first.join()
    assert examiner.examine(NOW).is_sound


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_running_box_is_sound_until_its_reception_stops(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    """As the image's check of a start asks it: over HTTP, of processes that run."""
    with appliance(tmp_path / "box", free_port, start=("dicom", "web")) as running:

        def asked() -> tuple[int, dict[str, str]]:
            url = f"http://127.0.0.1:{running.web_port}/health/deep"
            try:
                with urllib.request.urlopen(url, timeout=120) as answer:
                    told = (answer.status, json.load(answer))
            except urllib.error.HTTPError as error:
                told = (error.code, json.load(error))
            return told[0], {each["name"]: each["cause"] for each in told[1]["steps"]}

        assert asked() == (200, {"store": "", "catalog": "", "reception": "", "pictures": ""})
        assert running.ask("studies") == []
        assert not running.files("objects")
        with running.opened() as box, box.catalog.reading() as conn:
            assert not any(row["action"].startswith(("instance:", "device:")) for row in audit.export(conn))
        running.stop("dicom")
        eventually(lambda: asked()[0] == 503, "the stop of reception was not found")
        assert "cannot be reached" in asked()[1]["reception"]


class Flipping(Disk):
    """A disk that changes a bit of whatever it writes."""

    def write(self, descriptor: int, buffers: Sequence[Buffer]) -> None:
        whole = bytearray(b"".join(buffers))
        whole[len(whole) // 2] ^= 1
        super().write(descriptor, [whole])


def test_a_disk_that_gives_back_something_else_is_found(data_dir: Path) -> None:
    box = open_box(config_in(data_dir), disk=Flipping())
    try:
        found = causes(Examiner(box).examine(NOW))
        assert found["store"]
        assert not found["catalog"]
        assert not files(box)
    finally:
        box.close()


@pytest.mark.usefixtures("hasty")
def test_asking_often_makes_the_disk_work_once(box: Box) -> None:
    clock = [0.0]
    examiner = Examiner(box, monotonic=lambda: clock[0])
    first = examiner.examine(NOW)
    clock[0] = deep.AGAIN_SECONDS - 0.1
    assert examiner.examine(NOW + timedelta(seconds=5)) is first
    clock[0] = deep.AGAIN_SECONDS
    assert examiner.examine(NOW + timedelta(seconds=10)) is not first
