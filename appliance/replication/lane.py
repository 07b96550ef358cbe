"""The threads that serve one destination: batches, its connection test, and the documents that an archive keeps.

A thread that finds nothing to do sleeps until the courier wakes it, or for a second. The connection test of an open
breaker is taken by one thread; so are the documents (`appliance.replication.documents`).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Final, cast

from appliance.catalog import deliveries, destinations
from appliance.catalog.deliveries import Claimed
from appliance.errors import ApplianceError
from appliance.replication.batch import Batch, Errand, by_study
from appliance.replication.delivery import after_failure, after_test, rest_while_down
from appliance.replication.destinations import Archive, Destination
from appliance.replication.documents import Documents

log = logging.getLogger(__name__)

BATCH: Final = 32
TEST_LEASE_SECONDS: Final = 120.0
STOP_SECONDS: Final = 60.0
AWAY: Final = 5
"""Failures in a row, over half a minute: of a line that loses one request in twenty no such row is to be expected, so it was away and is back."""


class Lane:
    """The threads that serve one destination."""

    def __init__(self, errand: Errand) -> None:
        self.errand = errand
        self._box = errand.box
        self._settings = errand.settings
        self._around = errand.around
        self._stopping = errand.stopping
        self._work = threading.Condition()
        self._wakes = 0
        self._made: list[Destination] = []
        self._making = threading.Lock()
        is_archive = self._settings.takes == "ciphertext"
        self.documents = Documents(errand, self._archive, self.broke) if is_archive else None
        self._is_last = False
        self._serving = self._box.config.courier.workers_per_destination
        self._threads = [
            threading.Thread(target=self._serve, name=f"{self._settings.name}-{number}", daemon=True)
            for number in range(self._serving)
        ]
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """There is something to do."""
        with self._work:
            self._wakes += 1
            self._work.notify_all()

    def stop(self, *, at_last: bool = False) -> None:
        """Finish what is being sent, and no more; `at_last`, since the courier ends, also the manifests of what was sent. Not of a destination
        that was stopped before: its settings are others by now."""
        self._is_last = at_last and not self._stopping.is_set()
        self._stopping.set()
        self.wake()

    def join(self, seconds: float = STOP_SECONDS) -> bool:
        """Wait for the threads; whether they have ended."""
        for thread in self._threads:
            thread.join(seconds)
        return not any(thread.is_alive() for thread in self._threads)

    def _serve(self) -> None:
        seen, more = 0, False
        while not self._stopping.is_set():
            try:
                while not self._stopping.is_set() and self.one_batch():
                    pass
                more = self.keep_documents()
            except ApplianceError as error:
                more = False
                log.warning("%s: %s", self._settings.name, error)
                self._stopping.wait(1.0)
            except Exception as error:  # noqa: BLE001 - a thread's edge: a defect must not stop the lane for good
                # Only the kind: the text of a foreign error may hold patient data.
                more = False
                log.error("%s: unexpected %s", self._settings.name, type(error).__name__)
                self._stopping.wait(5.0)
            with self._work:
                if self._wakes == seen and not more and not self._stopping.is_set():
                    self._work.wait(1.0)
                seen = self._wakes
        with self._work:
            self._serving -= 1
            is_last = self._is_last and self._serving == 0
        if is_last and self.documents:
            self.documents.keep_last()

    def keep_documents(self) -> bool:
        """Write the documents that are due, if the destination is an archive (`Documents.keep`); whether there are more."""
        return self.documents is not None and self.documents.keep()

    def one_batch(self) -> bool:
        """Test the connection if that is due, or claim and send a batch. Whether there may be more to do."""
        now = self._around.now()
        settings = self._settings
        with self._box.catalog.reading() as conn:
            breaker = destinations.breaker(conn, settings.id)
            if breaker.lets_send() and settings.id not in deliveries.with_work(conn, now):
                return False
            if not breaker.lets_send() and not breaker.test_is_due(now):
                return False
        with self._box.catalog.transaction() as tx:
            breaker = destinations.breaker(tx, settings.id)
            test = breaker.test_is_due(now)
            claimed: list[Claimed] = []
            if test:  # taken: no other thread tests while this one does
                taken = replace(breaker, open_until_utc=now + timedelta(seconds=TEST_LEASE_SECONDS))
                destinations.set_breaker(tx, settings.id, taken)
            elif breaker.lets_send():
                claimed = deliveries.claim(
                    tx,
                    settings.id,
                    now=now,
                    lease_seconds=self._box.config.courier.lease_seconds,
                    limit=1 if breaker.failures else BATCH,
                )
        if test:
            return self._test(breaker.failures)
        if claimed:
            between = self.documents.between if self.documents else lambda _: None
            Batch(self.errand, by_study(claimed), self._recognised, self.broke, between).send()
        return bool(claimed)

    def _test(self, failures: int) -> bool:
        """The connection test of an open breaker; whether objects may be sent again."""
        if self.documents:
            self.documents.doubt()
        try:
            self.destination().check()
            self._recognised()
        except ApplianceError as error:
            with self._box.catalog.transaction() as tx:
                breaker = replace(
                    destinations.breaker(tx, self._settings.id), open_until_utc=None, failures=failures
                )
                broken = after_failure(breaker, str(error), self._around.now(), self._around.jitter())
                destinations.set_breaker(tx, self._settings.id, broken)
            log.info("%s is still out of reach: %s", self._settings.name, error)
            return False
        now = self._around.now()
        with self._box.catalog.transaction() as tx:
            destinations.set_breaker(
                tx, self._settings.id, after_test(destinations.breaker(tx, self._settings.id))
            )
            deliveries.wake(tx, self._settings.id, now=now, jitter=self._around.jitter)
            if failures >= AWAY:
                destinations.end_rest(tx, self._settings.name)
        log.info("%s answers again", self._settings.name)
        return True

    def destination(self) -> Destination:
        """The adapter, made once. Raises what `build` raises."""
        with self._making:
            if not self._made:
                self._made.append(self._around.build(self._settings, self._box))
            return self._made[0]

    def _archive(self) -> Archive:
        return cast("Archive", self.destination())

    def _recognised(self) -> Destination:
        """The adapter, once an archive was seen to be this box's (`Documents.recognise`). Raises what `build` and that raise."""
        if self.documents:
            self.documents.recognise()
        return self.destination()

    def broke(self, error: ApplianceError, held: Sequence[Claimed] = ()) -> None:
        """The destination failed with `error` while the first of `held` was sent; the others were not touched."""
        now, jitter = self._around.now(), self._around.jitter
        with self._box.catalog.transaction() as tx:
            breaker = destinations.breaker(tx, self._settings.id)
            broken = after_failure(breaker, str(error), now, jitter())
            destinations.set_breaker(tx, self._settings.id, broken)
            for each in held[:1]:
                deliveries.postpone(
                    tx,
                    each.id,
                    each.attempts,
                    reason=str(error),
                    next_attempt_utc=now + timedelta(seconds=rest_while_down(jitter())),
                    now=now,
                )
            deliveries.release(tx, [(each.id, each.attempts) for each in held[1:]], now=now)
        if broken is not breaker:
            log.warning("%s: %s; tried again by itself", self._settings.name, error)
