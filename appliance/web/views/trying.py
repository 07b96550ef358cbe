"""The guided tour and the sample study."""

from __future__ import annotations

from flask import Blueprint, g, redirect
from werkzeug.wrappers import Response

from appliance.identity.permissions import Permission
from appliance.web import access, forms, trying
from appliance.web.access import needs
from appliance.web.console import Notice, console, now

blueprint = Blueprint("trying", __name__)


@blueprint.post("/tour")
@needs(Permission.USE_CONSOLE)
def toured() -> Response:
    """The tour was taken, or declined: it is not offered to this person again."""
    with console().box.catalog.transaction() as tx:
        trying.toured(tx, forms.session().person.id, now())
    return redirect("/studies", 303)


@blueprint.post("/sample/load")
@needs(Permission.UPLOAD_STUDIES)
def load() -> Response:
    """Import the sample and show it; if there is one in view, show that."""
    box = console().box
    with box.catalog.reading() as conn:
        uid = next(iter(trying.samples(conn)), None)
    if uid is None:
        moment = now()
        sample = trying.load(box, moment)
        uid = sample.study_instance_uid
        with box.catalog.transaction() as tx:
            trying.shown(tx, sample, moment)
            console().record(tx, "study:import", uid, forms.actor(), {"sample": True}, study=uid)
    with box.catalog.reading() as conn:
        row = trying.row_of(conn, access.sight(), uid)
    return redirect("/studies" if row is None else f"/studies/{row.id}", 303)


@blueprint.post("/sample/hide")
@needs(Permission.UPLOAD_STUDIES)
def hide() -> Response:
    """Take the samples from view."""
    with console().box.catalog.transaction() as tx:
        for uid in trying.hide(tx, now()):
            console().record(tx, "study:hide", uid, forms.actor(), study=uid)
    forms.say(Notice("good", g.words("sample.hidden")))
    return redirect("/studies", 303)
