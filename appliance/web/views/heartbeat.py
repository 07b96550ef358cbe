"""Heartbeats: the very document that would be sent, who has agreed to it, and the buttons to agree and to withdraw."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from flask import Blueprint, Response, g
from werkzeug.wrappers import Response as AnyResponse

from appliance.errors import ApplianceError
from appliance.fleet import consent, heartbeat, pulse, taking
from appliance.identity.permissions import Permission
from appliance.web import forms
from appliance.web.access import needs, reauthenticated
from appliance.web.console import Notice, console, now
from appliance.web.pages import Page, page_of, show

blueprint = Blueprint("heartbeat", __name__, url_prefix="/support/heartbeat")


@dataclass(frozen=True, slots=True)
class HeartbeatPage(Page):
    """`wanted` says what was taken of what the vendor wants, and is empty where no key of theirs is entered.

    `state` is ``off``, ``on``, ``trouble``, ``changed`` or ``nowhere``; `terms` are what whoever agrees has seen. `more` says field by
    field what this version could say besides, and leaves out. `given`: whether there is a consent to withdraw."""

    state: str
    tone: str
    verdict: str
    about: str
    address: str
    endpoint: str
    authority: str
    document: str
    terms: str
    name: str
    key: str
    wanted: str
    more: tuple[str, ...]
    given: bool


_TONES = {"off": "wait", "nowhere": "wait", "changed": "wait", "on": "good", "trouble": "wait"}


@blueprint.get("")
@needs(Permission.ADMIT_SUPPORT)
def page() -> Response:
    """The page."""
    box, moment, words = console().box, now(), g.words
    told = heartbeat.text_of(pulse.document(box, moment))
    with box.catalog.transaction() as tx:
        address, given, standing = consent.address(tx), consent.given(tx), consent.standing(tx)
        terms, came = consent.terms(tx), pulse.state(tx)
        key, more = consent.public(consent.key_of(tx, box, moment)), consent.more(tx)
        endpoint, authority, taken_last = consent.endpoint(tx), consent.authority(tx), taking.standing(tx)
    taken_words = words(f"heartbeat.wanted.{taken_last.came}", n=taken_last.number)
    if taken_last.until_utc:
        until = words.moment(datetime.fromisoformat(taken_last.until_utc))
        taken_words += " " + words("heartbeat.wanted.until", at=until)
    about = ""
    if not address:
        state = "nowhere"
    elif standing is None:
        state = "off" if given is None else "changed"
    else:
        state = "trouble" if came.failures else "on"
        at = words.moment(standing.agreed_utc)
        taken = words.moment(came.taken_utc) if came.taken_utc else words("heartbeat.never")
        about = words("heartbeat.agreed", by=standing.by, at=at, taken=taken)
        if came.failures:
            about += " " + words(f"heartbeat.trouble.{came.trouble}")
    made = page_of(
        HeartbeatPage,
        title=words("heartbeat.title"),
        section="support",
        state=state,
        tone=_TONES[state],
        verdict=words(f"heartbeat.state.{state}"),
        about=about,
        address=address,
        endpoint=endpoint,
        authority=authority,
        document=told,
        terms=terms,
        name=heartbeat.name_of(key),
        key=key,
        wanted=taken_words if authority else "",
        more=tuple(f"{name}: {', '.join(each)}" for name, each in more.items()),
        given=given is not None,
    )
    return show("heartbeat.html", made)


@blueprint.post("/agree")
@needs(Permission.ADMIT_SUPPORT)
@reauthenticated
def agree() -> AnyResponse:
    """Let heartbeats be sent, of the kind that was shown."""
    try:
        with console().box.catalog.transaction() as tx:
            made = consent.agree(tx, forms.text("terms"), forms.actor(), now())
            details = {"to": consent.address(tx), "terms": made.terms}
            console().record(tx, "heartbeat:agree", "heartbeat", forms.actor(), details)
    except ApplianceError as error:
        forms.say_error(error)
    else:
        forms.say(Notice("good", g.words("heartbeat.said.agreed")))
    return forms.back_to("/support/heartbeat")


@blueprint.post("/withdraw")
@needs(Permission.ADMIT_SUPPORT)
def withdraw() -> AnyResponse:
    """Forbid heartbeats at once."""
    with console().box.catalog.transaction() as tx:
        if consent.withdraw(tx):
            console().record(tx, "heartbeat:withdraw", "heartbeat", forms.actor())
    forms.say(Notice("good", g.words("heartbeat.said.withdrawn")))
    return forms.back_to("/support/heartbeat")
