"""The door for DICOM: an instance is durable in the intake log, is acknowledged, and is accepted a moment later.

An instance of one segment (1 MiB) is appended to the log: overwriting preallocated space took a third of the time of a
new file with its sync (0.43 ms against 1.48 for 512 KB), though the second write comes later. A larger one is a part
that carries its own record, because to write it twice would halve what the disk can take. One thread of the process, the settler, takes what has gathered and `accept`s it in
one transaction, then lets the log reuse the space. So an answer waits for one sync, and never for a commit. What is
in the log, or is a recorded part, when the process dies is accepted when the next one starts, before it listens.

An instance that `accept` can never record (a defect, or damage on the disk) must not hold up the others and must not
be lost: it is set aside, sealed, under ``intake/held``, reported, and tried again at every start. When it is the catalog that is damaged, nothing
is set aside: all of them wait.
"""

from __future__ import annotations

import logging
import queue
import secrets
import threading
import time
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from appliance.box import Box
from appliance.catalog import instances, tombstones
from appliance.errors import (
    ApplianceError,
    Corrupt,
    OperatorNeeded,
    OutOfResources,
    Transient,
    Unknown,
    Unreadable,
)
from appliance.ingest import records, set_aside
from appliance.ingest.accept import accept
from appliance.ingest.awaiting import Awaiting, recorded_parts
from appliance.ingest.duplicates import same_data_set
from appliance.ingest.elsewhere import is_data_set_of
from appliance.ingest.hours import Hours
from appliance.ingest.rehearsal import is_own, is_rehearsed
from appliance.ingest.scouring import note_scoured, scoured
from appliance.ingest.sealing import Announced, Buffers, Sealing
from appliance.model import Header, Origin, Received, Uid
from appliance.store import envelope
from appliance.store.intake_log import IntakeLog, Slot

log = logging.getLogger(__name__)

_GATHER_SECONDS = 0.1
_GATHER_ROUNDS = 5
_BATCH = 100  # some tens of milliseconds in the catalog, during which no page gets the row that it waits for
_PATIENCE_SECONDS = 20.0
_RETRY_SECONDS = 1.0
_QUIET_SECONDS = 30.0
_BUSY_SECONDS = 600.0  # without a quiet moment; then its log is written over between two batches

_LOGGED_BYTES = envelope.SEGMENT_BYTES


