"""Is this machine fit to be the box? Disk, memory, ports, clock, TPM, the way to the Internet.

Each finding is a code, a tone and values; the sentence and what to do are in the languages (``check.CODE``,
``check.CODE.fix``). Nothing found here stops anybody: a clinic may set up at a desk, without a network.

The way out is tried where copies would go (the S3 address of ca-central-1) and nowhere else; one HEAD request also
gives the hour, which the clock is compared with. It is asked before the claim too, so it is answered from memory for
some seconds: a page that anybody on the LAN may load must not make the box knock somewhere at will.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal

import psutil

from appliance.box import Box
from appliance.errors import ApplianceError
from appliance.health import keys_folder
from appliance.store import keys

GIB: Final = 1 << 30
LEAST_FREE_BYTES: Final = 100 * GIB
LEAST_MEMORY_BYTES: Final = 2 * GIB
MOST_SKEW_SECONDS: Final = 120.0
OLDEST_CLOCK: Final = datetime(2026, 1, 1, tzinfo=UTC)
WAY_OUT: Final = ("s3.ca-central-1.amazonaws.com", 80)
WAY_OUT_SECONDS: Final = 4.0
REMEMBERED_SECONDS: Final = 15.0

Tone = Literal["good", "wait", "bad"]

SUBJECTS: Final = ("disk", "memory", "ports", "clock", "tpm", "internet")

CODES: Final[Mapping[str, Tone]] = MappingProxyType(
    {
        "disk-good": "good",
        "disk-small": "wait",
        "disk-full": "bad",
        "disk-unknown": "bad",
        "memory-good": "good",
        "memory-small": "wait",
        "ports-good": "good",
        "ports-closed": "bad",
        "clock-good": "good",
        "clock-wrong": "bad",
        "clock-past": "bad",
        "clock-alone": "wait",
        "tpm-good": "good",
        "tpm-unused": "wait",
        "tpm-none": "wait",
        "tpm-no-seal": "bad",
        "internet-up": "good",
        "internet-down": "wait",
    }
)
"""Everything that a check can find, and how bad that is."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: `code`, of `CODES`, is what was found; sizes in bytes, times in seconds."""

    code: str
    values: dict[str, str | int] = field(default_factory=dict)

    @property
    def subject(self) -> str:
        """What was looked at."""
        return self.code.partition("-")[0]

    @property
    def tone(self) -> Tone:
        """How bad it is."""
        return CODES[self.code]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is looked at beyond the box, as values so that a test can stand in for the world."""

    way_out: tuple[str, int] = WAY_OUT
    tpm: Path = Path("/sys/class/tpm/tpm0")
    time_is_synchronised: Path = Path("/run/systemd/timesync/synchronized")
    memory_bytes: Callable[[], int] = lambda: int(psutil.virtual_memory().total)
    now: Callable[[], datetime] = lambda: datetime.now(UTC)


def look(box: Box, around: Surroundings | None = None) -> tuple[Finding, ...]:
    """All checks, in the order in which a page shows them. Takes up to `WAY_OUT_SECONDS` without a connection."""
    around = around or Surroundings()
    hour = _hour_outside(around)
    return (
        _disk(box),
        _memory(around),
        _dicom_port(box),
        _clock(around, hour),
        _seal(box, around),
        Finding("internet-up") if hour is not None else Finding("internet-down", {"host": around.way_out[0]}),
    )


class Remembered:
    """The findings of some seconds ago, whoever asks; one thread looks at a time."""

    def __init__(self, around: Surroundings | None = None, seconds: float = REMEMBERED_SECONDS) -> None:
        self._around = around
        self._seconds = seconds
        self._lock = threading.Lock()
        self._found: tuple[Finding, ...] = ()
        self._looked = 0.0

    def look(self, box: Box) -> tuple[Finding, ...]:
        """The findings, looked for anew if they are old."""
        with self._lock:
            if not self._found or time.monotonic() - self._looked > self._seconds:
                self._found = look(box, self._around)
                self._looked = time.monotonic()
            return self._found


def _disk(box: Box) -> Finding:
    try:
        free = box.guard.space().free_bytes
    except OSError:
        return Finding("disk-unknown")
    usable = max(0, free - box.guard.reserve_bytes)
    if usable == 0:
        return Finding("disk-full", {"free": free})
    if usable < LEAST_FREE_BYTES:
        return Finding("disk-small", {"free": free})
    return Finding("disk-good", {"free": free})


def _memory(around: Surroundings) -> Finding:
    total = around.memory_bytes()
    fits = total >= LEAST_MEMORY_BYTES
    return Finding("memory-good" if fits else "memory-small", {"size": total})


def _dicom_port(box: Box) -> Finding:
    config = box.config.dicom
    address = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(config.bind, config.bind)
    try:
        with socket.create_connection((address, config.port), timeout=2):
            return Finding("ports-good", {"port": str(config.port)})
    except OSError:
        return Finding("ports-closed", {"port": str(config.port)})


def _clock(around: Surroundings, outside: datetime | None) -> Finding:
    now = around.now()
    if outside is not None:
        skew = round(abs((now - outside).total_seconds()))
        if skew > MOST_SKEW_SECONDS:
            return Finding("clock-wrong", {"seconds": skew})
        return Finding("clock-good")
    if now < OLDEST_CLOCK:
        return Finding("clock-past")
    if around.time_is_synchronised.exists():
        return Finding("clock-good")
    return Finding("clock-alone")


def _seal(box: Box, around: Surroundings) -> Finding:
    try:
        guard = keys.guard(keys_folder(box), os.environ)
    except ApplianceError:
        return Finding("tpm-no-seal")
    if guard in {"tpm2", "disk"}:
        return Finding("tpm-good")
    return Finding("tpm-unused" if around.tpm.exists() else "tpm-none")


def _hour_outside(around: Surroundings) -> datetime | None:
    """The hour that the way out tells; None if it does not answer."""
    host, port = around.way_out
    connection = http.client.HTTPConnection(host, port, timeout=WAY_OUT_SECONDS)
    with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException, ValueError):
        connection.request("HEAD", "/")
        told = connection.getresponse().getheader("Date", "")
        return parsedate_to_datetime(told).astimezone(UTC)
    return None
