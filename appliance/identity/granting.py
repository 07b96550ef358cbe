"""Showing one study to one person who doesn't see them all: a referrer, a student.

A grant has a reason and an end. The reason is kept with the grant and not in the audit, because people write names.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from appliance.catalog import Reading, Transaction, grants, people
from appliance.catalog.grants import Grant
from appliance.catalog.people import Person
from appliance.errors import Refused
from appliance.identity.accounts import known_person
from appliance.identity.permissions import Permission, permissions_of

LONGEST = timedelta(days=366)
MOST_CHARACTERS = 200


def needs_grants(person: Person) -> bool:
    """Whether somebody sees studies, but only those granted, and may sign in or is invited to."""
    granted = permissions_of(person.role)
    return person.active and Permission.VIEW_STUDIES in granted and Permission.ALL_STUDIES not in granted


def who_needs_grants(conn: Reading) -> list[Person]:
    """Those to whom a study can be granted, by login."""
    return [person for person in people.people(conn) if needs_grants(person)]


def grant_study(
    tx: Transaction,
    study: int,
    person_id: int,
    *,
    by: str,
    reason: str,
    expires_utc: datetime,
    now: datetime,
) -> Grant:
    """Let a person see a study until a moment. Raises `Unknown`, and `Refused` for what won't do.

    A grant that the two have already is replaced.
    """
    person = known_person(tx, person_id)
    if not needs_grants(person):
        raise Refused(
            "this person needs no grant, or may see no study", hint="choose a referrer or a student"
        )
    if not now < expires_utc <= now + LONGEST:
        raise Refused("a grant lasts a year at most", hint="choose an end within a year")
    reason = " ".join(reason.split())
    if not 3 <= len(reason) <= MOST_CHARACTERS:
        raise Refused(
            "a grant has a reason",
            hint="say in a few words why this person may see the study",
            field="reason",
        )
    added = grants.add(
        tx, study=study, user=person.id, by=by, reason=reason, now=now, expires_utc=expires_utc
    )
    return grants.grant(tx, added)
