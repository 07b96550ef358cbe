"""What happened to one's account lately, as its person sees it: a part of the audit that everybody may look at."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from flask import g

from appliance.catalog import Reading, audit_search
from appliance.catalog.columns import utc_moment
from appliance.catalog.people import Person
from appliance.web.auditing import said
from appliance.web.console import VISITOR, now

ACTIVITY = timedelta(days=90)
MOST_ACTIVITIES = 20
ACTIVITIES = (
    "user:login",
    "user:lock",
    "user:second-factor-fail",
    "user:confirm-fail",
    "user:passkey-block",
    "user:second-factor-add",
    "user:second-factor-remove",
    "user:recovery-codes",
    "user:recovery-code-use",
    "user:reset",
    "user:password",
    "user:link",
    "user:change",
    "user:end-sessions",
    "token:add",
)
"""What somebody looks for who fears that the account was used by another."""


@dataclass(frozen=True, slots=True)
class ActivityLine:
    """Something that happened to the account; `by` names another person who did it."""

    at: str
    what: str
    address: str
    by: str
    is_refused: bool


def lately(conn: Reading, person: Person) -> tuple[ActivityLine, ...]:
    """What happened to the account lately, the newest first."""
    since = now() - ACTIVITY
    rows = audit_search.about_person(conn, person.login, ACTIVITIES, since_utc=since, limit=MOST_ACTIVITIES)
    own = {person.login, VISITOR}
    return tuple(
        ActivityLine(
            at=g.words.moment(utc_moment(row.at_utc)),
            what=said(str(row.action), g.words),
            address=str(row.address),
            by="" if row.actor in own else str(row.actor),
            is_refused=row.outcome != "done",
        )
        for row in rows
    )
