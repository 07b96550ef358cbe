"""After a restore from a bucket as it stood at a moment: what was written there since is read, and what was written over lies there again.

Whoever had the box's key to a bucket has written over what lies there, and can remove no version of it (`destinations.past`). What came
after the moment and still opens is ours, for nobody seals it without the root key: images that came since, and tombstones, by which what
was destroyed stays destroyed. Every version is read: one of a tombstone may lie under what was written over it. Of each manifest, and of
each that was kept in the place of one, the newest that opens is written again where another lies over it now, and the recovery slot, so that
the bucket is the box's again and its next restore needs no moment. Its backups are not: a new one is due at once.

A paper that was replaced, and whose root key was changed since, opens nothing that was sealed after that (`fetching.open_root` has the
latest root key that the paper opens, whenever its slot came). What a later recovery slot speaks of is not taken for written over: such a
manifest stays as it is, for the paper that opens it, and that slot is kept beside ours. Whoever has the bucket's key can claim that
of any slot, since it takes no other: so what does open is laid under `KEPT` then, where every restore reads it too.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from itertools import chain, islice
from typing import Final

from appliance.backup import ahead, making
from appliance.backup.rebuilding import Rebuilt, record, sealed_for, versions_over
from appliance.box import Box
from appliance.errors import Corrupt, Unknown
from appliance.model import DestinationSettings
from appliance.replication import manifest
from appliance.replication.destinations import Archive
from appliance.replication.destinations.archive import KEPT, KEYS, LATER_SLOT, MANIFESTS, RECOVERY_SLOT
from appliance.replication.destinations.past import Later, Past, parted
from appliance.replication.manifest import kept_key
from appliance.replication.tombstone import obey_tombstones
from appliance.store.root_key import RootKey, check_slots, newest_generation, sealed_generation

log = logging.getLogger(__name__)

MOST_SLOTS: Final = 1000
"""So many recovery slots are looked at, of the moment and since: nobody changes a key so often, and whoever has the bucket's may write any number."""


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
    papers = _later_papers(box.root, then, later)
    newest = max(map(newest_generation, papers), default=0)
    whole: dict[str, str] = {}
    closed: set[str] = set()
    manifests = chain(later.documents(MANIFESTS), later.documents(KEPT))
    with ahead.reading(later, manifests, lambda each: each.key) as found:
        for each, document in found:
            version_id, key = parted(each.key)
            sealed = b""
            try:
                sealed = document()
                name = sealed_for(key)
                told = manifest.unseal(box.root, name, sealed)
                destroyed += obey_tombstones(box, place.name, name, told, datetime.now(UTC), restoring=True)
                ours = versions_over(then, told)
                with box.catalog.transaction() as tx:
                    new += record(tx, box, place, told, actor, ours)
                whole[key] = version_id
            except (Corrupt, Unknown):
                if box.root.generation < sealed_generation(sealed) <= newest:
                    closed.add(key)
                else:
                    log.warning("a study manifest was written over since the moment that is restored")
            read += 1
            tell(read)

    if closed:
        log.error(
            "%d study manifests open only with a later recovery key than the one that was typed, or say so, and stay as they are: "
            "if there is a later one, restore the box with it",
            len(closed),
        )
    _lay_slot(archive, slot, papers)

    over = [
        key
        for key, latest in later.latest.items()
        if key.startswith((MANIFESTS, KEPT))
        and whole.get(key) != latest
        and (key in whole or _was_there(then, key))
    ]
    with ThreadPoolExecutor(then.reads_at_once, thread_name_prefix="write-again") as pool:
        for number, _ in enumerate(
            pool.map(partial(_write_again, box.root, archive, then, whole, closed), over), start=read + 1
        ):
            tell(number)
    with box.catalog.transaction() as tx:
        making.make_due(tx, place.name)  # the backups there may have been written over, too
    return Rebuilt(read, new, later_paper=tuple(sorted(closed)), destroyed=destroyed)


def _write_again(
    root: RootKey, archive: Archive, then: Past, whole: Mapping[str, str], closed: Collection[str], key: str
) -> None:
    """Write the newest version of a manifest that opens, one of `whole` or the one of `then`: beside it where it is `closed`.

    One of `then` that `root` doesn't open is damaged, or another box's, which has gone on writing since: what lies there stays. If it says
    that a later root key opens it, it is laid beside.
    """
    version_id = whole.get(key)
    is_beside = key in closed
    if version_id is None:
        sealed = then.document(key)
        try:
            manifest.unseal(root, sealed_for(key), sealed)
        except Corrupt:
            if sealed_generation(sealed) <= root.generation:
                return
            is_beside = True
    else:
        sealed = then.of.document_of(key, version_id)
    if is_beside:
        key = kept_key(sealed_for(key), sealed)
    archive.put_document(key, sealed)


def _later_papers(root: RootKey, then: Past, later: Later) -> list[bytes]:
    """The recovery slots that say of themselves that they are of a later root key than `root`, of the moment and since."""
    slots: set[bytes] = set()
    for archive in (then, later):
        for each in islice(archive.documents(KEYS), MOST_SLOTS):
            if each.key.endswith(RECOVERY_SLOT) or LATER_SLOT in each.key:
                with suppress(Unknown):
                    slots.add(archive.document(each.key))
    return sorted(each for each in slots if newest_generation(each) > root.generation)


def _lay_slot(archive: Archive, slot: bytes, papers: Sequence[bytes]) -> None:
    """A slot that says of itself that it is whole stays, of whichever paper: the box deals with it as ever. `papers` are kept beside."""
    try:
        check_slots(archive.document(RECOVERY_SLOT))
    except (Corrupt, Unknown):
        archive.put_document(RECOVERY_SLOT, slot)
    for each in papers:
        beside = f"{LATER_SLOT}{sha256(each).hexdigest()[:16]}"
        try:
            is_there = archive.document(beside) == each
        except Unknown:
            is_there = False
        if not is_there:
            archive.put_document(beside, each)


def _was_there(then: Past, key: str) -> bool:
    """Whether a key was there at the moment, and can be written again as it was."""
    try:
        then.version(key)
    except Unknown:
        return False
    return True
