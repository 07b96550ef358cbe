"""Who may use the console: users and the logins they once had, sessions, failed sign-ins. The only writer of those tables.

Users are never deleted, and a login is never given to somebody else: the audit refers to both.

Functions take the transaction (or the reading) first and moments as aware UTC datetimes; nobody commits here. A
session is kept under the SHA-256 of its cookie, so that a copy of the catalog opens no session.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import ColumnElement, Row, Select, bindparam, delete, func, insert, select, update

from appliance.catalog.database import Reading, Transaction
from appliance.catalog.schema import former_logins, sign_in_failures, users, web_sessions
from appliance.errors import Refused, Unknown

PersonState = Literal["invited", "active", "deactivated"]

MOST_FAILURES = 5_000
"""Failed sign-ins kept; the oldest go first. More than an attacker needs to be stopped, less than he needs to harm."""

PASSWORD, FACTOR = "password", "factor"
"""The kinds of failed proofs: the first thing that is asked, and the second."""


@dataclass(frozen=True, slots=True)
class Person:
    """A user of the console. `login` is folded to lower case; `role` is a word of `appliance.identity.roles`.

    `password_set` is false until an invited person has chosen one.
    """

    id: int
    login: str
    name: str
    role: str
    active: bool
    language: str
    created_utc: datetime
    last_sign_in_utc: datetime | None
    password_set: bool

    @property
    def state(self) -> PersonState:
        """How the account stands."""
        if not self.active:
            return "deactivated"
        return "active" if self.password_set else "invited"


@dataclass(frozen=True, slots=True)
class WebSession:
    """A signed-in browser. `id` is the digest of its cookie, `csrf` what its forms must carry.

    `proof` is how its person got in (a word of `appliance.identity.stages`), `confirmed_utc` when that person last
    proved who it is.
    """

    id: str
    person: Person
    created_utc: datetime
    seen_utc: datetime
    expires_utc: datetime
    address: str
    agent: str
    csrf: str
    proof: str
    confirmed_utc: datetime


# --- users -----------------------------------------------------------------------------------------------------------


def people(conn: Reading) -> list[Person]:
    """Everybody, by login."""
    return [_person(row) for row in conn.execute(_SELECT.order_by(users.c.login))]


def anybody(conn: Reading) -> bool:
    """Whether there is a user at all: the box has been claimed."""
    return conn.execute(select(users.c.id).limit(1)).first() is not None


def person(conn: Reading, login: str) -> Person | None:
    """The user of that login, active or not."""
    row = conn.execute(_SELECT.where(users.c.login == login)).one_or_none()
    return None if row is None else _person(row)


def person_by_id(conn: Reading, person_id: int) -> Person | None:
    """The user of that row id, active or not."""
    row = conn.execute(_SELECT.where(users.c.id == person_id)).one_or_none()
    return None if row is None else _person(row)


def able(conn: Reading, role: str) -> frozenset[int]:
    """The users of a role who can sign in: active, with a password."""
    query = select(users.c.id).where(users.c.role == role, users.c.active, users.c.password_hash != "")
    return frozenset(conn.execute(query).scalars())


def password_hash(conn: Reading, person_id: int) -> str:
    """The Argon2 text of a user. Raises `Unknown`."""
    found = conn.execute(select(users.c.password_hash).where(users.c.id == person_id)).scalar_one_or_none()
    if found is None:
        raise Unknown("there is no such user")
    return str(found)


def add(
    tx: Transaction, *, login: str, name: str, role: str, password_hash: str, language: str, now: datetime
) -> Person:
    """Record a new user; without a `password_hash`, one who cannot sign in yet. Raises `Refused` if the login is taken."""
    _check_free(tx, login, None)
    tx.execute(
        insert(users).values(
            login=login,
            name=name,
            role=role,
            password_hash=password_hash,
            language=language,
            created_utc=now,
            changed_utc=now,
        )
    )
    added = person(tx, login)
    assert added is not None
    return added


def change(
    tx: Transaction, person_id: int, *, login: str, name: str, role: str, language: str, now: datetime
) -> None:
    """Replace what is recorded of a user. Raises `Refused` if the login is somebody else's, or once was."""
    _check_free(tx, login, person_id)
    before = tx.execute(select(users.c.login).where(users.c.id == person_id)).scalar_one()
    if before != login:
        tx.execute(delete(former_logins).where(former_logins.c.login.in_((before, login))))
        tx.execute(insert(former_logins).values(login=before, user=person_id, until_utc=now))
    tx.execute(
        update(users)
        .where(users.c.id == person_id)
        .values(login=login, name=name, role=role, language=language, changed_utc=now)
    )


