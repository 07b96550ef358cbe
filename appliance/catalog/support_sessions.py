"""Sessions of remote support, who came in during each, and what was typed and shown. The only writer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, insert, select, update

from appliance.catalog.database import Reading, Transaction
from appliance.catalog.support_tables import support_events, support_sessions, support_visits
from appliance.errors import Refused, Unknown
from appliance.fleet.session import Ending, Scope, Session

_FIELDS = (
    "id", "reason", "scope", "opened_by", "opened_utc", "expires_utc", "ended_utc", "ended_by", "ending",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Visit:
    """One coming in of one person; `sha256` is empty until it is over."""

    id: int
    session: int
    person: str
    serial: str
    began_utc: datetime
    ended_utc: datetime | None
    sha256: str


@dataclass(frozen=True, slots=True)
class Event:
    """What was typed (`i`) or shown (`o`), so many milliseconds after the visit began."""

    at_milliseconds: int
    kind: str
    text: str


def add(
    tx: Transaction, *, reason: str, scope: Scope, by: str, now: datetime, expires_utc: datetime
) -> Session:
    """Record a session. Raises `Refused` if one stands already."""
    if standing(tx) is not None:
        raise Refused("a session of support is open already", hint="end it first")
    done = tx.execute(
        insert(support_sessions).values(
            reason=reason, scope=scope, opened_by=by, opened_utc=now, expires_utc=expires_utc
        )
    )
    assert done.inserted_primary_key is not None
    return session(tx, int(done.inserted_primary_key[0]))


def end(tx: Transaction, session_id: int, ending: Ending, by: str, now: datetime) -> bool:
    """End a session. False if it was ended before, or never was."""
    done = tx.execute(
        update(support_sessions)
        .where(support_sessions.c.id == session_id, support_sessions.c.ended_utc.is_(None))
        .values(ended_utc=now, ended_by=by, ending=ending)
    )
    return done.rowcount == 1


def standing(reading: Reading) -> Session | None:
    """The session that nobody has ended, which may be over its time."""
    row = reading.execute(_select().where(support_sessions.c.ended_utc.is_(None))).one_or_none()
    return None if row is None else _session(row)


def session(reading: Reading, session_id: int) -> Session:
    """One session. Raises `Unknown`."""
    row = reading.execute(_select().where(support_sessions.c.id == session_id)).one_or_none()
    if row is None:
        raise Unknown("there is no such session of support", hint="look at the list of sessions")
    return _session(row)


def sessions(reading: Reading, *, limit: int = 100) -> list[Session]:
    """The sessions, the latest first."""
    return [
        _session(row)
        for row in reading.execute(_select().order_by(support_sessions.c.id.desc()).limit(limit))
    ]


def begin_visit(tx: Transaction, session_id: int, person: str, serial: str, now: datetime) -> int:
    """Record that somebody came in; the visit's id."""
    values = insert(support_visits).values(session=session_id, person=person, serial=serial, began_utc=now)
    return int(tx.execute(values.returning(support_visits.c.id)).scalar_one())


def add_event(tx: Transaction, visit: int, event: Event) -> None:
    """Record what was typed or shown, before it has an effect."""
    tx.execute(
        insert(support_events).values(
            visit=visit, at_milliseconds=event.at_milliseconds, kind=event.kind, text=event.text
        )
    )


def end_visit(tx: Transaction, visit: int, sha256: str, now: datetime) -> None:
    """Record that somebody has left, with the checksum of the recording."""
    tx.execute(
        update(support_visits).where(support_visits.c.id == visit).values(ended_utc=now, sha256=sha256)
    )


def visits(reading: Reading, session_id: int | None = None) -> list[Visit]:
    """Who came in during a session, or with None the visits that have not come to their end; the earliest first."""
    wanted = (
        support_visits.c.ended_utc.is_(None) if session_id is None else support_visits.c.session == session_id
    )
    return [
        Visit(*row)
        for row in reading.execute(select(support_visits).where(wanted).order_by(support_visits.c.id))
    ]


def visit(reading: Reading, visit_id: int) -> Visit:
    """One visit. Raises `Unknown`."""
    found = kept_visit(reading, visit_id)
    if found is None:
        raise Unknown("there is no such recording", hint="look at the list of sessions")
    return found


def kept_visit(reading: Reading, visit_id: int) -> Visit | None:
    """One visit, if it is there."""
    row = reading.execute(select(support_visits).where(support_visits.c.id == visit_id)).one_or_none()
    return None if row is None else Visit(*row)


def events(reading: Reading, visit_id: int) -> list[Event]:
    """What was typed and shown, in its order."""
    columns = support_events.c.at_milliseconds, support_events.c.kind, support_events.c.text
    query = select(*columns).where(support_events.c.visit == visit_id).order_by(support_events.c.id)
    return [Event(*row) for row in reading.execute(query)]


def recorded_characters(reading: Reading, session_id: int) -> int:
    """How much was recorded in a session, by all who came in."""
    length = func.coalesce(func.sum(func.length(support_events.c.text)), 0)
    joined = select(length).join(support_visits, support_visits.c.id == support_events.c.visit)
    return int(reading.execute(joined.where(support_visits.c.session == session_id)).scalar_one())


def _select() -> Any:
    return select(*(support_sessions.c[name] for name in _FIELDS))


def _session(row: Any) -> Session:
    values = dict(zip(_FIELDS, row, strict=True))
    ending = values["ending"]
    return Session(
        **(values | {"scope": Scope(values["scope"]), "ending": None if ending is None else Ending(ending)})
    )
