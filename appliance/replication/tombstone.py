"""Tombstones that are found in an archive are obeyed: what was destroyed in another life of the box is destroyed in this one.

`appliance.replication.burial` lays them.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from appliance import audit
from appliance.box import Box
from appliance.catalog import Reading, freezes, instances, settings, tombstones
from appliance.model import InstanceId
from appliance.replication import manifest

log = logging.getLogger(__name__)

ACTOR: Final = "courier"
RESTORED: Final = settings.RESTORED
"""What was restored, in `appliance.catalog.settings` (`appliance.backup.homecoming`); `last` is the last instance that came by it."""


def lives(reading: Reading) -> int:
    """How often this box has come back, as it counts (`appliance.backup.lives`); 0 for one that never was restored."""
    told = settings.get(reading, RESTORED)
    return int(told.get("lives", 0)) if isinstance(told, dict) else 0


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