class Reception:
    """What one receiving process needs to take instances in. Safe to share between its associations' threads."""

    def __init__(self, box: Box, worker: str) -> None:
        """Open this worker's intake log and accept what a previous process left in it.

        Raises what opening the log and accepting raise: `OutOfResources` when there is no room yet. Try again then.
        """
        self._box = box
        self._worker = worker
        self._buffers = Buffers()
        self._known = instances.Known(box.catalog)
        self._log = IntakeLog(
            box.intake_folder, worker, box.intake_key, box.config.store.log_bytes, disk=box.disk
        )
        self._queue: queue.SimpleQueue[Awaiting | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._next_look = 0.0
        try:
            self._hours = Hours(box)
            replayed = _left_behind(box, self._log, worker)
            for start in range(0, len(replayed), _BATCH):
                self._settle(replayed[start : start + _BATCH], patiently=False)
            self._log.recycle()
            _accept_held(box)
            self._forget_destroyed()
        except BaseException:
            self._log.close()  # or it would stay locked, and this process could not try again
            raise
        if replayed:
            log.info("accepted what the intake log held: instances=%d", len(replayed))
        self._thread = threading.Thread(target=self._run, name="settler", daemon=True)
        self._thread.start()

    def admit(self, *, own: bool = False) -> None:
        """Return if an association may be opened, by the box's `own` examination or another; raises `OutOfResources` when there is no room."""
        self._box.guard.admit(own=own)
        if not self.is_settling:
            raise OutOfResources("this process has stopped accepting instances")

    def begin(
        self, origin: Origin, *, sop_class_uid: Uid, sop_instance_uid: Uid, transfer_syntax_uid: Uid
    ) -> Arrival:
        """Begin to take in one instance."""
        announced = Announced(origin, sop_class_uid, sop_instance_uid, transfer_syntax_uid)
        return Arrival(self, announced)

    @property
    def is_settling(self) -> bool:
        """Whether what is acknowledged gets into the catalog; if not, only another process will do it."""
        return self._thread.is_alive()

    @property
    def waiting(self) -> int:
        """How many acknowledged instances are not in the catalog yet."""
        return self._log.outstanding

    def close(self) -> None:
        """Accept what is still waiting, and stop. What cannot be accepted now stays in the log."""
        self._stopping.set()
        self._queue.put(None)
        self._thread.join()
        try:
            self._log.recycle()
        except Transient as error:  # then the next start reads again what is settled
            log.warning("the intake log could not be emptied: %s", error.message)
        self._log.close()
        self._known.close()

    def _run(self) -> None:
        while True:
            batch = self._gather()
            self._hours.refresh()
            if batch:
                self._settle(batch)
                if time.monotonic() >= self._next_look:
                    self._forget_destroyed()
            elif self._stopping.is_set():
                return

    def _gather(self) -> list[Awaiting]:
        """What is waiting, up to a batch: after the first, a moment is given for others to come, and again while they do.

        In a burst one large batch costs far fewer syncs than many small ones, and the senders have the disk meanwhile.
        """
        try:
            first = self._queue.get(timeout=_QUIET_SECONDS)
        except queue.Empty:
            self._forget_destroyed()
            return []
        if first is None:
            return []
        batch = [first]
        for _ in range(_GATHER_ROUNDS):
            before = self._queue.qsize()
            if before >= _BATCH or self._stopping.wait(_GATHER_SECONDS) or self._queue.qsize() == before:
                break
        while len(batch) < _BATCH:
            try:
                following = self._queue.get_nowait()
            except queue.Empty:
                break
            if following is None:
                self._queue.put(None)
                break
            batch.append(following)
        return batch

    def _forget_destroyed(self) -> None:
        """Keep nothing of studies that were destroyed: neither settled records in the log, nor keys in memory."""
        box, worker = self._box, self._worker
        self._next_look = time.monotonic() + _RETRY_SECONDS
        try:
            with box.catalog.reading() as reading:
                last, done = tombstones.last_destroyed(reading), scoured(reading, worker)
            if last > done:
                box.study_keys.forget_destroyed()  # first, or a record under one may come after
                if not self._log.scour():
                    return
                with box.catalog.transaction() as tx:
                    note_scoured(tx, worker, last, datetime.now(UTC))
        except ApplianceError as error:  # whatever it is, images go on being settled
            log.warning("the intake log is overwritten later: %s", error.message)
            return
        self._next_look = time.monotonic() + _BUSY_SECONDS

    def _settle(self, batch: Sequence[Awaiting], *, patiently: bool = True) -> None:
        """Accept `batch`, however long it takes; the log keeps every one of them until then.

        If not `patiently`, raises what is to be waited for: `Transient`, `OperatorNeeded` or OSError.
        """
        reported = False
        while True:
            try:
                if self._accept_or_hold(batch):
                    break
            except (Transient, OperatorNeeded, OSError) as error:
                if not patiently:
                    raise
                if not reported:
                    log.warning("instances wait in the intake log: %s", type(error).__name__)
                    reported = True
                if self._stopping.wait(_RETRY_SECONDS):
                    return
            else:
                middle = len(batch) // 2
                self._settle(batch[:middle], patiently=patiently)
                self._settle(batch[middle:], patiently=patiently)
                return
        self._log.settled([each.slot for each in batch if each.slot is not None])

    def _accept_or_hold(self, batch: Sequence[Awaiting]) -> bool:
        """Accept `batch`, or set aside the one in it; False if one of several can never be accepted.

        Raises `Transient`, `OperatorNeeded` or OSError: nothing of it is settled then.
        """
        try:
            accept(self._box, batch)
        except (Transient, OperatorNeeded, OSError):
            raise
        except Exception as error:  # whatever it is, the instance must not be lost
            if len(batch) > 1:
                return False
            if isinstance(error, Corrupt) and _opens(self._box, batch[0]):
                raise OperatorNeeded(
                    "the catalog is damaged", hint="stop the appliance and restore the catalog from a backup"
                ) from error
            where = "".join(traceback.format_tb(error.__traceback__))  # its text may hold what it choked on
            log.error("an instance was set aside: %s\n%s", type(error).__name__, where)
            _hold(self._box, batch[0])
        return True

    def _acknowledge(self, sealing: Sealing, header: Header, received_utc: datetime) -> None:
        """Make a sealed instance durable, with one sync where it can be, and hand it to the settler."""
        received = Received(header, sealing.announced.origin, sealing.stored, received_utc)
        record = records.encode(received)
        body = sealing.body
        if body is not None:
            slot = self._log.append(record, [body], patience_seconds=_PATIENCE_SECONDS)
            self._queue.put(Awaiting(received, slot))
            return
        key, nonce = AESGCM(self._box.intake_key), secrets.token_bytes(12)
        context = sealing.object_id.encode("ascii")
        if sealing.writer.secure(nonce + key.encrypt(nonce, record, context)):
            self._queue.put(Awaiting(received, part_of=self._worker))
        else:
            slot = self._log.append(record, [], patience_seconds=_PATIENCE_SECONDS)
            self._queue.put(Awaiting(received, slot, part_of=self._worker))
        sealing.writer.close()

    def _is_here_already(self, sealing: Sealing, header: Header) -> bool:
        """Whether the same data set is recorded under the same identity: then there is nothing to write."""
        if header.sop_instance_uid not in self._known:
            return False
        with self._box.catalog.reading() as reading:
            kept = instances.versions(reading, header)
        for each in kept:
            try:
                with self._box.open_object(each.object_id, each.key_id) as old, sealing.open() as new:
                    if same_data_set(old, new):
                        return True
            except Unknown:
                with sealing.open() as new:
                    if is_data_set_of(self._box, each.object_id, new):
                        return True
            except (Corrupt, Transient):
                continue  # not comparable: keep what came
        return False


class Arrival:
    """One instance being received over an association."""

    def __init__(self, reception: Reception, announced: Announced) -> None:
        box = reception._box
        self._reception = reception
        self._sealing = Sealing(
            announced,
            objects=box.objects,
            study_keys=box.study_keys,
            guard=box.guard,
            buffers=reception._buffers,
            who=reception._worker,
            in_memory_bytes=_LOGGED_BYTES,
            own=is_own(box, announced.origin),
        )
        self.write = self._sealing.write

    def finish(self) -> None:
        """Return when the instance is durable: only then may it be acknowledged.

        Raises `Refused` (and its kinds) for the sender to change, `Transient` for it to send again; nothing is kept.
        """
        sealing, reception = self._sealing, self._reception
        try:
            header = sealing.complete()
            if reception._is_here_already(sealing, header):
                sealing.abandon()
            else:
                reception._acknowledge(sealing, header, reception._hours.now())
                sealing.release()
        except BaseException:
            sealing.abandon()
            raise

    def abandon(self) -> None:
        """Leave nothing behind. Idempotent."""
        self._sealing.abandon()


def _left_behind(box: Box, intake_log: IntakeLog, worker: str) -> list[Awaiting]:
    """What a previous process acknowledged and did not settle, oldest first.

    What does not open was cut short by the crash, before its sync returned and so before it was acknowledged: it is
    dropped. Only a logged record without body speaks of a file that was synced before it: if that is gone, it was
    settled as identical to one already here; if nothing by its identity is here either, it is set aside and reported.
    """
    found: list[Awaiting] = []
    torn = 0
    for waiting in recorded_parts(box, worker):
        if _opens(box, waiting):
            found.append(waiting)
        else:
            torn += 1
            box.objects.remove(waiting.received.stored.object_id)
    for file in intake_log.files:
        done: list[Slot] = []
        for record in file.records():
            waiting = Awaiting(records.decode(record.metadata), record.slot)
            stored, header = waiting.received.stored, waiting.received.header
            if waiting.body is not None:
                if not _opens(box, waiting):
                    torn += 1
                    done.append(record.slot)
                    continue
            elif box.objects.has_part(stored.object_id, worker):
                waiting = Awaiting(waiting.received, record.slot, part_of=worker)
            elif not box.objects.path(stored.object_id).exists():
                with box.catalog.reading() as reading:
                    settled = bool(instances.versions(reading, header))
                if not settled and not is_rehearsed(box, waiting.received):
                    log.error("an acknowledged image has lost its object: set aside")
                    _hold(box, waiting)
                done.append(record.slot)
                continue
            found.append(waiting)
        file.settled(len(done))
    if torn:
        log.warning("instances cut short by a crash were dropped: count=%d", torn)
    return sorted(found, key=lambda each: each.received.received_utc)


def _opens(box: Box, waiting: Awaiting) -> bool:
    try:
        with waiting.open(box) as reader:
            if reader.size != waiting.received.stored.size_bytes:
                return False
            reader.verify()
    except Corrupt:
        return False
    return True


def _hold(box: Box, waiting: Awaiting) -> None:
    """Keep an instance that cannot be accepted: its ciphertext among the objects, its record beside the log."""
    received = waiting.received
    object_id = received.stored.object_id
    if (body := waiting.body) is not None:
        box.objects.adopt(body.file.descriptor, [(object_id, body.offset, body.length)])
    set_aside.put(box, received)
    box.objects.path(object_id)  # a part gets its name too, and loses its record with it


def _accept_held(box: Box) -> None:
    """Try again what was set aside: after an update, or once the disk is mended, it may well be accepted."""
    for path in set_aside.paths(box):
        try:
            accept(box, [Awaiting(set_aside.read(box, path))])
        except Unreadable as error:  # a bad spot under one record keeps nothing else from being received
            log.error("an instance is still set aside: %s", error.message)
        except (Transient, OperatorNeeded):
            raise
        except Exception as error:  # noqa: BLE001 - it stays where it is, and the health of the box says so
            log.error("an instance is still set aside: %s", type(error).__name__)
        else:
            path.unlink(missing_ok=True)
            log.info("an instance that was set aside is accepted")
