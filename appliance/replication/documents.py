"""What an archive keeps beside its objects: this box's recovery slot, the manifests of its studies, and the tombstones over some of them.

They are written when nothing is owed (`Documents.keep`); and, since that may not be for weeks (a slow line, a disk that was away), between
two objects too (`Documents.between`): tombstones as soon as they are owed, everything else once `MANIFEST_LONGEST_SECONDS` have gone by. What
an archive has before its manifest is there is lost in a fire. Each of both takes at most as long as was spent otherwise since it was done last,
so that objects have a third of a thread's time at the worst; usually much more, since a study that has come to rest is written once. Rejected:
to end the batch for that, which costs two rows a claim. A courier that is stopped writes the manifests that it owes at its end
(`Documents.keep_last`): after it somebody may take the machine away.

The threads of a lane share one `Documents`, and one at a time writes. Whoever finds another at it goes on with something else; only who must
know whose archive it is, or has reason to doubt it, waits. A catalog that doesn't answer just now is no fault of the archive's, and isn't
counted as one.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from hashlib import sha256
from time import monotonic
from typing import Final

from appliance import audit
from appliance.catalog import (
    Reading,
    deliveries,
    destinations,
    destroyed_keys,
    freezes,
    manifests,
    settings,
)
from appliance.catalog.destroyed_keys import Tombstone
from appliance.catalog.errors import Unanswered
from appliance.errors import ApplianceError, Corrupt, OperatorNeeded, Refused, Transient, Unknown
from appliance.replication import manifest
from appliance.replication.batch import ACTOR, Errand
from appliance.replication.destinations import Archive
from appliance.replication.destinations.archive import LATER_SLOT, RECOVERY_SLOT
from appliance.replication.destructions import NOTHING, Destructions, Unfollowed
from appliance.replication.ownership import refuse_another_box
from appliance.replication.tombstone import RESTORED, carried, obey_tombstones
from appliance.store.keys import whole_recovery_slot

log = logging.getLogger(__name__)

PER_TURN: Final = 32
"""So many manifests are written in one turn at most."""

MANIFEST_QUIET_SECONDS: Final = 2.0
MANIFEST_LONGEST_SECONDS: Final = 60.0
LAST_SECONDS: Final = 10.0
"""For how long a courier that is stopped begins to write manifests: systemd ends it after a minute."""

TOMBSTONE_SECONDS: Final = 1.0
"""How often it is asked, between two objects, whether a tombstone is owed."""

TIDY_SECONDS: Final = 3600.0
MOST_HELD: Final = 2000


@dataclass(frozen=True, slots=True)
class Due:
    """What to write in one turn. `tidy`: and to remove what uploads have left that came to nothing."""

    destroyed: Unfollowed = NOTHING
    manifests: Sequence[manifests.OutOfDate] = ()
    tidy: bool = False


class Documents:
    """The documents of one archive. Shared by threads.

    `archive` gives the adapter, and raises what `build` raises; `broke` is told what fails for a fault of the archive's.
    """

    def __init__(
        self, errand: Errand, archive: Callable[[], Archive], broke: Callable[[ApplianceError], None]
    ) -> None:
        self._box, self._settings, self._around = errand.box, errand.settings, errand.around
        self._stopping = errand.stopping
        self._archive, self._broke = archive, broke
        self._destructions = Destructions(errand)
        self._writing = threading.Lock()
        self._is_recognised = False
        self._slot_kept = b""
        self._slot_added = b""
        self._held: set[int] = set()
        with self._box.catalog.reading() as conn:
            self._was_restored = settings.get(conn, RESTORED) is not None
        # Moments of the monotonic clock, in seconds.
        self._kept = self._buried = monotonic()
        self._tidied = -math.inf

    def recognise(self) -> None:
        """See that the archive is this box's, and holds its slot; once. Raises what `archive`, the archive and `refuse_another_box` raise.

        Another box's archive takes no manifest of ours, so no fire would be survived by what lies there: it gets no object, and
        gives no receipt that would let one leave this disk.
        """
        if not self._is_recognised:
            with self._writing:
                if not self._is_recognised:
                    self._keep_slot(self._archive())

    def doubt(self) -> None:
        """The archive was away: another disk may lie in the place of the one that went."""
        with self._writing:
            self._is_recognised = False
            self._slot_kept = self._slot_added = b""

    def between(self, record: Callable[[], None]) -> None:
        """Between two objects: write what can't wait; manifests after `record` has written down what was sent."""
        now = monotonic()
        late = now - self._kept >= MANIFEST_LONGEST_SECONDS
        if not (late or now - self._buried >= TOMBSTONE_SECONDS):
            return
        try:
            self._in_turn(self._owed_tombstones, partial(self._is_over, now + (now - self._buried)))
            self._buried = monotonic()
            if late:
                try:
                    record()
                    until = monotonic() + (now - self._kept)
                    while self.keep(until):
                        pass
                finally:  # what fails fails once a minute, and not with every object
                    self._kept = monotonic()
        except ApplianceError as error:
            log.warning("%s: %s", self._settings.name, error)

    def keep(self, until: float = math.inf) -> bool:
        """Write the recovery slot, and the tombstones and manifests that are due; whether there are more manifests.

        Tombstones come first. Stops at the moment `until` of the monotonic clock (seconds). While the ransomware guard holds, only what is
        not there yet under its name is written; the rest stays out of date. Raises `Unanswered`, and what else the catalog raises that is asked what is due.
        """
        return self._in_turn(self._all_due, partial(self._is_over, until))

    def keep_last(self) -> None:
        """When nothing is sent any more: write the manifests that are out of date, whether or not their studies have come to rest; under
        the guard as `keep`."""
        until = monotonic() + LAST_SECONDS
        try:
            while self._in_turn(self._last_due, lambda: monotonic() > until):
                pass
        except ApplianceError as error:
            log.warning("%s: %s", self._settings.name, error)

    def _is_over(self, until: float) -> bool:
        return self._stopping.is_set() or monotonic() > until

    def _in_turn(self, ask: Callable[[Reading], Due], is_over: Callable[[], bool]) -> bool:
        """Write what `ask` says is due; whether there are more manifests. Nothing while another thread is at it, or the archive is known to
        be away."""
        if not self._writing.acquire(blocking=False):
            return False
        try:
            with self._box.catalog.reading() as conn:
                is_there = destinations.breaker(conn, self._settings.id).lets_send()
                due = ask(conn) if is_there else Due()
            if not (self._destructions.is_any(due.destroyed) or due.manifests or due.tidy):
                return False
            try:
                return self._write(due, is_over)
            except Unanswered:
                raise
            except (Transient, OperatorNeeded, Refused) as error:
                self._broke(error)
                return False
        finally:
            self._writing.release()

    def _write(self, due: Due, is_over: Callable[[], bool]) -> bool:
        archive = self._archive()
        self._keep_slot(archive)
        if not self._destructions.follow(archive, due.destroyed, is_over):
            return False
        for each in due.manifests:
            if is_over():
                return False
            self._keep_manifest(archive, each)
        if due.tidy:
            self._tidied = monotonic()
            self._tidy(archive)
        return len(due.manifests) == PER_TURN

    # --- what is due ---------------------------------------------------------------------------------------------------

    def _all_due(self, conn: Reading) -> Due:
        is_held = freezes.in_force(conn) is not None
        found = self._out_of_date(conn, MANIFEST_QUIET_SECONDS, is_held=is_held)
        if is_held:
            return Due(manifests=found)
        destroyed = self._destructions.due(conn)
        # What was destroyed is owed nothing more: what had begun to go there may be removed at once.
        is_time = self._destructions.is_any(destroyed) or monotonic() - self._tidied >= TIDY_SECONDS
        return Due(destroyed, found, tidy=is_time and not found)

    def _owed_tombstones(self, conn: Reading) -> Due:
        return Due() if freezes.in_force(conn) is not None else Due(self._destructions.owed(conn))

    def _last_due(self, conn: Reading) -> Due:
        return Due(manifests=self._out_of_date(conn, 0.0, is_held=freezes.in_force(conn) is not None))

    def _out_of_date(
        self, conn: Reading, quiet_seconds: float, *, is_held: bool
    ) -> list[manifests.OutOfDate]:
        """The manifests to write now: of studies at rest for so long, or whose manifest is old; not those that the guard was seen to forbid."""
        now = self._around.now()
        if not is_held:
            self._held.clear()
        found = manifests.out_of_date(
            conn,
            self._settings.id,
            quiet_since=now - timedelta(seconds=quiet_seconds),
            written_before=now - timedelta(seconds=MANIFEST_LONGEST_SECONDS),
            limit=MOST_HELD if is_held else PER_TURN,
        )
        return [each for each in found if each.study not in self._held][:PER_TURN]

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
            beside = f"{LATER_SLOT}{sha256(slot).hexdigest()[:16]}"
            if self._may_write(archive, beside):
                archive.put_document(beside, slot)
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

    def _tidy(self, archive: Archive) -> None:
        abort = getattr(archive, "abort_obsolete", None)
        if abort is not None:
            with self._box.catalog.reading() as conn:
                abort(
                    lambda object_id: deliveries.is_owed(conn, self._settings.id, object_id),
                    self._around.now(),
                )
