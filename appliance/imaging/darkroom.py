"""Children that render, and the queue before them: a time limit each, a new child for one that dies.

The parent serves byte ranges of the sealed object to the child that asks (`child` has the table of messages), so a
frame of a large volume costs that frame, and clear text passes through pipes only.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import selectors
import struct
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from typing import Any, Protocol

from appliance.imaging.facts import Facts
from appliance.imaging.pixels import View
from appliance.imaging.recorded import NotShown, Window

TASK_SECONDS = 20.0
"""How long a picture may take before its child is ended."""

QUEUE_SECONDS = 15.0
"""How long a request waits for a free child before it is told to come back."""

_MAX_ANSWER_BYTES = 256 << 20
_CHUNK = 1 << 20
_REASONS = frozenset(
    ("no-image", "unsupported", "malformed", "too-large", "no-such-frame", "crashed", "timeout", "busy")
)


_ANSWERED = _REASONS - {"crashed", "timeout", "too-large"}
"""Reasons after which a child is ready for the next task; one that ran out of memory ends itself."""


class ObjectReader(Protocol):
    """The clear bytes of one stored object, opened at random."""

    def seek(self, offset: int, whence: int = 0, /) -> int: ...
    def read(self, size: int = -1, /) -> bytes | None: ...


class Darkroom:
    """Renders instances in child processes. Thread-safe; `close` ends the children."""

    def __init__(self, children: int = 2, *, task_seconds: float = TASK_SECONDS) -> None:
        self._task_seconds = task_seconds
        self._idle: queue.LifoQueue[_Child | None] = queue.LifoQueue()
        for _ in range(children):
            self._idle.put(None)  # a place; its child starts with the first picture, or by `warm`
        self._closed = threading.Event()
        self._count = children

    def warm(self) -> None:
        """Start the children now, so that the first picture does not wait for their imports."""
        places: list[_Child | None] = []
        with contextlib.suppress(queue.Empty):
            while True:
                places.append(self._idle.get_nowait())
        for place in places:
            try:
                place = place or _Child()
            finally:
                self._idle.put(place)

    def render(self, reader: ObjectReader, size_bytes: int, view: View) -> bytes:
        """The picture of `view` as a file. Raises `NotShown`, and what `reader` raises (`Corrupt`)."""
        return self._develop({"do": "render", "size": size_bytes, "view": asdict(view)}, reader)

    def describe(self, reader: ObjectReader, size_bytes: int) -> Facts:
        """The facts of the instance. Raises like `render`."""
        facts: dict[str, Any] = json.loads(self._develop({"do": "describe", "size": size_bytes}, reader))
        facts["windows"] = tuple(Window(**window) for window in facts["windows"])
        facts["teeth"] = tuple(facts["teeth"])
        facts["spacing_mm"] = tuple(facts["spacing_mm"]) if facts["spacing_mm"] else None
        return Facts(**facts)

    def _develop(self, task: dict[str, Any], reader: ObjectReader) -> bytes:
        try:
            child = self._idle.get(timeout=QUEUE_SECONDS)
        except queue.Empty:
            raise NotShown("busy") from None
        try:
            if self._closed.is_set():
                raise NotShown("busy")
            if child is None:
                child = _Child()
            return child.develop(task, reader, time.monotonic() + self._task_seconds)
        except BaseException as error:
            # A conversation that was broken off would go on with the next picture, which may be another patient's:
            # only a child that has given its whole answer is used again.
            answered = isinstance(error, NotShown) and error.reason in _ANSWERED
            if child is not None and not answered:
                child.end()
                child = None
            raise
        finally:
            self._idle.put(child)

    def close(self) -> None:
        """End the children; pictures being made are finished first."""
        self._closed.set()
        for _ in range(self._count):
            with contextlib.suppress(queue.Empty):
                child = self._idle.get(timeout=self._task_seconds)
                if child is not None:
                    child.end()


class _Child:
    """One process and the conversation with it."""

    def __init__(self) -> None:
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "appliance.imaging.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            close_fds=True,
            # Ctrl-C in the terminal is for the parent to handle. No session of its own: the kernel would give it as much
            # of the processor as all the rest together.
            process_group=0,
        )
        assert self._process.stdin and self._process.stdout
        self._to = self._process.stdin.fileno()
        self._from = self._process.stdout.fileno()
        os.set_blocking(self._to, False)
        os.set_blocking(self._from, False)

    @property
    def pid(self) -> int:
        return self._process.pid

    def develop(self, task: dict[str, Any], reader: ObjectReader, deadline: float) -> bytes:
        text = json.dumps(task).encode()
        self._send(struct.pack(">I", len(text)) + text, deadline)
        while True:
            kind = self._receive(1, deadline)
            if kind == b"R":
                offset, length = struct.unpack(">QI", self._receive(12, deadline))
                reader.seek(offset)
                self._send_range(reader, length, deadline)
            elif kind in (b"D", b"E"):
                (length,) = struct.unpack(">I", self._receive(4, deadline))
                if length > _MAX_ANSWER_BYTES:
                    raise NotShown("crashed")
                payload = self._receive(length, deadline)
                if kind == b"D":
                    return payload
                reason = payload.decode("ascii", "replace")
                raise NotShown(reason if reason in _REASONS else "crashed")  # type: ignore[arg-type]
            else:
                raise NotShown("crashed")

    def _send_range(self, reader: ObjectReader, length: int, deadline: float) -> None:
        data = bytearray()
        while len(data) < length and (piece := reader.read(length - len(data))):
            data += piece
        self._send(struct.pack(">I", len(data)), deadline)
        self._send(data, deadline)

    def _send(self, data: bytes | bytearray, deadline: float) -> None:
        left = memoryview(data)
        while left:
            try:
                left = left[os.write(self._to, left[:_CHUNK]) :]
            except BlockingIOError:
                self._wait(self._to, selectors.EVENT_WRITE, deadline)
            except BrokenPipeError:
                raise NotShown("crashed") from None

    def _receive(self, count: int, deadline: float) -> bytes:
        pieces: list[bytes] = []
        while count:
            try:
                piece = os.read(self._from, min(count, _CHUNK))
            except BlockingIOError:
                self._wait(self._from, selectors.EVENT_READ, deadline)
                continue
            if not piece:
                raise NotShown("crashed")
            pieces.append(piece)
            count -= len(piece)
        return b"".join(pieces)

    def _wait(self, descriptor: int, event: int, deadline: float) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, event)
            left = deadline - time.monotonic()
            if left <= 0 or not selector.select(left):
                raise NotShown("timeout")

    def end(self) -> None:
        self._process.kill()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        self._process.wait()
