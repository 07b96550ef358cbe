"""What has changed, told to every open page: one thread looks at the catalog, each stream waits for its word.

Chosen: Server-Sent Events whose data are a number for each list; where one differs from what the page knows, it asks for
that list again, with its own search and rights, so no patient data passes here and a stream cannot leak one. Streams are
few (each holds a waitress thread): beyond `MOST_STREAMS` the answer is 503, and the page asks `/events/pulse` every
few seconds instead.

Every page carries the numbers that were true before it was made, and a stream begins with those of the moment. Rejected:
to send the names of what has changed. What changes between the making of a page and the opening of its stream is then
told to nobody, and on a busy box that can be seconds.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import asdict, replace

from appliance.catalog import Catalog, people
from appliance.catalog.overview import Pulse, pulse
from appliance.errors import ApplianceError, Transient

LOOK_SECONDS = 0.25
JUDGE_SECONDS = 2.0
COMMENT_SECONDS = 15.0
MOST_STREAMS = 32
"""Of 64 threads: half are always left for pages and pictures."""


class Watcher:
    """Looks at the catalog a few times a second while anybody follows."""

    def __init__(self, catalog: Catalog, judged: Callable[[], int] | None = None) -> None:
        """`judged` gives a number that differs when the judgement of the box has changed; asked now and then only."""
        self._catalog = catalog
        self._judged = judged
        self._judgement = 0
        self._judged_at = float("-inf")
        self._changed = threading.Condition()
        self._pulse: Pulse | None = None
        self._turn = 0
        self._sessions: frozenset[str] = frozenset()
        self._departures = 0
        self._followers = 0
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    def pulse(self) -> Pulse:
        """The numbers of this moment."""
        judgement = self.judgement()
        with self._catalog.reading() as conn:
            return replace(pulse(conn), health=judgement)

    def recent(self) -> Pulse:
        """Numbers that were true a moment ago: those of the last look while somebody follows, else of now."""
        with self._changed:
            known = self._pulse if self._followers else None
        return known or self.pulse()

    def judgement(self) -> int:
        """The number of the judgement, at most `JUDGE_SECONDS` old."""
        moment = time.monotonic()
        if self._judged is not None and moment - self._judged_at >= JUDGE_SECONDS:
            self._judged_at = moment
            self._judgement = self._judged()
        return self._judgement

    def follow(
        self, gone: Callable[[], bool], signed_out: Callable[[], bool], seen: Callable[[Pulse], Pulse]
    ) -> Stream:
        """The stream of one browser, until it is gone, its session has ended, or the console stops.

        `seen` is asked at every change what of it this browser may know. Each event is the numbers of a `Pulse` as JSON,
        the first of them those of the moment.

        Raises `Transient` at once when there are too many.
        """
        with self._changed:
            if self._followers >= MOST_STREAMS:
                raise Transient("too many open pages follow the box live", hint="it is tried again by itself")
            self._followers += 1
            self._start()
        return Stream(self._stream(gone, signed_out, seen), self._leave)

    def _leave(self) -> None:
        with self._changed:
            self._followers -= 1

    def _stream(
        self, gone: Callable[[], bool], signed_out: Callable[[], bool], seen: Callable[[Pulse], Pulse]
    ) -> Generator[str, None, None]:
        with self._changed:
            latest, turn, departures = self._pulse or self.pulse(), self._turn, self._departures
        before = seen(latest)
        yield f"retry: 2000\n{_event(before)}"
        spoken = time.monotonic()
        asked = spoken - COMMENT_SECONDS  # at once: its session may have ended before anybody looked
        while not self._stop.is_set() and not gone():
            with self._changed:
                if self._turn == turn and self._departures == departures:
                    self._changed.wait(1.0)
                looked, latest, turn = latest, self._pulse or latest, self._turn
                left, departures = self._departures != departures, self._departures
            after = before if latest == looked else seen(latest)
            moment = time.monotonic()
            if (
                left or moment - asked >= COMMENT_SECONDS
            ):  # on a busy morning too, when there is no quiet to ask in
                asked = moment
                if signed_out():
                    return
            if after != before:
                before, spoken = after, moment
                yield _event(after)
            elif moment - spoken >= COMMENT_SECONDS:
                spoken = moment
                yield ": still here\n\n"

    def _start(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._look, name="watcher", daemon=True)
            self._thread.start()

    def _look(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            with self._changed:
                if not self._followers:
                    self._pulse = None
                    continue
            try:
                seen = self.pulse()
                with self._catalog.reading() as conn:
                    sessions = people.session_ids(conn)
            except ApplianceError:
                continue  # the catalog is busy or away; health says so, the next look may see
            with self._changed:
                if seen != self._pulse:
                    self._pulse = seen
                    self._turn += 1
                    self._changed.notify_all()
                if self._sessions - sessions:  # somebody's has ended: each stream asks whether it is its own
                    self._departures += 1
                    self._changed.notify_all()
                self._sessions = sessions

    def close(self) -> None:
        """End every stream."""
        self._stop.set()
        with self._changed:
            self._changed.notify_all()


class Stream(Iterator[str]):
    """One browser's stream. Gives its place back when it ends or is closed, even if it was never read."""

    def __init__(self, lines: Generator[str, None, None], leave: Callable[[], None]) -> None:
        self._lines = lines
        self._leave: Callable[[], None] | None = leave

    def __next__(self) -> str:
        try:
            return next(self._lines)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._lines.close()
        leave, self._leave = self._leave, None
        if leave is not None:
            leave()


def _event(pulse: Pulse) -> str:
    return f"data: {json.dumps(asdict(pulse))}\n\n"
