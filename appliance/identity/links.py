"""Links by which a person chooses a password: the invitation of a new user, the reset of one who has forgotten.

Chosen: 256 random bits that are shown once, kept as their digest, good for one use and a limited time; the one who
makes the link never learns the password. The link carries them behind the ``#`` of its address, which browsers send to
nobody: they come in a form, so they are in no log, no history of a proxy and no *Referer*, and a mail program that
opens links to look at them uses none up. Rejected: a first password typed by the owner, which two people know.

A link doesn't sign in: the password that was chosen does, with whatever second factor the account has.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from appliance.catalog import Reading, Transaction, account_links, people
from appliance.catalog.account_links import AccountLink
from appliance.catalog.people import Person
from appliance.errors import Refused
from appliance.identity.accounts import known_person
from appliance.identity.people import normal_login, normal_name
from appliance.identity.roles import Role

INVITATION = timedelta(days=7)
RESET = timedelta(hours=24)
PATH = "/welcome"
"""The page of the console that takes a link."""


@dataclass(frozen=True, slots=True)
class MadeLink:
    """A link to hand over. `token` exists nowhere else."""

    person: Person
    token: str = field(repr=False)
    expires_utc: datetime

    def address(self, console: str) -> str:
        """The link, at the console's own address such as ``http://clinicbox.local:8080``."""
        return f"{console.rstrip('/')}{PATH}#{self.token}"


def invite(
    tx: Transaction, *, login: str, name: str, role: Role, language: str, by: str, now: datetime
) -> MadeLink:
    """Record a user who has no password yet, and the link to choose one. Raises `Refused`."""
    person = people.add(
        tx,
        login=normal_login(login),
        name=normal_name(name),
        role=role.value,
        password_hash="",
        language=language,
        now=now,
    )
    return make_link(tx, person.id, by=by, now=now)


def make_link(tx: Transaction, person_id: int, *, by: str, now: datetime) -> MadeLink:
    """A link for a user, in place of any before: an invitation until a password was chosen, a reset afterwards.

    The present password and the sessions stay good until the link is used. Raises `Unknown`, and `Refused` for
    somebody deactivated.
    """
    person = known_person(tx, person_id)
    if not person.active:
        raise Refused("this account is deactivated", hint="reactivate it first")
    token = secrets.token_urlsafe(32)
    expires = now + (RESET if person.password_set else INVITATION)
    account_links.put(tx, AccountLink(_digest(token), person.id, by, now, expires))
    return MadeLink(person, token, expires)


def link_holder(conn: Reading, token: str, now: datetime) -> Person:
    """Whose link `token` is. Raises `Refused`, the same for one that never was, was used, replaced or is too old."""
    link = account_links.find(conn, _digest(token.strip()))
    person = None if link is None else people.person_by_id(conn, link.user)
    # A link made in the future was made by a clock that has been set back since.
    good = link is not None and link.made_utc - timedelta(minutes=5) <= now < link.expires_utc
    if person is None or not person.active or not good:
        raise Refused(
            "this link is no longer good",
            hint="links work once and for a limited time: ask for a new one",
        )
    return person


def redeem_link(tx: Transaction, token: str, password_hash: str, now: datetime) -> Person:
    """Give the link's holder the password that `password_hash` was made of, and use the link up.

    Open sessions end: whoever had them knew the old password. Raises `Refused` like `link_holder`.
    """
    person = link_holder(tx, token, now)
    account_links.forget_of(tx, person.id)
    people.set_password(tx, person.id, password_hash, now)
    people.end_sessions_of(tx, person.id)
    people.forget_failures_of(tx, person.login)
    return person


def _digest(token: str) -> str:
    """The name under which a link is kept: SHA-256 of 256 random bits needs no salt."""
    return hashlib.sha256(token.encode()).hexdigest()
