"""Rotating the root key while everybody works: a new one, and then everything under it that can be moved there.

::

    root.recovery, root.machine      replaced (`store.keys.rotate_root`): from here all processes seal under the new root key
       │
       ├── study keys                wrapped anew, some hundreds a transaction; no image is encrypted again
       ├── the catalog               every page written anew under a key of the new root key (`Catalog.rekey`)
       └── study manifests           due to be written again in every archive, sealed under the new root key

Only the first step needs a person, and the paper. The rest is found from what is there, so whatever is cut, by a kill or a power
failure, is gone on with by `finish`, which the jobs call every hour: a study key that was in some process's memory during the
rotation is caught then. Until the end, and for ever in old backups, what lies under an earlier root key opens by the chain.

What stays under keys of the first root key: the chain of the audit, names in the archives, handles of passkeys, recovery codes,
pseudonyms and the intake log, since these have to be found or verified again; whoever holds an earlier root key *and* this
disk could forge or read those. Secrets of settings and second factors keep their seal until they change; they lie in the catalog.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from appliance import audit
from appliance.box import Box
from appliance.catalog import Reading, manifests, settings, study_keys
from appliance.store import keys
from appliance.store.study_keys import wrapping_context

log = logging.getLogger(__name__)

FINISHED: Final = "root.finished"
"""The generation to which everything was moved, in `appliance.catalog.settings`."""

Tell = Callable[[int, int], None]
"""Told how many steps of how many are done: a study key is one, and the catalog the last."""

BATCH: Final = 500
EVERY_SECONDS: Final = 3600
ACTOR: Final = "jobs"


@dataclass(frozen=True, slots=True)
class Moved:
    """What lies under the newest root key now and did not before: study keys by number, and whether the catalog."""

    generation: int
    study_keys: int
    catalog: bool


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a box is: the number of its newest root key, its study keys and how many of them lie under an earlier one,
    and the number of the root key under which the catalog lies."""

    generation: int
    study_keys: int
    earlier: int
    catalog_generation: int

    @property
    def is_finished(self) -> bool:
        """Whether all that can be moved lies under the newest root key."""
        return not self.earlier and self.catalog_generation >= self.generation


def standing(box: Box, reading: Reading) -> Standing:
    """How far the latest rotation is, whoever began it, and whoever goes on with it."""
    box.root.renew()
    generation = box.root.generation
    kept, earlier = study_keys.counts(reading, generation)
    return Standing(generation, kept, earlier, int(settings.get(reading, FINISHED, 1)))


def rotate(box: Box, recovery_key: str, entry: audit.Entry, now: datetime) -> int:
    """Draw a new root key with the recovery key that somebody typed; its generation. `finish` does the rest.

    `entry` says in the audit who does it. Raises as `keys.rotate_root`.
    """
    root = keys.rotate_root(box.config.data.absolute() / "keys", box.root, recovery_key)
    box.record([entry], now)
    log.info("the root key was rotated: generation %d", root.generation)
    return root.generation


def _silent(done: int, total: int) -> None:
    del done, total


def finish(
    box: Box, now: datetime, *, keep_going: Callable[[], bool] = lambda: True, tell: Tell = _silent
) -> Moved:
    """Move under the newest root key what still lies under an earlier one, as far as `keep_going` lets it.

    Safe to call at any time, and more than once at a time. Raises what the catalog raises, `OutOfResources` without room on the
    disk to write the catalog a second time.
    """
    box.root.renew()
    generation = box.root.generation
    with box.catalog.reading() as reading:
        finished = int(settings.get(reading, FINISHED, 1))
        _, earlier = study_keys.counts(reading, generation)
    moved, catalog = 0, False
    tell(0, earlier + 1)
    while keep_going() and (batch := _rewrap(box, generation)):
        moved += batch
        tell(min(moved, earlier), earlier + 1)
    if finished < generation and keep_going():
        box.guard.admit((box.config.data.absolute() / "catalog.db").stat().st_size)
        catalog = box.catalog.rekey(
            box.root.derive("catalog", generation), lambda: box.root.derived("catalog")
        )
        with box.catalog.transaction() as tx:
            manifests.mark_all(tx, now)
            settings.put(tx, FINISHED, generation, now)
    if moved or catalog:
        details = {"generation": generation, "study_keys": moved, "catalog": "moved" if catalog else ""}
        box.record([audit.Entry("key:rewrap", "root key", ACTOR, details)], now)
    return Moved(generation, moved, catalog)


def _rewrap(box: Box, generation: int) -> int:
    """Wrap the next study keys anew; how many."""
    with box.catalog.transaction() as tx:
        batch = study_keys.under_earlier(tx, generation, BATCH)
        for key_id, study_instance_uid, wrapped in batch:
            context = wrapping_context(key_id, study_instance_uid)
            study_keys.rewrap(tx, key_id, box.root.wrap(box.root.unwrap(wrapped, context), context))
    return len(batch)
