"""The PIN that the box's own disk asks for at each start: what it buys and costs, choosing one, and taking it away. And the disk's
recovery key, once more on the box's screen: a page never has it.

A PIN is in the form that brings it, and nowhere else: no page carries it back, and a form that waits until its sender has said who it
is lies in memory.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import Literal

from flask import Blueprint, Response, g
from werkzeug.wrappers import Response as AnyResponse

from appliance import disk_key, disk_pin
from appliance.disk_pin import Ended, State
from appliance.errors import ApplianceError, Refused
from appliance.identity.permissions import Permission
from appliance.web import forms
from appliance.web.access import needs, reauthenticated
from appliance.web.console import console, now
from appliance.web.pages import Page, is_partial, page_of, show

blueprint = Blueprint("disk_pin", __name__, url_prefix="/disk-pin")

TONES = {"elsewhere": "good", State.NONE: "good", State.WANTED: "good", State.UNFINISHED: "bad"}
"""How the disk may stand, with the tone of that."""

ENDS = (Ended.DONE, Ended.KEY, Ended.CHIP, Ended.REFUSED)
"""What may have become of the latest change."""


@dataclass(frozen=True, slots=True)
class PinPage(Page):
    """`state` is one of `TONES`. `work` is how far the latest change is, with `said` and `remedy` of one that failed. `key_until` is
    empty while the box's screen doesn't show the disk's recovery key."""

    state: str
    tone: str
    verdict: str
    about: str
    work: Literal["none", "running", "done", "failed"]
    said: str
    remedy: str
    key_until: str


@blueprint.get("")
@needs(Permission.MANAGE_KEYS)
def page() -> Response:
    """Whether the disk asks for a PIN; or that alone, while it is being changed."""
    return _page()


@blueprint.post("")
@needs(Permission.MANAGE_KEYS)
@reauthenticated
def choose() -> AnyResponse:
    """Let the disk ask for the PIN that is typed twice."""
    entry = console().entry("pin:choose", disk_pin.SUBJECT, forms.actor())
    try:
        typed = disk_pin.checked(forms.secret("pin"))
        if not hmac.compare_digest(forms.secret("again").encode(), typed.encode()):
            raise Refused("the two PINs are not the same", hint="type the same digits twice", field="again")
        disk_pin.choose(console().box, entry, typed, forms.secret("disk_key"), now())
    except ApplianceError as error:
        forms.explain(error)
        return _page(422)
    return forms.back_to("/disk-pin")


@blueprint.post("/remove")
@needs(Permission.MANAGE_KEYS)
@reauthenticated
def remove() -> AnyResponse:
    """Let the disk open by this machine alone again."""
    entry = console().entry("pin:remove", disk_pin.SUBJECT, forms.actor())
    try:
        disk_pin.remove(console().box, entry, now())
    except ApplianceError as error:
        forms.say_error(error)
    return forms.back_to("/disk-pin")


@blueprint.post("/key")
@needs(Permission.MANAGE_KEYS)
@reauthenticated
def show_key() -> AnyResponse:
    """Let the box's screen show the disk's recovery key for a while."""
    entry = console().entry("disk:show-key", disk_pin.SUBJECT, forms.actor())
    try:
        disk_key.show(console().box, entry, now())
    except ApplianceError as error:
        forms.say_error(error)
    return forms.back_to("/disk-pin#disk-key")


@blueprint.post("/key/hide")
@needs(Permission.MANAGE_KEYS)
def hide_key() -> AnyResponse:
    """Take it off the screen before its time."""
    entry = console().entry("disk:hide-key", disk_pin.SUBJECT, forms.actor())
    disk_key.hide(console().box, entry, now())
    return forms.back_to("/disk-pin#disk-key")


def _page(status: int = 200) -> Response:
    words, found = g.words, disk_pin.seen()
    state = str(found.state) if found else "elsewhere"
    work: Literal["none", "running", "done", "failed"] = "none"
    said = remedy = ""
    if found is not None and disk_pin.is_under_way(found):
        work, said = "running", words("pin.running")
    elif found is not None and found.ended is not None:
        work = "done" if found.ended is Ended.DONE else "failed"
        said, remedy = words(f"pin.ended.{found.ended}"), words(f"pin.ended.{found.ended}.about")
    with console().box.catalog.reading() as conn:
        until = disk_key.shown_until(conn, now())
    made = page_of(
        PinPage,
        title=words("pin.title"),
        section="backups",
        state=state,
        tone=TONES[state],
        verdict=words(f"pin.state.{state}"),
        about=words(f"pin.state.{state}.about"),
        work=work,
        said=said,
        remedy=remedy,
        key_until=words("disk_key.shown", at=words.moment(until)) if until else "",
    )
    return show("parts/disk-pin.html" if is_partial() else "disk-pin.html", made, status)
