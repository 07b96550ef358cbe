"""The threads that serve one destination: batches, its connection test, and the documents that a bucket keeps.

A thread that finds nothing to do sleeps until the courier wakes it, or for a second. The connection test of an open
breaker is taken by one thread; so are the manifests.

Documents are written when nothing is owed; and, since that may not be for weeks (a slow line, a disk that was away), between two objects too:
tombstones as soon as they are owed, everything else once `MANIFEST_LONGEST_SECONDS` have gone by. What an archive has before its
manifest is there is lost in a fire. Each of both takes at most as long as was spent otherwise since it was done last, so that objects have a third
of a thread's time at the worst; usually much more, since a study that has come to rest is written once. Rejected: to end the batch for that, which costs two
rows a claim. A courier that is stopped writes the manifests that it owes at its end (`_keep_last`): after it somebody may take the machine away.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from hashlib import sha256
from time import monotonic
from typing import Final, cast

from appliance import audit
from appliance.catalog import (
    deliveries,
    destinations,
    destroyed_keys,
    freezes,
    manifests,
    settings,
    tombstones,
)
from appliance.catalog.deliveries import Claimed
from appliance.catalog.destroyed_keys import Tombstone
from appliance.errors import (
    ApplianceError,
    Corrupt,
    OperatorNeeded,
    OutOfResources,
    Refused,
    Resting,
    Transient,
    Unknown,
)
from appliance.replication import manifest, recall
from appliance.replication.batch import ACTOR, Batch, Errand, by_study
from appliance.replication.burial import Grave, NotYet, lay_tombstone, repeat_tombstone
from appliance.replication.delivery import after_failure, after_test, rest_while_down
from appliance.replication.destinations import Archive, Destination
from appliance.replication.destinations.archive import LATER_SLOT, RECOVERY_SLOT
from appliance.replication.ownership import refuse_another_box
from appliance.replication.tombstone import RESTORED, carried, lives, obey_tombstones
from appliance.store.keys import whole_recovery_slot

log = logging.getLogger(__name__)

BATCH: Final = 32
TEST_LEASE_SECONDS: Final = 120.0
MANIFEST_QUIET_SECONDS: Final = 2.0
MANIFEST_LONGEST_SECONDS: Final = 60.0
LAST_SECONDS: Final = 10.0
"""For how long a courier that is stopped begins to write manifests: systemd ends it after a minute."""

TOMBSTONE_SECONDS: Final = 1.0
"""How often it is asked, between two objects, whether a tombstone is owed."""

TIDY_SECONDS: Final = 3600.0
RESTING_SECONDS: Final = 1800.0
STOP_SECONDS: Final = 60.0
MOST_HELD: Final = 2000
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
        self._keeping = threading.Lock()
        self._slot_kept = b""
        self._slot_added = b""
        self._is_recognised = self._settings.takes != "ciphertext"
        self._held: set[int] = set()
        self._waiting: dict[str, float] = {}
        self._looked: set[str] = set()
        with self._box.catalog.reading() as conn:
            self._was_restored = settings.get(conn, RESTORED) is not None
        self._ticks = Ticks()
        self._kept = self._buried = monotonic()
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
        if is_last:
            self._keep_last(monotonic() + LAST_SECONDS)

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
            Batch(self.errand, by_study(claimed), self._recognised, self.broke, self._between).send()
        return bool(claimed)

    def _test(self, failures: int) -> bool:
        """The connection test of an open breaker; whether objects may be sent again."""
        with self._keeping:  # another disk may lie in the place of the one that went
            self._is_recognised = self._settings.takes != "ciphertext"
            self._slot_kept = b""
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

    def _recognised(self) -> Destination:
        """The adapter, once an archive was seen to be this box's, and holds its slot. Raises what `build` and `_keep_slot` raise.

        Another box's archive takes no manifest of ours, so no fire would be survived by what lies there: it gets no object, and
        gives no receipt that would let one leave this disk.
        """
        destination = self.destination()
        if not self._is_recognised:
            with self._keeping:
                if not self._is_recognised:
                    self._keep_slot(cast("Archive", destination))
        return destination

    def _between(self, record: Callable[[], None]) -> None:
        """Between two objects: write the documents that can't wait, after `record` has written down what was sent."""
        now = monotonic()
        late = now - self._kept >= MANIFEST_LONGEST_SECONDS
        if self._settings.takes != "ciphertext" or not (late or now - self._buried >= TOMBSTONE_SECONDS):
            return
        try:
            until = now + (now - self._buried)
            with self._box.catalog.reading() as conn:
                owes = bool(tombstones.owed(conn, self._settings.id, 1))
            if owes:
                self.keep_documents(until, only_tombstones=True)
            self._buried = monotonic()
            if late:
                record()
                until = monotonic() + (now - self._kept)
                while self.keep_documents(until):
                    pass
                self._kept = monotonic()
        except ApplianceError as error:
            log.warning("%s: %s", self._settings.name, error)

    def _keep_last(self, until: float) -> None:
        """When nothing is sent any more: write the manifests that are out of date, whether or not their studies have come to rest."""
        try:
            while self.keep_documents(until, at_last=True):
                pass
        except ApplianceError as error:
            log.warning("%s: %s", self._settings.name, error)

    def keep_documents(
        self, until: float = math.inf, *, only_tombstones: bool = False, at_last: bool = False
    ) -> bool:
        """Write the recovery slot and the manifests that are out of date, if the destination is an archive; whether there are more.

        Tombstones come first. Stops at the moment `until` of the monotonic clock. While the ransomware guard holds, only what is not there
        yet under its name is written; the rest stays out of date. `at_last` nothing but manifests is written, and for none is waited.
        """
        if self._settings.takes != "ciphertext" or not self._keeping.acquire(blocking=False):
            return False

        def is_over() -> bool:
            return (self._stopping.is_set() and not at_last) or monotonic() > until

        try:
            now = self._around.now()
            quiet = timedelta(seconds=0 if at_last else MANIFEST_QUIET_SECONDS)
            with self._box.catalog.reading() as conn:
                if not destinations.breaker(conn, self._settings.id).lets_send():
                    return False
                held = freezes.in_force(conn) is not None
                due = manifests.out_of_date(
                    conn,
                    self._settings.id,
                    quiet_since=now - quiet,
                    written_before=now - timedelta(seconds=MANIFEST_LONGEST_SECONDS),
                    limit=MOST_HELD if held else BATCH,
                )
                life = lives(conn)
                # Those that wait for what they spare hold up none of the others.
                aside = len(self._waiting) + len(self._looked)
                destroyed = [] if held else tombstones.owed(conn, self._settings.id, BATCH + aside)
                upto, unlooked = (
                    (0, []) if held else tombstones.unlooked(conn, self._settings.id, life, BATCH + aside)
                )
            destroyed = [each for each in destroyed if not self._waits(each.manifest)]
            names = [each for each in unlooked if each not in self._looked and not self._waits(each)]
            if only_tombstones:
                due, unlooked, names = [], [], []
            elif at_last:
                destroyed, unlooked, names = [], [], []
            elif held:
                due = [each for each in due if each.study not in self._held][:BATCH]
            else:
                self._held.clear()
            if (
                not due
                and not destroyed
                and not names
                and not self._all_looked(unlooked)
                and (held or only_tombstones or at_last or not self._ticks.due("tidy", TIDY_SECONDS))
            ):
                return False
            archive = cast("Archive", self.destination())
            self._keep_slot(archive)
            grave = Grave(
                self._box, self._settings, archive, self._around.now(), lambda: not self._stopping.is_set()
            )
            for owed in destroyed:
                if is_over():
                    return False
                if why := self._bury(owed.manifest, partial(lay_tombstone, grave, owed)):
                    with self._box.catalog.transaction() as tx:
                        tombstones.say_why(tx, self._settings.id, owed.study, why, self._around.now())
            for name in names:
                if is_over():
                    return False
                if not self._bury(name, partial(repeat_tombstone, grave, name)):
                    self._looked.add(name)
            if self._all_looked(unlooked):
                with self._box.catalog.transaction() as tx:
                    if not recall.has_moved(tx, self._settings):
                        tombstones.looked(tx, self._settings.id, life, upto, self._around.now())
                self._looked.clear()
            for each in due:
                if is_over():
                    return False
                self._keep_manifest(archive, each)
            if not due and not held and not only_tombstones and not at_last:
                self._tidy(archive, now)
            return len(due) == BATCH
        except (Transient, OperatorNeeded, Refused) as error:
            self.broke(error)
            return False
        finally:
            self._keeping.release()

    def _bury(self, name: str, act: Callable[[], None]) -> str:
        """Lay a tombstone; why not yet, where what it spares is not in safety: that is no fault of the archive's."""
        try:
            act()
        except (NotYet, Resting, OutOfResources, Corrupt) as error:
            seconds = self._around.settle_seconds if isinstance(error, NotYet) else RESTING_SECONDS
            self._waiting[name] = monotonic() + seconds
            log.warning("%s: a destruction waits for what it spares: %s", self._settings.name, error)
            return error.message
        self._waiting.pop(name, None)
        return ""

    def _all_looked(self, names: Sequence[str]) -> bool:
        return bool(names) and self._looked.issuperset(names)

    def _waits(self, name: str) -> bool:
        return self._waiting.get(name, 0.0) > monotonic()

    def _keep_slot(self, archive: Archive) -> None:
        try:
            slot = whole_recovery_slot(self._box.config.data.absolute() / "keys")
        except Corrupt as error:  # the archive keeps the one that it has, and images go on being copied
            log.error("%s: %s", self._settings.name, error)
            if not self._slot_kept:
                refuse_another_box(archive, self._settings.name, self._box.root, b"")
            self._is_recognised = True
            return
        if slot == self._slot_kept:
            self._is_recognised = True
            return
        if not self._slot_kept:
            refuse_another_box(archive, self._settings.name, self._box.root, slot)
        if self._may_write(archive, RECOVERY_SLOT):
            archive.put_document(RECOVERY_SLOT, slot)
            self._slot_kept = slot
        elif archive.document(RECOVERY_SLOT) == slot:
            self._slot_kept = slot
        elif slot != self._slot_added:  # beside it, where a restore looks too
            archive.put_document(f"{LATER_SLOT}{sha256(slot).hexdigest()[:16]}", slot)
            self._slot_added = slot
        self._is_recognised = True

    def _may_write(self, archive: Archive, key: str) -> bool:
        """Whether a document may be written now: always, or while the ransomware guard holds, if none is there."""
        with self._box.catalog.reading() as conn:
            if freezes.in_force(conn) is None:
                return True
        try:
            archive.document(key)
        except Unknown:
            return True
        return False

    def _keep_manifest(self, archive: Archive, due: manifests.OutOfDate) -> None:
        with self._box.catalog.reading() as conn:
            rows = manifests.rows_of(conn, self._settings.id, due.study)
            key = manifest.key(self._box.root, due.study_instance_uid)
            destroyed = destroyed_keys.lies_under(conn, key)
        self._around.reached("manifest read")
        if not self._may_write(archive, key):
            self._held.add(due.study)
            return
        if self._was_restored or destroyed:
            known = {row["object_id"] for row in rows.instances}
            older = self._keep_older(archive, key, known, is_buried=bool(destroyed))
            if older is None:
                return
            destroyed += older
        sealed = manifest.seal(self._box.root, key, rows, destroyed)
        # The root key may have been rotated just now: first what opens it, then what it seals.
        self._keep_slot(archive)
        archive.put_document(key, sealed)
        self._around.reached("manifest sent")
        now = self._around.now()
        with self._box.catalog.transaction() as tx:
            manifests.written(tx, self._settings.id, due, now)
            entry = audit.Entry(
                "manifest:write",
                str(due.study),
                ACTOR,
                {"to": self._settings.name, "instances": len(rows.instances)},
                study=due.study_instance_uid,
            )
            audit.append(tx, self._box.audit_key, [entry], now)

    def _keep_older(
        self, archive: Archive, key: str, known: set[str], *, is_buried: bool
    ) -> list[Tombstone] | None:
        """A manifest that can't be read, or names objects that this box does not know, is kept aside; the tombstones to carry on.

        The box was restored from one archive; another may hold what that one did not, and the keys are in its manifest. Or
        it holds a tombstone: then the study is destroyed here too, and None says that there is nothing left to write; where more
        of it is here than was decided about, it stays, and so does the tombstone. `is_buried`: its tombstone sees to what is kept.
        """
        carried_on: list[Tombstone] = []
        try:
            sealed = archive.document(key)
        except Unknown:
            return carried_on
        try:
            told = manifest.unseal(self._box.root, key, sealed)
            if obey_tombstones(self._box, self._settings.name, key, told, self._around.now()):
                return None
            with self._box.catalog.reading() as conn:
                carried_on = carried(conn, told)
            if {each["object_id"] for each in told["instances"]} <= known:
                return carried_on
        except (Corrupt, KeyError, TypeError):
            log.error("%s: a manifest from before the restore is damaged", self._settings.name)
        archive.put_document(manifest.kept_key(key, sealed), sealed)
        if is_buried:
            log.info(
                "%s: a manifest is kept aside until what its tombstone spares is in safety",
                self._settings.name,
            )
        else:
            log.warning(
                "%s: a manifest from before the restore is kept aside: call support", self._settings.name
            )
        return carried_on

    def _tidy(self, archive: Archive, now: datetime) -> None:
        abort = getattr(archive, "abort_obsolete", None)
        if abort is not None:
            with self._box.catalog.reading() as conn:
                abort(lambda object_id: deliveries.is_owed(conn, self._settings.id, object_id), now)

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
