"""The middle of signing in: a browser whose password was right, and which still owes its second factor.

The browser holds a random cookie of its own, good for nothing but the next step; what it has shown lies here, under
that cookie's digest, for ten minutes and five tries. Rejected: carrying the stage in the session or in a signed cookie;
a half-open session is a session to whatever forgets to ask, and a signed cookie cannot be taken back or counted.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from appliance.catalog import Reading, Transaction, half_open, people
from appliance.catalog.people import Person
from appliance.identity.passwords import is_same
from appliance.identity.sessions import digest
from appliance.identity.stages import Stage

LIFETIME = timedelta(minutes=10)
TRIES = 5


@dataclass(frozen=True, slots=True)
class HalfOpen:
    """A sign-in under way. `id` is the digest of its cookie."""

    id: str
    person: Person
    stage: Stage


def begin(tx: Transaction, person: Person, stage: Stage, *, kept: str, agent: str, now: datetime) -> str:
    """Remember that the password of `person` was right; the returned text is the cookie."""
    cookie = secrets.token_urlsafe(32)
    half_open.add(
        tx,
        half_open_id=digest(cookie),
        person_id=person.id,
        stage=stage.value,
        password_hash=kept,
        agent=agent,
        now=now,
        expires_utc=now + LIFETIME,
    )
    return cookie


def find(conn: Reading, cookie: str, *, agent: str, now: datetime) -> HalfOpen | None:
    """The sign-in of that cookie, if it is in time, has tries left, and is still that browser's and that password's."""
    kept = half_open.find(conn, digest(cookie))
    if kept is None or kept.tries >= TRIES or kept.agent != agent[:200]:
        return None
    if not kept.expires_utc - LIFETIME - timedelta(minutes=5) <= now < kept.expires_utc:
        return None
    person = people.person_by_id(conn, kept.person_id)
    if (
        person is None
        or not person.active
        or not is_same(people.password_hash(conn, person.id), kept.password_hash)
    ):
        return None
    return HalfOpen(kept.id, person, Stage(kept.stage))
