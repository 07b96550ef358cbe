"""Tokens for machines: made by a person, with some of that person's permissions, until a day.

256 random bits behind a prefix by which a secret scanner knows them; only the digest is kept. What a token may do is
what it was given *and* what its maker may still do: a person who leaves takes all tokens along, and a role that
shrinks shrinks them too. A token that is taken back takes those along that were made with it: whoever stole it may have
made some to stay. Rejected: tokens that are nobody's (nobody would miss them when they leak), tokens without an
end, and refresh tokens (a machine that can keep a secret for a day can keep it for a year).
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from appliance.catalog import Reading, Transaction, api_tokens, people
from appliance.catalog.api_tokens import ApiToken
from appliance.catalog.people import Person
from appliance.errors import NotAuthorised, Refused, Unknown
from appliance.identity.permissions import Permission, permissions_of

PREFIX = "clinicbox_"
MOST_TOKENS = 20
LONGEST_DAYS = 366
MOST_NAME_CHARACTERS = 60
CLOCK_TOLERANCE = timedelta(minutes=5)
_RANDOM_BYTES = 32


@dataclass(frozen=True, slots=True)
class Bearer:
    """Who asks by a token, and what it may do now."""

    token: ApiToken
    person: Person
    permissions: frozenset[Permission]


def make(
    tx: Transaction,
    person: Person,
    *,
    name: str,
    scopes: Iterable[str],
    days: int,
    now: datetime,
    within: Bearer | None = None,
) -> tuple[str, ApiToken]:
    """A new token of `person`: the text, which is kept nowhere, and what is kept. Raises `Refused`, `NotAuthorised`.

    One that is made with a token, `within`, may do no more and lasts no longer than that one, which is looked at again here: it may
    have been taken back since the request began, and those that it had made with it.
    """
    if within is not None:
        within = _bearer(tx, api_tokens.token(tx, within.token.id), now)
        if within is None:
            raise NotAuthorised("this token opens nothing any more", hint="ask with another one")
    name = " ".join(name.split())
    if not 1 <= len(name) <= MOST_NAME_CHARACTERS or not name.isprintable():
        raise Refused("a token needs a name", hint="name the program that will use it", field="name")
    if not 1 <= days <= LONGEST_DAYS:
        raise Refused("a token lasts from a day to a year", hint="choose from 1 to 366 days", field="days")
    wanted = sorted(set(scopes))
    if not wanted:
        raise Refused("a token needs something that it may do", hint="choose as little as its program needs")
    own = within.permissions if within is not None else permissions_of(person.role)
    if not set(wanted) <= {each.value for each in own}:
        raise Refused("a token may do no more than whoever makes it", hint="choose from your own permissions")
    if sum(is_good(each, now) for each in api_tokens.tokens(tx, person.id)) >= MOST_TOKENS:
        raise Refused("you have as many tokens as you can", hint="take back those that are no longer used")
    until = now + timedelta(days=days)
    text = PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)
    made = api_tokens.add(
        tx,
        person.id,
        digest=digest(text),
        name=name,
        scopes=wanted,
        now=now,
        expires_utc=min(until, within.token.expires_utc) if within is not None else until,
        made_with=within.token.id if within is not None else None,
    )
    return text, made


def find(conn: Reading, text: str, now: datetime) -> Bearer | None:
    """Whose good token `text` is."""
    return _bearer(conn, api_tokens.find(conn, digest(text)), now)


def _bearer(conn: Reading, found: ApiToken | None, now: datetime) -> Bearer | None:
    """Who has the token `found`, if it is good and its maker still works here."""
    if found is None or not is_good(found, now):
        return None
    person = people.person_by_id(conn, found.person_id)
    if person is None or not person.active:
        return None
    return Bearer(found, person, permissions_of(person.role) & _permissions(found.scopes))


def revoke(tx: Transaction, token_id: int, *, by: str, now: datetime) -> list[ApiToken]:
    """Take a token back, and all that were made with it: they open nothing from the next request on.

    Returns those that were taken back, this one first. Raises `Unknown`.
    """
    found = api_tokens.token(tx, token_id)
    if found is None or not api_tokens.revoke(tx, token_id, by, now):
        raise Unknown("there is no such token", hint="list the tokens again")
    made = api_tokens.made_with(tx, token_id)
    return [found, *(each for each in made if api_tokens.revoke(tx, each.id, by, now))]


def is_good(token: ApiToken, now: datetime) -> bool:
    """Whether a token still opens something. One made in the future was made by a clock that has been set back."""
    return token.revoked_utc is None and token.created_utc - CLOCK_TOLERANCE <= now < token.expires_utc


def digest(text: str) -> str:
    """The name under which a token is kept: SHA-256 of 256 random bits needs no salt."""
    return hashlib.sha256(text.encode()).hexdigest()


def _permissions(scopes: Iterable[str]) -> frozenset[Permission]:
    known = {each.value: each for each in Permission}
    return frozenset(known[each] for each in scopes if each in known)
