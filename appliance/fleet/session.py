"""What a session of remote support may be and do. Pure.

The clinic opens one, for a reason, with a scope and for so many hours; without one there is nothing that listens or dials.
Whoever comes in needs a certificate of the vendor's authority that names a person and lives for hours only, and then has
a few words, no shell: each is one of the appliance's own verbs that show nothing of a patient.

::

    open ──▶ ended: by the clinic | by the vendor | expired

Chose a table of whole command lines over a shell with fewer rights, because what cannot be written cannot be got round;
what a word takes is checked against a pattern, and is never a path, an option or a second command.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType

from appliance.errors import NotAuthorised, Refused

MOST_HOURS = 4
MOST_CERTIFICATE = timedelta(hours=12)
MOST_REASON_CHARACTERS = 300


class Scope(StrEnum):
    """How far support may go."""

    DIAGNOSE = "diagnose"  # look
    OPERATE = "operate"  # look, and start what the box does by itself anyway


class Ending(StrEnum):
    """How a session ended."""

    CLINIC = "clinic"
    VENDOR = "vendor"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Session:
    """A session; `ended_utc` is None and `ending` too while nobody has ended it."""

    id: int
    reason: str
    scope: Scope
    opened_by: str
    opened_utc: datetime
    expires_utc: datetime
    ended_utc: datetime | None = None
    ended_by: str = ""
    ending: Ending | None = None

    def is_open(self, now: datetime) -> bool:
        """Whether it lets anybody in; a clock that was set to before its beginning doesn't."""
        return self.ended_utc is None and self.opened_utc <= now < self.expires_utc


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a certificate of the vendor's authority says; that it is the authority's own was found out before."""

    person: str
    serial: int
    principals: frozenset[str]
    after_utc: datetime
    before_utc: datetime


def expiry(reason: str, hours: int, now: datetime) -> datetime:
    """When a session ends that is opened `now`. Raises `Refused` if it may not be opened so."""
    if not reason.strip() or len(reason) > MOST_REASON_CHARACTERS or not reason.isprintable():
        raise Refused("no reason was given", hint="say in a line why support is let in", field="reason")
    if not 1 <= hours <= MOST_HOURS:
        raise Refused(
            "a session lasts from one to four hours", hint="open another when it is over", field="hours"
        )
    return now + timedelta(hours=hours)


def principals(scope: Scope) -> tuple[str, ...]:
    """The principals, one of which a certificate must have in a session of that scope."""
    return (principal(Scope.DIAGNOSE),) if scope is Scope.DIAGNOSE else tuple(map(principal, Scope))


def principal(scope: Scope) -> str:
    """The principal that allows that scope."""
    return f"appliance-{scope}"


def admit(session: Session, certificate: Certificate, now: datetime) -> Scope:
    """How far whoever has `certificate` may go in `session`. Raises `NotAuthorised`."""
    if not session.is_open(now):
        raise NotAuthorised("no session of support is open", hint="ask the clinic to open one")
    if not certificate.after_utc <= now < certificate.before_utc:
        raise NotAuthorised("the certificate is not valid now", hint="have a new one signed")
    if certificate.before_utc - certificate.after_utc > MOST_CERTIFICATE:
        raise NotAuthorised("the certificate lives too long", hint="have one signed for twelve hours at most")
    if not certificate.person:
        raise NotAuthorised(
            "the certificate names nobody", hint="have one signed with a person's name as its ID"
        )
    granted = [scope for scope in Scope if principal(scope) in certificate.principals]
    if principal(session.scope) in certificate.principals:
        return session.scope
    if session.scope is Scope.OPERATE and granted:
        return Scope.DIAGNOSE
    raise NotAuthorised(
        "the certificate is not for this", hint="have one signed with the principal of this scope"
    )


@dataclass(frozen=True, slots=True)
class Word:
    """One thing that support may type: what it does, which verb that is, and whether a name follows."""

    says: str
    verb: tuple[str, ...]
    scope: Scope = Scope.DIAGNOSE
    takes: str = ""


WORDS: Mapping[str, Word] = MappingProxyType(
    {
        "status": Word("whether the box is ready, and what is wrong", ("status",)),
        "devices": Word("the machines that may send", ("device", "list")),
        "destinations": Word("where images go", ("destination", "list")),
        "rules": Word("what goes where", ("rule", "list")),
        "settings": Word("what was chosen; no secret", ("setting", "list")),
        "history": Word("what was changed lately", ("setting", "history")),
        "notices": Word("what people were told", ("notify", "list")),
        "backups": Word("the backups there are", ("backup", "list")),
        "audit": Word("whether the chain of the audit holds", ("audit", "verify")),
        "test": Word("try a destination", ("destination", "test"), Scope.OPERATE, "DESTINATION"),
        "pause": Word("hold a destination", ("destination", "pause"), Scope.OPERATE, "DESTINATION"),
        "resume": Word("let a destination go on", ("destination", "resume"), Scope.OPERATE, "DESTINATION"),
        "echo": Word("call a machine", ("device", "echo"), Scope.OPERATE, "AE-TITLE"),
        "backup": Word("make a backup now", ("backup", "now"), Scope.OPERATE),
        "drill": Word("try a backup out", ("backup", "drill"), Scope.OPERATE),
    }
)
"""Beside these there are `logs PROCESS`, `help`, `leave` and `end`, which need no verb."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _.\-]{0,63}")


def command(line: str, scope: Scope) -> Sequence[str]:
    """The verb that a typed `line` stands for, within `scope`. Raises `Refused`, or `NotAuthorised` beyond the scope."""
    typed, _, rest = line.strip().partition(" ")
    word = WORDS.get(typed)
    if word is None:
        raise Refused("there is no such word", hint="type: help")
    if word.scope is Scope.OPERATE and scope is not Scope.OPERATE:
        raise NotAuthorised(
            "this session is for looking only", hint="ask the clinic for a session to operate"
        )
    rest = rest.strip()
    if bool(rest) != bool(word.takes) or (rest and not _NAME.fullmatch(rest)):
        usage = f"{typed} {word.takes}".strip()
        raise Refused("that is not how this word is used", hint=f"type: {usage}")
    return (*word.verb, rest) if rest else word.verb


def help_text(scope: Scope) -> str:
    """The words, for whoever asks."""
    lines = [
        f"{f'{name} {word.takes}'.strip():<20} {word.says}"
        for name, word in WORDS.items()
        if scope is Scope.OPERATE or word.scope is Scope.DIAGNOSE
    ]
    more = ("logs PROCESS         its last lines", "leave                go, and let the session stand")
    return "\n".join([*lines, *more, "end                  end the session for good"]) + "\n"
