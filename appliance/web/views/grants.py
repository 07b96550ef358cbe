"""Showing a study to a person who doesn't see them all, and taking that back."""

from __future__ import annotations

from flask import Blueprint, g
from werkzeug.wrappers import Response as AnyResponse

from appliance import identity
from appliance.catalog import grants, sight
from appliance.errors import Refused, Unknown
from appliance.identity.permissions import Permission
from appliance.web import access, forms
from appliance.web.access import needs
from appliance.web.console import Notice, console, now
from appliance.web.sharing import TERMS

blueprint = Blueprint("grants", __name__)

MOST_ROWS = 1 << 60


@blueprint.post("/studies/<int:study_id>/grants")
@needs(Permission.GRANT_STUDIES)
def grant(study_id: int) -> AnyResponse:
    """Grant a study to somebody, for a time and a reason."""
    person_id = forms.whole(forms.text("person"), low=0, high=MOST_ROWS, default=0)
    term = TERMS.get(forms.text("term"))
    try:
        if term is None:
            raise Refused("a grant lasts a year at most", hint="choose an end within a year")
        moment = now()
        access.check_study(study_id)
        with console().box.catalog.transaction() as tx:
            made = identity.grant_study(
                tx,
                study_id,
                person_id,
                by=forms.actor(),
                reason=forms.text("reason"),
                expires_utc=moment + term,
                now=moment,
            )
            details = {"grant": made.id, "person": made.login, "until": made.expires_utc.isoformat()}
            uid = sight.uid_for_audit(tx, study_id)
            console().record(tx, "study:grant", f"study:{study_id}", forms.actor(), details, study=uid)
    except Unknown:
        raise
    except Refused as refusal:
        forms.say_error(refusal)
    else:
        until = g.words.moment(made.expires_utc)
        forms.say(Notice("good", g.words("grant.made", name=made.name, until=until)))
    return forms.back_to(f"/studies/{study_id}")


@blueprint.post("/grants/<int:grant_id>/revoke")
@needs(Permission.GRANT_STUDIES)
def revoke(grant_id: int) -> AnyResponse:
    """Take a grant back, at once; `from` says whether the page of the study or of the person asked."""
    with console().box.catalog.transaction() as tx:
        taken = grants.revoke(tx, grant_id, by=forms.actor(), now=now())
        details = {"grant": taken.id, "person": taken.login}
        uid = sight.uid_for_audit(tx, taken.study)
        console().record(tx, "study:revoke", f"study:{taken.study}", forms.actor(), details, study=uid)
    forms.say(Notice("good", g.words("grant.revoked", name=taken.name)))
    return forms.back_to(
        f"/users/{taken.user}" if forms.text("from") == "user" else f"/studies/{taken.study}"
    )
