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
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import BinaryIO, Final, Protocol, cast

from appliance import audit
from appliance.box import Box
from appliance.catalog import Transaction, deliveries, destinations, manifests, processes
from appliance.catalog.deliveries import Claimed
from appliance.errors import ApplianceError, Corrupt, OperatorNeeded, Refused, Transient
from appliance.model import DeliveryId, DestinationSettings
from appliance.replication import manifest
from appliance.replication.delivery import CLOSED, after_failure, after_test, back_off, rest_while_down
from appliance.replication.destinations import Destination, Parcel, Receipt, Session, build
from appliance.store.keys import recovery_slot

log = logging.getLogger(__name__)

ACTOR: Final = "courier"
BATCH: Final = 32
POLL_SECONDS: Final = 0.2
BEAT_SECONDS: Final = 5.0
RECORD_SECONDS: Final = 0.2
TEST_LEASE_SECONDS: Final = 120.0
LARGE_BYTES: Final = 4 << 20
MANIFEST_QUIET_SECONDS: Final = 2.0
MANIFEST_LONGEST_SECONDS: Final = 60.0
TIDY_SECONDS: Final = 3600.0
STOP_SECONDS: Final = 60.0
RECOVERY_KEY: Final = "keys/root.recovery"


class Archive(Protocol):
    """A destination from which a blank box can be rebuilt: it keeps manifests and the recovery slot too."""

    def put_document(self, key: str, data: bytes) -> None: ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What tests replace: the clock, chance, how long to wait, and a place to crash at."""

    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    jitter: Callable[[], float] = random.random
    poll_seconds: float = POLL_SECONDS
    build: Callable[[DestinationSettings, Box], Destination] = build
    reached: Callable[[str], None] = lambda _: None


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
        try:
            while True:
                try:
                    self._look(ticks)
                except Transient as error:
                    log.warning("%s", error)
                if stop.wait(self._around.poll_seconds):
                    return
        finally:
            for lane in self._lanes.values():
                lane.stop()
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
            if wanted.get(number) != lane.settings:
                lane.stop()
                if lane.join(0):
                    del self._lanes[number]
        for number, settings in wanted.items():
            if number not in self._lanes:
                self._lanes[number] = Lane(self._box, settings, self._around, self._held, self._counts)
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


class Lane:
    """The threads that serve one destination."""

    def __init__(
        self, box: Box, settings: DestinationSettings, around: Surroundings, held: Held, counts: Counts
    ) -> None:
        self.settings = settings
        self.box = box
        self.around = around
        self.held = held
        self.counts = counts
        self.stopping = threading.Event()
        self._work = threading.Condition()
        self._wakes = 0
        self._made: list[Destination] = []
        self._making = threading.Lock()
        self._keeping = threading.Lock()
        self._slot_kept = b""
        self._ticks = Ticks()
        self._threads = [
            threading.Thread(target=self._serve, name=f"{settings.name}-{number}", daemon=True)
            for number in range(box.config.courier.workers_per_destination)
        ]
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """There is something to do."""
        with self._work:
            self._wakes += 1
            self._work.notify_all()

    def stop(self) -> None:
        """Finish what is being sent, and no more."""
        self.stopping.set()
        self.wake()

    def join(self, seconds: float = STOP_SECONDS) -> bool:
        """Wait for the threads; whether they have ended."""
        for thread in self._threads:
            thread.join(seconds)
        return not any(thread.is_alive() for thread in self._threads)

    def _serve(self) -> None:
        seen = 0
        while not self.stopping.is_set():
            try:
                while not self.stopping.is_set() and self._one_batch():
                    pass
                self._keep_documents()
            except ApplianceError as error:
                log.warning("%s: %s", self.settings.name, error)
                self.stopping.wait(1.0)
            except Exception as error:  # noqa: BLE001 - a thread's edge: a defect must not stop the lane for good
                # Only the kind: the text of a foreign error may hold patient data.
                log.error("%s: unexpected %s", self.settings.name, type(error).__name__)
                self.stopping.wait(5.0)
            with self._work:
                if self._wakes == seen and not self.stopping.is_set():
                    self._work.wait(1.0)
                seen = self._wakes

    def _one_batch(self) -> bool:
        """Test the connection if that is due, or claim and send a batch. Whether there may be more to do."""
        now = self.around.now()
        settings = self.settings
        with self.box.catalog.reading() as conn:
            breaker = destinations.breaker(conn, settings.id)
            if breaker.lets_send() and settings.id not in deliveries.with_work(conn, now):
                return False
            if not breaker.lets_send() and not breaker.test_is_due(now):
                return False
        with self.box.catalog.transaction() as tx:
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
                    lease_seconds=self.box.config.courier.lease_seconds,
                    limit=1 if breaker.failures else BATCH,
                )
        if test:
            return self._test(breaker.failures)
        if claimed:
            Batch(self, by_study(claimed)).send()
        return bool(claimed)

    def _test(self, failures: int) -> bool:
        """The connection test of an open breaker; whether objects may be sent again."""
        try:
            self.destination().check()
        except ApplianceError as error:
            with self.box.catalog.transaction() as tx:
                breaker = replace(
                    destinations.breaker(tx, self.settings.id), open_until_utc=None, failures=failures
                )
                broken = after_failure(breaker, str(error), self.around.now(), self.around.jitter())
                destinations.set_breaker(tx, self.settings.id, broken)
            log.info("%s is still out of reach: %s", self.settings.name, error)
            return False
        now = self.around.now()
        with self.box.catalog.transaction() as tx:
            destinations.set_breaker(
                tx, self.settings.id, after_test(destinations.breaker(tx, self.settings.id))
            )
            deliveries.wake(tx, self.settings.id, now=now, jitter=self.around.jitter)
        log.info("%s answers again", self.settings.name)
        return True

    def destination(self) -> Destination:
        """The adapter, made once. Raises what `build` raises."""
        with self._making:
            if not self._made:
                self._made.append(self.around.build(self.settings, self.box))
            return self._made[0]

    def _keep_documents(self) -> None:
        """Write the recovery slot and the manifests that are out of date, if the destination is an archive."""
        if self.settings.takes != "ciphertext" or not self._keeping.acquire(blocking=False):
            return
        try:
            now = self.around.now()
            with self.box.catalog.reading() as conn:
                if not destinations.breaker(conn, self.settings.id).lets_send():
                    return
                due = manifests.out_of_date(
                    conn,
                    self.settings.id,
                    quiet_since=now - timedelta(seconds=MANIFEST_QUIET_SECONDS),
                    written_before=now - timedelta(seconds=MANIFEST_LONGEST_SECONDS),
                    limit=BATCH,
                )
            if not due and not self._ticks.due("tidy", TIDY_SECONDS):
                return
            archive = cast("Archive", self.destination())
            self._keep_slot(archive)
            for each in due:
                if self.stopping.is_set():
                    return
                self._keep_manifest(archive, each)
            if not due:
                self._tidy(archive, now)
        except (Transient, OperatorNeeded, Refused) as error:
            self.broke(error)
        finally:
            self._keeping.release()

    def _keep_slot(self, archive: Archive) -> None:
        slot = recovery_slot(self.box.config.data.absolute() / "keys")
        if slot != self._slot_kept:
            archive.put_document(RECOVERY_KEY, slot)
            self._slot_kept = slot

    def _keep_manifest(self, archive: Archive, due: manifests.OutOfDate) -> None:
        with self.box.catalog.reading() as conn:
            rows = manifests.rows_of(conn, self.settings.id, due.study)
        self.around.reached("manifest read")
        key = manifest.key(self.box.root, due.study_instance_uid)
        archive.put_document(key, manifest.seal(self.box.root, due.study_instance_uid, rows))
        self.around.reached("manifest sent")
        now = self.around.now()
        with self.box.catalog.transaction() as tx:
            manifests.written(tx, self.settings.id, due, now)
            entry = audit.Entry(
                "manifest:write",
                str(due.study),
                ACTOR,
                {"to": self.settings.name, "instances": len(rows.instances)},
            )
            audit.append(tx, self.box.audit_key, [entry], now)

    def _tidy(self, archive: Archive, now: datetime) -> None:
        abort = getattr(archive, "abort_obsolete", None)
        if abort is not None:
            with self.box.catalog.reading() as conn:
                abort(lambda object_id: deliveries.is_owed(conn, self.settings.id, object_id), now)

    def broke(self, error: ApplianceError, held: Sequence[Claimed] = ()) -> None:
        """The destination failed with `error` while the first of `held` was sent; the others were not touched."""
        now, jitter = self.around.now(), self.around.jitter
        with self.box.catalog.transaction() as tx:
            breaker = destinations.breaker(tx, self.settings.id)
            broken = after_failure(breaker, str(error), now, jitter())
            destinations.set_breaker(tx, self.settings.id, broken)
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
            log.warning("%s: %s; tried again by itself", self.settings.name, error)


class Batch:
    """Claimed deliveries of one lane on their way. Used by one thread."""

    def __init__(self, lane: Lane, claimed: Sequence[Claimed]) -> None:
        self._lane = lane
        self._box = lane.box
        self._around = lane.around
        self._left = list(claimed)
        self._done: list[Outcome] = []
        self._oldest = self._around.now()

    def send(self) -> None:
        """Send all, or until the destination fails."""
        lane = self._lane
        ids = [each.id for each in self._left]
        lane.held.add(ids)
        try:
            self._around.reached("claimed")
            trouble = self._send_in_session()
            self._record()
            if trouble is not None and lane.stopping.is_set():
                self._interrupted(str(trouble))
            elif trouble is not None:
                lane.broke(trouble, self._left)
            else:
                self._give_back()
        finally:
            lane.held.drop(ids)

    def _send_in_session(self) -> ApplianceError | None:
        """Send what is left; what was wrong with the destination, if it stopped us."""
        with ExitStack() as stack:
            try:
                destination = self._lane.destination()
                session = stack.enter_context(destination.open([self._parcel(each) for each in self._left]))
            except ApplianceError as error:
                return error
            while self._left and not self._lane.stopping.is_set():
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
        return None

    def _sent(self, session: Session, claimed: Claimed) -> Outcome:
        try:
            return Outcome(claimed, receipt=session.send(self._parcel(claimed)))
        except (Refused, Corrupt) as error:
            return Outcome(claimed, error=error)
        except ApplianceError:
            raise
        except Exception as error:  # noqa: BLE001 - a defect met with one object must not hold up the others
            # Only the kind: the text of a foreign error may hold patient data.
            return Outcome(claimed, error=Transient(f"unexpected {type(error).__name__}"))

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
        now, lane, name = self._around.now(), self._lane, self._lane.settings.name
        entries: list[audit.Entry] = []
        sent: list[Claimed] = []
        with self._box.catalog.transaction() as tx:
            for outcome in self._done:
                entries += outcome.record(tx, name, now, self._around.jitter())
                if outcome.receipt is not None:
                    sent.append(outcome.claimed)
            if sent:
                self._destination_works(tx, now)
                if lane.settings.takes == "ciphertext":
                    manifests.mark(tx, lane.settings.id, dict.fromkeys(each.study for each in sent), now)
            audit.append(tx, self._box.audit_key, entries, now)
            self._around.reached("recording")
        self._around.reached("recorded")
        lane.counts.add(len(sent), len(self._done) - len(sent), sum(each.sealed_bytes for each in sent))
        for outcome in self._done:
            if outcome.error is not None:
                log.error("%s: delivery %d failed: %s", name, outcome.claimed.id, outcome.error)
        log.debug("%s: %d delivered", name, len(sent))
        self._done.clear()

    def _destination_works(self, tx: Transaction, now: datetime) -> None:
        number = self._lane.settings.id
        destinations.succeeded(tx, number, now)
        if destinations.breaker(tx, number) != CLOSED:
            destinations.set_breaker(tx, number, CLOSED)
            deliveries.wake(tx, number, now=now, jitter=self._around.jitter)

    def _parcel(self, claimed: Claimed) -> Parcel:
        box, stop = self._box, self._lane.stopping
        return Parcel(
            study_instance_uid=claimed.study_instance_uid,
            series_instance_uid=claimed.series_instance_uid,
            sop_instance_uid=claimed.sop_instance_uid,
            sop_class_uid=claimed.sop_class_uid,
            transfer_syntax_uid=claimed.transfer_syntax_uid,
            object_id=claimed.object_id,
            size_bytes=claimed.size_bytes,
            sealed_bytes=claimed.sealed_bytes,
            sealed_path=box.objects.path(claimed.object_id),
            open=lambda: cast("BinaryIO", box.open_object(claimed.object_id, claimed.key_id)),
            tried_before=claimed.attempts > 1,
            keep_going=lambda: not stop.is_set(),
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """A receipt, or the reason why there will be none."""

    claimed: Claimed
    receipt: Receipt | None = None
    error: ApplianceError | None = None

    def record(self, tx: Transaction, destination: str, now: datetime, jitter: float) -> list[audit.Entry]:
        """Record it; the audit entries of it, none if the lease was lost to somebody who did it meanwhile."""
        claimed, details = self.claimed, {"to": destination, "instance": self.claimed.instance}
        if self.receipt is not None:
            if deliveries.confirm(tx, claimed.id, self.receipt, now):
                return [audit.Entry("delivery:confirm", str(claimed.id), ACTOR, details)]
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
        entries = [audit.Entry("delivery:fail", str(claimed.id), ACTOR, details | {"reason": reason})]
        if isinstance(self.error, Corrupt):
            entries.append(audit.Entry("instance:corrupt", str(claimed.instance), ACTOR, {"reason": reason}))
        return entries


def by_study(claimed: Sequence[Claimed]) -> list[Claimed]:
    """`claimed` with the instances of a study together: most urgent first, then by the study that came first."""
    order: dict[int, int] = {}
    for each in claimed:
        order.setdefault(each.study, len(order))
    return sorted(claimed, key=lambda each: (-each.priority, order[each.study], each.id))


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
