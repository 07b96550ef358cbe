"""The disk's reserve of files: a disk full of small ones has bytes to spare, and is full all the same."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance.catalog import settings
from appliance.errors import OutOfResources
from appliance.ingest import Reception
from appliance.store.guard import RESERVE_INODES, DiskGuard, Space
from tests.boxes import box_in, recorded, send
from tests.instances import Instance
from tests.store import few_inodes
from tests.system.running import wait_for
from tests.system.test_small_disk import namespace_for

ROOT = Path(__file__).parents[2]


class CountedGuard(DiskGuard):
    """A guard of a disk that has room for `few_inodes.INODES` files, of those that lie in `folder`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, 0)
        self._folder = folder

    def space(self) -> Space:
        taken = sum(1 for _ in self._folder.rglob("*"))
        return replace(super().space(), free_inodes=few_inodes.INODES - taken)


def test_a_disk_without_room_for_more_files_refuses_in_time_and_heals(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a real file system of few inodes where one may be mounted; else on a guard that counts, and the output says so."""
    begin = namespace_for(tmp_path, f"size={few_inodes.SIZE_BYTES},nr_inodes={few_inodes.INODES}")
    if begin is None:
        told = few_inodes.refuse_and_heal(CountedGuard(tmp_path), tmp_path / "ballast")
        told = f"nobody may mount a file system here: {told}"
    else:
        story = [sys.executable, "-m", "tests.store.few_inodes", str(tmp_path)]
        done = subprocess.run([*begin, *story], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-5000:]
        told = f"on a file system of its own: {done.stdout.strip()}"
    with capsys.disabled():
        print(f"\nfew inodes, {told}")


def test_reception_is_refused_and_the_rest_goes_on_until_there_is_room_again(tmp_path: Path) -> None:
    with box_in(tmp_path / "data") as plain:
        box = replace(plain, guard=CountedGuard(tmp_path))
        reception = Reception(box, "worker")
        reception.admit()
        send(reception, Instance(1))
        too_many = box.guard.space().free_inodes - RESERVE_INODES + 100
        ballast = [tmp_path / str(number) for number in range(too_many)]
        for path in ballast:
            path.touch()
        with pytest.raises(OutOfResources, match="no room for more files"):
            reception.admit()
        with pytest.raises(OutOfResources):
            send(reception, Instance(2))
        with box.catalog.transaction() as tx:
            settings.put(tx, "tests", "written", datetime.now(UTC))
        wait_for(lambda: len(recorded(box)) == 1, "what was acknowledged is recorded all the same")
        for path in ballast:
            path.unlink()
        reception.admit()
        send(reception, Instance(2))
        reception.close()
        assert len(recorded(box)) == 2


def test_a_file_system_that_does_not_count_files_is_never_full_of_them(tmp_path: Path) -> None:
    begin = namespace_for(tmp_path, f"size={few_inodes.SIZE_BYTES},nr_inodes=0")
    script = (
        "import sys; from pathlib import Path; from appliance.store.guard import DiskGuard\n"
        "guard = DiskGuard(Path(sys.argv[1]), 0); guard.admit(); print(guard.space().free_inodes)"
    )
    if begin is None:  # what is mounted here counts, and has room for the test's own files
        DiskGuard(tmp_path, 0).admit()
        return
    done = subprocess.run(
        [*begin, sys.executable, "-c", script, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > few_inodes.INODES
