"""One batch of claimed deliveries, from the lease to the recorded outcome. Used by one thread.

Outcomes are recorded in small transactions, each with its audit rows and manifest marks: every few at once when
objects are small, one by one when they are large, and never later than the next long send.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from appliance import audit
from appliance.box import Box
from appliance.catalog import Transaction, deliveries, destinations, freezes, manifests
from appliance.catalog.deliveries import Claimed
from appliance.errors import ApplianceError, Corrupt, OperatorNeeded, Refused, Resting, Transient
from appliance.model import DeliveryId, DestinationSettings
from appliance.replication import embargo, recall
from appliance.replication.delivery import CLOSED, back_off
from appliance.replication.destinations import Destination, Parcel, Receipt, Session, build
from appliance.replication.destinations.parcel import WouldReplace, parcel_of

log = logging.getLogger(__name__)

ACTOR: Final = "courier"
POLL_SECONDS: Final = 0.2
SETTLE_SECONDS: Final = 5.0
"""After which a tombstone looks again whether what it spares is in safety (`appliance.replication.burial`)."""

RECORD_SECONDS: Final = 0.2
LARGE_BYTES: Final = 4 << 20
HELD_SECONDS: Final = 1800.0
"""So long rests at most what may not be sent in clear yet."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What tests replace: the clock, chance, how long to wait, and a place to crash at."""

    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    jitter: Callable[[], float] = random.random
    poll_seconds: float = POLL_SECONDS
    settle_seconds: float = SETTLE_SECONDS
    build: Callable[[DestinationSettings, Box], Destination] = build
    reached: Callable[[str], None] = lambda _: None


class Held:
    """The deliveries that threads of this process are working on. Shared by threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ids: set[DeliveryId] = set()

    def add(self, ids: Sequence[DeliveryId]) -> None:
        with self._lock:
            self._ids.update(ids)

    def drop(self, ids: Sequence[DeliveryId]) -> None:
        with self._lock:
            self._ids.difference_update(ids)

    def ids(self) -> list[DeliveryId]:
        with self._lock:
            return sorted(self._ids)


class Counts:
    """What was done since the start. Shared by threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._delivered = self._failed = self._bytes = 0

    def add(self, delivered: int, failed: int, sent_bytes: int) -> None:
        with self._lock:
            self._delivered += delivered
            self._failed += failed
            self._bytes += sent_bytes

    def as_detail(self) -> dict[str, int]:
        with self._lock:
            return {"delivered": self._delivered, "failed": self._failed, "bytes": self._bytes}


