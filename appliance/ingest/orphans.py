"""Objects that no row speaks of: what a crash left between sealing and recording. Nothing was promised of them.

An object, or a part that nobody writes and that carries no record, is removed only if two sweeps of one process, an
hour apart by the monotonic clock, both found it in no intake log, in no held record and not in the catalog, asked in
that order: an object goes from the log to one of the others and never back, so one that is in none by that order was
in none at some moment. A clock that jumps removes nothing, and neither does a restart. While the ransomware guard holds
nothing is removed, since a catalog that was put back would make orphans of images.

What is made for a transaction to come, as the anonymous copies of a study are, may be without a row for longer than that. So a
row is asked for once more in the transaction that removes: whoever records an object looks in theirs whether it is there,
and one of the two comes first.
"""

from __future__ import annotations

from collections.abc import Iterator

from appliance.box import Box
from appliance.catalog import freezes, instances
from appliance.ingest import records, set_aside
from appliance.model import ObjectId
from appliance.store.intake_log import metadata_in

GRACE_SECONDS = 3600.0


class OrphanSweep:
    """Remembers, between sweeps of one process, which objects were without a row, and since when."""

    def __init__(self, box: Box) -> None:
        self._box = box
        self._since: dict[ObjectId, float] = {}

    def sweep(self, monotonic_seconds: float) -> int:
        """Remove orphans that have been so for the grace period; how many were removed."""
        box = self._box
        with box.catalog.reading() as reading:
            if freezes.in_force(reading) is not None:
                self._since.clear()
                return 0
        removed = 0
        orphans = self._without_row()
        self._since = {each: self._since.get(each, monotonic_seconds) for each in orphans}
        for object_id, since in list(self._since.items()):
            if monotonic_seconds - since >= GRACE_SECONDS:
                removed += self._remove(object_id)
                del self._since[object_id]
        return removed

    def _remove(self, object_id: ObjectId) -> int:
        """Remove it unless it has a row by now or the ransomware guard has begun to hold; how many that was.

        A transaction each, which writes nothing: an image that arrives waits for one removal at most.
        """
        with self._box.catalog.transaction() as tx:
            if freezes.in_force(tx) is not None or instances.objects_named(tx, [object_id]):
                return 0
            self._box.objects.remove(object_id)
        return 1

    def _in_logs(self) -> Iterator[ObjectId]:
        for metadata in metadata_in(self._box.intake_folder, self._box.intake_key):
            yield records.decode(metadata).stored.object_id

    def _without_row(self) -> set[ObjectId]:
        box = self._box
        here = {*box.objects.ids(), *box.objects.abandoned_parts()}
        here.difference_update(self._in_logs())
        here.difference_update(map(set_aside.object_of, set_aside.paths(box)))
        if here:
            with box.catalog.reading() as reading:
                for recorded, _, _ in instances.all_objects(reading):
                    here.discard(recorded)
        return here
