"""Documents of an archive read ahead: many are asked for at once, and handed over one by one, in order.

A bucket is 50 to 100 ms away. A restore by manifests alone asks for one document a study: one after the other, 100,000 of them would
wait for hours, during which neither the line nor a processor does anything. So as many are asked for at once as the archive bears
(`Distant`; a disk bears one), while what has come is recorded by one thread, in the order of the list, as it always was.

Of a hundred thousand requests over a clinic's line one will fail, and whoever begins again begins with the first: so each is tried anew, a
moment later, before it counts as failed.

What is held is bounded: in count, and in bytes, whatever the documents are. A failure is raised where its document has its turn, and
one of the list after all that the list had said before: what came earlier is recorded, as if nothing had been read ahead.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from itertools import islice
from typing import Final, TypeVar

from appliance.errors import Transient, Unreadable
from appliance.replication.destinations import Archive
from appliance.replication.destinations.archive import Distant

WAITING: Final = 4
"""So many times what is asked for at once may be on its way or have come, at most, and as many are listed."""

MOST_BYTES: Final = 16 << 20
"""While so much has come that nobody has taken, nothing more is asked for."""

TRIES: Final = 3
PAUSE_SECONDS = 2.0

Wanted = TypeVar("Wanted")
Read = Callable[[], bytes]
"""The document: returns it, or raises what reading it has raised."""


@contextmanager
def reading(
    archive: Archive, wanted: Iterable[Wanted], key_of: Callable[[Wanted], str], *, most: int | None = None
) -> Iterator[Iterator[tuple[Wanted, Read]]]:
    """Each of `wanted`, in order, with its document, whose key `key_of` gives; at most `most` are asked for at once.

    `wanted` may itself ask the archive: it is taken from as needed, by one thread at a time. On leaving, nothing is being read any
    more. Raises what `wanted` raises, once all that it gave before was handed over.
    """

    def reader(each: Wanted) -> Read:
        return partial(archive.document, key_of(each))

    at_once = archive.reads_at_once if isinstance(archive, Distant) else 1
    if most is not None:
        at_once = min(at_once, most)
    if at_once == 1:
        yield ((each, partial(_twice, reader(each))) for each in wanted)
        return
    held = _Held(at_once)
    with _pool(at_once) as readers, _pool(1) as lister:
        try:
            yield _ahead(readers, lister, held, iter(wanted), reader)
        finally:
            held.left.set()


def _twice(reader: Read) -> bytes:
    """Of a disk that does not give back what it holds at the first time: another reading may."""
    with suppress(Unreadable):
        return reader()
    return reader()


@contextmanager
def _pool(threads: int) -> Iterator[ThreadPoolExecutor]:
    pool = ThreadPoolExecutor(threads, thread_name_prefix="read-ahead")
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class _Held:
    """What is on its way and what has come; counted as it happens, since asking each document for each next one takes long."""

    def __init__(self, at_once: int) -> None:
        self._lock = threading.Lock()
        self.at_once = at_once
        self.left = threading.Event()
        """Set when nobody wants any more."""
        self._under_way = self._waiting = self._waiting_bytes = 0

    def begin(self) -> bool:
        """Whether there is room for one more, which is on its way from now on."""
        with self._lock:
            has_room = (
                self._under_way < self.at_once
                and self._under_way + self._waiting < WAITING * self.at_once
                and self._waiting_bytes < MOST_BYTES
            )
            self._under_way += has_room
            return has_room

    def read(self, reader: Read) -> bytes:
        """Read one for which there was room; again where the archive says that it may come later."""
        found = b""
        try:
            for _ in range(TRIES - 1):
                try:
                    found = reader()
                    return found
                except Transient:
                    if self.left.wait(PAUSE_SECONDS):
                        raise
            found = reader()
        finally:
            self._come(1, len(found))
        return found

    def take(self, future: Future[bytes]) -> Read:
        """Hand over one, once it has come."""
        failed = future.exception() is not None
        self._come(-1, 0 if failed else -len(future.result()))
        return future.result

    def _come(self, count: int, size: int) -> None:
        with self._lock:
            self._under_way -= max(count, 0)
            self._waiting += count
            self._waiting_bytes += size


def _ahead(
    readers: ThreadPoolExecutor,
    lister: ThreadPoolExecutor,
    held: _Held,
    source: Iterator[Wanted],
    reader: Callable[[Wanted], Read],
) -> Iterator[tuple[Wanted, Read]]:
    part = WAITING * held.at_once
    asked: deque[tuple[Wanted, Future[bytes]]] = deque()
    listed: deque[Wanted] = deque()
    failure: Exception | None = None
    listing: Future[tuple[list[Wanted], Exception | None]] | None = lister.submit(_next, source, part)
    while asked or listed or listing is not None:
        if listing is not None and len(listed) < held.at_once and (listing.done() or not asked):
            more, failure = listing.result()
            listed += more
            is_over = failure is not None or len(more) < part
            listing = None if is_over else lister.submit(_next, source, part)
        while listed and held.begin():
            each = listed.popleft()
            asked.append((each, readers.submit(held.read, reader(each))))
        if asked:
            taken, future = asked.popleft()
            yield taken, held.take(future)
    if failure is not None:
        raise failure


def _next(source: Iterator[Wanted], count: int) -> tuple[list[Wanted], Exception | None]:
    """The next of a list, fewer than `count` at its end, and what ended it before its time."""
    found: list[Wanted] = []
    try:
        for each in islice(source, count):
            found.append(each)  # noqa: PERF402 - what came before a failure counts
    except Exception as error:  # noqa: BLE001 - raised again where the list has come so far
        return found, error
    return found, None
