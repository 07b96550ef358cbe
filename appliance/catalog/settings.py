"""Settings that the box keeps for itself: small JSON values by key. What an operator chooses is in
`appliance.catalog.operator_settings`.

A version that is left again has kept words there that the one before does not know. Whoever reads one takes it by
`appliance.health.kept.word`, so that it never fails for that: `tests/test_other_versions.py` plants an unknown one in each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete
from sqlalchemy.dialects.sqlite import insert

from appliance.catalog.database import Transaction
from appliance.catalog.schema import settings

CONSOLE = "console-address"
"""The address at which people of the clinic open the console, once it has a name and a certificate: for letters."""

LOOKED_THROUGH = "destruction.looked"
"""Up to where a destination was looked through for what is destroyed (`appliance.catalog.tombstones`), with its row id behind a dot."""

LATEST_BACKUP = "backup.last"
"""How the latest backup in an archive went (`appliance.backup.making`), with its name behind a dot."""

BACKUP_FAILURES = "backup.failures"
"""How often a backup has failed in an archive since one succeeded there, and when last (`appliance.backup.making`), with its name behind a dot."""

LATEST_DRILL = "drill.last"
"""How the latest drill of an archive went (`appliance.backup.drill`), with its name behind a dot."""

BACKED_UP = "backup.begun"
"""That a backup was begun in an archive at the place where it is (`appliance.backup.making`), with its row id behind a dot."""

LEFT = "destination.left"
"""Which studies may lie at a place that is no longer this box's (`appliance.catalog.destinations.Left`), with its row id behind a dot."""

RESTORED = "restore.last"
"""What was restored (`appliance.backup.homecoming`), how often, and which archives were asked how often (`appliance.backup.lives`)."""

ASKED = "restore.asked"
"""Down to which image each archive was asked after a restore (`appliance.backup.asking`)."""

UNREAD_MANIFESTS = "restore.manifests"
"""Which study manifests did not open for a restore (`appliance.backup.unread`)."""

OTHER_ARCHIVES = "restore.others"
"""How far each archive was looked through for what a restored box does not know (`appliance.backup.other_archives`)."""

PROTECTIONS = "bucket.protections"
"""What protects each bucket, as it was found last (`appliance.lifecycle.safeguards`), by the row id of its destination."""

VENDOR_ORDER = "fleet.wanted"
"""What the vendor wants of this box, as far as it was taken (`appliance.fleet.taking`)."""

HEARTBEAT_CONSENT = "heartbeat.consent"
"""Who has agreed to heartbeats, and to what (`appliance.fleet.consent`); a restored box forgets it."""

HEARTBEATS_STOPPED = "heartbeat.stopped"
"""That none is sent any more though somebody had agreed, because what was agreed to has changed (`appliance.fleet.consent`)."""

_ONE = "SELECT value FROM settings WHERE key = ?"
_SEVERAL = "SELECT key, value FROM settings WHERE key IN (SELECT value FROM json_each(?))"


def get(reading: Connection, key: str, default: Any = None) -> Any:
    """The value of `key`, or `default`."""
    row = reading.exec_driver_sql(_ONE, (key,)).first()
    return default if row is None else json.loads(row[0])


def several(reading: Connection, keys: Sequence[str]) -> dict[str, Any]:
    """The values of those among `keys` that are set, in one statement."""
    return {key: json.loads(value) for key, value in reading.exec_driver_sql(_SEVERAL, (json.dumps(keys),))}


def put(tx: Transaction, key: str, value: Any, now: datetime) -> None:
    """Set `key` to a JSON-able `value`; None, which `get` could not tell from its default, removes it."""
    if value is None:
        remove(tx, key)
        return
    statement = insert(settings).values(key=key, value=value, changed_utc=now)
    tx.execute(
        statement.on_conflict_do_update(
            index_elements=["key"],
            set_={"value": statement.excluded.value, "changed_utc": statement.excluded.changed_utc},
        )
    )


def remove(tx: Transaction, key: str) -> None:
    """Remove `key` if it is set."""
    tx.execute(delete(settings).where(settings.c.key == key))
