"""Signing in: examined outside any transaction (hashing is slow on purpose), then accepted or rejected inside one.

Many may be examined side by side before the first of them is rejected, so accepting looks at the limits and at the
kept password once more, under the catalog's write lock: a guess in a crowd counts like a guess in a queue.

What comes after a right password is decided by `appliance.identity.stages`: a session, or a half-open sign-in that
owes its second factor. Failures are forgotten only by a whole sign-in, so a known password earns nobody more guesses
at the codes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from appliance.catalog import Reading, Transaction, half_open, people
from appliance.catalog.people import Person
from appliance.errors import Refused
from appliance.identity.half_open import HalfOpen, begin
from appliance.identity.limits import wait_until
from appliance.identity.passwords import is_same, nobodys_password, verify_password
from appliance.identity.people import normal_login
from appliance.identity.policy import standing_of
from appliance.identity.sessions import open_session
from appliance.identity.stages import Proof, Stage, step


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
    """Too many failures: nothing was examined. It may be tried again at `until`."""

    login: str
    until: datetime = field(compare=False)


@dataclass(frozen=True, slots=True)
class Due:
    """The password was right; `stage` says what is due. `cookie` is that of the half-open sign-in."""

    stage: Stage
    cookie: str = field(repr=False)


def examine(
    conn: Reading, login: str, password: str, *, address: str, now: datetime
) -> Accepted | Rejected | TooMany:
    """Whether these open the console. Takes as long for an unknown login as for a known one."""
    try:
        login = normal_login(login)
    except Refused:
        login = login.strip().lower()[:80]
    if (until := wait_until(conn, login, address, now)) is not None:
        return TooMany(login, until)
    person = people.person(conn, login)
    if person is None or not person.password_set:
        kept = nobodys_password()
    else:
        kept = people.password_hash(conn, person.id)
    fits = verify_password(kept, password)
    if person is None or not fits or not person.active:
        return Rejected(login)
    return Accepted(person, kept)


def accept(
    tx: Transaction, accepted: Accepted, *, address: str, agent: str, now: datetime
) -> str | Due | Rejected | TooMany:
    """Begin the session of an accepted person; the returned text is its cookie. `Due` when more is asked for.

    `TooMany` or `Rejected` when what was examined has ceased to hold since.
    """
    login = accepted.person.login
    if (until := wait_until(tx, login, address, now)) is not None:
        return TooMany(login, until)
    person = people.person(tx, login)
    if person is None or not person.active or not is_same(people.password_hash(tx, person.id), accepted.kept):
        return Rejected(login)
    stage = step(Stage.OUTSIDE, Proof.PASSWORD, standing_of(tx, person))
    if stage is not Stage.SIGNED_IN:
        return Due(stage, begin(tx, person, stage, kept=accepted.kept, agent=agent, now=now))
    return enter(tx, person, Proof.PASSWORD, address=address, agent=agent, now=now)


def finish(
    tx: Transaction, sign_in: HalfOpen, proof: Proof, *, address: str, agent: str, now: datetime
) -> str:
    """Turn a half-open sign-in into a session, `proof` having been shown; the returned text is its cookie.

    Raises `NotAuthorised` when `proof` is not what was due.
    """
    step(sign_in.stage, proof, standing_of(tx, sign_in.person))
    half_open.remove(tx, sign_in.id)
    return enter(tx, sign_in.person, proof, address=address, agent=agent, now=now)


def enter(tx: Transaction, person: Person, proof: Proof, *, address: str, agent: str, now: datetime) -> str:
    """Begin a session of `person`, who has proved everything that was asked; the returned text is its cookie."""
    people.forget_failures(tx, person.login, address)
    people.signed_in(tx, person.id, now)
    return open_session(tx, person.id, proof=proof, address=address, agent=agent, now=now)


def reject(tx: Transaction, login: str, *, address: str, now: datetime) -> None:
    """Count a password that was wrong."""
    people.add_failure(tx, login, address, now)


def reject_factor(
    tx: Transaction, login: str, *, address: str, now: datetime, half_open_id: str = ""
) -> None:
    """Count a second factor that was wrong, and a try of the half-open sign-in that it was shown to."""
    people.add_failure(tx, login, address, now, kind=people.FACTOR)
    if half_open_id:
        half_open.count_try(tx, half_open_id)