def same_person(conn: Reading, one: str, other: str) -> bool:
    """Whether two logins are, or were, one user's: a login can be changed, and stays that user's for ever."""
    return one == other or bool(_holders(conn, one) & _holders(conn, other))


def _holders(conn: Reading, login: str) -> set[int]:
    return {
        *conn.execute(select(users.c.id).where(users.c.login == login)).scalars(),
        *conn.execute(select(former_logins.c.user).where(former_logins.c.login == login)).scalars(),
    }


def _check_free(conn: Reading, login: str, person_id: int | None) -> None:
    """Raises `Refused` unless `login` is new, or has been this very user's."""
    if _holders(conn, login) - {person_id}:
        raise Refused("there is, or was, a user with that login", hint="choose another login", field="login")


def set_password(tx: Transaction, person_id: int, password_hash: str, now: datetime) -> None:
    """Replace the Argon2 text of a user."""
    tx.execute(
        update(users).where(users.c.id == person_id).values(password_hash=password_hash, changed_utc=now)
    )


def set_active(tx: Transaction, person_id: int, active: bool, now: datetime) -> None:
    """Let a user in, or keep him out."""
    tx.execute(update(users).where(users.c.id == person_id).values(active=active, changed_utc=now))


def set_language(tx: Transaction, person_id: int, language: str, now: datetime) -> None:
    """Change the language that a user reads the console in."""
    tx.execute(update(users).where(users.c.id == person_id).values(language=language, changed_utc=now))


def signed_in(tx: Transaction, person_id: int, now: datetime) -> None:
    """Record when a user last signed in."""
    tx.execute(update(users).where(users.c.id == person_id).values(last_sign_in_utc=now))


# --- sessions --------------------------------------------------------------------------------------------------------


def add_session(
    tx: Transaction,
    *,
    session_id: str,
    person_id: int,
    csrf: str,
    address: str,
    agent: str,
    proof: str,
    now: datetime,
    expires_utc: datetime,
) -> None:
    """Record a signed-in browser, whose person has just proved who it is."""
    tx.execute(
        insert(web_sessions).values(
            id=session_id,
            user=person_id,
            created_utc=now,
            seen_utc=now,
            expires_utc=expires_utc,
            address=address,
            agent=agent[:200],
            csrf=csrf,
            proof=proof,
            confirmed_utc=now,
        )
    )


def session(conn: Reading, session_id: str) -> WebSession | None:
    """The session of that digest, whoever's and however old it is."""
    row = conn.execute(_SESSION, {"session": session_id}).one_or_none()
    return None if row is None else _session(row)


def sessions_of(conn: Reading, person_id: int) -> list[WebSession]:
    """The sessions of a user, the latest used first, however old they are."""
    query = _sessions().where(web_sessions.c.user == person_id).order_by(web_sessions.c.seen_utc.desc())
    return [_session(row) for row in conn.execute(query)]


def session_ids(conn: Reading) -> frozenset[str]:
    """The ids of all sessions there are: what is missing the next time has ended."""
    return frozenset(conn.execute(select(web_sessions.c.id)).scalars())


def _sessions() -> Select[Any]:
    of_person = (column.label(f"user_{name}") for name, column in _PERSON.items())
    return select(web_sessions, *of_person).join(users, users.c.id == web_sessions.c.user)


def _session(row: Row[*tuple[Any, ...]]) -> WebSession:
    return WebSession(
        id=row.id,
        person=Person(**{name: getattr(row, f"user_{name}") for name in _PERSON}),
        created_utc=row.created_utc,
        seen_utc=row.seen_utc,
        expires_utc=row.expires_utc,
        address=row.address,
        agent=row.agent,
        csrf=row.csrf,
        proof=row.proof,
        confirmed_utc=row.confirmed_utc,
    )


def renew_session(tx: Transaction, session_id: str, new_id: str, now: datetime) -> None:
    """Give a session another name: its person has just proved who it is, and the old cookie opens nothing any more."""
    tx.execute(
        update(web_sessions)
        .where(web_sessions.c.id == session_id)
        .values(id=new_id, seen_utc=now, confirmed_utc=now)
    )


def see_session(tx: Transaction, session_id: str, now: datetime) -> None:
    """Record that a session was used."""
    tx.execute(update(web_sessions).where(web_sessions.c.id == session_id).values(seen_utc=now))


def end_session(tx: Transaction, session_id: str) -> None:
    """Forget a session; its cookie opens nothing any more."""
    tx.execute(delete(web_sessions).where(web_sessions.c.id == session_id))


