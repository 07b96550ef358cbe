"""The intake log loses nothing that `append` returned from, whatever happens to it afterwards."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.errors import OutOfResources, Transient
from appliance.store.intake_log import BLOCK, IntakeLog, Slot, metadata_in
from tests.store.faults import FaultyDisk, os_error

KEY = bytes(range(32))
MIB = 1 << 20


def logs(folder: Path, size: int = 4 * MIB, disk: FaultyDisk | None = None) -> IntakeLog:
    return IntakeLog(folder, "worker", KEY, size, disk=disk)


def body_of(slot: Slot) -> bytes:
    return os.pread(slot.file.descriptor, slot.length, slot.offset)


def reread(folder: Path, size: int = 4 * MIB) -> list[tuple[bytes, bytes]]:
    """(metadata, body) of every record, as the next process finds them."""
    log = logs(folder, size)
    try:
        return [(found.metadata, body_of(found.slot)) for file in log.files for found in file.records()]
    finally:
        log.close()


@given(
    st.lists(st.tuples(st.binary(max_size=3000), st.binary(max_size=20_000)), max_size=25),
)
@settings(max_examples=25, deadline=None)
def test_what_was_appended_is_found_again(
    tmp_path_factory: pytest.TempPathFactory, appended: list[tuple[bytes, bytes]]
) -> None:
    folder = tmp_path_factory.mktemp("log")
    log = logs(folder)
    for metadata, body in appended:
        log.append(metadata, [body[:100], body[100:]], patience_seconds=0)
    log.close()
    assert reread(folder) == appended


def test_a_settled_and_recycled_record_is_never_found_again(tmp_path: Path) -> None:
    log = logs(tmp_path)
    first = [log.append(b"first", [bytes(500_000)], patience_seconds=0) for _ in range(3)]
    log.settled(first)
    later = [log.append(b"later", [b"x" * 500_000], patience_seconds=0) for _ in range(4)]
    assert {each.file for each in later} == set(log.files)  # the turn passed to the other file
    log.settled([each for each in later if each.file is first[0].file])
    again = log.append(b"again", [b"y" * 1_000_000], patience_seconds=0)
    while again.file is not first[0].file:
        again = log.append(b"again", [b"y" * 1_000_000], patience_seconds=0)
    log.close()
    assert b"first" not in [metadata for metadata, _ in reread(tmp_path)]


def test_a_full_log_waits_for_settling_and_then_goes_on(tmp_path: Path) -> None:
    log = logs(tmp_path)
    slots = [log.append(b"m", [bytes(900_000)], patience_seconds=0) for _ in range(4)]
    with pytest.raises(OutOfResources):
        log.append(b"m", [bytes(900_000)], patience_seconds=0)
    timer = threading.Timer(0.05, log.settled, [slots])
    timer.start()
    log.append(b"fits again", [bytes(900_000)], patience_seconds=30)
    timer.join()
    assert log.outstanding == 1
    log.close()


def test_nothing_of_it_is_in_clear(tmp_path: Path) -> None:
    log = logs(tmp_path)
    log.append(b"TREMBLAY^MARKER", [], patience_seconds=0)
    log.close()
    assert all(b"MARKER" not in path.read_bytes() for path in tmp_path.iterdir())


def test_a_torn_record_hides_neither_its_neighbours_nor_itself_as_whole(tmp_path: Path) -> None:
    log = logs(tmp_path)
    slots = [log.append(f"record {n}".encode(), [bytes([n]) * 10_000], patience_seconds=0) for n in range(5)]
    middle = slots[2]
    start = middle.offset // BLOCK * BLOCK
    os.pwrite(middle.file.descriptor, b"\xff" * 50, start)  # its head was never written whole
    log.close()
    assert [metadata for metadata, _ in reread(tmp_path)] == [
        b"record 0",
        b"record 1",
        b"record 3",
        b"record 4",
    ]


def test_every_altered_byte_of_a_record_head_or_its_metadata_drops_that_record_only(tmp_path: Path) -> None:
    log = logs(tmp_path)
    log.append(b"before", [b"b"], patience_seconds=0)
    slot = log.append(b"altered", [b"b"], patience_seconds=0)
    log.append(b"after", [b"b"], patience_seconds=0)
    start = slot.offset // BLOCK * BLOCK
    for at in range(start, slot.offset):
        (byte,) = os.pread(slot.file.descriptor, 1, at)
        os.pwrite(slot.file.descriptor, bytes([byte ^ 0x40]), at)
        assert list(metadata_in(tmp_path, KEY)) == [b"before", b"after"], at
        os.pwrite(slot.file.descriptor, bytes([byte]), at)
    assert list(metadata_in(tmp_path, KEY)) == [b"before", b"altered", b"after"]
    log.close()


def test_a_second_process_cannot_use_the_same_log(tmp_path: Path) -> None:
    log = logs(tmp_path)
    with pytest.raises(Transient):
        logs(tmp_path)
    log.close()


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_a_failed_write_or_sync_is_never_taken_for_success(tmp_path: Path, code: int) -> None:
    logs(tmp_path).close()
    for fail_at in (1, 2):  # the write, then the sync
        disk = FaultyDisk(fail_at=fail_at, error=os_error(code))
        log = logs(tmp_path, disk=disk)
        with pytest.raises((OutOfResources, Transient)):
            log.append(b"never acknowledged", [b"x"], patience_seconds=0)
        kept = log.append(b"acknowledged", [b"y"], patience_seconds=5)  # the other file takes over
        assert body_of(kept) == b"y"
        log.close()
        assert (b"acknowledged", b"y") in reread(tmp_path)
        for path in tmp_path.glob("*.log"):
            path.unlink()
        logs(tmp_path).close()


def test_a_file_that_failed_comes_back_when_the_disk_does(tmp_path: Path) -> None:
    logs(tmp_path).close()
    disk = FaultyDisk(fail_from=1, error=os_error(errno.EIO))
    log = logs(tmp_path, disk=disk)
    for _ in range(2):
        with pytest.raises((OutOfResources, Transient)):
            log.append(b"refused", [b"x"], patience_seconds=0)
    disk.fail_from = 0
    assert body_of(log.append(b"taken", [b"z"], patience_seconds=5)) == b"z"
    log.close()
    assert (b"taken", b"z") in reread(tmp_path)


def test_many_threads_append_side_by_side(tmp_path: Path) -> None:
    log = logs(tmp_path, size=16 * MIB)

    def append(name: int) -> None:
        for count in range(50):
            log.append(f"{name}/{count}".encode(), [bytes([name]) * 5000], patience_seconds=0)

    threads = [threading.Thread(target=append, args=[name]) for name in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    log.close()
    found = reread(tmp_path, 16 * MIB)
    assert sorted(found) == sorted(
        (f"{name}/{count}".encode(), bytes([name]) * 5000) for name in range(8) for count in range(50)
    )


def test_a_log_that_is_to_be_larger_keeps_its_records_until_they_are_settled(tmp_path: Path) -> None:
    log = logs(tmp_path)
    log.append(b"acknowledged", [b"x"], patience_seconds=0)
    log.close()
    log = logs(tmp_path, size=8 * MIB)
    found = [record for file in log.files for record in file.records()]
    assert [(each.metadata, body_of(each.slot)) for each in found] == [(b"acknowledged", b"x")]
    log.settled([each.slot for each in found])
    log.recycle()
    assert [file.path.stat().st_size for file in log.files] == [4 * MIB, 4 * MIB]
    log.append(b"larger than before", [bytes(3 * MIB)], patience_seconds=0)
    log.close()
    assert [metadata for metadata, _ in reread(tmp_path, 8 * MIB)] == [b"larger than before"]


def test_a_log_that_could_not_be_made_can_be_made_later(tmp_path: Path) -> None:
    counted = FaultyDisk(error=os_error(errno.ENOSPC))
    logs(tmp_path / "counted", disk=counted).close()
    for step in range(1, len(counted.calls) + 1):
        disk = FaultyDisk(fail_at=step, error=os_error(errno.ENOSPC))
        with pytest.raises(OutOfResources):
            logs(tmp_path / str(step), disk=disk)
        log = logs(tmp_path / str(step), disk=disk)
        log.append(b"taken", [b"x"], patience_seconds=0)
        log.close()


class OneWarningOnly(FaultyDisk):
    """As the kernel does: a page that it could not write is told to one of those who sync, and to nobody else."""

    def __init__(self) -> None:
        super().__init__(error=os_error(errno.EIO))
        self.syncing, self.told = threading.Event(), threading.Event()
        self.armed = False

    def sync_data(self, descriptor: int) -> None:
        if self.armed and not self.syncing.is_set():
            self.syncing.set()
            assert self.told.wait(30)
        elif self.armed:
            raise OSError(errno.EIO, "lost a page")
        super().sync_data(descriptor)


def test_a_lost_page_that_another_was_told_of_is_not_taken_for_written(tmp_path: Path) -> None:
    disk = OneWarningOnly()
    log = logs(tmp_path, disk=disk)
    disk.armed = True
    outcome: list[str] = []

    def append() -> None:
        try:
            log.append(b"side by side", [b"x"], patience_seconds=0)
            outcome.append("acknowledged")
        except Transient:
            outcome.append("refused")

    thread = threading.Thread(target=append)
    thread.start()
    assert disk.syncing.wait(30)
    with pytest.raises(Transient):
        log.append(b"told", [b"x"], patience_seconds=0)
    disk.told.set()
    thread.join()
    assert outcome == ["refused"]
    assert log.outstanding == 0
    log.close()


def test_closing_waits_for_who_is_writing_and_lets_nobody_write_afterwards(tmp_path: Path) -> None:
    disk = OneWarningOnly()
    log = logs(tmp_path, disk=disk)
    disk.armed = True
    writing = threading.Thread(target=log.append, args=(b"m", [b"x"]), kwargs={"patience_seconds": 0})
    writing.start()
    assert disk.syncing.wait(30)
    closing = threading.Thread(target=log.close)
    closing.start()
    closing.join(0.1)
    assert closing.is_alive()
    disk.told.set()
    closing.join()
    writing.join()
    with pytest.raises(Transient):
        log.append(b"late", [b"x"], patience_seconds=0)
    assert reread(tmp_path) == [(b"m", b"x")]


def test_a_file_that_failed_is_written_over_before_its_next_turn(tmp_path: Path) -> None:
    """It holds what was settled before it failed, and its turn may not come for days."""
    disk = FaultyDisk(error=os_error(errno.EIO))
    log = logs(tmp_path, disk=disk)
    log.settled([log.append(b"destroyed since", [b"of it"], patience_seconds=1)])
    disk.fail_at = len(disk.calls) + 1
    with pytest.raises(Transient):
        log.append(b"refused", [b"x"], patience_seconds=0)
    other = log.append(b"in the other", [b"y"], patience_seconds=1)
    assert not log.scour(), "that one is not settled"
    log.settled([other])
    disk.fail_from = len(disk.calls) + 1
    with pytest.raises(Transient):
        log.scour()
    disk.fail_from = 0
    assert log.scour()
    for path in tmp_path.glob("*.log"):
        assert not any(path.read_bytes()[BLOCK:])
    log.append(b"taken again", [b"z"], patience_seconds=1)
    log.close()
    assert reread(tmp_path) == [(b"taken again", b"z")]
