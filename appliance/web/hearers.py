"""Who can hear of the box: roles, and people by their login."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from appliance.catalog import Reading, people
from appliance.errors import Unknown
from appliance.identity.roles import Role

LISTENING: Final = tuple(role for role in Role if role not in (Role.STUDENT, Role.REFERRER))
"""Roles that can hear of the box; a referrer or a student has nothing to do about it."""


def logins(conn: Reading, typed: Iterable[str]) -> list[str]:
    """The logins in `typed`, as they are kept. Raises `Unknown` for one that nobody has."""
    found = [each.strip().lower() for each in typed if each.strip()]
    known = {each.login for each in people.people(conn)}
    if unknown := [each for each in found if each not in known]:
        raise Unknown(
            "there is no user with that login", hint=f"check: {', '.join(unknown)[:80]}", field="persons"
        )
    return found
