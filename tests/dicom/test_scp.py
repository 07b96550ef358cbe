"""The process: who is let in, what a death costs, and how it stops."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from appliance.box import open_box
from appliance.catalog import audit_log, devices, processes
from appliance.dicom.door import Door, plain_address
from appliance.dicom.scp import Loads
from appliance.errors import OperatorNeeded
from appliance.ingest import Reception
from appliance.model import AETitle, Device, Intake, Origin, Uid
from tests.boxes import box_in

from .appliances import ReceivingAppliance, receiving
from .conftest import eventually
from .peers import CT, EXPLICIT, Aborted, Rejected, p_data, pdv
from .test_receive_real import ct, objects


@pytest.fixture
def appliance(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[ReceivingAppliance]:
    with receiving(tmp_path, free_port()) as running:
        yield running


def workers(appliance: ReceivingAppliance) -> list[psutil.Process]:
    assert appliance.process is not None
    return psutil.Process(appliance.process.pid).children()


@pytest.mark.slow
def test_a_stranger_is_seen_at_the_door_and_admitted_at_once(appliance: ReceivingAppliance) -> None:
    for _ in range(5):
        with appliance.peer() as peer, pytest.raises(Rejected) as rejected:
            peer.associate(calling=b"NEWSCANNER")
        assert rejected.value.code == (1, 1, 3)

    def visitors() -> list[str]:
        with appliance.box.catalog.reading() as reading:
            return [f"{each.ae_title}@{each.address}" for each in devices.visitors(reading)]

    eventually(lambda: visitors() == ["NEWSCANNER@127.0.0.1"], "the stranger was not seen at the door")
    appliance.admit("NEWSCANNER")

    def comes_in() -> bool:
        try:
            with appliance.peer() as peer:
                peer.associate(calling=b"NEWSCANNER")
                return True
        except Rejected:
            return False

    eventually(comes_in, "the admitted device is still rejected")
    with appliance.box.catalog.transaction() as tx:
        devices.remove_device(tx, AETitle("NEWSCANNER"), "127.0.0.1")
    eventually(lambda: not comes_in(), "the removed device still comes in")


@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_loses_nothing(appliance: ReceivingAppliance) -> None:
    expected = 0
    for _ in range(2):
        before = workers(appliance)
        for number in range(10):
            with appliance.peer() as peer:
                peer.associate()
                expected += 1
                uid = f"1.2.3.{expected}"
                assert peer.store(ct(uid), uid).status == 0
                if number == 9:
                    for worker in before:
                        worker.send_signal(signal.SIGKILL)
        eventually(
            lambda before=before: len({*workers(appliance)} - {*before}) == 2,  # type: ignore[misc]
            f"the workers were not replaced:\n{appliance.log()}",
        )
        eventually(appliance.answers, "the new workers do not answer")
    assert {row.sop_instance_uid for row in appliance.recorded(expected)} == {
        f"1.2.3.{number}" for number in range(1, expected + 1)
    }


@pytest.mark.slow
def test_workers_do_not_outlive_their_parent(appliance: ReceivingAppliance) -> None:
    children = workers(appliance)
    assert len(children) == 2
    assert appliance.process is not None
    appliance.process.kill()
    appliance.process.wait()
    _, alive = psutil.wait_procs(children, timeout=30)
    assert alive == []


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_lets_a_message_finish(appliance: ReceivingAppliance, how: signal.Signals) -> None:
    data = ct("1.2.3.5", pixels=4_000_000)
    assert appliance.process is not None
    with appliance.peer() as idle, appliance.peer() as busy:
        idle.associate()
        busy.associate()
        busy.begin_store("1.2.3.5")
        for start in range(0, 3_000_000, 100_000):
            busy.send(p_data(pdv(1, 0, data[start : start + 100_000])))
        eventually(lambda: len(objects(appliance)) == 1, "the transfer did not reach the disk")
        appliance.process.send_signal(how)
        assert idle.expect_abort() == Aborted(0, 0)
        for start in range(3_000_000, len(data), 100_000):
            last = start + 100_000 >= len(data)
            busy.send(p_data(pdv(1, 2 if last else 0, data[start : start + 100_000])))
        assert busy.response().status == 0
        assert busy.expect_abort() == Aborted(0, 0)
    assert appliance.process.wait(30) == 0
    appliance.recorded(1)


@pytest.mark.slow
def test_a_port_in_use_needs_a_person(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        appliance = ReceivingAppliance(tmp_path, taken.getsockname()[1])
        process = appliance.launch()
        assert process.wait(30) == OperatorNeeded.exit_code
        assert "APPLIANCE_DICOM_PORT" in appliance.log()
        appliance.close()


@pytest.mark.slow
def test_without_space_an_association_is_rejected_transiently(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    with receiving(tmp_path, free_port(), reserve_bytes=1 << 60) as appliance:
        with appliance.peer() as peer, pytest.raises(Rejected) as rejected:
            peer.associate()
        assert rejected.value.code == (2, 3, 2)


@pytest.mark.slow
def test_workers_share_the_load(appliance: ReceivingAppliance) -> None:
    peers = [appliance.peer() for _ in range(12)]
    try:
        for peer in peers:
            peer.associate()
        eventually(
            lambda: sum(row.detail["open"] for row in appliance.beats()) == 12, "associations are missing"
        )
        assert sorted(row.detail["open"] for row in appliance.beats())[0] >= 2
    finally:
        for peer in peers:
            peer.socket.close()


@pytest.mark.slow
def test_logs_of_workers_that_are_no_more_are_accepted(tmp_path: Path, free_port: Callable[[], int]) -> None:
    appliance = ReceivingAppliance(tmp_path, free_port())
    try:
        appliance.admit("MODALITY")
        with appliance.box.catalog.transaction():  # nobody else can record now
            child = os.fork()
            if child == 0:
                box = open_box(appliance.config)
                reception = Reception(box, "dicom-7")
                arrival = reception.begin(
                    Origin(Intake.DICOM, "MODALITY", "127.0.0.1"),
                    sop_class_uid=Uid(CT),
                    sop_instance_uid=Uid("1.2.3.5"),
                    transfer_syntax_uid=Uid(EXPLICIT),
                )
                arrival.write(memoryview(ct("1.2.3.5")))
                arrival.finish()
                os._exit(17)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 17
        with appliance.box.catalog.transaction() as tx:
            processes.beat(tx, "dicom-7", 1, datetime.now(UTC), datetime.now(UTC))
        appliance.start()
        appliance.recorded(1)
        assert {row.name for row in appliance.beats()} == {"dicom-0", "dicom-1"}
    finally:
        appliance.close()


# --- the door, without a process -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "plain"),
    [
        ("192.168.1.20", "192.168.1.20"),
        ("::ffff:192.168.1.20", "192.168.1.20"),
        ("fe80::1%eth0", "fe80::1"),
        ("FE80:0:0:0::1", "fe80::1"),
        ("not an address", "not an address"),
    ],
)
def test_one_address_has_one_spelling(address: str, plain: str) -> None:
    assert plain_address(address) == plain


class Clock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def test_title_and_address_both_count(tmp_path: Path) -> None:
    with box_in(tmp_path) as box:
        with box.catalog.transaction() as tx:
            devices.add_device(tx, Device(AETitle("CT1"), "10.0.0.5"), datetime.now(UTC))
        door = Door(box)
        assert door.admits(AETitle("CT1"), "::ffff:10.0.0.5")
        assert not door.admits(AETitle("CT1"), "10.0.0.6")
        assert not door.admits(AETitle("CT2"), "10.0.0.5")


def test_a_refused_request_is_in_the_audit_once_a_minute_for_each_reason(tmp_path: Path) -> None:
    clock = Clock()
    with box_in(tmp_path) as box:
        door = Door(box, clock)
        for code in (0xA700, 0xA700, 0xC000):
            door.note_refusal(AETitle("CT1"), "::ffff:10.0.0.5", code)
        assert door.has_notes()
        with box.catalog.transaction() as tx:
            door.write_notes(tx, datetime.now(UTC))
        assert not door.has_notes()
        clock.seconds += 61
        door.note_refusal(AETitle("CT1"), "10.0.0.5", 0xA700)
        with box.catalog.transaction() as tx:
            door.write_notes(tx, datetime.now(UTC))
        with box.catalog.reading() as reading:
            rows = [row for row in audit_log.rows(reading) if row.action == "instance:refuse"]
        assert [row.details for row in rows] == [
            f'{{"status":"0x{code}"}}' for code in ("A700", "C000", "A700")
        ]
        assert {(row.actor, row.actor_kind, row.address, row.outcome) for row in rows} == {
            ("dicom:CT1", "device", "10.0.0.5", "refused")
        }


def test_a_caller_is_noted_once_a_minute(tmp_path: Path) -> None:
    clock = Clock()
    with box_in(tmp_path) as box:
        door = Door(box, clock)

        def knocks() -> int:
            with box.catalog.transaction() as tx:
                door.write_notes(tx, datetime.now(UTC))
            with box.catalog.reading() as reading:
                (visitor,) = devices.visitors(reading)
                assert (
                    sum(1 for row in audit_log.rows(reading) if row.action == "door:knock") == visitor.calls
                )
                return visitor.calls

        for _ in range(100):
            door.admits(AETitle("NOBODY"), "10.0.0.9")
            clock.seconds += 0.5
        assert knocks() == 1
        assert not door.has_notes()
        clock.seconds += 20
        door.admits(AETitle("NOBODY"), "10.0.0.9")
        assert knocks() == 2


def test_a_flood_of_callers_does_not_fill_the_catalog(tmp_path: Path) -> None:
    clock = Clock()
    with box_in(tmp_path) as box:
        door = Door(box, clock)
        for number in range(5000):
            door.admits(AETitle(f"N{number}"), "10.0.0.9")
        with box.catalog.transaction() as tx:
            door.write_notes(tx, datetime.now(UTC))
        with box.catalog.reading() as reading:
            assert len(devices.visitors(reading)) <= 60


def test_an_admission_holds_within_a_second(tmp_path: Path) -> None:
    clock = Clock()
    with box_in(tmp_path) as box:
        door = Door(box, clock)
        assert not door.admits(AETitle("CT1"), "10.0.0.5")
        with box.catalog.transaction() as tx:
            devices.add_device(tx, Device(AETitle("CT1"), "10.0.0.5"), datetime.now(UTC))
        clock.seconds += 1
        assert door.admits(AETitle("CT1"), "10.0.0.5")


def test_the_next_connection_goes_to_whoever_has_fewest() -> None:
    loads = Loads(3)
    loads.set(0, 2, ready=True)
    assert not loads.another_has_fewer(0), "those that are not ready have no connections either"
    loads.set(1, 1, ready=True)
    assert loads.another_has_fewer(0)
    assert not loads.another_has_fewer(1)
    assert not loads.all_ready()
    loads.set(2, 1, ready=True)
    assert loads.all_ready()
