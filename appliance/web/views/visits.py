"""Visits of patients: entered and withdrawn on the page of a study."""

from __future__ import annotations

from flask import Blueprint, g
from werkzeug.wrappers import Response as AnyResponse

from appliance.errors import Refused, Unknown
from appliance.identity.permissions import Permission
from appliance.lifecycle import visits
from appliance.web import access, forms, keeping
from appliance.web.access import needs
from appliance.web.console import Notice, console

blueprint = Blueprint("visits", __name__)


@blueprint.post("/studies/<int:study_id>/visits")
@needs(Permission.MANAGE_RETENTION)
def enter(study_id: int) -> AnyResponse:
    """Enter that the patient of a study was seen on a day."""
    access.check_study(study_id)
    try:
        day = keeping.typed_day(forms.text("day"))
        with console().box.catalog.transaction() as tx:
            visits.enter(tx, keeping.act(), study=study_id, day=day)
    except Unknown:
        raise
    except Refused as refusal:
        forms.say_error(refusal)
    else:
        forms.say(Notice("good", g.words("visit.made")))
    return forms.back_to(f"/studies/{study_id}")


@blueprint.post("/retention/visits/<int:visit_id>/withdraw")
@needs(Permission.MANAGE_RETENTION)
@access.reauthenticated
def withdraw(visit_id: int) -> AnyResponse:
    """Let it count no more; `from` is the row id of the study from whose page it was asked."""
    with console().box.catalog.reading() as conn:
        is_seen = keeping.sees_visit(conn, visit_id)
    if not is_seen:
        raise access.not_there("visit", visit_id)
    try:
        with console().box.catalog.transaction() as tx:
            visits.withdraw(tx, keeping.act(), visit_id, reason=forms.text("reason"))
    except Unknown:
        raise
    except Refused as refusal:
        forms.say_error(refusal)
    else:
        forms.say(Notice("good", g.words("visit.ended")))
    study = forms.whole(forms.text("from"), low=0, high=1 << 60, default=0)
    return forms.back_to(f"/studies/{study}" if study else "/retention")
