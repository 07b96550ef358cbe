"""Killed or failed at every step between the first byte and the row: nothing acknowledged is lost, nothing half kept.

The killed process is a fork that ends itself, without a word to anybody, at the n-th call of any function of the
appliance; a ledger on a pipe says what it had acknowledged by then.
"""

from __future__ import annotations

import errno
import gc
import os
import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest

from appliance import audit
from appliance.box import Box
from appliance.catalog import deliveries, destinations, rules
from appliance.errors import OutOfResources, Transient
from appliance.ingest import OrphanSweep, Reception
from appliance.model import DestinationSettings, Rule
from tests.boxes import box_in, data_set_of, recorded, send
from tests.instances import Instance
from tests.store.faults import FaultyDisk, os_error

MIB = 1 << 20
SENT = (
    Instance(1),
    Instance(2, study=2, pixel_bytes=100_000),
    Instance(5, study=2, pixel_bytes=300_000),
    Instance(3, pixel_bytes=2 * MIB),
    Instance(1),
    Instance(2, study=2, variant=1),
    Instance(5, study=2, pixel_bytes=300_000),
    Instance(4),
)
KILLS = 160
PACKAGE = str(Path(__file__).parents[2] / "appliance")


def prepare(folder: Path) -> None:
    with box_in(folder) as box, box.catalog.transaction() as tx:
        destination_id = destinations.add(
            tx, DestinationSettings("elsewhere", "folder", "ciphertext", {"path": "/nowhere"})
        )
        rules.add_rule(tx, Rule(destination_id, "elsewhere", "ciphertext"))


def copies_of(made: Path) -> Callable[[Path], object]:
    """What puts a box into a folder as it is in `made`, which nobody has open: half the work of making one."""
    prepare(made)
    return lambda folder: shutil.copytree(made, folder)


def receive_all(folder: Path, acknowledged: Callable[[int], object]) -> None:
    with box_in(folder) as box:
        reception = Reception(box, "worker")
        for number, instance in enumerate(SENT):
            send(reception, instance)
            acknowledged(number)
        reception.close()


def in_a_fork(work: Callable[[int], None]) -> list[int]:
    """Run `work(pipe)` in a child process; the bytes that it wrote to the pipe before it ended, however it ended."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            work(write_end)
        finally:
            os._exit(0)
    os.close(write_end)
    with open(read_end, "rb") as pipe:
        told = list(pipe.read())
    os.waitpid(child, 0)
    return told


def count_calls(die_at: int, seen: list[int]) -> Callable[[FrameType, str, object], None]:
    def profile(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(PACKAGE):
            seen[0] += 1
            if seen[0] == die_at:
                os._exit(9)

    return profile


def run_and_die(folder: Path, die_at: int) -> tuple[list[int], int]:
    """What was acknowledged before the death at the `die_at`-th call, and how many calls there were (0: it died)."""

    def work(pipe: int) -> None:
        seen = [0]
        profile = count_calls(die_at, seen)
        threading.setprofile(profile)
        sys.setprofile(profile)
        receive_all(folder, lambda number: os.write(pipe, bytes([number])))
        sys.setprofile(None)
        os.write(pipe, b"\xff" + seen[0].to_bytes(4, "big"))

    told = in_a_fork(work)
    if 0xFF in told:
        end = told.index(0xFF)
        return told[:end], int.from_bytes(bytes(told[end + 1 : end + 5]), "big")
    return told, 0


def assert_whole(box: Box, acknowledged: list[int]) -> None:
    """Every acknowledged instance is there; every row can be opened, is owed and audited; no ciphertext is astray."""
    rows = recorded(box)
    kept = [data_set_of(box, row) for row in rows]
    for number in acknowledged:
        assert SENT[number].data_set in kept
    assert len(set(kept)) == len(kept), "the same bytes were kept twice"
    with box.catalog.reading() as reading:
        assert audit.verify(reading, box.audit_key, None) == []
        received = [entry for entry in audit.export(reading) if entry["action"] == "instance:receive"]
        assert len(received) == len(rows)
        assert len(deliveries.list_deliveries(reading)) == len(rows)
    sweep = OrphanSweep(box)
    sweep.sweep(0.0)
    sweep.sweep(1e6)
    assert sorted(box.objects.ids()) == sorted(row.object_id for row in rows)
    assert list(box.objects.parts.glob("*/*")) == []


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(900)
def test_killed_at_any_call_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    place_in = copies_of(tmp_path / "made")
    place_in(tmp_path / "whole")
    gc.collect()
    everything, calls = run_and_die(tmp_path / "whole", 0)
    assert everything == list(range(len(SENT)))
    assert calls > KILLS
    died = 0
    for kill in range(KILLS):
        folder = tmp_path / str(kill)
        place_in(folder)
        acknowledged, survived = run_and_die(folder, 1 + kill * calls // KILLS)
        died += not survived
        with box_in(folder) as box:
            Reception(box, "worker").close()
            assert_whole(box, acknowledged)
    assert (
        died > KILLS * 0.8
    )  # the settler's turn varies a little from run to run, so the last few may survive


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize(
    ("code", "attributes"), [(errno.EIO, True), (errno.ENOSPC, True), (errno.EIO, False)]
)
def test_a_disk_that_fails_at_any_call_is_never_taken_for_success(
    tmp_path: Path, code: int, attributes: bool
) -> None:
    place_in = copies_of(tmp_path / "made")
    place_in(tmp_path / "counted")
    disk = FaultyDisk(error=os_error(code), attributes=attributes)
    with box_in(tmp_path / "counted", disk=disk) as box:
        reception = Reception(box, "worker")
        begun = len(disk.calls)
        for instance in SENT:
            send(reception, instance)
        reception.close()
    steps = len(disk.calls) - begun
    assert steps > len(SENT) * 2
    for step in range(1, steps + 1):
        folder = tmp_path / f"{code}-{step}"
        place_in(folder)
        disk = FaultyDisk(error=os_error(code), attributes=attributes)
        with box_in(folder, disk=disk) as box:
            reception = Reception(box, "worker")
            disk.fail_at = len(disk.calls) + step
            acknowledged = []
            for number, instance in enumerate(SENT):
                try:
                    send(reception, instance)
                except (OutOfResources, Transient):
                    send(reception, instance)  # as the device does, later
                acknowledged.append(number)
            reception.close()
        with box_in(folder) as box:
            Reception(box, "worker").close()
            assert_whole(box, acknowledged)


def test_a_disk_that_stays_full_refuses_everything_and_heals(tmp_path: Path) -> None:
    prepare(tmp_path)
    disk = FaultyDisk(error=os_error(errno.ENOSPC))
    with box_in(tmp_path, disk=disk) as box:
        reception = Reception(box, "worker")
        send(reception, SENT[0])
        disk.fail_from = len(disk.calls) + 1
        for instance in SENT[1:3]:
            with pytest.raises(OutOfResources):
                send(reception, instance)
        disk.fail_from = 0
        for instance in SENT:
            send(reception, instance)
        reception.close()
        assert_whole(box, list(range(len(SENT))))
