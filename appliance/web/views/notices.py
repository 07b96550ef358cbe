"""Notices: the bell's panel, the history with filters, reading and acknowledging, and each person's preferences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from flask import Blueprint, Response, g
from werkzeug.wrappers import Response as AnyResponse

from appliance.catalog import Reading, notice_preferences, notices, outbox
from appliance.catalog.notices import NoticeRow, NoticeState, Wanted
from appliance.errors import NotAuthorised, Refused
from appliance.identity.permissions import Permission
from appliance.local_time import ZONES
from appliance.notify.kinds import OF_ACCOUNTS, Channel, Severity, Topic, severity_of
from appliance.notify.preferences import PERSONAL, as_value, defaults, parse
from appliance.notify.telling import preferences_of
from appliance.web import forms
from appliance.web.access import may, needs
from appliance.web.bell import title_of
from appliance.web.console import Notice, console, now
from appliance.web.pages import Page, is_partial, page_of, show

blueprint = Blueprint("notices", __name__, url_prefix="/notices")

SHOWN = 50
IN_PANEL = 8
STATES = ("unread", "acknowledge", "standing", "over")


@dataclass(frozen=True, slots=True)
class NoticeLine:
    """A notice as the list shows it; texts are ready to show. `tone` is good, wait or bad."""

    id: int
    title: str
    words: str
    fix: str
    severity: str
    severity_words: str
    tone: str
    state: str
    at: str
    over: str
    acknowledged: str
    sent: str
    is_unread: bool
    can_be_acknowledged: bool


@dataclass(frozen=True, slots=True)
class NoticesPage(Page):
    """The history. `older` is the address of the next page, empty if there is none."""

    lines: tuple[NoticeLine, ...]
    wanted: Wanted
    states: tuple[str, ...]
    severities: tuple[str, ...]
    topics: tuple[str, ...]
    query: str
    older: str
    tab: str = "history"


@dataclass(frozen=True, slots=True)
class PanelPage(Page):
    """What the bell opens."""

    lines: tuple[NoticeLine, ...]


@dataclass(frozen=True, slots=True)
class TopicLine:
    """A row of the preferences: a topic, and by which channels a person hears of it."""

    name: str
    bell: bool
    mail: bool


@dataclass(frozen=True, slots=True)
class PreferencesPage(Page):
    """One person's choices."""

    topics: tuple[TopicLine, ...]
    mail_address: str
    quiet_start: str
    quiet_end: str
    time_zone: str
    zones: tuple[str, ...]
    sound: bool
    desktop: bool
    digest: bool
    error: str
    tab: str = "preferences"


# --- looking ---------------------------------------------------------------------------------------------------------


@blueprint.get("")
@needs(Permission.USE_CONSOLE)
def listing() -> Response:
    """The history, or its rows alone."""
    wanted = Wanted(
        severity=_one_of(forms.asked("severity"), tuple(Severity)),
        topic=_one_of(forms.asked("topic"), tuple(Topic)),
        state=_one_of(forms.asked("state"), STATES),
        before=forms.whole(forms.asked("before"), low=1, high=2**62, default=0) or None,
    )
    with console().box.catalog.reading() as conn:
        rows = notices.history(
            conn,
            forms.session().person.id,
            wanted,
            everything=_sees_everything(),
            limit=SHOWN + 1,
            personal=OF_ACCOUNTS,
        )
        lines = _lines(conn, rows[:SHOWN])
    chosen = {
        name: value
        for name, value in (("severity", wanted.severity), ("topic", wanted.topic), ("state", wanted.state))
        if value
    }
    older = urlencode({**chosen, "before": rows[SHOWN - 1].id}) if len(rows) > SHOWN else ""
    page = page_of(
        NoticesPage,
        title=g.words("notices.title"),
        lines=lines,
        wanted=wanted,
        states=STATES,
        severities=tuple(Severity),
        topics=tuple(Topic),
        query=urlencode(chosen | ({"before": str(wanted.before)} if wanted.before else {})),
        older=older,
    )
    return show("parts/notice-rows.html" if is_partial() else "notices.html", page)


