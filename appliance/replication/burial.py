"""Laying tombstones in an archive, where a destroyed study had its manifest.

The lane of an archive is the only one that writes manifests there, and lays tombstones before it writes any: so no manifest
that was read before a study was destroyed can end up over its tombstone.

What cannot be removed from an archive (a bucket gives the box no right to) is written over where it holds a key, and is left where
it is ciphertext that no key opens any more.

Two people decide about the images that the box knows. One that came back from another archive, or while this one was away, may know
less of a study than lies here, under the same key. What nobody has decided about is taken in before its key goes
(`Sparing`), as if it were sent again: with a key of its own, in a study that the audit says has returned, and about which people may
decide. The key goes once all of it lies in this archive under the new one: a fire in between loses nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from appliance import audit
from appliance.box import Box
from appliance.catalog import destroyed_keys, freezes, studies, tombstones
from appliance.catalog.destroyed_keys import Tombstone
from appliance.catalog.tombstones import Owed
from appliance.errors import ApplianceError, Corrupt, Resting, Transient, Unknown
from appliance.ingest import accept
from appliance.ingest.awaiting import Awaiting
from appliance.model import DestinationSettings, Intake, ObjectId, Origin, Received
from appliance.replication import manifest, recall, retold
from appliance.replication.destinations import Archive
from appliance.replication.destinations.archive import KEPT, KEYS, Clearable, Waking, object_key
from appliance.replication.tombstone import ACTOR
from appliance.store.root_key import newest_generation, sealed_generation

log = logging.getLogger(__name__)

AT_ONCE: Final = 64
"""So many images are taken in before the archive's other documents have their turn."""


class NotYet(Transient):
    """A tombstone waits for what it spares; the archive is well."""


@dataclass(frozen=True, slots=True)
class Grave:
    """Where a tombstone goes: the archive, and what to ask between two images."""

    box: Box
    place: DestinationSettings
    archive: Archive
    now: datetime
    keep_going: Callable[[], bool] = lambda: True


def lay_tombstone(grave: Grave, owed: Owed) -> None:
    """Destroy in an archive what opens a destroyed study, and where the box may remove its objects too; may be repeated.

    Raises what the archive raises, `Transient` while the ransomware guard holds, and `NotYet`, `Resting`, `OutOfResources` or
    `Corrupt` where what is to be spared is not in safety yet: nothing is destroyed then.
    """
    box, archive = grave.box, grave.archive
    with box.catalog.reading() as conn:
        freezes.refuse(conn)
        destroyed = destroyed_keys.lies_under(conn, owed.manifest)
    found: dict[str, Mapping[str, Any]] = {}
    for document in _documents(archive, owed.manifest):
        try:
            found[document] = _read(grave, owed.manifest, document)
        except Unknown:
            found[document] = {}
        except Corrupt:
            log.error("a study manifest was damaged; what takes its place is a tombstone alone")
            found[document] = {}
    done = _spare(grave, found, destroyed)
    for document, told in found.items():
        _write_over(box, archive, owed.manifest, document, told, destroyed)
    _remove(box, archive, [*owed.objects, *done.elsewhere], [*found])
    with box.catalog.transaction() as tx:
        tombstones.lay(tx, grave.place.id, owed)
        details = {"to": grave.place.name} | done.as_details()
        entry = audit.Entry("tombstone:lay", f"destroyed:{owed.study}", ACTOR, details)
        audit.append(tx, box.audit_key, [entry], grave.now)


def repeat_tombstone(grave: Grave, name: str) -> None:
    """See that the manifest `name` in an archive opens nothing that is known as destroyed; may be repeated.

    An archive may have been away when a study was destroyed, and the box burnt before it came back: whoever restored the box from
    another archive knows of the destruction by that one's tombstone, and nothing is owed to this one. Raises as `lay_tombstone`.
    """
    box, archive, place = grave.box, grave.archive, grave.place
    with box.catalog.reading() as conn:
        freezes.refuse(conn)
        destroyed = destroyed_keys.lies_under(conn, name)
    keys = {key_id for each in destroyed for key_id in each.keys}
    found: dict[str, Mapping[str, Any]] = {}
    for document in _documents(archive, name):
        try:
            told = _read(grave, name, document)
            if not keys <= _destroyed_in(told) or _opens(told, keys):
                found[document] = told
        except Unknown:
            continue
        except Corrupt:  # what nobody can read gives no key away
            log.error("%s: a study manifest is damaged", place.name)
    if not found:
        _remove(box, archive, [], _documents(archive, name))  # what was cut may have left what it wrote over
        return
    done = _spare(grave, found, destroyed)
    objects = {
        ObjectId(str(row["object_id"]))
        for told in found.values()
        for row in told.get("instances", [])
        if row["key_id"] in keys
    }
    _remove(box, archive, sorted(objects), [])
    details = {"to": place.name, "instances": len(objects)} | done.as_details()
    box.record(
        [audit.Entry("tombstone:lay", f"destroyed:{destroyed[-1].certificate}", ACTOR, details)], grave.now
    )
    # Last, since it is the list by which an attempt that was cut is repeated.
    for document, told in found.items():
        _write_over(box, archive, name, document, told, destroyed)
    _remove(box, archive, [], _documents(archive, name))
    log.warning("%s: what was destroyed while it was away is destroyed there too", place.name)


