"""R3: a full disk is refused in time, costs nothing that was acknowledged, and is forgotten once there is space."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.errors import OutOfResources
from appliance.ingest import Reception
from appliance.store.disk import Buffer, Disk
from appliance.store.guard import DiskGuard, Space
from tests.boxes import box_in, data_set_of, recorded, send
from tests.instances import Instance
from tests.system import small_disk
from tests.system.running import MIB, wait_for

ROOT = Path(__file__).parents[2]


SMALL = f"size={small_disk.SIZE_BYTES}"


def namespace_for(disk: Path, limits: str = SMALL) -> list[str] | None:
    """The beginning of a command that has a file system within `limits` at `disk`; None where nobody may mount here."""
    mount = f"mount -t tmpfs -o {limits},mode=700 small {disk}"
    for how in (["--mount"], ["--mount", "--map-root-user"]):
        begin = ["unshare", *how, "sh", "-c", f'{mount} && exec "$@"', "sh"]
        try:
            if subprocess.run([*begin, "true"], capture_output=True, check=False).returncode == 0:
                return begin
        except FileNotFoundError:
            return None
    return None


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_full_disk_refuses_in_time_and_heals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On a real small file system where one may be mounted; else on the disk that counts, and the output says so."""
    disk = tmp_path / "disk"
    disk.mkdir()
    begin = namespace_for(disk)
    if begin is None:
        told = "nobody may mount a file system here: " + fill_up_and_heal(tmp_path / "counted")
    else:
        story = [sys.executable, "-m", "tests.system.small_disk", str(disk), str(tmp_path / "elsewhere")]
        done = subprocess.run([*begin, *story], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-5000:]
        told = "on a file system of its own: " + done.stdout.strip()
    with capsys.disabled():
        print(f"\nfull disk, {told}")


# --- the same promise on a disk that counts --------------------------------------------------------------------------


class CountedDisk(Disk):
    """A disk with room for `room_bytes` in files below `folder`; a write beyond finds no space, as a real one would."""

    def __init__(self, folder: Path, room_bytes: int) -> None:
        self.folder = folder
        self.room_bytes = room_bytes

    def free_bytes(self) -> int:
        files = [path.stat() for path in self.folder.rglob("*") if path.is_file()]
        return self.room_bytes - sum(each.st_blocks * 512 for each in files)

    def _take(self, buffers: Sequence[Buffer]) -> None:
        if sum(len(each) for each in buffers) > self.free_bytes():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def write(self, descriptor: int, buffers: Sequence[Buffer]) -> None:
        self._take(buffers)
        super().write(descriptor, buffers)

    def write_at(self, descriptor: int, buffers: Sequence[Buffer], offset: int) -> None:
        if offset + sum(len(each) for each in buffers) > os.fstat(descriptor).st_size:
            self._take(buffers)
        super().write_at(descriptor, buffers, offset)

    def copy(self, source: int, offset: int, length: int, target: int) -> None:
        self._take([bytes(length)])
        super().copy(source, offset, length, target)


class CountedGuard(DiskGuard):
    """A guard that asks the disk that counts."""

    def __init__(self, disk: CountedDisk, reserve_bytes: int) -> None:
        super().__init__(disk.folder, reserve_bytes)
        self._disk = disk

    def space(self) -> Space:
        return Space(self._disk.room_bytes, self._disk.free_bytes(), 1 << 20)


def fill_up_and_heal(folder: Path) -> str:
    """Send until refused, at the reserve and with the reserve gone; then make space. What happened, in a line."""
    reserve_bytes, log_bytes = 20 * MIB, 8 * MIB
    disk = CountedDisk(folder, 60 * MIB)
    with box_in(folder, disk=disk, log_bytes=log_bytes) as plain:
        box = replace(plain, guard=CountedGuard(disk, reserve_bytes))
        reception = Reception(box, "worker")
        acknowledged = []
        for number in range(1000):
            instance = Instance(number, pixel_bytes=(40_000, 900_000, 2_500_000)[number % 3])
            try:
                reception.admit()
                send(reception, instance)
            except OutOfResources:
                break
            acknowledged.append(instance)
        left_bytes = disk.free_bytes()
        assert len(acknowledged) > 10
        # What is in the log has yet to settle, and the last of the senders to finish.
        assert reserve_bytes - log_bytes - 3 * MIB < left_bytes < reserve_bytes + MIB

        disk.room_bytes -= left_bytes
        # Nobody asks the guard any more: the writes themselves find no space.
        box.guard.reserve_bytes = -disk.room_bytes
        for number in (2000, 2001):
            with pytest.raises(OutOfResources):
                send(reception, Instance(number, pixel_bytes=(1_300_000, 2_500_000)[number % 2]))
        # There is room for this one in the log, which was set apart for it.
        send(reception, small := Instance(2002, pixel_bytes=40_000))
        acknowledged.append(small)
        box.guard.reserve_bytes = reserve_bytes
        with pytest.raises(OutOfResources):
            reception.admit()

        disk.room_bytes += 40 * MIB
        reception.admit()
        send(reception, last := Instance(3000, pixel_bytes=2_500_000))
        wait_for(lambda: reception.waiting == 0, "what waited in the log settles by itself")
        reception.close()
        kept = sorted(data_set_of(box, row) for row in recorded(box))
        assert kept == sorted(each.data_set for each in [*acknowledged, last])
        assert list(box.objects.parts.rglob("*.*")) == []
        return f"refused with {left_bytes / MIB:.1f} MiB left, {len(kept)} instances kept"


def test_a_disk_that_counts_refuses_in_time_and_heals(tmp_path: Path) -> None:
    assert fill_up_and_heal(tmp_path)
