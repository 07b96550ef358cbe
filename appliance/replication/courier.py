"""The process that meets obligations: claims what is due, sends it, and writes down the proof.

One lane per destination, so that a dead one holds nobody up; a few threads per lane. A thread claims a batch under a
lease, sends it in one session, and records outcomes in small transactions: the receipt, the audit row and the mark for
the study's manifest together, or none of them. A crash between sending and recording means one more send, which every
destination takes for what it is; a crash anywhere else means only that a lease is taken back at the next start.

Errors about the destination (`Transient`, `OperatorNeeded`) open its circuit breaker; what was claimed with the one
that failed goes back untouched. Only `Refused` and `Corrupt` are about an object: it is FAILED, and audited.

Threads, since they wait for the network and the disk; hashing and decryption let other threads run meanwhile. One
courier per box, by a lock: that is why, at its start, every lease can be taken back at once.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Final

from appliance import supervision
from appliance.box import Box
from appliance.catalog import deliveries, destinations, processes
from appliance.errors import OperatorNeeded, Transient
from appliance.replication.batch import ACTOR, Counts, Errand, Held, Surroundings
from appliance.replication.lane import Lane

log = logging.getLogger(__name__)

BEAT_SECONDS: Final = 5.0
TROUBLE_SECONDS: Final = 2.0


def run(box: Box, stop: threading.Event, surroundings: Surroundings | None = None) -> None:
    """Deliver until `stop` is set; then finish what is being sent and give the rest back.

    Raises `OperatorNeeded` if a courier already works on this box.
    """
    with _alone(box):
        Courier(box, surroundings or Surroundings()).run(stop)


@contextmanager
def _alone(box: Box) -> Iterator[None]:
    lock = os.open(box.config.data.absolute() / "courier.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise OperatorNeeded("a courier works on this box already", hint="stop that one first") from error
    try:
        yield
    finally:
        os.close(lock)


class Courier:
    """The lanes of one box, and the thread that looks after them."""

    def __init__(self, box: Box, surroundings: Surroundings) -> None:
        self._box = box
        self._around = surroundings
        self._held = Held()
        self._lanes: dict[int, Lane] = {}
        self._started = surroundings.now()
        self._counts = Counts()

    def run(self, stop: threading.Event) -> None:
        """See `run`."""
        with self._box.catalog.transaction() as tx:
            lost = deliveries.release_abandoned(tx, self._around.now())
        if lost:
            log.info("took back %d deliveries of a courier that stopped", lost)
        ticks = Ticks()
        supervision.ready("delivering what is owed")
        try:
            while True:
                try:
                    self._look(ticks)
                except Transient as error:
                    log.warning("%s", error)
                    stop.wait(TROUBLE_SECONDS)
                if ticks.due("alive", BEAT_SECONDS):
                    supervision.alive()
                if stop.wait(self._around.poll_seconds):
                    return
        finally:
            supervision.stopping("what is being sent may finish")
            for lane in self._lanes.values():
                lane.stop(at_last=True)
            for lane in self._lanes.values():
                lane.join()

    def _look(self, ticks: Ticks) -> None:
        """Start and stop lanes, wake those with work, renew leases, say that we live."""
        now = self._around.now()
        with self._box.catalog.reading() as conn:
            wanted = {int(each.id): each for each in destinations.destinations(conn) if not each.paused}
            work = deliveries.with_work(conn, now)
            tests = {each.id for each in destinations.health(conn) if each.breaker.test_is_due(now)}
        for number, lane in list(self._lanes.items()):
            if wanted.get(number) != lane.errand.settings:
                lane.stop()
                if lane.join(0):
                    del self._lanes[number]
        for number, settings in wanted.items():
            if number not in self._lanes:
                errand = Errand(self._box, settings, self._around, self._held, self._counts)
                self._lanes[number] = Lane(errand)
        for number, lane in self._lanes.items():
            if number in work or number in tests:
                lane.wake()
        if ticks.due("beat", BEAT_SECONDS):
            with self._box.catalog.transaction() as tx:
                processes.beat(tx, ACTOR, os.getpid(), self._started, now, self._counts.as_detail())
        lease_seconds = self._box.config.courier.lease_seconds
        if ticks.due("lease", lease_seconds / 3):
            with self._box.catalog.transaction() as tx:
                deliveries.renew(tx, self._held.ids(), now=now, lease_seconds=lease_seconds)
                deliveries.release_expired(tx, now)


@dataclass
class Ticks:
    """When something was done last, by the monotonic clock: no jump of the wall clock delays it."""

    last: dict[str, float] = field(default_factory=dict)

    def due(self, what: str, seconds: float) -> bool:
        """Whether `what` was never done or `seconds` ago; if so, it counts as done now."""
        now = monotonic()
        if what in self.last and now - self.last[what] < seconds:
            return False
        self.last[what] = now
        return True