def _documents(archive: Archive, name: str) -> list[str]:
    """The manifest `name`, and those that were kept in its place."""
    mine = f"{KEPT}{manifest.digits(name)}"
    return [name, *[each.key for each in archive.documents(KEPT) if each.key.startswith(mine)]]


def _read(grave: Grave, name: str, document: str) -> Mapping[str, Any]:
    """A document that lies under `name`. Raises `Unknown`, `Corrupt`, and `NotYet` for one that a later paper than ours opens, or later software.

    A box that came back with a paper that was replaced since does not know what it would write over, or leave to be opened. That there
    is such a paper is told by the archive's own slots: what a document says of itself may be what rots.
    """
    sealed = grave.archive.document(document)
    try:
        return manifest.unseal(grave.box.root, name, sealed)
    except manifest.OfNewerSoftware:  # it may name images that nobody has decided about
        raise NotYet(LATER_SOFTWARE) from None
    except Corrupt:
        if grave.box.root.generation < sealed_generation(sealed) <= _newest_paper(grave.archive):
            raise NotYet(LATER_PAPER) from None
        raise


def _newest_paper(archive: Archive) -> int:
    """The newest generation of the root key that a recovery slot in an archive speaks of; 0 for none."""
    newest = 0
    for each in archive.documents(KEYS):
        with suppress(Unknown):  # it went since: that says nothing of the document that is asked about
            newest = max(newest, newest_generation(archive.document(each.key)))
    return newest


def _destroyed_in(told: Mapping[str, Any]) -> set[str]:
    return {key_id for each in manifest.tombstones(told) for key_id in each.keys}


def _opens(told: Mapping[str, Any], keys: set[Any]) -> bool:
    """Whether a document holds one of these keys."""
    return any(row["id"] in keys for row in told.get("study_keys", []))


def _write_over(
    box: Box,
    archive: Archive,
    name: str,
    document: str,
    told: Mapping[str, Any],
    destroyed: Sequence[Tombstone],
) -> None:
    """Put tombstones in the place of what they name. Those that lie there and that nobody here knows of stay."""
    with box.catalog.reading() as conn:
        freezes.refuse(conn)
    keys = {key_id for each in destroyed for key_id in each.keys}
    more = [each for each in manifest.tombstones(told) if not set(each.keys) <= keys]
    archive.put_document(document, manifest.seal_tombstone(box.root, name, told, [*more, *destroyed]))


def _remove(box: Box, archive: Archive, objects: Sequence[ObjectId], documents: Sequence[str]) -> None:
    """Remove objects where the box may, and what attempts that were cut have left of them and of `documents`: a manifest that was on its
    way there holds the same keys, an image that was is readable with them.
    """
    if not isinstance(archive, Clearable):
        return
    for object_id in objects:
        with box.catalog.reading() as conn:
            freezes.refuse(conn)
        archive.remove(object_key(object_id))
    with box.catalog.reading() as conn:
        freezes.refuse(conn)
    archive.remove_parts([*documents, *[object_key(each) for each in objects]])


# --- what is spared --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sparing:
    """What was under destroyed keys and not decided about: taken in from `spared` names, and `lost` since not whole there."""

    spared: tuple[ObjectId, ...] = ()
    lost: tuple[ObjectId, ...] = ()

    @property
    def elsewhere(self) -> tuple[ObjectId, ...]:
        """The old names of what lies under new ones, or nowhere."""
        return (*self.spared, *self.lost)

    def as_details(self) -> dict[str, int]:
        """For the audit; nothing where nothing was spared."""
        told = {"spared": len(self.spared), "lost": len(self.lost)}
        return {name: count for name, count in told.items() if count}


