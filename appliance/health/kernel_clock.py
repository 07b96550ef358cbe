"""What the kernel says of its clock: does something discipline it (``adjtimex(2)``, asked without changing anything)?"""

from __future__ import annotations

import ctypes
import functools

from appliance.health.facts import Discipline

_STATUS_OFFSET_LONGS = 4
"""``struct timex``: modes (padded to a long), offset, freq, maxerror, esterror, then the int ``status``."""
_TIMEX_BYTES = 512  # 208 on 64-bit Linux; the rest is room
_STA_UNSYNC = 0x40


def discipline() -> Discipline:
    """Whether the clock follows a time server; unknown where the kernel can't be asked."""
    adjtimex = _adjtimex()
    if adjtimex is None:
        return Discipline.UNKNOWN
    answer = ctypes.create_string_buffer(_TIMEX_BYTES)
    if adjtimex(answer) < 0:
        return Discipline.UNKNOWN
    place = (_STATUS_OFFSET_LONGS + 1) * ctypes.sizeof(ctypes.c_long)
    status = ctypes.c_int.from_buffer(answer, place).value
    return Discipline.FREE if status & _STA_UNSYNC else Discipline.FOLLOWS


@functools.cache
def _adjtimex() -> ctypes._NamedFuncPointer | None:
    try:
        return ctypes.CDLL(None).adjtimex
    except (OSError, AttributeError):
        return None
