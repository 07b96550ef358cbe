"""Page objects: a view builds one, frozen; its template sees that and the words of the language, nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

from flask import Response, g, make_response, render_template, request

from appliance import __version__, identity
from appliance.identity.permissions import Permission
from appliance.web.access import may, permissions
from appliance.web.bell import SILENT, Bell, bell_of
from appliance.web.console import Notice, console, now
from appliance.web.help import place_of
from appliance.web.language import DEFAULT, Languages
from appliance.wizard import progress

SECTIONS: Mapping[str, Permission] = {
    "health": Permission.VIEW_HEALTH,
    "studies": Permission.VIEW_STUDIES,
    "deliveries": Permission.VIEW_DELIVERIES,
    "devices": Permission.VIEW_DEVICES,
    "destinations": Permission.VIEW_DESTINATIONS,
    "backups": Permission.VIEW_DESTINATIONS,
    "users": Permission.VIEW_USERS,
    "audit": Permission.READ_AUDIT,
    "retention": Permission.MANAGE_RETENTION,
    "support": Permission.ADMIT_SUPPORT,
    "settings": Permission.VIEW_SETTINGS,
    "help": Permission.USE_CONSOLE,
}
"""The sections of the console in the order of the navigation, and what opening each needs."""


@dataclass(frozen=True, slots=True)
class LanguageLink:
    """A language the page could be in."""

    code: str
    tag: str
    name: str
    current: bool


@dataclass(frozen=True, slots=True)
class Shell:
    """The frame around every page. `sections` are those that whoever reads it may open, `may` all they may do."""

    language: str
    tag: str
    manifest: str
    direction: Literal["ltr", "rtl"]
    languages: tuple[LanguageLink, ...]
    person: str
    pulse: str
    """The box's numbers before this page was made, as JSON; empty where they are not known."""
    session_left_seconds: int
    section: str
    sections: tuple[str, ...]
    may: frozenset[str]
    path: str
    help: str
    csrf: str
    script: str
    styles: tuple[str, ...]
    version: str
    notices: tuple[Notice, ...]
    bell: Bell
    wrong: str
    wrong_text: str
    """The field of a form that is in error, and what is wrong with it; both empty when none is."""
    unfinished: bool
    """Whether setting up waits to be finished by whoever reads this."""


@dataclass(frozen=True, slots=True)
class Page:
    """What all pages have."""

    shell: Shell
    title: str


P = TypeVar("P", bound=Page)


def page_of(kind: type[P], /, *, title: str, section: str = "", bell_too: bool = False, **fields: Any) -> P:
    """A page of `kind` in the frame of this request; a part of a page has a bell only with `bell_too`."""
    from appliance.web.security import csrf_token

    session = g.get("session")
    wrong, wrong_text = g.get("wrong", ("", ""))
    shell = Shell(
        language=g.language,
        tag=g.words.manner.tag,
        manifest=g.language if g.words.manner.is_offered_at(None) else DEFAULT,
        direction=g.words.manner.direction,
        languages=tuple(
            LanguageLink(each.code, each.tag, each.name, each.code == g.language)
            for each in Languages.offered(request.endpoint)
        ),
        person=session.person.name if session is not None else "",
        pulse=g.get("pulse", ""),
        session_left_seconds=session_left_seconds() if session is not None else 0,
        section=section,
        sections=sections(),
        may=permissions(),
        help=place_of(request.endpoint),
        path=request.path if request.method == "GET" else "/",
        csrf=csrf_token(),
        script=console().assets.script,
        styles=console().assets.styles,
        version=__version__,
        notices=console().notices.take(session.id) if session is not None and not is_partial() else (),
        bell=bell_of(session.person, g.words)
        if session is not None and (bell_too or not is_partial())
        else SILENT,
        wrong=wrong,
        wrong_text=wrong_text,
        unfinished=_is_unfinished(),
    )
    return kind(shell=shell, title=title, **fields)


def session_left_seconds() -> int:
    """How long the session of this request lasts from now on, if it is not used again."""
    used = replace(g.session, seen_utc=now()) if "X-Refresh" not in request.headers else g.session
    return max(0, int((identity.ends_utc(used, g.limits) - now()).total_seconds()))


def sections() -> tuple[str, ...]:
    """The sections that whoever asks may open."""
    return tuple(name for name, needed in SECTIONS.items() if may(needed))


def _is_unfinished() -> bool:
    if is_partial() or not may(Permission.CHANGE_SETTINGS):
        return False
    with console().box.catalog.reading() as conn:
        return progress.read(conn).finished is None


def show(template: str, page: Page, status: int = 200) -> Response:
    """`page` through its template."""
    return make_response(render_template(template, page=page, t=g.words), status)


def is_partial() -> bool:
    """Whether the browser asks for a part of a page."""
    return "HX-Request" in request.headers