def end_sessions_of(tx: Transaction, person_id: int) -> int:
    """Forget all sessions of a user. How many there were."""
    return tx.execute(delete(web_sessions).where(web_sessions.c.user == person_id)).rowcount


def end_other_sessions(tx: Transaction, person_id: int, keep: str) -> int:
    """Forget the sessions of a user but the one of id `keep`. How many there were."""
    done = tx.execute(delete(web_sessions).where(web_sessions.c.user == person_id, web_sessions.c.id != keep))
    return done.rowcount


def end_expired_sessions(
    tx: Transaction, *, seen_before: datetime, created_before: datetime, now: datetime
) -> int:
    """Forget sessions unused since `seen_before`, begun by `created_before`, or past their end. How many there were."""
    done = tx.execute(
        delete(web_sessions).where(
            (web_sessions.c.expires_utc <= now)
            | (web_sessions.c.seen_utc <= seen_before)
            | (web_sessions.c.created_utc <= created_before)
        )
    )
    return done.rowcount


# --- failed sign-ins -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Failures:
    """Failed sign-ins within some time: for this login from this address, for the login, from the address."""

    here: int
    login: int
    address: int


def add_failure(tx: Transaction, login: str, address: str, now: datetime, *, kind: str = PASSWORD) -> None:
    """Record a failed proof, a `PASSWORD` or a `FACTOR`. Keeps at most `MOST_FAILURES`."""
    done = tx.execute(
        insert(sign_in_failures).values(login=login[:200], address=address, kind=kind, at_utc=now)
    )
    assert done.inserted_primary_key is not None
    tx.execute(
        delete(sign_in_failures).where(sign_in_failures.c.id <= done.inserted_primary_key[0] - MOST_FAILURES)
    )


def failures(conn: Reading, login: str, address: str, *, after: datetime, before: datetime) -> Failures:
    """How often signing in has failed between two moments."""

    def count(**which: str) -> int:
        chosen = _failures((after, before), **which).subquery()
        return int(conn.execute(select(func.count()).select_from(chosen)).scalar_one())

    return Failures(count(login=login, address=address), count(login=login), count(address=address))


def nth_failure(conn: Reading, nth: int, between: tuple[datetime, datetime], **which: str) -> datetime | None:
    """The moment of the `nth` failure back from the latest, by `login`, `address` or `kind`; None if they are fewer."""
    query = _failures(between, **which).order_by(sign_in_failures.c.at_utc.desc()).offset(nth - 1).limit(1)
    row = conn.execute(query).first()
    return None if row is None else row[0]


def _failures(between: tuple[datetime, datetime], **which: str) -> Select[Any]:
    after, before = between
    columns = {"login": 200, "address": 200, "kind": 20}
    query = select(sign_in_failures.c.at_utc).where(
        sign_in_failures.c.at_utc > after, sign_in_failures.c.at_utc < before
    )
    for name, value in which.items():
        query = query.where(sign_in_failures.c[name] == value[: columns[name]])
    return query


def failures_between(conn: Reading, *, after: datetime, before: datetime) -> int:
    """How often signing in has failed between two moments, whoever tried from wherever."""
    between = (sign_in_failures.c.at_utc > after) & (sign_in_failures.c.at_utc <= before)
    return int(conn.execute(select(func.count()).select_from(sign_in_failures).where(between)).scalar_one())


def forget_failures(tx: Transaction, login: str, address: str) -> None:
    """Forget the failures of this login from this address: it has signed in."""
    tx.execute(
        delete(sign_in_failures).where(
            sign_in_failures.c.login == login[:200], sign_in_failures.c.address == address
        )
    )


def forget_failures_of(tx: Transaction, login: str) -> None:
    """Forget the failures of this login from everywhere: its password is another now."""
    tx.execute(delete(sign_in_failures).where(sign_in_failures.c.login == login[:200]))


_PERSON: Mapping[str, ColumnElement[Any]] = {
    **{
        name: users.c[name]
        for name in ("id", "login", "name", "role", "active", "language", "created_utc", "last_sign_in_utc")
    },
    "password_set": users.c.password_hash != "",
}
_SELECT = select(*(column.label(name) for name, column in _PERSON.items()))


def _person(row: Row[*tuple[Any, ...]]) -> Person:
    return Person(**{name: getattr(row, name) for name in _PERSON})


_SESSION = _sessions().where(web_sessions.c.id == bindparam("session"))
"""Asked for every request: to build it costs more than to answer it."""
