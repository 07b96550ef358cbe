"""Sessions of browsers: a random cookie, its digest in the catalog, an idle and an absolute end.

Rejected: signed cookies and tokens that carry their own rights; nobody could revoke them.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime, timedelta

from appliance.catalog import Reading, Transaction, account_links, people
from appliance.catalog.people import WebSession

IDLE = timedelta(minutes=30)
LIFETIME = timedelta(hours=12)
SEEN_EVERY = timedelta(minutes=1)
"""How often a use is recorded at most: a page is no reason for a write."""


def open_session(tx: Transaction, person_id: int, *, address: str, agent: str, now: datetime) -> str:
    """Begin a session; the returned text is the cookie, and is kept nowhere."""
    cookie = secrets.token_urlsafe(32)
    people.add_session(
        tx,
        session_id=digest(cookie),
        person_id=person_id,
        csrf=secrets.token_urlsafe(24),
        address=address,
        agent=agent,
        now=now,
        expires_utc=now + LIFETIME,
    )
    return cookie


def find_session(conn: Reading, cookie: str, now: datetime) -> WebSession | None:
    """The live session of `cookie`, if there is one."""
    found = people.session(conn, digest(cookie))
    return found if found is not None and session_is_live(found, now) else None


def session_is_live(session: WebSession, now: datetime) -> bool:
    """Whether a session is within both limits and its user may still enter. A clock set back ends it: sign in again."""
    return (
        session.person.active
        and now < session.expires_utc
        and session.created_utc <= now + timedelta(minutes=5)
        and now - session.seen_utc < IDLE
    )


def end_expired(tx: Transaction, now: datetime) -> int:
    """Forget the sessions past either limit, and the links whose time is over. How many sessions there were."""
    account_links.forget_expired(tx, now)
    return people.end_expired_sessions(tx, seen_before=now - IDLE, now=now)


def digest(cookie: str) -> str:
    """The name under which a session is kept: SHA-256 of 256 random bits needs no salt."""
    return hashlib.sha256(cookie.encode()).hexdigest()
