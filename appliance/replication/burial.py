"""Laying tombstones in an archive, where a destroyed study had its manifest.

The lane of an archive is the only one that writes manifests there, and lays tombstones before it writes any: so no manifest
that was read before a study was destroyed can end up over its tombstone.

What cannot be removed from an archive (a bucket gives the box no right to) is written over where it holds a key, and is left where
it is ciphertext that no key opens any more.

Two people decide about the images that the box knows. One that came back from another archive, or while this one was away, may know
less of a study than lies here, under the same key. What nobody has decided about is taken in before its key goes, as if
it were sent again: with a key of its own, in a study that the audit says has returned, and about which people may decide.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from appliance import audit
from appliance.box import Box
from appliance.catalog import destroyed_keys, freezes, tombstones
from appliance.catalog.destroyed_keys import Tombstone
from appliance.catalog.tombstones import Owed
from appliance.errors import ApplianceError, Corrupt, Resting, Unknown
from appliance.ingest import accept
from appliance.ingest.awaiting import Awaiting
from appliance.ingest.importing import seal_file
from appliance.model import DestinationSettings, ObjectId, Received
from appliance.replication import manifest, recall, retold
from appliance.replication.destinations import Archive
from appliance.replication.destinations.archive import Clearable, Waking, object_key
from appliance.replication.tombstone import ACTOR

log = logging.getLogger(__name__)

KEPT: Final = "kept/"


def lay_tombstone(box: Box, place: DestinationSettings, archive: Archive, owed: Owed, now: datetime) -> None:
    """Destroy in `archive` what opens a destroyed study, and where the box may remove its objects too; may be repeated.

    Raises what the archive raises, `Transient` while the ransomware guard holds, and `Resting` or `OutOfResources` where what is to
    be spared cannot be had yet: nothing is destroyed then.
    """
    with box.catalog.reading() as conn:
        freezes.refuse(conn)
        destroyed = destroyed_keys.lies_under(conn, owed.manifest)
    spared: list[ObjectId] = []
    for name in _documents(archive, owed.manifest):
        try:
            found: Mapping[str, Any] = manifest.unseal(box.root, owed.manifest, archive.document(name))
        except Unknown:
            found = {}
        except Corrupt:
            log.error("a study manifest was damaged; what takes its place is a tombstone alone")
            found = {}
        spared += _spare(box, place, archive, found, destroyed)
        _write_over(box, archive, owed.manifest, name, found, destroyed)
    _remove(box, archive, [*owed.objects, *spared])
    with box.catalog.transaction() as tx:
        tombstones.lay(tx, place.id, owed)
        details = {"to": place.name} | ({"spared": len(spared)} if spared else {})
        entry = audit.Entry("tombstone:lay", f"destroyed:{owed.study}", ACTOR, details)
        audit.append(tx, box.audit_key, [entry], now)


def repeat_tombstone(
    box: Box, place: DestinationSettings, archive: Archive, name: str, now: datetime
) -> None:
    """See that the manifest `name` in `archive` opens nothing that is known as destroyed; may be repeated.

    An archive may have been away when a study was destroyed, and the box burnt before it came back: whoever restored the box from
    another archive knows of the destruction by that one's tombstone, and nothing is owed to this one. Raises as `lay_tombstone`.
    """
    with box.catalog.reading() as conn:
        freezes.refuse(conn)
        destroyed = destroyed_keys.lies_under(conn, name)
    keys = {key_id for each in destroyed for key_id in each.keys}
    for document in _documents(archive, name):
        try:
            told = manifest.unseal(box.root, name, archive.document(document))
            known = {key_id for one in manifest.tombstones(told) for key_id in one.keys}
        except Unknown:
            continue
        except Corrupt:  # what nobody can read gives no key away
            log.error("%s: a study manifest is damaged", place.name)
            continue
        if keys <= known:
            continue
        spared = _spare(box, place, archive, told, destroyed)
        objects = [
            ObjectId(str(one["object_id"])) for one in told.get("instances", []) if one["key_id"] in keys
        ]
        _remove(box, archive, objects)
        details = {"to": place.name, "instances": len(objects)} | ({"spared": len(spared)} if spared else {})
        box.record(
            [audit.Entry("tombstone:lay", f"destroyed:{destroyed[-1].certificate}", ACTOR, details)], now
        )
        # Last, since it is the list by which an attempt that was cut is repeated.
        _write_over(box, archive, name, document, told, destroyed)
        log.warning("%s: what was destroyed while it was away is destroyed there too", place.name)


def _documents(archive: Archive, name: str) -> list[str]:
    """The manifest `name`, and those that were kept in its place."""
    mine = f"{KEPT}{manifest.digits(name)}"
    return [name, *[each.key for each in archive.documents(KEPT) if each.key.startswith(mine)]]


def _write_over(
    box: Box,
    archive: Archive,
    name: str,
    document: str,
    told: Mapping[str, Any],
    destroyed: Sequence[Tombstone],
) -> None:
    """Put tombstones in the place of what they name. Those that lie there and that nobody here knows of stay."""
    keys = {key_id for each in destroyed for key_id in each.keys}
    more = [each for each in manifest.tombstones(told) if not set(each.keys) <= keys]
    archive.put_document(document, manifest.seal_tombstone(box.root, name, told, [*more, *destroyed]))


def _remove(box: Box, archive: Archive, objects: Sequence[ObjectId]) -> None:
    if isinstance(archive, Clearable):
        for object_id in objects:
            with box.catalog.reading() as conn:
                freezes.refuse(conn)
            archive.remove(object_key(object_id))


def _spare(
    box: Box,
    place: DestinationSettings,
    archive: Archive,
    told: Mapping[str, Any],
    destroyed: Sequence[Tombstone],
) -> list[ObjectId]:
    """Take in the images of a document under keys that are destroyed, about which nobody has decided; which they were."""
    spared = []
    for received in _undecided(told, destroyed):
        try:
            _take_in(box, archive, received)
        except (Unknown, Corrupt) as error:
            log.error("%s: an image that nobody had decided about is not whole there: %s", place.name, error)
            continue
        except Resting:
            _ask_for(box, place, archive, received)
            raise
        spared.append(received.stored.object_id)
    if spared:
        log.warning(
            "%s: more lay there of a study that was destroyed than was decided about: %d images are taken in again",
            place.name,
            len(spared),
        )
    return spared


def _undecided(told: Mapping[str, Any], destroyed: Sequence[Tombstone]) -> Iterator[Received]:
    decided = [*destroyed, *manifest.tombstones(told)]
    named = {object_id for each in decided for object_id in each.objects or ()}
    # Earlier software did not write down which images it destroyed: they were all under these keys.
    whole = {key_id for each in decided if each.objects is None for key_id in each.keys}
    keys = {key_id for each in destroyed for key_id in each.keys} - whole
    if not any(row["key_id"] in keys and row["object_id"] not in named for row in told.get("instances", [])):
        return
    for received, _ in retold.instances(told):
        if received.stored.key_id in keys and received.stored.object_id not in named:
            yield received


def _take_in(box: Box, archive: Archive, received: Received) -> None:
    """Record an image that lies in an archive as if it were sent again, with the hour when it came; one that is here stays one.

    Its ciphertext is a part meanwhile, as of a recall: no clear byte touches the disk.
    """
    stored, header = received.stored, received.header
    key = box.study_keys.opened(stored.key_id, header.study_instance_uid, stored.wrapped_key)
    box.guard.admit(2 * stored.sealed_bytes)
    writer = box.objects.recall(stored.object_id)
    try:
        for block in archive.blocks(object_key(stored.object_id)):
            writer.write([block])
        with writer.open_part(key) as reader:
            reader.verify()
            sealed = seal_file(box, io.BufferedReader(reader), received.origin)
    finally:
        writer.abandon()
    accept(box, [Awaiting(replace(sealed, received_utc=received.received_utc))])


def _ask_for(box: Box, place: DestinationSettings, archive: Archive, received: Received) -> None:
    """Ask for an image that lies in deep archive: it is spared once it has come up."""
    if not isinstance(archive, Waking):
        return
    with box.catalog.reading() as conn:
        how = recall.retrieval(conn)
    try:
        archive.wake(object_key(received.stored.object_id), how)
    except ApplianceError as error:
        log.warning("%s does not let an object be asked for that lies deep: %s", place.name, error)
