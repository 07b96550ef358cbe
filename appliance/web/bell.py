"""The bell in the bar of every page: how many notices are unread, and what an open page may do about a new one.

Sound and pop-ups are each person's choice and both at rest in quiet hours, unless what is new is critical. The texts
here are titles of kinds, which name no patient: a pop-up may stand on a screen that a patient sees.
"""

from __future__ import annotations

from dataclasses import dataclass

from appliance.catalog import Reading, notices
from appliance.catalog.people import Person
from appliance.errors import ApplianceError
from appliance.notify.kinds import Severity
from appliance.notify.preferences import quiet_until
from appliance.notify.telling import preferences_of
from appliance.web.console import console, now
from appliance.web.language import Words


@dataclass(frozen=True, slots=True)
class Bell:
    """What the bell shows. `newest` is the id of the newest unread notice, `said` its title, 0 and empty for none."""

    unread: int = 0
    critical: int = 0
    newest: int = 0
    said: str = ""
    sound: bool = False
    desktop: bool = False


SILENT = Bell()
"""The bell of somebody who isn't signed in."""


def bell_of(person: Person, words: Words) -> Bell:
    """The bell of `person`; a silent one when the catalog can't be read, which the page itself will say."""
    try:
        with console().box.catalog.reading() as conn:
            return _read(conn, person, words)
    except ApplianceError:
        return SILENT


def title_of(words: Words, kind: str, subject: str) -> str:
    """A kind of notice in the language of the page, with the identifier that it is about."""
    said = words(f"notice.{kind}") if words.has(f"notice.{kind}") else words("notice.other")
    return f"{said} ({subject})" if subject else said


def _read(conn: Reading, person: Person, words: Words) -> Bell:
    shown = notices.unread(conn, person.id)
    if not shown.newest:
        return Bell(critical=shown.to_acknowledge)
    preferences = preferences_of(conn, person)
    newest = notices.notice(conn, shown.newest)
    critical = newest.severity == Severity.CRITICAL
    rests = not critical and quiet_until(preferences.quiet, preferences.zone(), now()) is not None
    return Bell(
        unread=shown.count,
        critical=shown.to_acknowledge,
        newest=shown.newest,
        said=title_of(words, newest.kind, newest.subject),
        sound=preferences.sound and not rests,
        desktop=preferences.desktop and not rests,
    )
