"""What a person is told about the own account: that how it is opened has changed, that it was opened from where it
never was, that somebody tries to.

Chosen: read from the audit, like whatever is told of what was done (`judging.TOLD_FROM_AUDIT`), because whoever acts
writes the audit and cannot forget to tell, whether it was the person, an owner or the command line. The bell rings
whatever the person has chosen to hear of (ASVS 6.3.5 and 6.3.7 leave no choice), and a letter goes where the person
gets letters; no webhook and no colleague hears of it. Places are addresses of sign-ins; a box's first months, and an
account's first sign-in, are no news. Rejected: the browser as a sign of a stranger (it names itself, so a thief names
it alike).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

from appliance.catalog import Reading, Transaction, audit_search, notices, people, settings
from appliance.catalog.audit_log import AuditRow
from appliance.catalog.columns import utc_moment
from appliance.catalog.notices import NoticeState
from appliance.notify.hooks import News
from appliance.notify.kinds import OF_ACCOUNTS, Channel, Topic
from appliance.notify.telling import Listener, preferences_of, spread

SEEN = "notify.personal-seen"
"""Key of `appliance.catalog.settings`: the last row of the audit that was looked at."""

FRESH = timedelta(days=1)
"""What is older is not told any more, such as after a restore: it would be news of another time."""
TRIED_EVERY = timedelta(hours=6)
"""That somebody tries is said so often at most: whoever guesses must not be able to bury a person in letters."""
KNOWN_FOR = timedelta(days=180)
AWAY = timedelta(days=90)

FIX = "if this was not you, change your password at once and tell an owner of the box"

_CHANGED, _OPENED, _TRIED = "account-changed", "account-opened", "account-tried"
_TOLD: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "user:reset": (_CHANGED, "your password was changed"),
        "user:password": (_CHANGED, "your password was changed"),
        "user:link": (_CHANGED, "a link was made to choose a new password for your account"),
        "user:second-factor-add": (_CHANGED, "your account was given a second factor"),
        "user:second-factor-remove": (_CHANGED, "a second factor was taken from your account"),
        "user:recovery-codes": (_CHANGED, "your account was given new recovery codes"),
        "user:passkey-block": (_CHANGED, "a passkey of yours was blocked: there is a copy of it"),
        "user:change": (_CHANGED, "your login or your role was changed"),
        "token:add": (_CHANGED, "a token that asks in your name was made for a program"),
        "user:second-factor-fail": (_TRIED, "somebody had your password and not your second factor"),
        "user:lock": (_TRIED, "somebody tried too many wrong passwords or codes for your account"),
    }
)
LOGIN = "user:login"
NEW_PLACE = "your account was opened from an address that is new to it"
LONG_AWAY = "your account was opened after more than 90 days"


@dataclass(frozen=True, slots=True)
class _Told:
    login: str
    kind: str
    words: str


def is_idle(conn: Reading) -> bool:
    """Whether nothing has happened that somebody is to be told."""
    last = int(settings.get(conn, SEEN, 0))
    return not audit_search.since(conn, (*_TOLD, LOGIN), last, limit=1)


def tell_of_accounts(tx: Transaction, now: datetime) -> int:
    """Tell each person what has happened to the own account. How many notices."""
    last, said = int(settings.get(tx, SEEN, 0)), 0
    rows = audit_search.since(tx, (*_TOLD, LOGIN), last, limit=500)
    told: set[tuple[str, str]] = set()
    for row in rows:
        if now - utc_moment(row.at_utc) > FRESH:
            continue
        found = _of(tx, row)
        if found is not None and (found.login, found.words) not in told:  # one notice for a burst of the same
            told.add((found.login, found.words))
            said += _tell(tx, found, now)
    if rows:
        settings.put(tx, SEEN, rows[-1].id, now)
    return said


def _of(conn: Reading, row: AuditRow) -> _Told | None:
    login = str(row.subject).removeprefix("user:")
    if row.action == LOGIN:
        words = _unusual(conn, row, login)
        return _Told(login, _OPENED, words) if words else None
    kind, words = _TOLD[str(row.action)]
    if row.action == "token:add":
        login = str(_details(row).get("of", ""))
    if row.action == "user:change":
        changed = _details(row)
        if not {"login", "role"} & set(changed):
            return None
        login = str(changed["login"][1]) if "login" in changed else login
    return _Told(login, kind, words)


def _unusual(conn: Reading, row: AuditRow, login: str) -> str:
    """Why a sign-in is not like those before; empty if it is."""
    moment = utc_moment(row.at_utc)
    before = audit_search.sign_ins(conn, login, before=row.id, since_utc=moment - KNOWN_FOR, limit=500)
    if not before:
        earlier = audit_search.sign_ins(conn, login, before=row.id, limit=1)
        return LONG_AWAY if earlier else ""
    if row.address not in {address for _, address in before}:
        return NEW_PLACE
    return LONG_AWAY if moment - before[0][0] > AWAY else ""


def _details(row: AuditRow) -> Mapping[str, Any]:
    found = json.loads(row.details) if isinstance(row.details, str) else row.details
    return found if isinstance(found, Mapping) else {}


def _tell(tx: Transaction, told: _Told, now: datetime) -> int:
    person = people.person(tx, told.login)
    if person is None or not person.active:
        return 0
    if told.kind == _TRIED and notices.was_said(tx, told.kind, person.login, told.words, now - TRIED_EVERY):
        return 0
    rule = OF_ACCOUNTS[told.kind]
    notice = notices.add(
        tx,
        kind=told.kind,
        topic=rule.topic,
        severity=rule.severity,
        subject=person.login,
        words=told.words,
        fix=FIX,
        state=NoticeState.EVENT,
        now=now,
    )
    chosen = preferences_of(tx, person)
    always = {**chosen.channels, Topic.ACCESS: (Channel.BELL, Channel.MAIL)}
    listener = Listener(person, replace(chosen, channels=MappingProxyType(always), digest=False))
    spread(
        tx,
        News("raised", notice, told.kind, rule.severity, rule.topic, person.login),
        [listener],
        rule.channels,
        now,
    )
    return 1
