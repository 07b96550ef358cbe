"""After a restore from a bucket as it stood at a moment: what was written there since is read, and what was written over lies there again.

Whoever had the box's key to a bucket has written over what lies there, and can remove no version of it (`destinations.past`). What came
after the moment and still opens is ours, for nobody seals it without the root key: images that came since, and tombstones, by which what
was destroyed stays destroyed. Every version is read: one of a tombstone may lie under what was written over it. Of each manifest the
newest that opens is written again where another lies over it now, and the recovery slot, so that the bucket is the box's again and its next
restore needs no moment. Its backups are not: a new one is due at once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial

from appliance.backup import ahead, making
from appliance.backup.rebuilding import Rebuilt, record
from appliance.box import Box
from appliance.errors import Corrupt, Unknown
from appliance.model import DestinationSettings
from appliance.replication import manifest
from appliance.replication.destinations import Archive
from appliance.replication.destinations.archive import MANIFESTS, RECOVERY_SLOT
from appliance.replication.destinations.past import Past, parted
from appliance.replication.tombstone import obey_tombstones
from appliance.store.root_key import check_slots

log = logging.getLogger(__name__)


def catch_up(
    box: Box,
    archive: Archive,
    then: Past,
    place: DestinationSettings,
    slot: bytes,
    *,
    tell: Callable[[int], None],
    actor: str,
) -> Rebuilt:
    """Record what was written since `then` in `archive`, which it was a moment of, and let lie there what should; `slot` opens the box.

    May be repeated. Raises what the archive raises. What does not open is no damage to be told: it is why the archive is read so.
    """
    read = new = destroyed = 0
    later = then.later()
    whole: dict[str, str] = {}
    with ahead.reading(later, later.documents(MANIFESTS), lambda each: each.key) as found:
        for each, document in found:
            version_id, key = parted(each.key)
            try:
                told = manifest.unseal(box.root, key, document())
                destroyed += obey_tombstones(box, key, told, datetime.now(UTC), restoring=True)
                with box.catalog.transaction() as tx:
                    new += record(tx, box, place, told, actor, then.version_over)
                whole[key] = version_id
            except (Corrupt, Unknown):
                log.warning("a study manifest was written over since the moment that is restored")
            read += 1
            tell(read)

    _lay_slot(archive, slot)

    over = [
        key for key, latest in later.latest.items() if whole.get(key) != latest and _opens(then, whole, key)
    ]
    with ThreadPoolExecutor(then.reads_at_once, thread_name_prefix="write-again") as pool:
        for number, _ in enumerate(
            pool.map(partial(_write_again, archive, then, whole), over), start=read + 1
        ):
            tell(number)
    with box.catalog.transaction() as tx:
        making.make_due(tx, place.name)  # the backups there may have been written over, too
    return Rebuilt(read, new, 0, destroyed)


def _write_again(archive: Archive, then: Past, whole: Mapping[str, str], key: str) -> None:
    """Write the newest version of a manifest that opens: one of `whole`, or the one of `then`."""
    version_id = whole.get(key)
    archive.put_document(
        key, then.document(key) if version_id is None else then.of.document_of(key, version_id)
    )


def _lay_slot(archive: Archive, slot: bytes) -> None:
    """A slot that says of itself that it is whole stays, of whichever paper: the box deals with it as ever."""
    try:
        check_slots(archive.document(RECOVERY_SLOT))
    except (Corrupt, Unknown):
        archive.put_document(RECOVERY_SLOT, slot)


def _opens(then: Past, whole: Mapping[str, str], key: str) -> bool:
    """Whether there is any version of a manifest to be written again."""
    if key in whole:
        return True
    try:
        then.version(key)
    except Unknown:
        return False
    return True
