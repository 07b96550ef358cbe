"""A disk that fails below everything: below SQLCipher as below our own files.

libfiu's library of POSIX calls, loaded before the C library, asks it of each call whether it fails. A process that was started
with it fails at the calls that it chooses itself. Run as a program this receives images on a box that lies in a folder, and says on its
output which were acknowledged: ``python -m tests.ingest.failing_disk FOLDER HOW FIRST LAST STEP``.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from appliance.errors import ApplianceError, Corrupt, OperatorNeeded, OutOfResources, Transient
from appliance.ingest import Reception
from tests.boxes import box_in, data_set_of, recorded, send
from tests.instances import Instance

WRITING = ("rw/pwrite", "rw/write", "rw/writev", "rw/pwritev", "rw/ftruncate", "sync/fsync", "sync/fdatasync")
READING = ("rw/pread",)
HOWS = {
    "once": (WRITING, False),
    "from then on": (WRITING, True),
    "reading once": (READING, False),
    "reading from then on": (READING, True),
}
"""Which calls fail, and whether all that come after the first do."""

BEFORE = (Instance(1), Instance(2, study=2, pixel_bytes=100_000))
MEANWHILE = (
    Instance(3),
    Instance(4, study=2, pixel_bytes=300_000),
    Instance(5, study=3, pixel_bytes=3 << 20),
)
AFTER = (Instance(6), *MEANWHILE)
"""A sender that was refused sends again."""

ALL = {each.sop_instance_uid: each for each in (*BEFORE, *AFTER)}
_ENABLED = ctypes.CFUNCTYPE(
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.POINTER(ctypes.c_int),
    ctypes.POINTER(ctypes.c_void_p),
    ctypes.POINTER(ctypes.c_uint),
)


def preload() -> str:
    """Debian's library of failing calls."""
    found = sorted(
        [
            *Path("/usr/lib").glob("fiu/fiu_posix_preload.so"),
            *Path("/usr/lib").glob("*/fiu/fiu_posix_preload.so"),
        ]
    )
    assert found, "libfiu is not installed: apt-get install fiu-utils, or run make setup"
    return str(found[0])


class Faults:
    """What fails in this process: nothing, until it is armed."""

    def __init__(self) -> None:
        self._fiu = ctypes.CDLL("libfiu.so.0")
        self._fiu.fiu_init(0)
        self._asked = _ENABLED(self._fails)  # kept: C holds no reference
        self._lock = threading.Lock()
        self._names: tuple[str, ...] = ()
        self._at, self._goes_on = 0, False
        self.calls = 0
        """How many of the calls came since it was armed."""

    def arm(self, names: Iterable[str], at: int, *, goes_on: bool) -> None:
        """Fail the `at`-th of these calls (from 1; 0 for none) with EIO; with `goes_on` each that comes after it, too."""
        self._names, self._at, self._goes_on, self.calls = tuple(names), at, goes_on, 0
        for name in self._names:
            told = self._fiu.fiu_enable_external(
                f"posix/io/{name}".encode(), 1, ctypes.c_void_p(errno.EIO), 0, self._asked
            )
            assert told == 0, name

    def armed_for(self, names: Iterable[str]) -> bool:
        """Whether it is these that fail now."""
        return self._names == tuple(names)

    def disarm(self) -> None:
        """Nothing fails any more."""
        for name in self._names:
            self._fiu.fiu_disable(f"posix/io/{name}".encode())
        self._names = ()

    def _fails(self, *_: Any) -> int:
        with self._lock:
            self.calls += 1
            return int(self.calls == self._at or (self._goes_on and self.calls > self._at > 0))


def through_what_can_fail() -> None:
    """libfiu does not know every call: do by those that it knows what our own files are written by besides."""

    def write_at(descriptor: int, buffers: Iterable[Any], offset: int) -> int:
        return os.pwrite(descriptor, b"".join(buffers), offset)

    def copy(source: int, target: int, count: int, offset: int = 0) -> int:
        return os.write(target, os.pread(source, count, offset))

    os.pwritev = write_at  # type: ignore[assignment]
    os.copy_file_range = copy  # type: ignore[assignment]


def receive(folder: Path, faults: Faults, names: Iterable[str], at: int, *, goes_on: bool) -> dict[str, Any]:
    """Receive on the box in `folder`, on a disk that fails meanwhile and is well again after; who was acknowledged, and what became of others."""
    told: dict[str, Any] = {"acknowledged": [], "refused": [], "defects": []}

    def offer(images: Iterable[Instance]) -> None:
        for image in images:
            if attempt("receiving", partial(send, reception, image)):
                told["acknowledged"].append(image.sop_instance_uid)

    def attempt(doing: str, work: Callable[[], object]) -> bool:
        try:
            work()
        except (Transient, OutOfResources, OperatorNeeded) as error:
            told["refused"].append(f"{doing}: {type(error).__name__}: {error.message}")
        except Corrupt as error:
            # An index of which nothing can be read says the same as one that is damaged; well again, it is whole.
            told["refused" if faults.armed_for(READING) else "defects"].append(f"{doing}: {error.message}")
        except ApplianceError as error:
            told["defects"].append(f"{doing}: {type(error).__name__}: {error.message}")
        except Exception as error:  # noqa: BLE001 - whatever it is, it is no answer
            told["defects"].append(f"{doing}: {error!r}")
        else:
            return True
        return False

    def look() -> None:
        for row in recorded(box):
            assert data_set_of(box, row) == ALL[row.sop_instance_uid].data_set

    def wait(most_seconds: float) -> None:
        until = time.monotonic() + most_seconds
        while reception.waiting and time.monotonic() < until:
            time.sleep(0.02)

    with box_in(folder) as box:
        reception = Reception(box, "worker")
        offer(BEFORE)
        faults.arm(names, at, goes_on=goes_on)
        offer(MEANWHILE)
        wait(1.0 if goes_on else 60.0)  # so long as it fails they wait
        attempt("looking", look)
        told["calls"] = faults.calls
        faults.disarm()
        told["refused before"] = len(told["refused"])
        offer(AFTER)
        wait(60.0)
        reception.close()
        told["waiting"] = reception.waiting
        attempt("looking again", look)
        told["recorded"] = sorted(row.sop_instance_uid for row in recorded(box))
    return told


def run(folder: Path, how: str, at: range) -> list[dict[str, Any]]:
    """What `receive` tells of each of these failures, on copies of the box in `folder`, from a process that libfiu is loaded in."""
    environment = os.environ | {"LD_PRELOAD": preload(), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-m", __name__, folder, how, str(at.start), str(at.stop), str(at.step)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def main() -> None:
    folder, how, first, last, step = sys.argv[1:]
    through_what_can_fail()
    faults, (names, goes_on) = Faults(), HOWS[how]
    for at in range(int(first), int(last), int(step)):
        copy = Path(folder).parent / f"{how} {at}"
        shutil.copytree(folder, copy)
        print(
            json.dumps(receive(copy, faults, names, at, goes_on=goes_on) | {"at": at, "folder": str(copy)}),
            flush=True,
        )


if __name__ == "__main__":
    main()
