"""How many requests are worked on at once: a few, and the others stand in a line.

Threads that compute share one interpreter lock. When thirty want it, each looks for it two thousand times a second and gets
it for half a millisecond, so everybody's page is ready when the last one's is, and a quarter of the processor goes into looking.
One after the other, the first is ready long before, and the last no later.

Whoever waits for something else (a server elsewhere, a disk, an image that comes back from the cloud) must not keep others
out of the interpreter: a place that has been held for `LONG_SECONDS` counts no more, and nobody stands in the line for longer.
So this only ever orders: nothing is refused, and no number of slow requests closes the console. Rejected: fewer threads in the
server, since a thread also belongs to each stream and to each of those that wait; to give the place back around every wait,
which every view would have to know.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

MOST: Final = 3
"""One that computes, and two that write or read meanwhile. Measured: with 2 pages take longer, and with 4."""
LONG_SECONDS: Final = 0.25


class Places:
    """So many places, and a line before them."""

    def __init__(self, most: int = MOST, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._held: dict[threading.Event, float] = {}
        self._line: deque[threading.Event] = deque()
        self._lock = threading.Lock()

    @property
    def waiting(self) -> int:
        """How many stand in the line."""
        with self._lock:
            return len(self._line)

    @contextmanager
    def one(self) -> Iterator[None]:
        """Hold a place for the time of the block: at once if one is free, else when one's turn comes or after `LONG_SECONDS`."""
        mine = threading.Event()
        with self._lock:
            self._line.append(mine)
            self._call()
        if not mine.wait(LONG_SECONDS):
            with self._lock:
                if mine in self._line:
                    self._line.remove(mine)
                    self._held[mine] = self._clock()
        try:
            yield
        finally:
            with self._lock:
                del self._held[mine]
                self._call()

    def _call(self) -> None:
        """Give a place to those at the head of the line, as long as there are free ones."""
        moment = self._clock()
        taken = sum(1 for since in self._held.values() if moment - since < LONG_SECONDS)
        while taken < self._most and self._line:
            called = self._line.popleft()
            self._held[called] = moment
            called.set()
            taken += 1


class InPlaces:
    """A WSGI application whose answers are made in `places`; what is streamed after that holds none."""

    def __init__(self, application: WSGIApplication, places: Places) -> None:
        self._application = application
        self._places = places

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        with self._places.one():
            return self._application(environ, start_response)
