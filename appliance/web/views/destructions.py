"""Requests to destroy studies: asked by one person, looked at and approved by another."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from flask import Blueprint, Response, g, request
from werkzeug.wrappers import Response as AnyResponse

from appliance.catalog import Reading, destructions, sight
from appliance.catalog.destructions import DestructionRequest, DueStudy
from appliance.errors import Refused, Unknown
from appliance.identity.permissions import Permission
from appliance.lifecycle import anonymising, destruction, unsettled
from appliance.lifecycle.anonymising import Stays
from appliance.lifecycle.request import ItemState, Method, State
from appliance.web import access, forms, keeping
from appliance.web.access import needs, reauthenticated
from appliance.web.console import Notice, console, now
from appliance.web.keeping import day
from appliance.web.pages import Page, page_of, show

blueprint = Blueprint("destructions", __name__, url_prefix="/retention/requests")

TONES = {
    State.OPEN: "wait",
    State.APPROVED: "kind",
    State.CARRIED_OUT: "good",
    State.WITHDRAWN: "",
    State.EXPIRED: "",
}


@dataclass(frozen=True, slots=True)
class RequestLine:
    """A request in the list."""

    id: int
    state: str
    tone: str
    studies: str
    asked: str
    approved: str


@dataclass(frozen=True, slots=True)
class RequestsPage(Page):
    """All requests, the latest first; `older` begins the page after this one."""

    tab: str
    lines: tuple[RequestLine, ...]
    older: int


@dataclass(frozen=True, slots=True)
class ItemLine:
    """A study of a request; `because` says why it was, or would be, left out."""

    study: int
    patient: str
    patient_id: str
    study_date: str
    images: str
    kept_until: str
    last_entry: str
    rules: tuple[str, ...]
    state: str
    tone: str
    because: str


@dataclass(frozen=True, slots=True)
class RequestPage(Page):
    """One request with its studies, and what whoever reads it may do. `digest` is over the list that is shown; `waits` while of whom an image
    that is set aside is can't be read."""

    tab: str
    id: int
    state: str
    tone: str
    facts: tuple[tuple[str, str], ...]
    items: tuple[ItemLine, ...]
    digest: str
    own: bool
    may_approve: bool
    may_withdraw: bool
    changed: int
    waits: bool


@blueprint.get("")
@needs(Permission.DESTROY_STUDIES)
def listing() -> Response:
    """The requests."""
    before = forms.whole(forms.asked("before"), low=0, high=1 << 60, default=0)
    with console().box.catalog.reading() as conn:
        found = destructions.latest(conn, limit=51, before=before or None)
    page = page_of(
        RequestsPage,
        title=g.words("retention.title"),
        section="retention",
        tab="requests",
        lines=tuple(_request(each) for each in found[:50]),
        older=found[49].id if len(found) > 50 else 0,
    )
    return show("destruction-requests.html", page)


@blueprint.post("")
@needs(Permission.DESTROY_STUDIES)
@reauthenticated
def ask() -> AnyResponse:
    """Ask for the studies that were ticked."""
    chosen = [int(each) for each in request.form.getlist("study") if each.isdecimal() and len(each) < 19]
    method = Method.ANONYMISE if forms.text("method") == Method.ANONYMISE else Method.DESTROY
    try:
        with console().box.catalog.transaction() as tx:
            if method is Method.ANONYMISE:
                anonymising.refuse_unless_some_stay(tx, chosen)
            made = destruction.ask(tx, keeping.act(), chosen, method=method, reason=forms.text("reason"))
    except Refused as refusal:
        forms.say_error(refusal)
        return forms.back_to("/retention")
    forms.say(Notice("good", g.words("destruction.asked"), g.words("destruction.asked_hint")))
    return forms.back_to(f"/retention/requests/{made.id}")


@blueprint.get("/<int:request_id>")
@needs(Permission.DESTROY_STUDIES)
def one(request_id: int) -> Response:
    """One request, with what has changed since it was asked."""
    words = g.words
    with console().box.catalog.reading() as conn:
        found = destructions.request(conn, request_id)
        changed = {
            each.study.study_id: str(each.because)
            for each in destruction.changed_since(conn, found, now())
            if found.state in (State.OPEN, State.APPROVED)
        }
        waits = found.state is State.APPROVED and unsettled.is_waiting(conn, request_id)
        stays = anonymising.kept_of(conn, found.study_ids) if found.method is Method.ANONYMISE else None
        items = tuple(_item(conn, each, changed.get(each.study_id, "")) for each in found.decisions)
    with console().box.catalog.transaction() as tx:
        details = {"studies": [each.study_id for each in found.decisions]}
        console().record(tx, "destruction:view", f"destruction:{request_id}", forms.actor(), details)
    page = page_of(
        RequestPage,
        title=words("destruction.title", number=found.id),
        section="retention",
        tab="requests",
        id=found.id,
        state=words(f"destruction.state.{found.state}"),
        tone=TONES[found.state],
        facts=_facts(found, stays),
        items=items,
        digest=found.digest,
        own=found.state is State.OPEN and found.asked_by == forms.actor(),
        may_approve=found.state is State.OPEN and found.asked_by != forms.actor(),
        may_withdraw=found.state in (State.OPEN, State.APPROVED),
        changed=len(changed),
        waits=waits,
    )
    return show("destruction-request.html", page)


