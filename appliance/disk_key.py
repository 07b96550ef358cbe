"""The recovery key of the box's own disk, once more on the box's screen: for a clinic whose paper with it is lost.

The screen shows it until the box has an owner (`appliance.cli.screen`), and no longer: it opens the disk in any machine. Somebody who
may manage keys can have it shown again, for ten minutes. It goes over no network and into no browser: whoever wants it must stand
before the box, as on its first day.

Rejected: to show it in the console, where a stolen session would carry it off; and a new key each time, since an entry of the disk
that nobody wrote down would then be the only one.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from appliance import audit, disk_pin
from appliance.audit import Entry
from appliance.box import Box
from appliance.catalog import Reading, settings
from appliance.errors import Refused

SHOWN_FOR: Final = timedelta(minutes=10)
KEPT: Final = "disk.key_shown_until"


def show(box: Box, entry: Entry, now: datetime) -> datetime:
    """Let the screen show the key from now on; until when. `entry` says in the audit who asks.

    Raises `Refused` on a machine without such a disk.
    """
    if disk_pin.seen() is None:
        raise Refused(
            "this machine has no disk whose key its screen could show",
            hint="the box's own image has one, on a machine with a TPM2",
        )
    until = now + SHOWN_FOR
    with box.catalog.transaction() as tx:
        settings.put(tx, KEPT, until.isoformat(), now)
        audit.append(tx, box.audit_key, [entry], now)
    return until


def hide(box: Box, entry: Entry, now: datetime) -> None:
    """Take it off the screen; nothing happens where it isn't there."""
    with box.catalog.transaction() as tx:
        if shown_until(tx, now) is None:
            return
        settings.put(tx, KEPT, None, now)
        audit.append(tx, box.audit_key, [entry], now)


def shown_until(conn: Reading, now: datetime) -> datetime | None:
    """Until when the screen shows the key; None when it doesn't. A clock that was set back makes the time no longer than it was."""
    told = settings.get(conn, KEPT, None)
    if not isinstance(told, str):
        return None
    until = datetime.fromisoformat(told)
    return until if timedelta(0) < until - now <= SHOWN_FOR else None
