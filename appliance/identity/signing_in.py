"""Signing in: examined outside any transaction (hashing is slow on purpose), then accepted or rejected inside one.

Many may be examined side by side before the first of them is rejected, so accepting looks at the limits and at the
kept password once more, under the catalog's write lock: a guess in a crowd counts like a guess in a queue.

Limits over a quarter of an hour: five failures of one login from one address, so that a colleague across the room is
not locked out by a stranger's guesses; twenty of one login from anywhere; forty from one address. They live in the
catalog, so a restart forgives nobody.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from appliance.catalog import Reading, Transaction, people
from appliance.catalog.people import Failures, Person
from appliance.errors import Refused
from appliance.identity.passwords import nobodys_password, verify_password
from appliance.identity.people import normal_login
from appliance.identity.sessions import open_session

WINDOW = timedelta(minutes=15)
HERE, LOGIN, ADDRESS = 5, 20, 40


@dataclass(frozen=True, slots=True)
class Accepted:
    """Login and password belonged together, and the user could enter; `kept` is the text that the password fitted."""

    person: Person
    kept: str = field(default="", repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Rejected:
    """They don't, or the user may not. Nobody outside learns which. `login` is what was typed, folded."""

    login: str


@dataclass(frozen=True, slots=True)
class TooMany:
    """Too many failures: nothing was examined."""

    login: str


def examine(
    conn: Reading, login: str, password: str, *, address: str, now: datetime
) -> Accepted | Rejected | TooMany:
    """Whether these open the console. Takes as long for an unknown login as for a known one."""
    try:
        login = normal_login(login)
    except Refused:
        login = login.strip().lower()[:80]
    if is_too_many(_failures(conn, login, address, now)):
        return TooMany(login)
    person = people.person(conn, login)
    if person is None or not person.password_set:
        kept = nobodys_password()
    else:
        kept = people.password_hash(conn, person.id)
    fits = verify_password(kept, password)
    if person is None or not fits or not person.active:
        return Rejected(login)
    return Accepted(person, kept)


def _failures(conn: Reading, login: str, address: str, now: datetime) -> Failures:
    """Those near the present in either direction: what a clock that has been set back left in a far future is not."""
    return people.failures(conn, login, address, after=now - WINDOW, before=now + WINDOW)


def is_too_many(failures: Failures) -> bool:
    """The limits, as one expression."""
    return failures.here >= HERE or failures.login >= LOGIN or failures.address >= ADDRESS


def accept(
    tx: Transaction, accepted: Accepted, *, address: str, agent: str, now: datetime
) -> str | Rejected | TooMany:
    """Begin the session of an accepted person; the returned text is its cookie.

    `TooMany` or `Rejected` when that has ceased to hold since it was examined.
    """
    login = accepted.person.login
    if is_too_many(_failures(tx, login, address, now)):
        return TooMany(login)
    person = people.person(tx, login)
    if person is None or not person.active or people.password_hash(tx, person.id) != accepted.kept:
        return Rejected(login)
    people.forget_failures(tx, login, address)
    people.signed_in(tx, person.id, now)
    return open_session(tx, person.id, address=address, agent=agent, now=now)


def reject(tx: Transaction, login: str, *, address: str, now: datetime) -> None:
    """Count a failure."""
    people.add_failure(tx, login, address, now)