@blueprint.get("/bell")
@needs(Permission.USE_CONSOLE)
def bell() -> AnyResponse:
    """The face of the bell alone: a part of a page, which is no page by itself."""
    if not is_partial():
        return forms.back_to("/notices")
    return show("parts/bell-face.html", page_of(Page, title="", bell_too=True))


@blueprint.get("/panel")
@needs(Permission.USE_CONSOLE)
def panel() -> AnyResponse:
    """What the bell opens: the newest that are unread, or wait to be acknowledged."""
    return _panel() if is_partial() else forms.back_to("/notices")


# --- acting ----------------------------------------------------------------------------------------------------------


@blueprint.post("/<int:notice_id>/read")
@needs(Permission.USE_CONSOLE)
def read(notice_id: int) -> AnyResponse:
    """It is read, by whoever asks."""
    moment = now()
    with console().box.catalog.transaction() as tx:
        notices.read(tx, _known(tx, notice_id).id, forms.session().person.id, moment)
    return _back()


@blueprint.post("/read")
@needs(Permission.USE_CONSOLE)
def read_all() -> AnyResponse:
    """All is read, but what is critical and waits to be acknowledged."""
    moment = now()
    with console().box.catalog.transaction() as tx:
        notices.read_all(tx, forms.session().person.id, moment)
    return _back()


@blueprint.post("/<int:notice_id>/acknowledge")
@needs(Permission.USE_CONSOLE)
def acknowledge(notice_id: int) -> AnyResponse:
    """Whoever asks takes it in hand: nobody else is called."""
    moment = now()
    with console().box.catalog.transaction() as tx:
        row = _known(tx, notice_id)
        if notices.acknowledge(tx, row.id, forms.session().person.id, moment):
            console().record(tx, "notice:acknowledge", str(row.id), forms.actor(), {"kind": row.kind})
    return _back()


# --- preferences -----------------------------------------------------------------------------------------------------


@blueprint.get("/preferences")
@needs(Permission.USE_CONSOLE)
def preferences() -> Response:
    """What whoever asks wants to hear of."""
    with console().box.catalog.reading() as conn:
        chosen = as_value(preferences_of(conn, forms.session().person))
    return _preferences(chosen, "")


@blueprint.post("/preferences")
@needs(Permission.USE_CONSOLE)
def choose() -> AnyResponse:
    """Keep the choices of whoever asks."""
    person, moment = forms.session().person, now()
    start, end = forms.text("quiet_start"), forms.text("quiet_end")
    typed: dict[str, Any] = {
        "channels": {
            str(topic): [str(each) for each in PERSONAL if forms.text(f"{topic}.{each}") == "1"]
            for topic in Topic
        },
        "mail_address": forms.text("mail_address"),
        "quiet": f"{start}-{end}" if start or end else "",
        "time_zone": forms.text("time_zone"),
        "sound": forms.text("sound") == "1",
        "desktop": forms.text("desktop") == "1",
        "digest": forms.text("digest") == "1",
    }
    try:
        chosen = parse(typed, defaults(person.role, person.login))
    except Refused as refusal:
        return _preferences(typed, forms.explain(refusal), 422)
    with console().box.catalog.transaction() as tx:
        notice_preferences.choose(tx, person.id, as_value(chosen), moment)
        console().record(tx, "notice:prefer", person.login, forms.actor())
    forms.say(Notice("good", g.words("preferences.kept")))
    return forms.back_to("/notices/preferences")


