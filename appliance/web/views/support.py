"""Support: the file that says how the box does, and sessions in which the vendor comes in; recorded, and replayed here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from flask import Blueprint, Response, current_app, g, request
from werkzeug.wrappers import Response as AnyResponse

from appliance.catalog import Reading, audit_search, outbox, support_sessions
from appliance.catalog.audit_log import AuditRow
from appliance.catalog.audit_search import Wanted
from appliance.catalog.support_sessions import Event, Visit
from appliance.errors import ApplianceError, Refused, Unknown
from appliance.fleet import bundle, farewell, recording, support, ticket
from appliance.fleet.bundle import Bundle
from appliance.fleet.farewell import Farewell
from appliance.fleet.session import MOST_HOURS, Ending, Scope, Session
from appliance.fleet.support import Proof
from appliance.identity.permissions import Permission
from appliance.web import forms
from appliance.web.access import needs, reauthenticated
from appliance.web.console import Notice, console, now
from appliance.web.pages import Page, page_of, show

blueprint = Blueprint("support", __name__, url_prefix="/support")

MOST_SHOWN_CHARACTERS = 60_000
"""Of each file on the page; the file itself is whole."""
TICKETS = 5
"""How many of the latest are on the page."""


@dataclass(frozen=True, slots=True)
class VisitLine:
    """Somebody who came in; `text` says who and when."""

    number: int
    text: str


@dataclass(frozen=True, slots=True)
class SessionLine:
    """A session, in words."""

    number: int
    opened: str
    scope: str
    reason: str
    by: str
    state: str
    visits: tuple[VisitLine, ...]


@dataclass(frozen=True, slots=True)
class TicketLine:
    """A ticket that was sent; `states` are, for each way that it goes, whereto, a tone and words."""

    at: str
    by: str
    reason: str
    states: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, slots=True)
class SupportPage(Page):
    """What there is towards support; `sealed` says whether a support file is for the vendor alone, `lost` are the visits whose
    recording was taken away.

    `ready` says whether one can be opened; `current` is the session that is open, `hours` what may be chosen.
    """

    error: str
    sealed: bool
    ready: support.Readiness
    current: SessionLine | None
    before: tuple[SessionLine, ...]
    lost: tuple[VisitLine, ...]
    scopes: tuple[tuple[str, str, str], ...]
    hours: tuple[tuple[int, str], ...]
    typed: str
    dialling: str
    own: str
    ticket_to: str
    tickets: tuple[TicketLine, ...]


@dataclass(frozen=True, slots=True)
class Shown:
    """One moment of a recording."""

    at: str
    typed: bool
    text: str


@dataclass(frozen=True, slots=True)
class RecordingPage(Page):
    """What was typed and shown; `proof` says whether it is what the audit says."""

    number: int
    who: str
    tone: str
    proof: str
    lost: bool
    lines: tuple[Shown, ...]


@dataclass(frozen=True, slots=True)
class FileShown:
    """One file within; `text` ends early where it is long, and begins at its end for a log."""

    name: str
    size: str
    text: str
    whole: bool


@dataclass(frozen=True, slots=True)
class FilePage(Page):
    """A support file, before it leaves; `to` is where a ticket would go, empty if none can be sent."""

    name: str
    size: str
    sealed: bool
    to: str
    too_large: bool
    typed: str
    error: str
    most: int
    cut: tuple[tuple[str, str], ...]
    files: tuple[FileShown, ...]


@blueprint.get("")
@needs(Permission.ADMIT_SUPPORT)
def overview() -> Response:
    """The page."""
    return _overview()


@blueprint.post("/sessions")
@needs(Permission.ADMIT_SUPPORT)
@reauthenticated
def open_session() -> AnyResponse:
    """Let the vendor in."""
    box, moment, by = console().box, now(), forms.actor()
    chosen = forms.text("scope")
    hours = forms.whole(forms.text("hours"), low=0, high=99, default=0)
    try:
        with box.catalog.transaction() as tx:
            scope = Scope(chosen) if chosen in set(Scope) else Scope.DIAGNOSE
            made = support.open_session(
                tx, box, reason=forms.text("reason"), scope=scope, hours=hours, by=by, now=moment
            )
            details = {
                "scope": str(scope),
                "expires_utc": made.expires_utc.isoformat(),
                "reason": made.reason,
            }
            console().record(tx, "support:open", str(made.id), by, details)
    except Refused as error:
        return _overview(forms.explain(error), 422)
    except ApplianceError as error:
        forms.say_error(error)
    return forms.back_to("/support")


@blueprint.post("/sessions/<int:session_id>/end")
@needs(Permission.ADMIT_SUPPORT)
def end_session(session_id: int) -> AnyResponse:
    """Put the vendor out."""
    box, by, moment = console().box, forms.actor(), now()
    with box.catalog.reading() as conn:
        session = support_sessions.session(conn, session_id)
    if session.ended_utc is None:
        farewell.leave(box, Farewell(session.id, Ending.CLINIC, by, moment, request.remote_addr or ""))
    with box.catalog.transaction() as tx:
        if support_sessions.end(tx, session.id, Ending.CLINIC, by, moment):
            console().record(tx, "support:close", str(session.id), by, {"ending": str(Ending.CLINIC)})
    return forms.back_to("/support")


@blueprint.get("/recordings/<int:visit_id>")
@needs(Permission.ADMIT_SUPPORT)
def replay(visit_id: int) -> Response:
    """What was typed and shown during one visit."""
    visit, events, proof = _recorded(visit_id)
    words = g.words
    page = page_of(
        RecordingPage,
        title=words("support.recording.title", n=visit.id),
        section="support",
        number=visit.id,
        who=_visit_line(visit).text,
        lost=proof is Proof.LOST,
        tone=_TONES[proof],
        proof=words(f"support.recording.{proof}"),
        lines=tuple(
            Shown(f"{each.at_milliseconds / 1000:.1f}", each.kind == "i", each.text.rstrip("\n"))
            for each in events
        ),
    )
    return show("support-recording.html", page)


@blueprint.post("/recordings/<int:visit_id>/cast")
@needs(Permission.ADMIT_SUPPORT)
def take_recording(visit_id: int) -> Response:
    """The recording as a file for asciinema."""
    visit, events, _ = _recorded(visit_id)
    answer = current_app.response_class(recording.cast(visit, events), content_type="application/x-asciicast")
    answer.headers["Content-Disposition"] = f'attachment; filename="support-{visit.session}-{visit.id}.cast"'
    answer.headers["Cache-Control"] = "no-store"
    return answer


@blueprint.post("/file")
@needs(Permission.ADMIT_SUPPORT)
def make_file() -> AnyResponse:
    """Make a support file, and go to where it can be looked at."""
    box, moment = console().box, now()
    try:
        made = bundle.make(box, moment)
    except ApplianceError as error:
        forms.say_error(error)
        return forms.back_to("/support")
    with box.catalog.transaction() as tx:
        details = {"cut": sum(made.cut.values())}
        console().record(tx, "support:file", made.name, forms.actor(), details)
    console().drafts.keep(forms.session().id, made)
    return forms.back_to("/support/file")


@blueprint.get("/file")
@needs(Permission.ADMIT_SUPPORT)
def file() -> Response:
    """The support file of this session, to be looked at."""
    return _file()


@blueprint.post("/file/send")
@needs(Permission.ADMIT_SUPPORT)
def send_file() -> AnyResponse:
    """Send the support file to whoever supports the box, with what is wrong."""
    made, box, moment, words = _made(), console().box, now(), g.words
    typed = ""
    try:
        typed = forms.long_text("reason", 2 * ticket.MOST_REASON_CHARACTERS)
        said = ticket.looked_through(box, typed)
        typed = said.text
        with box.catalog.transaction() as tx:
            sent, to = ticket.send(tx, made, said, moment), ticket.ways(tx)
            console().record(tx, "support:ticket", sent.reference, forms.actor(), sent.details(said, to))
    except Refused as error:
        return _file(typed, forms.explain(error), 422)
    except ApplianceError as error:
        forms.say_error(error)
        return forms.back_to("/support/file")
    more = "" if sent.attached else words("support.ticket.too_large")
    forms.say(Notice("good", words("support.ticket.sent", to=words.several(to.names)), more))
    return forms.back_to("/support")


@blueprint.post("/file/take")
@needs(Permission.ADMIT_SUPPORT)
def take_file() -> Response:
    """The support file itself."""
    made, box = _made(), console().box
    with box.catalog.transaction() as tx:
        reader = bundle.reader_of(tx)
        data = made.sealed_for(reader) if reader else made.data
        console().record(tx, "support:take", made.name, forms.actor(), {"sealed": bool(reader)})
    answer = current_app.response_class(data, content_type="application/octet-stream")
    answer.headers["Content-Disposition"] = f'attachment; filename="{made.name}{bundle.suffix(reader)}"'
    answer.headers["Cache-Control"] = "no-store"
    return answer


def _file(typed: str = "", error: str = "", status: int = 200) -> Response:
    made, words = _made(), g.words
    with console().box.catalog.reading() as conn:
        sealed, to = bool(bundle.reader_of(conn)), ticket.ways(conn)
        too_large = ticket.is_too_large(conn, made)
    page = page_of(
        FilePage,
        title=words("support.file.title"),
        section="support",
        name=made.name,
        size=words.size(len(made.data)),
        sealed=sealed,
        to=words.several(to.places),
        too_large=too_large,
        typed=typed,
        error=error,
        most=ticket.MOST_REASON_CHARACTERS,
        cut=tuple(
            (words(f"support.cut.{kind}"), words.number(count)) for kind, count in sorted(made.cut.items())
        ),
        files=tuple(_shown(name, text) for name, text in sorted(made.files.items())),
    )
    return show("support-file.html", page, status)


def _overview(error: str = "", status: int = 200) -> Response:
    box, moment, words = console().box, now(), g.words
    with box.catalog.transaction() as tx:
        keys = support.keys_of(tx, box, moment)
        sealed = bool(bundle.reader_of(tx))
        ready = support.readiness(tx)
        lines = [
            (each.is_open(moment), _line(tx, each, moment))
            for each in support_sessions.sessions(tx, limit=20)
        ]
        ticket_to, tickets = words.several(ticket.ways(tx).places), _tickets(tx)
        lost = tuple(map(_visit_line, support.lost(tx)))
    page = page_of(
        SupportPage,
        title=words("support.title"),
        section="support",
        error=error,
        sealed=sealed,
        ready=ready,
        current=next((line for is_open, line in lines if is_open), None),
        before=tuple(line for is_open, line in lines if not is_open),
        lost=lost,
        scopes=tuple(
            (str(each), words(f"support.scope.{each}"), words(f"support.scope.{each}.about"))
            for each in Scope
        ),
        hours=tuple((n, words("support.hours", n=n)) for n in range(1, MOST_HOURS + 1)),
        typed=forms.text("reason") if error else "",
        dialling=support.public(keys.dialling),
        own=support.public(keys.own),
        ticket_to=ticket_to,
        tickets=tickets,
    )
    return show("support.html", page, status)


def _tickets(conn: Reading) -> tuple[TicketLine, ...]:
    """The latest tickets, by the audit, and where their messages are."""
    return tuple(
        _ticket(conn, row)
        for row in audit_search.find(conn, Wanted(actions=("support:ticket",)), limit=TICKETS)
    )


def _ticket(conn: Reading, row: AuditRow) -> TicketLine:
    words, details = g.words, json.loads(row.details)
    found = outbox.states(conn, details["messages"])
    return TicketLine(
        words.moment(datetime.fromisoformat(row.at_utc)),
        str(row.actor),
        str(details["reason"]),
        tuple(
            (to, _MESSAGE_TONES.get(found[number], "bad"), words(f"message.{found[number]}"))
            for to, number in zip(details["to"], details["messages"], strict=True)
            if number in found
        ),
    )


_MESSAGE_TONES = {"SENT": "good", "WAITING": "wait", "SENDING": "wait"}


def _line(conn: Reading, session: Session, moment: datetime) -> SessionLine:
    words = g.words
    if session.is_open(moment):
        state = words("support.until", at=words.moment(session.expires_utc))
    else:
        ending = session.ending or Ending.EXPIRED
        state = words(f"support.ended.{ending}", at=words.moment(session.ended_utc or session.expires_utc))
    return SessionLine(
        session.id,
        words.moment(session.opened_utc),
        words(f"support.scope.{session.scope}"),
        session.reason,
        session.opened_by,
        state,
        tuple(map(_visit_line, support_sessions.visits(conn, session.id))),
    )


def _visit_line(visit: Visit) -> VisitLine:
    words = g.words
    return VisitLine(visit.id, words("support.visit", person=visit.person, at=words.moment(visit.began_utc)))


_TONES: Mapping[Proof, str] = {
    Proof.OPEN: "wait",
    Proof.WHOLE: "good",
    Proof.CHANGED: "bad",
    Proof.LOST: "bad",
}


def _recorded(visit_id: int) -> tuple[Visit, list[Event], Proof]:
    """A visit with what was recorded of it, and whether that is what the audit says; the audit says who looked."""
    with console().box.catalog.transaction() as tx:
        visit, events, proof = support.recorded(tx, visit_id)
        console().record(tx, "support:replay", str(visit_id), forms.actor(), {"session": visit.session})
    return visit, events, proof


def _made() -> Bundle:
    made = console().drafts.find(forms.session().id)
    if made is None:
        raise Unknown("there is no support file any more", hint="make another on the page of support")
    return made


def _shown(name: str, text: str) -> FileShown:
    whole = len(text) <= MOST_SHOWN_CHARACTERS
    log = name.startswith("logs/")
    piece = text if whole else text[-MOST_SHOWN_CHARACTERS:] if log else text[:MOST_SHOWN_CHARACTERS]
    return FileShown(name, g.words.size(len(text.encode("utf-8", "replace"))), piece, whole)
