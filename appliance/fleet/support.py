"""Opening and ending sessions of remote support, and the keys of the box for them, in the caller's transaction.

Who opens or ends one writes the audit's row (``support:open``, ``support:close``); what happens by itself writes its own.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from appliance import audit, settings
from appliance.audit import Entry
from appliance.box import Box
from appliance.catalog import Reading, Transaction, audit_search, support_sessions
from appliance.catalog import settings as kept_settings
from appliance.catalog.audit_search import Wanted
from appliance.catalog.support_sessions import Event, Visit
from appliance.errors import OperatorNeeded
from appliance.fleet import farewell, line, recording
from appliance.fleet.session import Scope, Session, expiry

KEYS = "support.keys"
"""Where the two SSH keys of the box are, sealed: the one it dials out with, and the one it is known by."""
CLOCK = "support.clock"
"""When the session that had a desk last is over: its number, the machine's start (`boot`), and seconds since that (`ends`)."""
ACTOR = farewell.ACTOR


class Proof(StrEnum):
    """What the audit says of a recording: the visit goes on, it is as it was at its end, it is not, or it is there no more."""

    OPEN = "open"
    WHOLE = "whole"
    CHANGED = "changed"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the box dials to, by which key that place is known, and whose certificates it accepts; empty until entered."""

    host: str
    port: int
    user: str
    host_key: str
    authority: str
    forward_port: int

    @property
    def is_complete(self) -> bool:
        """Whether the vendor is entered."""
        return all((self.host, self.user, self.host_key, self.authority))


class Readiness(StrEnum):
    """Whether a session can be opened, and why not."""

    READY = "ready"
    NO_VENDOR = "no_vendor"
    NOT_HERE = "not_here"  # no OpenSSH on this system


@dataclass(frozen=True, slots=True)
class BoxKeys:
    """Private keys, as OpenSSH reads them."""

    dialling: str
    own: str


def endpoint(reading: Reading) -> Endpoint:
    """What the clinic has entered of the vendor."""
    names = ("host", "port", "user", "host_key", "authority", "forward_port")
    return Endpoint(*(settings.get(reading, f"support.{name}") for name in names))


def readiness(reading: Reading) -> Readiness:
    """Whether a session can be opened on this system, with what was entered."""
    if not line.is_possible():
        return Readiness.NOT_HERE
    return Readiness.READY if endpoint(reading).is_complete else Readiness.NO_VENDOR


def open_session(
    tx: Transaction, box: Box, *, reason: str, scope: Scope, hours: int, by: str, now: datetime
) -> Session:
    """Open a session. Raises `Refused`; `OperatorNeeded` if no vendor is entered, or this system cannot have any in."""
    ready = readiness(tx)
    if ready is Readiness.NOT_HERE:
        raise OperatorNeeded(
            "remote support cannot work on this system",
            hint="take the support file, and give it to whoever helps you",
        )
    if ready is Readiness.NO_VENDOR:
        raise OperatorNeeded(
            "no vendor was entered", hint="enter where support is and its keys, in the settings of support"
        )
    expires = expiry(reason, hours, now)
    expire(tx, box, now)
    keys_of(tx, box, now)
    return support_sessions.add(tx, reason=reason.strip(), scope=scope, by=by, now=now, expires_utc=expires)


def expire(tx: Transaction, box: Box, now: datetime) -> bool:
    """End the session that is over its time, or that a clock set back would make longer; whether there was one."""
    session = support_sessions.standing(tx)
    if session is None or session.is_open(now):
        return False
    return farewell.record(tx, box, farewell.expired(session, now), now)


def ends(box: Box, session: Session, boot: str, running_seconds: float, now: datetime) -> float:
    """When `session` is over, in seconds since the machine's start `boot`: never later than what was kept of it, whatever time it is `now`.

    It is over where the machine has started anew since, or nobody can say whether it has.
    """
    until = running_seconds + (session.expires_utc - now).total_seconds()
    with box.catalog.transaction() as tx:
        kept = kept_settings.get(tx, CLOCK, {})
        if kept.get("session") != session.id:
            kept_settings.put(tx, CLOCK, {"session": session.id, "boot": boot, "ends": until}, now)
            return until
    return min(until, float(kept["ends"])) if boot and kept["boot"] == boot else -math.inf


def end_visit(tx: Transaction, box: Box, visit_id: int, now: datetime) -> None:
    """Close the recording of a visit, and bind its checksum into the audit."""
    visit, events = support_sessions.visit(tx, visit_id), support_sessions.events(tx, visit_id)
    details = _bound(visit, events)
    support_sessions.end_visit(tx, visit_id, str(details["sha256"]), now)
    audit.append(tx, box.audit_key, [Entry("support:leave", str(visit_id), ACTOR, details)], now)


def proof(reading: Reading, visit: Visit, events: Sequence[Event]) -> Proof:
    """Whether a recording is what was bound into the audit when the visit ended.

    By the audit's row alone: whoever changes an event may change the checksum beside it, too.
    """
    left = [
        row
        for row in audit_search.oldest_first(reading, Wanted(actions=("support:leave",)))
        if row.subject == str(visit.id)
    ]
    if not left:
        return Proof.CHANGED if visit.sha256 or visit.ended_utc else Proof.OPEN
    return Proof.WHOLE if json.loads(left[-1].details) == _bound(visit, events) else Proof.CHANGED


def lost(reading: Reading) -> list[Visit]:
    """The visits of which the audit says that somebody came in, and which the catalog has no more; the earliest first.

    Whoever takes a visit away may have its id given anew to whoever comes next, so a row is of the visit that is there only if it
    is the last one of that id, and by the same certificate.
    """
    kept: dict[int, Visit | None] = {}
    found: list[Visit] = []
    rows = list(audit_search.oldest_first(reading, Wanted(actions=("support:enter",))))
    for row in reversed(rows):
        details = json.loads(row.details)
        came = Visit(
            id=int(row.subject),
            session=int(details["session"]),
            person=str(details["person"]),
            serial=str(details["serial"]),
            began_utc=datetime.fromisoformat(row.at_utc),
            ended_utc=None,
            sha256="",
        )
        if came.id not in kept:
            kept[came.id] = support_sessions.kept_visit(reading, came.id)
        there = kept[came.id]
        kept[came.id] = None
        if there is None or there.serial != came.serial:
            found.append(came)
    return found[::-1]


def recorded(reading: Reading, visit_id: int) -> tuple[Visit, list[Event], Proof]:
    """A visit, what was recorded of it, and whether that is what the audit says. Raises `Unknown` if nobody ever came in so."""
    if support_sessions.kept_visit(reading, visit_id) is None:
        for each in lost(reading):
            if each.id == visit_id:
                return each, [], Proof.LOST
    visit, events = support_sessions.visit(reading, visit_id), support_sessions.events(reading, visit_id)
    return visit, events, proof(reading, visit, events)


def _bound(visit: Visit, events: Sequence[Event]) -> dict[str, object]:
    """What the audit keeps of a visit that is over."""
    return {
        "session": visit.session,
        "person": visit.person,
        "events": len(events),
        "sha256": recording.checksum(visit, events),
    }


def close_left_open(box: Box, now: datetime) -> None:
    """Close the recordings of visits that were cut with the process that had them."""
    with box.catalog.transaction() as tx:
        for visit in support_sessions.visits(tx):
            end_visit(tx, box, visit.id, now)


def keys_of(tx: Transaction, box: Box, now: datetime) -> BoxKeys:
    """The keys of the box, made when they are first needed."""
    kept = kept_settings.get(tx, KEYS)
    if kept is None:
        made = {name: _new_key() for name in ("dialling", "own")}
        sealed = box.root.seal(json.dumps(made).encode(), KEYS.encode())
        kept_settings.put(tx, KEYS, sealed.hex(), now)
        return BoxKeys(**made)
    return BoxKeys(**json.loads(box.root.unseal(bytes.fromhex(kept), KEYS.encode())))


def public(key: str) -> str:
    """The public half of one of the keys, as a line for the vendor."""
    private = serialization.load_ssh_private_key(key.encode(), None)
    encoded = private.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    return encoded.decode()


def _new_key() -> str:
    return (
        Ed25519PrivateKey.generate()
        .private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        )
        .decode()
    )
