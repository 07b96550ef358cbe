"""The ransomware guard in the console: whether it holds and why, what to do first, and the two buttons."""

from __future__ import annotations

from dataclasses import dataclass

from flask import Blueprint, Response, g
from werkzeug.wrappers import Response as AnyResponse

from appliance.catalog import freezes
from appliance.catalog.freezes import Freeze, Why
from appliance.errors import Refused
from appliance.identity.permissions import Permission
from appliance.lifecycle import freezing
from appliance.lifecycle.freezing import Standing
from appliance.web import access, forms, keeping
from appliance.web.access import may, needs
from appliance.web.console import Notice, console
from appliance.web.language import Words
from appliance.web.pages import Page, page_of, show

blueprint = Blueprint("guard", __name__, url_prefix="/guard")

EVIDENCE = ("kept", "looked", "missing", "altered", "opened", "unreadable", "reported")
"""What is said of what was found, in this order."""


@dataclass(frozen=True, slots=True)
class FreezeLine:
    """One freeze; texts are ready to show. `ended` is empty while it is in force."""

    why: str
    begun: str
    reason: str
    ended: str


@dataclass(frozen=True, slots=True)
class GuardPage(Page):
    """`state` is ``holds`` or ``rests``; `found` are label and count."""

    state: str
    verdict: str
    since: str
    counted: str
    found: tuple[tuple[str, str], ...]
    past: tuple[FreezeLine, ...]
    may_act: bool


@blueprint.get("")
@needs(Permission.VIEW_HEALTH)
def page() -> Response:
    """Whether the guard holds, and what it has counted."""
    with console().box.catalog.reading() as conn:
        current, past, standing = freezes.in_force(conn), freezes.latest(conn), freezing.standing(conn)
    words = g.words
    made = page_of(
        GuardPage,
        title=words("guard.title"),
        section="health",
        state="rests" if current is None else "holds",
        verdict=words("guard.rests") if current is None else words("guard.holds"),
        since="" if current is None else _begun(current, words),
        counted=_counted(standing, words),
        found=()
        if current is None
        else tuple(
            (words(f"guard.found.{name}"), words.number(current.evidence[name]))
            for name in EVIDENCE
            if name in current.evidence
        ),
        past=tuple(_line(each, words) for each in past if each.released_utc is not None),
        may_act=may(Permission.MANAGE_BACKUPS),
    )
    return show("guard.html", made)


@blueprint.post("/freeze")
@needs(Permission.MANAGE_BACKUPS)
@access.reauthenticated
def freeze() -> AnyResponse:
    """Let nothing be overwritten or removed."""
    try:
        with console().box.catalog.transaction() as tx:
            freezing.freeze(tx, keeping.act(), reason=forms.text("reason"))
    except Refused as refusal:
        forms.say_error(refusal)
    else:
        forms.say(Notice("wait", g.words("guard.frozen")))
    return forms.back_to("/guard")


@blueprint.post("/release")
@needs(Permission.MANAGE_BACKUPS)
@access.reauthenticated
def release() -> AnyResponse:
    """Let everything go on."""
    try:
        with console().box.catalog.transaction() as tx:
            freezing.release(tx, keeping.act(), reason=forms.text("reason"))
    except Refused as refusal:
        forms.say_error(refusal)
    else:
        forms.say(Notice("good", g.words("guard.released")))
    return forms.back_to("/guard")


def _line(each: Freeze, words: Words) -> FreezeLine:
    ended = ""
    if each.released_utc is not None:
        at = words.moment(each.released_utc)
        ended = words("guard.ended", by=each.released_by, at=at, reason=each.release_reason)
    return FreezeLine(words(f"guard.why.{each.why}"), _begun(each, words), each.reason, ended)


def _begun(each: Freeze, words: Words) -> str:
    why, at = words(f"guard.why.{each.why}"), words.moment(each.begun_utc)
    if each.why is Why.BY_HAND:
        return words("guard.begun_by", why=why, by=each.begun_by, at=at)
    return words("guard.begun", why=why, at=at)


def _counted(standing: Standing, words: Words) -> str:
    if not standing.counts:
        return words("guard.not_counted")
    newest = standing.counts[-1]
    return words(
        "guard.counted",
        looked=words("studies.images", n=newest.looked),
        lost=words.number(newest.missing + newest.altered + newest.unreadable),
    )
