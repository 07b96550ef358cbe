"""The recovery key: printed, then asked back. It is never on this box's disk in clear, in a log, or in an address.

The sheet is made in memory for the one answer that carries it, by POST, so that no history, prefetch or reload asks for
it again; `no-store` keeps it out of the browser's cache.
"""

from __future__ import annotations

from dataclasses import dataclass

from flask import Response, current_app, g
from werkzeug.wrappers import Response as AnyResponse

from appliance import health, settings
from appliance.errors import ApplianceError
from appliance.identity.permissions import Permission
from appliance.store import keys
from appliance.web import forms, papers
from appliance.web.access import needs, reauthenticated
from appliance.web.console import Notice, console, now
from appliance.web.pages import show
from appliance.web.views.setup.frame import SetupPage, accepted, blueprint, in_turn, said, setup_page
from appliance.wizard.steps import Step


@dataclass(frozen=True, slots=True)
class RecoveryPage(SetupPage):
    """Whether the key can still be shown, or was typed back."""

    confirmed: str
    """``yes`` or ``no``: a word, because the template compares it."""


@blueprint.get("/recovery")
@needs(Permission.MANAGE_KEYS)
@in_turn(Step.RECOVERY)
def recovery() -> Response:
    """The sheet to print, the field to type it back."""
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


def _pdf(data: bytes, name: str) -> Response:
    answer = current_app.response_class(data, content_type="application/pdf")
    answer.headers["Content-Disposition"] = f'inline; filename="{name}"'
    answer.headers["Cache-Control"] = "no-store"
    return answer


def _form(error: str = "") -> Response:
    confirmed = keys.recovery_confirmed(health.keys_folder(console().box))
    page = setup_page(RecoveryPage, Step.RECOVERY, error=error, confirmed="yes" if confirmed else "no")
    return show("setup/recovery.html", page, 422 if error else 200)
