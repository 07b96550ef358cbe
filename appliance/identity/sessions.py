"""Sessions of browsers: a random cookie, its digest in the catalog, an idle and an absolute end.

How long, and how many at a time, the clinic decides (settings ``sessions.*``); what it decides holds for open sessions
from the next request on. Rejected: signed cookies and tokens that carry their own rights; nobody could revoke them.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from appliance import settings
from appliance.catalog import Reading, Transaction, account_links, half_open, people
from appliance.catalog.people import WebSession
from appliance.identity.stages import Proof

SEEN_EVERY = timedelta(seconds=20)
"""How often a use is recorded at most: a page is no reason for a write."""


LIMITS = ("sessions.idle_minutes", "sessions.absolute_hours", "sessions.concurrent")
"""The settings that `SessionLimits` are made of."""


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """How long a session may be idle, how long it may last in all, and how many one person may have."""

    idle: timedelta
    lifetime: timedelta
    concurrent: int


def session_limits(conn: Reading) -> SessionLimits:
    """What the clinic has decided."""
    return limits_of(settings.get_several(conn, LIMITS))


def limits_of(chosen: Mapping[str, Any]) -> SessionLimits:
    """The same, from the values of `LIMITS`, for whoever has read them with others."""
    idle, lifetime, concurrent = (chosen[key] for key in LIMITS)
    return SessionLimits(timedelta(minutes=idle), timedelta(hours=lifetime), concurrent)


def open_session(
    tx: Transaction,
    person_id: int,
    *,
    address: str,
    agent: str,
    now: datetime,
    proof: Proof = Proof.PASSWORD,
) -> str:
    """Begin a session; the returned text is the cookie, and is kept nowhere."""
    cookie = secrets.token_urlsafe(32)
    people.add_session(
        tx,
        session_id=digest(cookie),
        person_id=person_id,
        csrf=secrets.token_urlsafe(24),
        address=address,
        agent=agent,
        proof=proof.value,
        now=now,
        expires_utc=now + session_limits(tx).lifetime,
    )
    return cookie


def renew(tx: Transaction, session: WebSession, now: datetime) -> str:
    """A new cookie for a session whose person has just proved who it is; the old one opens nothing any more."""
    cookie = secrets.token_urlsafe(32)
    people.renew_session(tx, session.id, digest(cookie), now)
    return cookie


def find_session(conn: Reading, cookie: str, now: datetime) -> WebSession | None:
    """The live session of `cookie`, if there is one."""
    return find_within(conn, cookie, session_limits(conn), now)


def find_within(conn: Reading, cookie: str, limits: SessionLimits, now: datetime) -> WebSession | None:
    """The same, for whoever knows the limits already."""
    found = people.session(conn, digest(cookie))
    return found if found is not None and session_is_live(found, limits, now) else None


def session_is_live(session: WebSession, limits: SessionLimits, now: datetime) -> bool:
    """Whether a session is within both limits and its user may still enter. A clock set back ends it: sign in again."""
    return (
        session.person.active
        and now < ends_utc(session, limits)
        and session.created_utc <= now + timedelta(minutes=5)
    )


def ends_utc(session: WebSession, limits: SessionLimits) -> datetime:
    """When a session ends unless it is used before; at the latest at its absolute end."""
    return min(session.seen_utc + limits.idle, last_end_utc(session, limits))


def last_end_utc(session: WebSession, limits: SessionLimits) -> datetime:
    """The absolute end of a session, as was decided when it began, or sooner if the clinic has decided so since."""
    return min(session.expires_utc, session.created_utc + limits.lifetime)


def live_sessions(conn: Reading, person_id: int, now: datetime) -> list[WebSession]:
    """The sessions of a person that open something, the latest used first."""
    limits = session_limits(conn)
    return [each for each in people.sessions_of(conn, person_id) if session_is_live(each, limits, now)]


def end_surplus(tx: Transaction, person_id: int, now: datetime, *, keep: str) -> list[WebSession]:
    """End the sessions of a person beyond what is allowed, those unused the longest first, never the one of id `keep`.

    Gives those that ended.
    """
    most = session_limits(tx).concurrent
    others = [each for each in live_sessions(tx, person_id, now) if each.id != keep]
    surplus = others[max(0, most - 1) :]
    for each in surplus:
        people.end_session(tx, each.id)
    return surplus


def end_expired(tx: Transaction, now: datetime) -> int:
    """Forget the sessions past either limit, the links whose time is over, and what was begun and not finished. How many sessions there were."""
    account_links.forget_expired(tx, now)
    half_open.remove_expired(tx, now)
    limits = session_limits(tx)
    return people.end_expired_sessions(
        tx, seen_before=now - limits.idle, created_before=now - limits.lifetime, now=now
    )


def digest(cookie: str) -> str:
    """The name under which a session is kept: SHA-256 of 256 random bits needs no salt."""
    return hashlib.sha256(cookie.encode()).hexdigest()
