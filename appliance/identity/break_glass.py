"""Emergency access: a professional who is shown studies one by one opens a closed one, and everybody who should know does.

Chosen: it is a grant that one takes oneself, for four hours, with a reason, found by the exact number on the referral
(patient ID or accession number), so that nobody browses; the audit row tells owners and privacy officers at once, and
one of them, never the same person, countersigns what was found. Rejected: asking somebody first, because an emergency
doesn't wait; a search by name, because it would show who is a patient.

Being locked out of one's own account is no such emergency: recovery codes, another owner, or the command line of the
box (``appliance user remove-second-factor``) are the way back in.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from appliance.catalog import Reading, Transaction, emergencies, grants
from appliance.catalog.emergencies import Emergency
from appliance.catalog.people import Person
from appliance.errors import NotAuthorised, Refused, Unknown
from appliance.identity.permissions import Permission, permissions_of

LASTS = timedelta(hours=4)
LEAST_CHARACTERS, MOST_CHARACTERS = 10, 200


def check(person: Person, reason: str) -> str:
    """The reason in its normal form. Raises `NotAuthorised` for who may not, `Refused` for a reason that won't do."""
    granted = permissions_of(person.role)
    if Permission.BREAK_GLASS not in granted or Permission.VIEW_STUDIES not in granted:
        raise NotAuthorised("your role does not include this", hint="ask an owner of the box if you need it")
    if Permission.ALL_STUDIES in granted:
        raise Refused("you see every study already", hint="look for it among the studies")
    reason = " ".join(reason.split())
    if not LEAST_CHARACTERS <= len(reason) <= MOST_CHARACTERS:
        raise Refused(
            "an emergency has a reason", hint="say in a sentence why it cannot wait", field="reason"
        )
    return reason


def closed_studies(conn: Reading, person: Person, number: str, now: datetime) -> list[int]:
    """The studies of exactly that number which `person` doesn't see. Raises `Refused` if all are seen already."""
    found = emergencies.studies_of(conn, number.strip()) if number.strip() else []
    seen = {each.study for each in grants.of_user(conn, person.id) if each.holds(now)}
    closed = [each for each in found if each not in seen]
    if found and not closed:
        raise Refused("you see these studies already", hint="look for them among the studies")
    return closed


def take(tx: Transaction, person: Person, study: int, *, reason: str, now: datetime) -> Emergency:
    """Let `person` see a study for `LASTS`; `reason` has been checked."""
    made = grants.add(
        tx, study=study, user=person.id, by=person.login, reason=reason, now=now, expires_utc=now + LASTS
    )
    taken = emergencies.emergency(tx, emergencies.add(tx, made))
    assert taken is not None
    return taken


def review(tx: Transaction, emergency_id: int, person: Person, *, finding: str, now: datetime) -> Emergency:
    """Countersign one. Raises `Unknown`, `NotAuthorised` for one's own, `Refused` without words."""
    found = emergencies.emergency(tx, emergency_id)
    if found is None:
        raise Unknown("there is no such emergency access", hint="go back to the list")
    if found.login == person.login:
        raise NotAuthorised(
            "nobody countersigns for themselves", hint="let another owner or the privacy officer do it"
        )
    finding = " ".join(finding.split())
    if not 3 <= len(finding) <= MOST_CHARACTERS:
        raise Refused("a review says what was found", hint="write a few words")
    if not emergencies.review(tx, emergency_id, by=person.login, finding=finding, now=now):
        raise Refused("this was countersigned already", hint="go back to the list")
    return found
