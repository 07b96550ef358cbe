"""Accounts over their life: changed, deactivated, reactivated; never deleted, because the audit refers to them.

One rule stands above the others: at every moment somebody can sign in as an owner. It is judged inside the transaction
that would break it, and the catalog has one writer at a time: of two owners who demote each other at once, the second
finds that he is the last. An owner who was invited and has not chosen a password doesn't count.
"""

from __future__ import annotations

from datetime import datetime

from appliance.catalog import Reading, Transaction, account_links, people
from appliance.catalog.people import Person
from appliance.errors import NotAuthorised, Refused, Unknown
from appliance.identity.people import normal_login, normal_name
from appliance.identity.permissions import Permission, permissions_of
from appliance.identity.roles import Role


def known_person(conn: Reading, person_id: int) -> Person:
    """The user of that row id. Raises `Unknown`."""
    found = people.person_by_id(conn, person_id)
    if found is None:
        raise Unknown("there is no such user", hint="go back to the users")
    return found


def change_account(
    tx: Transaction, person_id: int, *, login: str, name: str, role: Role, language: str, now: datetime
) -> dict[str, list[str]]:
    """Record what is true of a user from now on. Returns what differs: field → [before, after], for the audit.

    The next request of every open session is judged by the new role. Raises `Unknown`, and `Refused` for a login or a
    name that won't do, and for taking the role of the last owner.
    """
    before = known_person(tx, person_id)
    if role is not Role.OWNER:
        _let_an_owner_remain(tx, person_id)
    wanted = {
        "login": normal_login(login),
        "name": normal_name(name),
        "role": role.value,
        "language": language,
    }
    people.change(tx, person_id, **wanted, now=now)
    return {
        field: [getattr(before, field), value]
        for field, value in wanted.items()
        if getattr(before, field) != value
    }


def deactivate(tx: Transaction, person_id: int, now: datetime) -> Person:
    """Keep a user out: sessions end, and a link that was not used is void.

    Raises `Unknown`, and `Refused` for the last owner.
    """
    person = known_person(tx, person_id)
    _let_an_owner_remain(tx, person_id)
    people.set_active(tx, person_id, False, now)
    people.end_sessions_of(tx, person_id)
    account_links.forget_of(tx, person_id)
    return person


def reactivate(tx: Transaction, person_id: int, now: datetime) -> Person:
    """Let a user in again, with the password of before. Raises `Unknown`."""
    person = known_person(tx, person_id)
    people.set_active(tx, person_id, True, now)
    people.forget_failures_of(tx, person.login)
    return person


def check_may_reset(actor: frozenset[Permission], role: str) -> None:
    """Raises `NotAuthorised` if `actor` may not give somebody of `role` a new password.

    Whoever can do that can become that person: nobody rises by it to a role that manages people.
    """
    if Permission.MANAGE_USERS in actor:
        return
    if Permission.RESET_USERS not in actor or Permission.MANAGE_USERS in permissions_of(role):
        raise NotAuthorised("only an owner may do this to an owner", hint="ask an owner of the box")


def _let_an_owner_remain(tx: Transaction, without: int) -> None:
    """Raises `Refused` if nobody could sign in as an owner but the user `without`."""
    owners = people.able(tx, Role.OWNER)
    if without in owners and owners == {without}:
        raise Refused(
            "this is the last owner who can sign in",
            hint="make somebody else an owner first, and have them sign in once",
        )
