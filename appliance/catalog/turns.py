"""Whose turn it is to write: processes that want the catalog's one write lock stand in a line, and nobody is passed twice.

SQLite has no line: whoever finds its lock taken sleeps, up to a tenth of a second at a time, and whoever comes by at the
right moment takes it. Two processes that store images without a pause then keep a third out for as long as they like, and
a page, whose row in the audit must be written before it is shown, waits for seconds or is refused as *busy*.

Chose two locks of the kernel before SQLite's. Whoever holds *next* is the only one who waits for *now*, and lets *next* go
once it has *now*: a process that has just written and wants to write again finds *next* taken by the one that waits, and
comes after it. Both are ``flock`` on files of their own, so that the end of a process, whatever it dies of, gives them
back. They only order: what keeps the catalog whole is SQLite's own lock, as before. Rejected: a shorter sleep between
SQLite's own attempts, which still leaves to chance who comes next; a writer process for all, one more that must be alive.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from appliance.errors import OperatorNeeded, Transient

FIRST_LOOK_SECONDS, LOOK_SECONDS = 0.0003, 0.002
"""Between two looks at a lock that is taken: a commit takes some milliseconds, and one process looks at each lock."""


class Turns:
    """The line before the catalog at `path`. Threads of a process stand in it one at a time; open after forking."""

    def __init__(self, path: Path) -> None:
        self._next, self._now = path.with_name(path.name + ".next"), path.with_name(path.name + ".now")
        self._mine = threading.Lock()
        self._descriptors: tuple[int, int] | None = None

    @contextmanager
    def turn(self, patience_seconds: float) -> Iterator[None]:
        """Hold the turn for the time of the block. Raises `Transient` when it doesn't come within `patience_seconds`."""
        deadline = time.monotonic() + patience_seconds
        if not self._mine.acquire(timeout=patience_seconds):
            raise _busy()
        try:
            following, now = self._opened()
            _lock(following, deadline)
            try:
                _lock(now, deadline)
            finally:
                fcntl.flock(following, fcntl.LOCK_UN)
            try:
                yield
            finally:
                fcntl.flock(now, fcntl.LOCK_UN)
        finally:
            self._mine.release()

    def close(self) -> None:
        """Close the files, unless somebody still writes: then they are left to the end of the process."""
        if not self._mine.acquire(blocking=False):
            return
        try:
            for descriptor in self._descriptors or ():
                os.close(descriptor)
            self._descriptors = None
        finally:
            self._mine.release()

    def _opened(self) -> tuple[int, int]:
        if self._descriptors is None:
            following = _open(self._next)
            try:
                self._descriptors = following, _open(self._now)
            except BaseException:
                os.close(following)
                raise
        return self._descriptors


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise OperatorNeeded(
            f"the folder of the catalog {path.parent} cannot be used ({error.strerror})",
            hint="check that the data folder exists and that this user may write there",
        ) from error


def _lock(descriptor: int, deadline: float) -> None:
    pause = FIRST_LOOK_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise _busy() from None
        time.sleep(pause)
        pause = min(2 * pause, LOOK_SECONDS)


def _busy() -> Transient:
    return Transient("the catalog is busy", hint="it is tried again by itself")
