"""The recovery key: printed, then asked back. It is never on this box's disk in clear, in a log, or in an address.

The sheet is made in memory for the one answer that carries it, by POST, so that no history, prefetch or reload asks for
it again; `no-store` keeps it out of the browser's cache.

The root key, which the paper opens, is replaced on the same page once setting up is over: whoever comes for the one is asked by
the runbooks to think of the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from flask import Response, current_app, g
from werkzeug.wrappers import Response as AnyResponse

from appliance import health, settings
from appliance.errors import ApplianceError
from appliance.identity.permissions import Permission
from appliance.lifecycle import rotation
from appliance.store import keys
from appliance.web import forms, papers
from appliance.web.access import needs, reauthenticated
from appliance.web.background import in_background
from appliance.web.console import Notice, console, now
from appliance.web.pages import is_partial, show
from appliance.web.views.setup.frame import SetupPage, accepted, blueprint, in_turn, said, setup_page
from appliance.wizard import by_hand
from appliance.wizard.runs import INTERRUPTED, PartState, UnderWay
from appliance.wizard.steps import Step


@dataclass(frozen=True, slots=True)
class RootKey:
    """How far the latest new root key is, in words; `percent` is below 0 where it isn't known."""

    state: Literal["rests", "running", "follows", "done", "failed"]
    said: str
    percent: int
    cause: str


@dataclass(frozen=True, slots=True)
class RecoveryPage(SetupPage):
    """Whether the key can still be shown, or was typed back; how the root key stands."""

    confirmed: str
    """``yes`` or ``no``: a word, because the template compares it."""
    root: RootKey


@blueprint.get("/recovery")
@needs(Permission.MANAGE_KEYS)
@in_turn(Step.RECOVERY)
def recovery() -> Response:
    """The sheet to print, the field to type it back; or how the root key stands, alone."""
    return _form()


@blueprint.post("/recovery/sheet")
@needs(Permission.MANAGE_KEYS)
@in_turn(Step.RECOVERY)
@reauthenticated
def recovery_sheet() -> AnyResponse:
    """The sheet, as a PDF in this answer and nowhere else."""
    box, moment = console().box, now()
    key = keys.show_recovery(health.keys_folder(box), box.root)
    with box.catalog.transaction() as tx:
        console().record(tx, "key:show", "recovery key", forms.actor())
        clinic = settings.get(tx, "clinic.name")
    sheet = papers.recovery_sheet(console().languages, g.language, str(key), clinic=clinic, made=moment)
    return _pdf(sheet, "recovery-key.pdf")


@blueprint.post("/recovery")
@needs(Permission.MANAGE_KEYS)
@in_turn(Step.RECOVERY)
def check_recovery() -> AnyResponse:
    """Compare what was typed; a typing error names its group, another box's key is told apart."""
    box = console().box
    try:
        keys.check_recovery(health.keys_folder(box), box.root, forms.secret("key"))
    except ApplianceError as error:
        return _form(forms.wrong("key", said(error)))
    with box.catalog.transaction() as tx:
        console().record(tx, "key:check", "recovery key", forms.actor())
    forms.say(Notice("good", g.words("setup.key.right")))
    return accepted(Step.RECOVERY)


@blueprint.post("/recovery/new")
@needs(Permission.MANAGE_KEYS)
@in_turn(Step.RECOVERY)
@reauthenticated
def new_recovery() -> AnyResponse:
    """Issue another key, for when the sheet is lost or was seen; the earlier one holds until this one is typed back."""
    box = console().box
    keys.rotate(health.keys_folder(box), box.root)
    with box.catalog.transaction() as tx:
        console().record(tx, "key:rotate", "recovery key", forms.actor())
    return forms.back_to("/setup/recovery")


@blueprint.post("/recovery/root")
@needs(Permission.MANAGE_KEYS)
@in_turn(Step.RECOVERY)
@reauthenticated
def new_root() -> AnyResponse:
    """Replace the root key with the recovery key that is typed; the page shows how far the rest is."""
    entry = console().entry("key:rotate-root", "root key", forms.actor())
    try:
        in_background("new-root-key", by_hand.begin_rotation(console().box, forms.secret("paper"), entry))
    except UnderWay:
        forms.say(Notice("wait", g.words("backups.running_already"), _root_key().said))
    except ApplianceError as error:
        return _form(forms.wrong("paper", said(error)))
    return forms.back_to("/setup/recovery#root-key")


def _root_key() -> RootKey:
    """What was begun here, or else how far anybody's rotation is: one that was cut is gone on with by the jobs."""
    box, words = console().box, g.words
    with box.catalog.reading() as conn:
        part = by_hand.latest(box, conn, by_hand.ROTATION)
        standing = rotation.standing(box, conn)
    if part is not None and part.state in (PartState.RUNNING, PartState.WAITING):
        percent = int(part.detail.get("percent", 0))
        return RootKey("running", words("root_key.running", percent=percent), percent, "")
    follows = words("root_key.follows", n=standing.earlier)
    if part is not None and part.state is PartState.FAILED and part.cause != INTERRUPTED:
        failed = " ".join(f"{words.cause(each)}." for each in (part.cause, part.hint) if each)
        at = words("backups.failed_at", at=words.moment(part.at_utc))
        return RootKey("failed", at, -1, failed if standing.is_finished else f"{failed} {follows}")
    if not standing.is_finished:
        return RootKey("follows", follows, -1, "")
    if standing.generation == 1:
        return RootKey("rests", words("root_key.first"), -1, "")
    rests = words("root_key.rests", number=words.number(standing.generation))
    done = (
        part is not None and part.state is PartState.DONE and part.detail["generation"] == standing.generation
    )
    return RootKey("done" if done else "rests", rests, -1, "")


def _pdf(data: bytes, name: str) -> Response:
    answer = current_app.response_class(data, content_type="application/pdf")
    answer.headers["Content-Disposition"] = f'inline; filename="{name}"'
    answer.headers["Cache-Control"] = "no-store"
    return answer


def _form(error: str = "") -> Response:
    confirmed = keys.recovery_confirmed(health.keys_folder(console().box))
    page = setup_page(
        RecoveryPage, Step.RECOVERY, error=error, confirmed="yes" if confirmed else "no", root=_root_key()
    )
    template = "setup/parts/root-key.html" if is_partial() else "setup/recovery.html"
    return show(template, page, 422 if error else 200)