@dataclass(frozen=True, slots=True)
class Errand:
    """What the threads of one destination share: on which box, where to, and whether to stop."""

    box: Box
    settings: DestinationSettings
    around: Surroundings
    held: Held
    counts: Counts
    stopping: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A receipt, or the reason why there will be none."""

    claimed: Claimed
    receipt: Receipt | None = None
    error: ApplianceError | None = None

    def record(self, tx: Transaction, destination: str, now: datetime, jitter: float) -> list[audit.Entry]:
        """Record it; the audit entries of it, none if the lease was lost to somebody who did it meanwhile."""
        claimed, details = self.claimed, {"to": destination, "instance": self.claimed.instance}
        study = claimed.study_instance_uid
        if self.receipt is not None:
            if deliveries.confirm(tx, claimed.id, self.receipt, now):
                return [audit.Entry("delivery:confirm", str(claimed.id), ACTOR, details, study=study)]
            return []
        assert self.error is not None
        reason = str(self.error)
        if isinstance(self.error, Transient):
            later = now + timedelta(seconds=back_off(claimed.attempts, jitter))
            deliveries.postpone(
                tx, claimed.id, claimed.attempts, reason=reason, next_attempt_utc=later, now=now
            )
            return []
        if not deliveries.fail(tx, claimed.id, claimed.attempts, reason=reason, now=now):
            return []
        details = details | {"reason": reason}
        entries = [audit.Entry("delivery:fail", str(claimed.id), ACTOR, details, study=study)]
        if isinstance(self.error, Corrupt):
            damage = audit.Entry(
                "instance:corrupt", str(claimed.instance), ACTOR, {"reason": reason}, study=study
            )
            entries.append(damage)
        return entries


class Batch:
    """Claimed deliveries of one lane on their way. Used by one thread."""

    def __init__(
        self,
        errand: Errand,
        claimed: Sequence[Claimed],
        destination: Callable[[], Destination],
        broke: Callable[[ApplianceError, Sequence[Claimed]], None],
        meanwhile: Callable[[Callable[[], None]], None],
    ) -> None:
        """`destination` gives the adapter, or raises; `broke` is told of an error that is about the destination.

        `meanwhile` does, between two objects, what can't wait; it is given what writes down first what has become of those before.
        """
        self._errand = errand
        self._destination = destination
        self._broke = broke
        self._meanwhile = meanwhile
        self._box = errand.box
        self._around = errand.around
        self._left = list(claimed)
        self._done: list[Outcome] = []
        self._oldest = self._around.now()

    def send(self) -> None:
        """Send all, or until the destination fails."""
        ids = [each.id for each in self._left]
        self._errand.held.add(ids)
        try:
            self._around.reached("claimed")
            self._hold_back()
            trouble = self._send_in_session() if self._left else None
            self._record()
            if trouble is not None and self._errand.stopping.is_set():
                self._interrupted(str(trouble))
            elif trouble is not None:
                self._broke(trouble, self._left)
            else:
                self._give_back()
        finally:
            self._errand.held.drop(ids)

    def _hold_back(self) -> None:
        """Put off what may not be sent in clear yet (`embargo`), before anybody is called for it: what came since waits for none of it."""
        now = self._around.now()
        if self._errand.settings.takes == "ciphertext":
            return
        with self._box.catalog.reading() as reading:
            if not embargo.is_on(reading, now):
                return
            held = [each for each in self._left if embargo.is_of_before(reading, each.instance)]
        if not held:
            return
        self._left = [each for each in self._left if each not in held]
        with self._box.catalog.transaction() as tx:
            for each in held:
                later = now + timedelta(seconds=HELD_SECONDS * (1.0 - 0.1 * self._around.jitter()))
                deliveries.postpone(
                    tx, each.id, each.attempts, reason=embargo.REASON, next_attempt_utc=later, now=now
                )

    def _send_in_session(self) -> ApplianceError | None:
        """Send what is left; what was wrong with the destination, if it stopped us."""
        with ExitStack() as stack:
            try:
                destination = self._destination()
                session = stack.enter_context(destination.open([self._parcel(each) for each in self._left]))
            except ApplianceError as error:
                return error
            while self._left and not self._errand.stopping.is_set():
                claimed = self._left[0]
                if self._done and (claimed.sealed_bytes > LARGE_BYTES or self._is_time()):
                    self._record()
                self._around.reached("sending")
                try:
                    outcome = self._sent(session, claimed)
                except (Transient, OperatorNeeded) as error:
                    return error
                self._around.reached("sent")
                if not self._done:
                    self._oldest = self._around.now()
                self._done.append(outcome)
                del self._left[0]
                self._meanwhile(self._record)
            self._record()  # before a peer takes its time to say good-bye
        return None

    def _sent(self, session: Session, claimed: Claimed) -> Outcome:
        if (absent := self._absent(claimed)) is not None:
            return Outcome(claimed, error=absent)
        try:
            return Outcome(claimed, receipt=session.send(self._parcel(claimed)))
        except (Refused, Corrupt, WouldReplace, Resting) as error:
            # It is about this object alone, not about the destination.
            return Outcome(claimed, error=error)
        except ApplianceError:
            raise
        except Exception as error:  # noqa: BLE001 - a defect met with one object must not hold up the others
            # Only the kind: the text of a foreign error may hold patient data.
            return Outcome(claimed, error=Transient(f"unexpected {type(error).__name__}"))

    def _absent(self, claimed: Claimed) -> Transient | None:
        """Recall the object if it is not on this box; why it can't be now, which is no fault of the destination's."""
        if recall.is_here(self._box, claimed.object_id):
            return None
        try:
            recall.recall(self._box, claimed.object_id, claimed.key_id, claimed.sealed_bytes)
        except (Transient, OperatorNeeded) as error:
            return Transient(f"the image is in an archive only: {error.message}")
        except ApplianceError:
            return None  # nobody has it: sending finds that out, and says so
        return None

    def _is_time(self) -> bool:
        waited = (self._around.now() - self._oldest).total_seconds()
        return not 0 <= waited < RECORD_SECONDS

    def _interrupted(self, reason: str) -> None:
        """Give back what is left; the one that was under way may have left something there to go on from."""
        now, touched = self._around.now(), self._left.pop(0)
        with self._box.catalog.transaction() as tx:
            deliveries.postpone(
                tx, touched.id, touched.attempts, reason=reason, next_attempt_utc=now, now=now
            )
        self._give_back()

    def _give_back(self) -> None:
        if self._left:
            with self._box.catalog.transaction() as tx:
                deliveries.release(
                    tx, [(each.id, each.attempts) for each in self._left], now=self._around.now()
                )
            self._left.clear()

    def _record(self) -> None:
        """Write down what became of what was sent, in one transaction."""
        if not self._done:
            return
        now, settings, counts = self._around.now(), self._errand.settings, self._errand.counts
        entries: list[audit.Entry] = []
        sent: list[Claimed] = []
        with self._box.catalog.transaction() as tx:
            if recall.has_moved(tx, settings):  # no receipt of one place is one of another
                deliveries.release(
                    tx, [(each.claimed.id, each.claimed.attempts) for each in self._done], now=now
                )
                self._done.clear()
                return
            for outcome in self._done:
                entries += outcome.record(tx, settings.name, now, self._around.jitter())
                if outcome.receipt is not None:
                    sent.append(outcome.claimed)
            if sent:
                self._destination_works(tx, now)
                if settings.takes == "ciphertext":
                    manifests.mark(tx, settings.id, dict.fromkeys(each.study for each in sent), now)
            audit.append(tx, self._box.audit_key, entries, now)
            self._around.reached("recording")
        self._around.reached("recorded")
        counts.add(len(sent), len(self._done) - len(sent), sum(each.sealed_bytes for each in sent))
        for outcome in self._done:
            if isinstance(outcome.error, Transient):
                log.warning("%s: delivery %d put off: %s", settings.name, outcome.claimed.id, outcome.error)
            elif outcome.error is not None:
                log.error("%s: delivery %d failed: %s", settings.name, outcome.claimed.id, outcome.error)
        log.debug("%s: %d delivered", settings.name, len(sent))
        self._done.clear()

    def _destination_works(self, tx: Transaction, now: datetime) -> None:
        number = self._errand.settings.id
        destinations.succeeded(tx, number, now)
        if destinations.breaker(tx, number) != CLOSED:
            destinations.set_breaker(tx, number, CLOSED)
            deliveries.wake(tx, number, now=now, jitter=self._around.jitter)

    def _parcel(self, claimed: Claimed) -> Parcel:
        box, stop = self._box, self._errand.stopping
        with box.catalog.reading() as conn:
            held = freezes.in_force(conn) is not None
        return replace(
            parcel_of(box, claimed),
            tried_before=claimed.attempts > 1,
            replaces="nothing" if held else "anything",
            keep_going=lambda: not stop.is_set(),
        )


def by_study(claimed: Sequence[Claimed]) -> list[Claimed]:
    """`claimed` with the instances of a study together: most urgent first, then by the study that came first."""
    order: dict[int, int] = {}
    for each in claimed:
        order.setdefault(each.study, len(order))
    return sorted(claimed, key=lambda each: (-each.priority, order[each.study], each.id))
