"""Whose turn it is to write: processes that want the catalog's one write lock stand in a line, and nobody is passed twice.

SQLite has no line: whoever finds its lock taken sleeps, up to a tenth of a second at a time, and whoever comes by at the
right moment takes it. Two processes that store images without a pause then keep a third out for as long as they like, and
a page, whose row in the audit must be written before it is shown, waits for seconds or is refused as *busy*.

Chose two locks of the kernel before SQLite's. Whoever holds *next* is the only one who waits for *now*, and lets *next* go
once it has *now*: a process that has just written and wants to write again finds *next* taken by the one that waits, and
comes after it. Both are ``flock`` on files of their own, so that the end of a process, whatever it dies of, gives them
back. And a third, *first*, shared by whoever waits for a person: who works through something in the background, where
nobody waits for the one row, looks at it, and steps out of the line for whoever comes. With four processes that store
images, a page else waits for two or three of their batches. They only order: what keeps the catalog whole is SQLite's own lock, as before. Rejected: a shorter sleep between
SQLite's own attempts, which still leaves to chance who comes next; a writer process for all, one more that must be alive.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from appliance.catalog.errors import PASSES, Unanswered
from appliance.errors import OperatorNeeded

FIRST_LOOK_SECONDS, LOOK_SECONDS = 0.0003, 0.002
"""Between two looks at a lock that is taken: a commit takes some milliseconds, and one process looks at each lock."""
GIVE_WAY_SECONDS = 0.5
"""So long at most does the background let others go before: then it stands in the line like everybody."""


class Turns:
    """The line before the catalog at `path`. Threads of a process stand in it one at a time; open after forking."""

    def __init__(self, path: Path) -> None:
        self._paths = [path.with_name(path.name + each) for each in (".first", ".next", ".now")]
        self._mine = threading.Lock()
        self._descriptors: list[int] | None = None
        self._in_background = False

    def give_way(self) -> None:
        """From now on, let those go before for whom somebody waits: what this process writes is of the background."""
        self._in_background = True

    @contextmanager
    def turn(self, patience_seconds: float) -> Iterator[None]:
        """Hold the turn for the time of the block. Raises `Unanswered` when it doesn't come within `patience_seconds`."""
        deadline = time.monotonic() + patience_seconds
        if not self._mine.acquire(timeout=patience_seconds):
            raise _busy()
        try:
            first, following, now = self._opened()
            if self._in_background:
                _come_behind(first, following, now, deadline)
            else:
                _come(first, following, now, deadline)
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

    def _opened(self) -> list[int]:
        if self._descriptors is None:
            opened: list[int] = []
            try:
                opened.extend(_open(each) for each in self._paths)
            except BaseException:
                for descriptor in opened:
                    os.close(descriptor)
                raise
            self._descriptors = opened
        return self._descriptors


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise OperatorNeeded(
            f"the folder of the catalog {path.parent} cannot be used ({error.strerror})",
            hint="check that the data folder exists and that this user may write there",
        ) from error


def _come(first: int, following: int, now: int, deadline: float) -> None:
    """Stand in the line for a person, until it is one's turn."""
    _lock(first, deadline, fcntl.LOCK_SH)
    try:
        _lock(following, deadline)
        try:
            _lock(now, deadline)
        finally:
            fcntl.flock(following, fcntl.LOCK_UN)
    finally:
        fcntl.flock(first, fcntl.LOCK_UN)


def _come_behind(first: int, following: int, now: int, deadline: float) -> None:
    """Stand in the line, and step out of it whenever somebody comes for a person; for `GIVE_WAY_SECONDS` at most."""
    polite_until = min(deadline, time.monotonic() + GIVE_WAY_SECONDS)

    def steps_aside() -> bool:
        return time.monotonic() < polite_until and not _is_free(first)

    while True:
        while steps_aside():
            time.sleep(LOOK_SECONDS)
        _lock(following, deadline)
        try:
            if _lock(now, deadline, unless=steps_aside):
                if not steps_aside():
                    return
                fcntl.flock(now, fcntl.LOCK_UN)  # somebody has come since this process looked last
        finally:
            fcntl.flock(following, fcntl.LOCK_UN)


def _lock(
    descriptor: int, deadline: float, how: int = fcntl.LOCK_EX, unless: Callable[[], bool] = lambda: False
) -> bool:
    """Take a lock; False if `unless` came true before. Raises `Unanswered` at `deadline`."""
    pause = FIRST_LOOK_SECONDS
    while not _took(descriptor, how):
        if time.monotonic() >= deadline:
            raise _busy()
        if unless():
            return False
        time.sleep(pause)
        pause = min(2 * pause, LOOK_SECONDS)
    return True


def _took(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_free(lock: int) -> bool:
    """Whether nobody has it. Another who asks the same at this moment counts as somebody, which costs one more look."""
    if not _took(lock, fcntl.LOCK_EX):
        return False
    fcntl.flock(lock, fcntl.LOCK_UN)
    return True


def _busy() -> Unanswered:
    return Unanswered("the catalog is busy", hint=PASSES)
