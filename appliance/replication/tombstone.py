"""Tombstones in an archive: laid where a destroyed study had its manifest, and obeyed where one is found.

The lane of an archive is the only one that writes manifests there, and lays tombstones before it writes any: so no manifest
that was read before a study was destroyed can end up over its tombstone.

What cannot be removed from an archive (a bucket gives the box no right to) is written over where it holds a key, and is left where
it is ciphertext that no key opens any more.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from appliance import audit
from appliance.box import Box
from appliance.catalog import Reading, freezes, instances, settings, tombstones
from appliance.catalog.tombstones import Owed
from appliance.errors import Corrupt, Unknown
from appliance.model import DestinationSettings, InstanceId, ObjectId
from appliance.replication import manifest
from appliance.replication.destinations import Archive
from appliance.replication.destinations.archive import Clearable, object_key

log = logging.getLogger(__name__)

KEPT: Final = "kept/"
ACTOR: Final = "courier"
RESTORED: Final = "restore.last"
"""What was restored, in `appliance.catalog.settings` (`appliance.backup.homecoming`); `last` is the last instance that came by it."""


def lives(reading: Reading) -> int:
    """How often this box has come back, as it counts (`appliance.backup.lives`); 0 for one that never was restored."""
    told = settings.get(reading, RESTORED)
    return int(told.get("lives", 0)) if isinstance(told, dict) else 0


def lay_tombstone(box: Box, place: DestinationSettings, archive: Archive, owed: Owed, now: datetime) -> None:
    """Destroy in `archive` what opens a destroyed study, and where the box may remove its objects too; may be repeated.

    Raises what the archive raises, and `Transient` while the ransomware guard holds.
    """
    with box.catalog.reading() as conn:
        freezes.refuse(conn)
        destroyed = tombstones.lies_under(conn, owed.manifest)
    mine = f"{KEPT}{manifest.digits(owed.manifest)}"
    for name in (
        owed.manifest,
        *[each.key for each in archive.documents(KEPT) if each.key.startswith(mine)],
    ):
        found = _found(box, archive, owed.manifest, name)
        archive.put_document(name, manifest.seal_tombstone(box.root, owed.manifest, found, destroyed))
    if isinstance(archive, Clearable):
        for object_id in owed.objects:
            with box.catalog.reading() as conn:
                freezes.refuse(conn)
            archive.remove(object_key(object_id))
    with box.catalog.transaction() as tx:
        tombstones.lay(tx, place.id, owed)
        entry = audit.Entry("tombstone:lay", f"destroyed:{owed.study}", ACTOR, {"to": place.name})
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
        destroyed = tombstones.lies_under(conn, name)
    keys = {key_id for each in destroyed for key_id in each.keys}
    mine = f"{KEPT}{manifest.digits(name)}"
    for each in (name, *[kept.key for kept in archive.documents(KEPT) if kept.key.startswith(mine)]):
        try:
            told = manifest.unseal(box.root, name, archive.document(each))
            known = {key_id for one in manifest.tombstones(told) for key_id in one.keys}
        except Unknown:
            continue
        except Corrupt:  # what nobody can read gives no key away
            log.error("%s: a study manifest is damaged", place.name)
            continue
        if keys <= known:
            continue
        objects = [
            ObjectId(str(one["object_id"])) for one in told.get("instances", []) if one["key_id"] in keys
        ]
        if isinstance(archive, Clearable):
            for object_id in objects:
                with box.catalog.reading() as conn:
                    freezes.refuse(conn)
                archive.remove(object_key(object_id))
        details = {"to": place.name, "instances": len(objects)}
        box.record(
            [audit.Entry("tombstone:lay", f"destroyed:{destroyed[-1].certificate}", ACTOR, details)], now
        )
        # Last, since it is the list by which an attempt that was cut is repeated. What it tells beside what is known here stays.
        more = [one for one in manifest.tombstones(told) if not set(one.keys) <= keys]
        archive.put_document(each, manifest.seal_tombstone(box.root, name, told, [*more, *destroyed]))
        log.warning("%s: what was destroyed while it was away is destroyed there too", place.name)


def obey_tombstones(
    box: Box, name: str, told: Mapping[str, Any], now: datetime, *, restoring: bool = False
) -> bool:
    """Destroy here what the manifest `told`, found under `name`, says was destroyed; whether there was anything.

    `restoring`: the box is being made whole, and nothing can have come to it yet. Raises `Corrupt` for tombstones that are none,
    and otherwise than in a restore `Transient` while the ransomware guard holds.
    """
    found = manifest.tombstones(told)
    if not found:
        return False
    with box.catalog.transaction() as tx:
        if not restoring:
            freezes.refuse(tx)
        restored_to = InstanceId(instances.last_id(tx)) if restoring else _restored_to(tx)
        gone = tombstones.obey(tx, name, found, now, restored_to=restored_to)
        entries = [
            audit.Entry(
                "study:destroy",
                f"study:{each.study}",
                ACTOR,
                {"certificate": found[-1].certificate, "instances": each.instances, "by": "tombstone"},
                study=each.study_instance_uid,
            )
            for each in gone
        ]
        audit.append(tx, box.audit_key, entries, now)
    for each in gone:
        box.study_keys.forget(each.keys)
        for object_id in each.objects:
            box.objects.remove(object_id)
    if gone:
        log.warning("studies that an archive knows as destroyed were destroyed here too: %d", len(gone))
    return bool(gone)


def _restored_to(conn: Reading) -> InstanceId | None:
    """The last instance that the latest restore brought; None on a box that was never restored."""
    told = settings.get(conn, RESTORED)
    last = told.get("last") if isinstance(told, dict) else None  # earlier software did not write it
    return None if last is None else InstanceId(int(last))


def _found(box: Box, archive: Archive, manifest_name: str, name: str) -> Mapping[str, Any] | None:
    try:
        return manifest.unseal(box.root, manifest_name, archive.document(name))
    except Unknown:
        return None
    except Corrupt:
        log.error("a study manifest was damaged; what takes its place is a tombstone alone")
        return None