def _spare(grave: Grave, found: Mapping[str, Mapping[str, Any]], destroyed: Sequence[Tombstone]) -> Sparing:
    """See that all images in documents under destroyed keys about which nobody has decided lie in the archive under others.

    Raises as `lay_tombstone` until they do. What this archive itself has not whole holds up nothing.
    """
    undecided = {
        each.stored.object_id: each for told in found.values() for each in _undecided(told, destroyed)
    }
    if not undecided:
        return Sparing()
    with grave.box.catalog.reading() as conn:
        known = set(destroyed_keys.spared(conn, undecided))
    resting: Resting | None = None
    taken: list[ObjectId] = []
    lost: list[ObjectId] = []
    for object_id, received in undecided.items():
        if object_id in known:
            continue
        if len(taken) == AT_ONCE or not grave.keep_going():
            raise NotYet(TAKING_IN)
        try:
            _take_in(grave, received, destroyed[-1].certificate)
        except Resting as error:
            resting = error
            _ask_for(grave, object_id)
        except _NotWholeError as error:
            lost.append(object_id)
            log.error(
                "%s: an image that nobody had decided about is not whole there: %s", grave.place.name, error
            )
        else:
            taken.append(object_id)
    if taken:
        log.warning(
            "%s: more lay there of a study that was destroyed than was decided about: %d images are taken in again",
            grave.place.name,
            len(taken),
        )
    if resting is not None:
        raise resting
    with grave.box.catalog.reading() as conn:
        into = destroyed_keys.spared(conn, undecided)
        here = all(destroyed_keys.is_settled(conn, study, grave.place.id) for study in set(into.values()))
    spared = tuple(sorted(into))
    if not here or {*spared, *lost} != set(undecided):
        raise NotYet(TAKING_IN)
    return Sparing(spared, tuple(lost))


LATER_PAPER: Final = "what lies there of the study opens with a later recovery key than this box has: restore the box with that one"
LATER_SOFTWARE: Final = (
    "what lies there of the study was written by newer software than this box has: install the newest version"
)
TAKING_IN: Final = "more of the study lies there than was decided about: it is taken in again first"


def _undecided(told: Mapping[str, Any], destroyed: Sequence[Tombstone]) -> Iterator[Received]:
    """The images in a document about which nobody has decided, under keys that are destroyed. Raises `Corrupt`."""
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


class _NotWholeError(Exception):
    """The archive itself has an object not as it was written."""


def _take_in(grave: Grave, received: Received, certificate: str) -> None:
    """Record an image that lies in an archive as if it were sent again, with the hour when it came; one that is here stays one.

    It comes under its old name and is sealed anew on the way (`appliance.ingest.resealing`): no clear byte touches the disk.
    """
    box, stored, header = grave.box, received.stored, received.header
    key = box.study_keys.opened(stored.key_id, header.study_instance_uid, stored.wrapped_key)
    box.guard.admit(2 * stored.sealed_bytes)
    try:
        recall.fetch(box, grave.archive, stored.object_id, key, stored.sealed_bytes)
    except Corrupt as error:
        try:  # the disk of this box may be what is damaged
            recall.verify(grave.archive, stored.object_id, key, stored.sealed_bytes)
        except (Corrupt, Unknown):
            raise _NotWholeError(error.message) from error
        raise
    except Unknown as error:
        raise _NotWholeError(error.message) from error
    uid = header.study_instance_uid
    with box.catalog.reading() as conn:
        is_said = bool(tombstones.returning(conn, [uid]))  # by `accept`, then
    accept(box, [Awaiting(replace(received, origin=Origin(Intake.IMPORT, grave.place.name)))])
    with box.catalog.transaction() as tx:
        row = studies.study(tx, uid)
        if row is None:
            return  # it was destroyed in this moment: what else lies under the old key is looked at again
        is_said = is_said or bool(destroyed_keys.spared_into(tx, row.id))
        destroyed_keys.spare(tx, stored.object_id, stored.key_id, row.id)
        details = {"from": grave.place.name}
        entries = [audit.Entry("instance:recover", f"instance:{stored.object_id}", ACTOR, details, study=uid)]
        if not is_said:
            entries.append(audit.Entry("study:return", certificate, ACTOR, study=uid))
        audit.append(tx, box.audit_key, entries, grave.now)


def _ask_for(grave: Grave, object_id: ObjectId) -> None:
    """Ask for an image that lies in deep archive: it is spared once it has come up."""
    if not isinstance(grave.archive, Waking):
        return
    with grave.box.catalog.reading() as conn:
        how = recall.retrieval(conn)
    try:
        grave.archive.wake(object_key(object_id), how)
    except ApplianceError as error:
        log.warning("%s does not let an object be asked for that lies deep: %s", grave.place.name, error)
