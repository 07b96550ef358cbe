"""Holding studies: on the page of a study, and the list of all holds."""

from __future__ import annotations

from dataclasses import dataclass

from flask import Blueprint, Response, g
from werkzeug.wrappers import Response as AnyResponse

from appliance.catalog import holds as hold_rows
from appliance.catalog.holds import HoldKind
from appliance.errors import Refused, Unknown
from appliance.identity.permissions import Permission
from appliance.lifecycle import holds
from appliance.web import access, forms, keeping
from appliance.web.access import needs
from appliance.web.console import Notice, console
from appliance.web.keeping import HoldLine
from appliance.web.pages import Page, page_of, show

blueprint = Blueprint("holds", __name__)


@dataclass(frozen=True, slots=True)
class HoldsPage(Page):
    """What is held, and what was."""

    tab: str
    lines: tuple[HoldLine, ...]
    released: tuple[HoldLine, ...]


@blueprint.get("/retention/holds")
@needs(Permission.MANAGE_RETENTION)
def listing() -> Response:
    """All holds."""
    with console().box.catalog.reading() as conn:
        holds_kept = hold_rows.listed(conn, released=True)
        found = keeping.hold_lines(conn, holds_kept, g.words)
        seen = {"rows": len(found), "studies": hold_rows.studies_named(conn, holds_kept)}
    with console().box.catalog.transaction() as tx:
        console().record(tx, "hold:list", "holds", forms.actor(), seen)
    page = page_of(
        HoldsPage,
        title=g.words("retention.title"),
        section="retention",
        tab="holds",
        lines=tuple(each for each in found if each.in_force),
        released=tuple(each for each in found if not each.in_force),
    )
    return show("holds.html", page)


@blueprint.post("/studies/<int:study_id>/holds")
@needs(Permission.MANAGE_RETENTION)
def place(study_id: int) -> AnyResponse:
    """Hold a study or its patient."""
    try:
        kind = HoldKind(forms.text("kind")) if forms.text("kind") in list(HoldKind) else HoldKind.LEGAL
        access.check_study(study_id)
        with console().box.catalog.transaction() as tx:
            holds.place(
                tx,
                keeping.act(),
                kind=kind,
                study=study_id,
                whole_patient=forms.text("on") == "patient",
                reason=forms.text("reason"),
            )
    except Unknown:
        raise
    except Refused as refusal:
        forms.say_error(refusal)
    else:
        forms.say(Notice("good", g.words("hold.made")))
    return forms.back_to(f"/studies/{study_id}")


@blueprint.post("/retention/holds/<int:hold_id>/release")
@needs(Permission.MANAGE_RETENTION)
@access.reauthenticated
def release(hold_id: int) -> AnyResponse:
    """Let go; `from` is the row id of the study from whose page it was asked."""
    try:
        with console().box.catalog.transaction() as tx:
            holds.release(tx, keeping.act(), hold_id, reason=forms.text("reason"))
    except Unknown:
        raise
    except Refused as refusal:
        forms.say_error(refusal)
    else:
        forms.say(Notice("good", g.words("hold.ended")))
    study = forms.whole(forms.text("from"), low=0, high=1 << 60, default=0)
    return forms.back_to(f"/studies/{study}" if study else "/retention/holds")
