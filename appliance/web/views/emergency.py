"""Emergency access: taking it, and countersigning what others took."""

from __future__ import annotations

from dataclasses import dataclass

from flask import Blueprint, Response, g
from werkzeug.wrappers import Response as AnyResponse

from appliance import identity
from appliance.catalog import emergencies, sight
from appliance.catalog.emergencies import Emergency
from appliance.errors import NotAuthorised, Refused
from appliance.identity import break_glass, limits
from appliance.identity.permissions import Permission
from appliance.web import forms, security
from appliance.web.access import needs, reauthenticated
from appliance.web.console import Notice, console, now
from appliance.web.pages import Page, page_of, show

blueprint = Blueprint("emergency", __name__, url_prefix="/emergency")


@dataclass(frozen=True, slots=True)
class EmergencyLine:
    """An access that was taken. `open` while it lasts, `own` when whoever reads it took it."""

    id: int
    study: int
    name: str
    reason: str
    taken: str
    until: str
    open: bool
    own: bool
    reviewed: str
    finding: str


@dataclass(frozen=True, slots=True)
class EmergencyPage(Page):
    """The form, with what was typed; what one has taken before; how long it lasts."""

    lines: tuple[EmergencyLine, ...]
    number: str
    reason: str
    hours: int
    error: str


@dataclass(frozen=True, slots=True)
class ReviewPage(Page):
    """What everybody has taken, what nobody has looked into first."""

    lines: tuple[EmergencyLine, ...]
    waiting: int


@blueprint.get("")
@needs(Permission.BREAK_GLASS)
def form() -> Response:
    """The form."""
    return _form("", "", "", 200)


@blueprint.post("")
@needs(Permission.BREAK_GLASS)
@reauthenticated
def take() -> AnyResponse:
    """Open the studies of a number to whoever asks, and tell those who must know."""
    person, number, reason = forms.session().person, forms.text("number"), forms.text("reason")
    address, moment, kept_under = security.address(), now(), f"emergency {forms.actor()}"
    taken: list[Emergency] = []
    try:
        reason = break_glass.check(person, reason)
        with console().box.catalog.transaction() as tx:
            until = limits.wait_until(tx, kept_under, address, moment)
            closed = [] if until is not None else break_glass.closed_studies(tx, person, number, moment)
            for study in closed:
                one = break_glass.take(tx, person, study, reason=reason, now=moment)
                taken.append(one)
                details = {"emergency": one.id, "until": one.until_utc.isoformat()}
                uid = sight.uid_for_audit(tx, study)
                console().record(tx, "access:break-glass", f"study:{study}", person.login, details, study=uid)
            if not closed and until is None:
                identity.reject(tx, kept_under, address=address, now=moment)
                console().record(tx, "access:break-glass-fail", "emergency", person.login)
    except Refused as refusal:
        if isinstance(refusal, NotAuthorised):
            raise
        return _form(forms.explain(refusal), number, reason, 422)
    if until is not None:
        return _form(g.words("door.too_many_here", at=g.words.moment(until)), number, reason, 429)
    if not taken:
        return _form(forms.wrong("number", g.words("emergency.nothing")), number, reason, 422)
    forms.say(Notice("wait", g.words("emergency.taken", n=len(taken)), g.words("emergency.taken_hint")))
    return forms.back_to(f"/studies/{taken[0].study}" if len(taken) == 1 else "/studies")


@blueprint.get("/reviews")
@needs(Permission.RECORD_INCIDENTS)
def reviews() -> Response:
    """What was taken, for those who look into it."""
    with console().box.catalog.reading() as conn:
        found, waiting = emergencies.latest(conn), emergencies.waiting(conn)
    page = page_of(
        ReviewPage,
        title=g.words("emergency.reviews"),
        lines=tuple(_line(each) for each in found),
        waiting=waiting,
    )
    return show("emergency-reviews.html", page)


@blueprint.post("/reviews/<int:emergency_id>")
@needs(Permission.RECORD_INCIDENTS)
@reauthenticated
def review(emergency_id: int) -> AnyResponse:
    """Countersign one."""
    person = forms.session().person
    try:
        with console().box.catalog.transaction() as tx:
            found = break_glass.review(tx, emergency_id, person, finding=forms.text("finding"), now=now())
            details = {"emergency": emergency_id, "of": found.login}
            uid = sight.uid_for_audit(tx, found.study)
            console().record(tx, "access:review", f"study:{found.study}", person.login, details, study=uid)
    except Refused as refusal:
        forms.say_error(refusal)
    else:
        forms.say(Notice("good", g.words("emergency.reviewed")))
    return forms.back_to("/emergency/reviews")


def _form(error: str, number: str, reason: str, status: int) -> Response:
    with console().box.catalog.reading() as conn:
        own = emergencies.latest(conn, login=forms.actor())
    page = page_of(
        EmergencyPage,
        title=g.words("emergency.title"),
        lines=tuple(_line(each) for each in own),
        number=number,
        reason=reason,
        hours=int(break_glass.LASTS.total_seconds() // 3600),
        error=error,
    )
    return show("emergency.html", page, status)


def _line(each: Emergency) -> EmergencyLine:
    words = g.words
    reviewed = words("emergency.reviewed_by", by=each.reviewed_by, at=words.moment(each.reviewed_utc))
    return EmergencyLine(
        id=each.id,
        study=each.study,
        name=each.name,
        reason=each.reason,
        taken=words.moment(each.taken_utc),
        until=words.moment(each.until_utc),
        open=now() < each.until_utc,
        own=each.login == forms.actor(),
        reviewed=reviewed if each.reviewed_utc is not None else "",
        finding=each.finding,
    )