@blueprint.post("/<int:request_id>/approve")
@needs(Permission.DESTROY_STUDIES)
@reauthenticated
def approve(request_id: int) -> AnyResponse:
    """Approve what another person has asked for."""
    try:
        if forms.text("understood") != "yes":
            raise Refused("nothing was approved", hint="tick that you have looked at the list")
        with console().box.catalog.transaction() as tx:
            found, changed = destruction.approve(tx, keeping.act(), request_id, digest=forms.text("digest"))
    except Unknown:
        raise
    except Refused as refusal:
        forms.say_error(refusal)
        return forms.back_to(f"/retention/requests/{request_id}")
    if found.state is State.APPROVED:
        left_out = g.words("destruction.left_out", n=len(changed)) if changed else ""
        forms.say(Notice("good", g.words("destruction.approved"), left_out))
    else:
        forms.say(Notice("wait", g.words("destruction.nothing_left")))
    return forms.back_to(f"/retention/requests/{request_id}")


@blueprint.post("/<int:request_id>/withdraw")
@needs(Permission.DESTROY_STUDIES)
def withdraw(request_id: int) -> AnyResponse:
    """Take a request back."""
    try:
        with console().box.catalog.transaction() as tx:
            destruction.withdraw(tx, keeping.act(), request_id, reason=forms.text("reason"))
    except Unknown:
        raise
    except Refused as refusal:
        forms.say_error(refusal)
    else:
        forms.say(Notice("good", g.words("destruction.withdrawn")))
    return forms.back_to(f"/retention/requests/{request_id}")


def _request(found: DestructionRequest) -> RequestLine:
    words = g.words
    return RequestLine(
        id=found.id,
        state=words(f"destruction.state.{found.state}"),
        tone=TONES[found.state],
        studies=words("destruction.studies", n=len(found.decisions)),
        asked=words("destruction.by_at", by=found.asked_by, at=words.moment(found.asked_utc)),
        approved=words("destruction.by_at", by=found.approved_by, at=words.moment(found.approved_utc))
        if found.approved_utc is not None
        else "",
    )


def _facts(found: DestructionRequest, stays: Stays | None) -> tuple[tuple[str, str], ...]:
    words = g.words
    line = _request(found)
    facts = [
        (words("destruction.asked_by"), line.asked),
        *([(words("destruction.reason"), found.reason)] if found.reason else []),
        (words("destruction.method"), words(f"destruction.method.{found.method}")),
    ]
    if stays is not None and stays.images:
        facts.append(
            (words("destruction.stays"), words("destruction.stays_text", kept=stays.kept, all=stays.images))
        )
    if line.approved:
        facts.append((words("destruction.approved_by"), line.approved))
    if found.ended_utc is None:
        facts.append((words("destruction.until"), words.moment(found.expires_utc)))
    else:
        by = words("destruction.by_at", by=found.ended_by, at=words.moment(found.ended_utc))
        facts.append((words("destruction.ended"), by if found.ended_by else words.moment(found.ended_utc)))
    if found.end_reason:
        facts.append((words("destruction.end_reason"), found.end_reason))
    return tuple(facts)


def _last_entry(each: DueStudy) -> str:
    """When the patient was last known to be here, as it was when it was asked; empty for a request from before that was kept."""
    entry = each.decision.get("last_entry")
    return (
        ""
        if entry is None
        else g.words("destruction.last_entry", day=day(date.fromisoformat(entry["day"]), g.words))
    )


def _item(conn: Reading, each: DueStudy, changed: str) -> ItemLine:
    words = g.words
    row = sight.study(conn, access.sight(), each.study_id)
    because = each.left_out_because or changed
    state = "would-leave" if changed and each.state is ItemState.STANDING else str(each.state)
    tones = {ItemState.CARRIED_OUT: "good", "would-leave": "wait", ItemState.LEFT_OUT: "wait"}
    return ItemLine(
        study=each.study_id if row is not None else 0,
        patient=words("destruction.gone") if row is None else words.person(row.patient_name),
        patient_id="" if row is None else row.patient_id,
        study_date="" if row is None else words.date(row.study_date),
        images="" if row is None else words("studies.images", n=row.instances),
        kept_until=day(each.keep_until, words),
        last_entry=_last_entry(each),
        rules=tuple(keeping.rule_words(rule, words) for rule in each.decision["rules"]),
        state=words(f"destruction.item.{state}"),
        tone=tones.get(state, ""),
        because=words(f"destruction.because.{because}") if because else "",
    )
