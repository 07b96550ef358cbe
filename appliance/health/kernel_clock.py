"""What the kernel says of its clock: does something discipline it (``adjtimex(2)``, asked without changing anything), and how long does it run?

The walls of the appliance's units forbid that call, since it is also the one that sets the clock: a unit of its own, without network or
data, asks before they start and every two minutes, and writes down what it was told (`systemd/libexec/clock-state`). Rejected: to let one of the appliance's
processes make the call, because the one that may is the one that calls mail servers, buckets and webhooks.
"""

from __future__ import annotations

import ctypes
import functools
import time
from datetime import timedelta
from pathlib import Path

from appliance.catalog.known_clock import Running
from appliance.health.facts import Discipline

_STATUS_OFFSET_LONGS = 4
"""``struct timex``: modes (padded to a long), offset, freq, maxerror, esterror, then the int ``status``."""
_TIMEX_BYTES = 512  # 208 on 64-bit Linux; the rest is room
_STA_UNSYNC = 0x40

TOLD = Path("/run/appliance-clock/state")
"""Where clock-state.service writes: the word of a `Discipline`, and for how many seconds the machine was on then."""

TOLD_FOR_SECONDS = 900
"""It is written every two minutes; what is older says nothing of now."""


def discipline() -> Discipline:
    """Whether the clock follows a time server; unknown where the kernel can't be asked, and nobody else has asked it of late."""
    adjtimex = _adjtimex()
    if adjtimex is None:
        return _told()
    answer = ctypes.create_string_buffer(_TIMEX_BYTES)
    if adjtimex(answer) < 0:
        return _told()
    place = (_STATUS_OFFSET_LONGS + 1) * ctypes.sizeof(ctypes.c_long)
    status = ctypes.c_int.from_buffer(answer, place).value
    return Discipline.FREE if status & _STA_UNSYNC else Discipline.FOLLOWS


def _told() -> Discipline:
    try:
        word, at = TOLD.read_text("ascii").split()
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - float(at)
        return Discipline(word) if -1 <= age <= TOLD_FOR_SECONDS else Discipline.UNKNOWN
    except (OSError, ValueError):
        return Discipline.UNKNOWN


def running() -> Running | None:
    """Since which start the machine runs, and for how long, asleep or awake; None where the kernel can't be asked."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return Running(boot, timedelta(seconds=time.clock_gettime(time.CLOCK_BOOTTIME)))
    except (OSError, ValueError):
        return None


def boot() -> str:
    """Which start of the machine this is; empty where the kernel can't be asked."""
    found = running()
    return found.boot if found else ""


@functools.cache
def _adjtimex() -> ctypes._NamedFuncPointer | None:
    try:
        return ctypes.CDLL(None).adjtimex
    except (OSError, AttributeError):
        return None
