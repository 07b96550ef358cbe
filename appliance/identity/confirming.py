"""Confirming who is at a session, before an act that does harm in the wrong hands: with the password, or a second factor.

A session that was confirmed within `FRESH` is believed; signing in confirms. The password is examined outside the
transaction, like at the door, and counts against the same limits.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from appliance.catalog import Reading, Transaction, people
from appliance.catalog.people import WebSession
from appliance.identity import one_time_codes
from appliance.identity.passwords import verify_password
from appliance.store.keys import RootKey

FRESH = timedelta(minutes=5)
LONG_ENOUGH_TO_ENROL = timedelta(minutes=20)
"""For an app that has to be installed on the telephone first."""


def is_fresh(session: WebSession, now: datetime, *, within: timedelta = FRESH) -> bool:
    """Whether the person of `session` has proved who it is lately. A clock that was set back asks again."""
    return timedelta(0) <= now - session.confirmed_utc < within


def password_fits(conn: Reading, session: WebSession, password: str) -> bool:
    """Whether `password` is that of the person of `session`. Slow on purpose: not inside a transaction."""
    return bool(password) and verify_password(people.password_hash(conn, session.person.id), password)


def code_fits(tx: Transaction, root: RootKey, session: WebSession, typed: str, now: datetime) -> bool:
    """Whether `typed` is a one-time code of that person, which is used up by this."""
    return bool(typed) and one_time_codes.accept(tx, root, session.person.id, typed, now)
