"""What an account must have beyond a password, as the clinic has decided."""

from __future__ import annotations

from appliance import settings
from appliance.catalog import Reading, second_factors
from appliance.catalog.people import Person
from appliance.identity import stages
from appliance.identity.stages import Standing

ROLES_OBLIGED = "access.second_factor_roles"


def standing_of(conn: Reading, person: Person) -> Standing:
    """What `person` has, and owes."""
    roles = frozenset(settings.get(conn, ROLES_OBLIGED))
    return stages.standing(enrolled=has_second_factor(conn, person.id), role=person.role, roles_obliged=roles)


def has_second_factor(conn: Reading, person_id: int) -> bool:
    """Whether a password alone doesn't open this account. A passkey that is blocked, or made for another name of the
    box, counts too: to lose the use of a factor must not make the account weaker."""
    return has_codes(conn, person_id) or bool(second_factors.passkeys_of(conn, person_id))


def has_codes(conn: Reading, person_id: int) -> bool:
    """Whether one-time codes of a telephone count for this account."""
    secret = second_factors.one_time_secret(conn, person_id)
    return secret is not None and secret.confirmed_utc is not None


def is_obliged(conn: Reading, person: Person) -> bool:
    """Whether the role of `person` must have a second factor."""
    return person.role in settings.get(conn, ROLES_OBLIGED)


def may_remove_one(conn: Reading, person: Person) -> bool:
    """Whether `person` may go without one of the second factors: always, unless it is the last and the role needs one."""
    count = len(second_factors.passkeys_of(conn, person.id)) + has_codes(conn, person.id)
    return count > 1 or not is_obliged(conn, person)
