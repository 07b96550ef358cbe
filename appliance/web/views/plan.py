"""The disaster recovery plan: as a page, and as a paper to keep away from the box."""

from __future__ import annotations

from dataclasses import dataclass

from flask import Blueprint, Response, current_app, g

from appliance.backup import disaster_plan
from appliance.identity.permissions import Permission
from appliance.web import forms, papers
from appliance.web.access import may, needs
from appliance.web.certificate_words import Section
from appliance.web.console import console, now
from appliance.web.pages import Page, page_of, show
from appliance.web.plan_words import worded

blueprint = Blueprint("plan", __name__, url_prefix="/plan")


@dataclass(frozen=True, slots=True)
class PlanPage(Page):
    """What the plan says at this moment."""

    made: str
    verdict: str
    tone: str
    sections: tuple[Section, ...]
    may_change: bool


@blueprint.get("")
@needs(Permission.READ_PLAN)
def page() -> Response:
    """The plan in words."""
    paper = worded(disaster_plan.gather(console().box, forms.actor(), now()), g.words)
    made = page_of(
        PlanPage,
        title=paper.title,
        section="health",
        made=paper.made,
        verdict=paper.verdict,
        tone=paper.verdict_tone,
        sections=paper.sections,
        may_change=may(Permission.CHANGE_SETTINGS),
    )
    return show("plan.html", made)


@blueprint.post("/pdf")
@needs(Permission.READ_PLAN)
def take() -> Response:
    """The plan on paper, in the language of the page."""
    box, actor, moment = console().box, forms.actor(), now()
    paper = worded(disaster_plan.gather(box, actor, moment), g.words)
    data = papers.report(console().languages, g.language, paper)
    with box.catalog.transaction() as tx:
        console().record(tx, "plan:print", "plan", actor, {"language": g.language})
    answer = current_app.response_class(data, content_type="application/pdf")
    answer.headers["Content-Disposition"] = f'attachment; filename="{g.words("plan.file")}.pdf"'
    answer.headers["Cache-Control"] = "no-store"
    return answer