def _preferences(chosen: Mapping[str, Any], error: str, status: int = 200) -> Response:
    start, _, end = str(chosen["quiet"]).partition("-")
    zone = str(chosen["time_zone"])
    page = page_of(
        PreferencesPage,
        title=g.words("notices.title"),
        topics=tuple(
            TopicLine(
                topic,
                Channel.BELL in chosen["channels"].get(topic, ()),
                Channel.MAIL in chosen["channels"].get(topic, ()),
            )
            for topic in Topic
        ),
        mail_address=chosen["mail_address"],
        quiet_start=start,
        quiet_end=end,
        time_zone=zone,
        zones=ZONES if not zone or zone in ZONES else (zone, *ZONES),
        sound=chosen["sound"],
        desktop=chosen["desktop"],
        digest=chosen["digest"],
        error=error,
    )
    return show("notice-preferences.html", page, status)


# --- lines -----------------------------------------------------------------------------------------------------------


def _panel() -> Response:
    reader = forms.session().person.id
    with console().box.catalog.reading() as conn:
        own = notices.history(conn, reader, Wanted(state="unread"), everything=False, limit=IN_PANEL)
        waits = notices.history(conn, reader, Wanted(state="acknowledge"), everything=False, limit=IN_PANEL)
        known = {row.id: row for row in (*waits, *own)}
        rows = sorted(known.values(), key=lambda row: (row.severity != Severity.CRITICAL, -row.id))
        lines = _lines(conn, rows[:IN_PANEL])
    return show("parts/bell-panel.html", page_of(PanelPage, title="", lines=lines))


def _lines(conn: Reading, rows: list[NoticeRow]) -> tuple[NoticeLine, ...]:
    sent = outbox.of_notices(conn, [row.id for row in rows])
    return tuple(_line(row, sent.get(row.id, [])) for row in rows)


def _line(row: NoticeRow, messages: list[outbox.Message]) -> NoticeLine:
    words = g.words
    is_open = row.state != NoticeState.OVER
    unacknowledged = row.severity == Severity.CRITICAL and row.acknowledged_utc is None and is_open
    counts = {
        "arrived": sum(each.state == outbox.MessageState.SENT for each in messages),
        "waiting": sum(each.state in outbox.OPEN_STATES for each in messages),
        "failed": sum(
            each.state in (outbox.MessageState.REFUSED, outbox.MessageState.EXPIRED) for each in messages
        ),
    }
    severity = severity_of(row.severity)
    tone = {Severity.CRITICAL: "bad", Severity.WARNING: "wait"}.get(severity, "")
    return NoticeLine(
        id=row.id,
        title=title_of(words, row.kind, row.subject),
        words=words.cause(row.words) if row.words else "",
        fix=words.cause(row.fix) if row.fix and is_open else "",
        severity=row.severity,
        severity_words=words(f"severity.{severity}"),
        tone=tone,
        state=row.state,
        at=words.moment(row.raised_utc),
        over=words.moment(row.over_utc),
        acknowledged=words("notices.acknowledged_by", name=row.acknowledged_name, at=words.moment(row.acknowledged_utc))
        if row.acknowledged_utc
        else "",
        sent=" · ".join(words(f"notices.{name}", n=count) for name, count in counts.items() if count),
        is_unread=row.told and row.read_utc is None,
        can_be_acknowledged=unacknowledged and (row.told or _sees_everything()),
    )  # fmt: skip


def _known(conn: Reading, notice_id: int) -> NoticeRow:
    """A notice that whoever asks was told of, or may see as all others."""
    row = notices.notice(conn, notice_id, forms.session().person.id)
    if not row.told and (row.kind in OF_ACCOUNTS or not _sees_everything()):
        raise NotAuthorised("this notice was for others", hint="go back to the notices")
    return row


def _sees_everything() -> bool:
    """Those who answer for the box see what others were told, too; but of their own accounts."""
    return may(Permission.READ_AUDIT)


def _back() -> AnyResponse:
    return _panel() if is_partial() else forms.back_to("/notices")


def _one_of(asked: str, known: tuple[str, ...]) -> str:
    return asked if asked in known else ""
