"""Tombstones that are found in an archive are obeyed: what was destroyed in another life of the box is destroyed in this one.

`appliance.replication.burial` lays them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from appliance import audit
from appliance.box import Box
from appliance.catalog import (
    Reading,
    Transaction,
    freezes,
    instances,
    obeying,
    settings,
    studies,
    study_keys,
)
from appliance.catalog.destroyed_keys import Tombstone
from appliance.catalog.obeying import Obeyed
from appliance.model import InstanceId
from appliance.replication import manifest

log = logging.getLogger(__name__)

ACTOR: Final = "courier"
RETURNED: Final = "destruction.returned"
"""Of which studies it was said that an archive knows them as destroyed, in `appliance.catalog.settings`."""

MOST_SAID: Final = 1000
RESTORED: Final = settings.RESTORED
"""What was restored, in `appliance.catalog.settings` (`appliance.backup.homecoming`); `last` is the last instance that came by it."""


def lives(reading: Reading) -> int:
    """How often this box has come back, as it counts (`appliance.backup.lives`); 0 for one that never was restored."""
    told = settings.get(reading, RESTORED)
    return int(told.get("lives", 0)) if isinstance(told, dict) else 0


def obey_tombstones(
    box: Box, archive: str, name: str, told: Mapping[str, Any], now: datetime, *, restoring: bool = False
) -> bool:
    """Destroy here what the manifest `told`, found under `name` in the archive of that name, says was destroyed; whether there was anything.

    A box that has come back owes what was not known here to every archive (`appliance.catalog.obeying`); one that never was restored meets only
    what it has destroyed itself, or it was switched on again beside the one in its place, whose backups are not its to destroy.
    `restoring`: the box is being made whole, and nothing can have come to it yet. Raises `Corrupt` for tombstones that are none,
    and otherwise than in a restore `Transient` while the ransomware guard holds.
    """
    found = manifest.tombstones(told)
    obeyed = [each for each in found if not _has_more(told, each)]
    if not found:
        return False
    with box.catalog.transaction() as tx:
        if not restoring:
            freezes.refuse(tx)
        restored_to = InstanceId(instances.last_id(tx)) if restoring else _restored_to(tx)
        came_back = restoring or settings.get(tx, RESTORED) is not None
        done = obeying.obey(
            tx, name, obeyed, now, restored_to=restored_to, found_in=archive if came_back else ""
        )
        entries = [entry for each in done for entry in _entries(each, archive)]
        entries += _returned(tx, found, now)
        audit.append(tx, box.audit_key, entries, now)
    gone = [each for one in done for each in one.erased]
    for each in gone:
        box.study_keys.forget(each.keys)
        for object_id in each.objects:
            box.objects.remove(object_id)
    if gone:
        log.warning("studies that an archive knows as destroyed were destroyed here too: %d", len(gone))
    return bool(gone)


def _entries(done: Obeyed, archive: str) -> Iterator[audit.Entry]:
    """What the audit says of a tombstone that was carried out here."""
    found_as = done.tombstone.certificate
    if done.has_begun:
        yield audit.Entry("destruction:find", done.certificate, ACTOR, {"as": found_as, "in": archive})
    for each in done.erased:
        details = {
            "certificate": done.certificate or found_as,
            "instances": each.instances,
            "by": "tombstone",
        }
        yield audit.Entry(
            "study:destroy", f"study:{each.study}", ACTOR, details, study=each.study_instance_uid
        )


def carried(reading: Reading, told: Mapping[str, Any]) -> list[Tombstone]:
    """The tombstones in a manifest that this box does not carry out, since a study here has more: they stay in that archive.

    Raises `Corrupt` for tombstones that are none.
    """
    return [
        each
        for each in manifest.tombstones(told)
        if set(each.keys) - study_keys.destroyed_among(reading, each.keys)
    ]


def _has_more(told: Mapping[str, Any], tombstone: Tombstone) -> bool:
    """Whether a manifest tells of images under the keys of a tombstone beside it, and nobody had decided about one of them."""
    if tombstone.objects is None:
        return False
    under = {row["object_id"] for row in told.get("instances", []) if row["key_id"] in tombstone.keys}
    return not under <= set(tombstone.objects)


def _returned(tx: Transaction, found: Sequence[Tombstone], now: datetime) -> Iterator[audit.Entry]:
    """That studies which an archive knows as destroyed are here, once for each: the one in charge of privacy is told."""
    said = settings.get(tx, RETURNED, [])
    fresh = {(label, study) for label, here in obeying.left_alive(tx, found).items() for study in here} - {
        (label, study) for label, study in said
    }
    for label, study in sorted(fresh):
        row = studies.study_by_id(tx, study)
        yield audit.Entry("study:return", label, ACTOR, study=row.study_instance_uid if row else "")
        log.warning(
            "an archive knows a study as destroyed that has more here than was decided about: it stays"
        )
    if fresh:
        settings.put(tx, RETURNED, [*said, *sorted(fresh)][-MOST_SAID:], now)


def _restored_to(conn: Reading) -> InstanceId | None:
    """The last instance that the latest restore brought; None on a box that was never restored."""
    told = settings.get(conn, RESTORED)
    last = told.get("last") if isinstance(told, dict) else None  # earlier software did not write it
    return None if last is None else InstanceId(int(last))
