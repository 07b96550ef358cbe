"""The end of a session of remote support, before the catalog knows of it.

A session ends at once, and its record follows. The catalog has one write lock, and whoever works in there may hold it for
minutes (`appliance key rotate`): until then a row can be asked for, and not written. So whoever ends a session leaves a note
in the data folder first, by which the desk closes within a second (`appliance.fleet.desk`); the catalog and the audit are
told after that, by whoever gets the lock first.

A note names its session and is later than its beginning: one that has stayed behind ends no other. It is one line of JSON,
``{"session": 7, "ending": "clinic", "by": "m", "at_utc": "…", "address": "…"}``.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from appliance import audit
from appliance.audit import Entry
from appliance.box import Box
from appliance.catalog import Transaction, support_sessions
from appliance.fleet.session import Ending, Session

ACTOR = "jobs"
NOTE = "support.end"


@dataclass(frozen=True, slots=True)
class Farewell:
    """How a session ended, by whom (a login, or a person of the vendor) and from which address; empty if nobody knows."""

    session: int
    ending: Ending
    by: str
    at_utc: datetime
    address: str = ""

    def ends(self, session: Session) -> bool:
        """Whether it is the end of that session, and not of one that had its number before a restore."""
        return self.session == session.id and self.at_utc >= session.opened_utc


def expired(session: Session, now: datetime) -> Farewell:
    """The end of a session whose time has gone by."""
    return Farewell(session.id, Ending.EXPIRED, ACTOR, now)


def leave(box: Box, end: Farewell) -> None:
    """Leave the note. Where it cannot be written, the session ends once the catalog knows of it."""
    text = json.dumps(asdict(end) | {"at_utc": end.at_utc.isoformat()}) + "\n"
    with suppress(OSError):
        file = os.open(_place(box), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(file, text.encode())
        finally:
            os.close(file)


def left(box: Box) -> Farewell | None:
    """The note that was left last; None if there is none, or it is just being written."""
    try:
        kept = json.loads(_place(box).read_text("utf-8").splitlines()[0])
        return Farewell(
            int(kept["session"]),
            Ending(kept["ending"]),
            str(kept["by"]),
            datetime.fromisoformat(kept["at_utc"]),
            str(kept["address"]),
        )
    except (OSError, ValueError, LookupError, TypeError):
        return None


def forget(box: Box) -> None:
    """Take the note away."""
    with suppress(OSError):
        _place(box).unlink(missing_ok=True)


def record(tx: Transaction, box: Box, end: Farewell, now: datetime) -> bool:
    """Write the end into the catalog and the audit; False if it was there before."""
    by = f"support: {end.by}" if end.ending is Ending.VENDOR else end.by
    if not support_sessions.end(tx, end.session, end.ending, by, end.at_utc):
        return False
    audit.append(tx, box.audit_key, [_entry(end)], now)
    return True


def _entry(end: Farewell) -> Entry:
    subject, details = str(end.session), {"ending": str(end.ending)}
    match end.ending:
        case Ending.EXPIRED:
            return Entry("support:expire", subject, ACTOR)
        case Ending.VENDOR:
            return Entry("support:close", subject, ACTOR, details | {"person": end.by})
        case Ending.CLINIC:
            kind = audit.ActorKind.PERSON
            return Entry("support:close", subject, end.by, details, address=end.address, actor_kind=kind)


def _place(box: Box) -> Path:
    return box.config.data.absolute() / NOTE
