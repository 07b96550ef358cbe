"""How large an archive the scrub reads again within its thirty days: from how fast it reads here, and how long it rests.

Objects of 20 KB and of 13 MB are read by the scrub itself, one slice after the other without a rest, from the disk and not from
memory. A film of 13 MB says what a byte costs, one of 20 KB what an object costs. From there on it is arithmetic: while a quarter of the
processors lies idle the scrub does not rest; else it works for a thirty-second of all of them (`appliance.pace`), by the clock on the wall.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from appliance.box import Box
from appliance.lifecycle import scrub
from appliance.pace import SHARE
from tests.boxes import box_in, take_in
from tests.instances import Instance

SMALL_BYTES, SMALL = 20_000, 300
LARGE_BYTES, LARGE = 13_000_000, 20
WITHIN_DAYS = 30
A_DAY_SECONDS = 86_400


@dataclass(frozen=True)
class Speed:
    """Seconds by the clock, and of the processor, for a small object and for a byte of a large one."""

    object_seconds: float
    object_processor_seconds: float
    byte_seconds: float
    byte_processor_seconds: float


def measured(folder: Path) -> Speed:
    """Read small objects, then large ones, as they lie on the disk of `folder`."""
    small = _seconds(folder, SMALL_BYTES, SMALL)
    large = _seconds(folder, LARGE_BYTES, LARGE)
    return Speed(
        small[0] / SMALL,
        small[1] / SMALL,
        large[0] / LARGE / LARGE_BYTES,
        large[1] / LARGE / LARGE_BYTES,
    )


def _seconds(folder: Path, size: int, count: int) -> tuple[float, float]:
    with _box(folder) as box:
        for number in range(count):
            take_in(box, Instance(number, study=number // 4, pixel_bytes=size), datetime.now(UTC))
        os.sync()
        for path in box.config.data.rglob("*.sealed"):
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        began, processor = time.monotonic(), time.process_time()
        found = scrub.scrub(box, datetime.now(UTC), most=count, rest=lambda: None)
        took = time.monotonic() - began, time.process_time() - processor
        assert (found.checked, found.lost) == (count, ()), f"{found.checked} of {count} were read"
    return took


@contextmanager
def _box(folder: Path) -> Iterator[Box]:
    data = Path(tempfile.mkdtemp(prefix="reading-", dir=folder))
    try:
        with box_in(data) as box:
            yield box
    finally:
        shutil.rmtree(data, ignore_errors=True)


def reach(seconds_each: float, share: float) -> float:
    """How many, of which each takes so long, are read within the thirty days when reading has `share` of the time."""
    return WITHIN_DAYS * A_DAY_SECONDS * share / seconds_each


def told(speed: Speed, processors: int) -> str:
    """In words, for the foot of the table."""
    without = min(1.0, SHARE * processors)
    small = [reach(speed.object_seconds, share) / 1e6 for share in (1, without)]
    large = [reach(speed.byte_seconds, share) / 1e12 for share in (1, without)]
    return (
        f"An object of {SMALL_BYTES // 1000} KB is read again in {1000 * speed.object_seconds:.1f} ms"
        f" ({1000 * speed.object_processor_seconds:.1f} ms of processor), large ones at {1e-6 / speed.byte_seconds:.0f} MB/s"
        f" ({1e-6 / speed.byte_processor_seconds:.0f} MB a second of processor).\nWithin {WITHIN_DAYS} days that is"
        f" {small[0]:.0f} million small objects or {large[0]:.0f} TB of large ones while the box has time to spare, and"
        f" {small[1]:.0f} million or {large[1]:.0f} TB on {processors} processors that never have any."
    )
