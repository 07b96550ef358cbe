"""The child process that decodes: ``python -m appliance.imaging.child``, spoken to over its standard streams.

========== ============================================== ==========================================
direction  message                                        answer
========== ============================================== ==========================================
in         u32 length, JSON task                          any number of ``R``, then one ``D`` or ``E``
out        ``R`` u64 offset, u32 length                   in: u32 length, that many bytes of the object
out        ``D`` u32 length, payload                      (the next task)
out        ``E`` u32 length, reason                       (the next task, but after ``too-large`` the end)
========== ============================================== ==========================================

All integers are big-endian. The process may not write any file or dump core, and has no standard error: decoders
print what they find, and what they find is a patient's.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
import resource
import struct
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from appliance.imaging import facts, pixels
from appliance.imaging.pixels import View
from appliance.imaging.recorded import NotShown, Window

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MEMORY_BYTES = 3 << 29
"""Address space of one child; a 308 MB volume needs one frame of it at a time. The console's unit has room for it (`appliance-web.service`)."""

EXPENDABLE = 500
"""Where memory ends all the same, the kernel takes a child before whoever serves pages (``oom_score_adj``)."""

READ_BYTES = 256 << 10

GIVES_WAY = 5
"""By how much a picture comes after reception and pages where the processor is short: a third of their share."""


class RemoteObject(io.RawIOBase):
    """The sealed object's clear bytes, asked for range by range; holds nothing but the position."""

    def __init__(self, size: int, source: BinaryIO, sink: BinaryIO) -> None:
        self._size = size
        self._source = source
        self._sink = sink
        self._at = 0

    name = "object"
    """pydicom asks a buffered stream for it."""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        wanted = max(0, min(len(view), self._size - self._at))
        if not wanted:
            return 0
        self._sink.write(struct.pack(">cQI", b"R", self._at, wanted))
        self._sink.flush()
        (length,) = struct.unpack(">I", _exactly(self._source, 4))
        view[:length] = _exactly(self._source, length)
        self._at += length
        return int(length)


def serve(source: BinaryIO, sink: BinaryIO) -> None:
    """Answer tasks from `source` on `sink` until `source` ends, or memory does."""
    while head := source.read(4):
        task = json.loads(_exactly(source, struct.unpack(">I", head)[0]))
        stream = io.BufferedReader(RemoteObject(task["size"], source, sink), READ_BYTES)
        try:
            kind, payload = b"D", _answer(task, cast(BinaryIO, stream))
        except NotShown as refusal:
            kind, payload = b"E", refusal.reason.encode()
        except MemoryError:
            kind, payload = b"E", b"too-large"
        sink.write(struct.pack(">cI", kind, len(payload)) + payload)
        sink.flush()
        if payload == b"too-large":
            return  # memory may have ended in the middle of a range: what comes next is no task


def _answer(task: dict[str, object], stream: BinaryIO) -> bytes:
    if task["do"] == "describe":
        return json.dumps(dataclasses.asdict(facts.describe(stream))).encode()
    asked = cast("dict[str, object]", task["view"])
    window = cast("dict[str, float] | None", asked.pop("window"))
    view = View(**asked, window=None if window is None else Window(**window))  # type: ignore[arg-type]
    return pixels.render(stream, view)


def _exactly(source: BinaryIO, count: int) -> bytes:
    data = source.read(count)
    if len(data) != count:
        raise EOFError("the parent has gone")
    return data


def confine() -> None:
    """Limit memory, be the first to go where there is none, forbid writing files and dumping core."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(EXPENDABLE), "ascii")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def main() -> None:
    """Take over the standard streams, confine the process, and serve."""
    source, sink = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)
    with suppress(
        OSError
    ):  # a unit's walls forbid it: its pictures share as its pages do, and reception has a unit of its own
        os.nice(GIVES_WAY)
    confine()
    try:
        serve(source, sink)
    except (EOFError, BrokenPipeError):
        sys.exit(0)


if __name__ == "__main__":
    main()
