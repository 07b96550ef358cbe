"""The report of setting up, to keep and to send to whoever looks after the box; then setting up is finished."""

from __future__ import annotations

from dataclasses import dataclass

from flask import Response, current_app, g
from werkzeug.wrappers import Response as AnyResponse

from appliance.identity.permissions import Permission
from appliance.web import forms, papers
from appliance.web.access import needs
from appliance.web.console import console, now
from appliance.web.pages import show
from appliance.web.views.setup.frame import (
    SetupPage,
    StepLine,
    blueprint,
    current_plan,
    in_turn,
    setup_page,
    step_lines,
)
from appliance.web.views.setup.wording import worded
from appliance.wizard import progress
from appliance.wizard.report import gather
from appliance.wizard.steps import State, Step


@dataclass(frozen=True, slots=True)
class ReportPage(SetupPage):
    """What is left for later, and whether setting up is finished."""

    left: tuple[StepLine, ...]
    finished: str


@blueprint.get("/report")
@needs(Permission.CHANGE_SETTINGS)
@in_turn(Step.REPORT)
def report() -> Response:
    """The report to take along, and what next."""
    with console().box.catalog.reading() as conn:
        kept = progress.read(conn)
    left = tuple(each for each in step_lines(current_plan(), Step.REPORT) if each.state == State.LATER)
    page = setup_page(
        ReportPage,
        Step.REPORT,
        left=left,
        finished=g.words.moment(kept.finished.at_utc) if kept.finished else "",
    )
    return show("setup/report.html", page)


@blueprint.post("/report/paper")
@needs(Permission.CHANGE_SETTINGS)
@in_turn(Step.REPORT)
def report_paper() -> Response:
    """The report as a PDF, in the language of the page."""
    box, actor, moment = console().box, forms.actor(), now()
    made = gather(box, console().checks.look(box), actor, moment)
    paper = papers.report(console().languages, g.language, worded(made, g.words))
    with box.catalog.transaction() as tx:
        console().record(tx, "setup:report", "report", actor, {"language": g.language})
    answer = current_app.response_class(paper, content_type="application/pdf")
    answer.headers["Content-Disposition"] = f'inline; filename="{g.words("report.file")}.pdf"'
    answer.headers["Cache-Control"] = "no-store"
    return answer


@blueprint.post("/report")
@needs(Permission.CHANGE_SETTINGS)
@in_turn(Step.REPORT)
def finish() -> AnyResponse:
    """Setting up is finished; to the start page."""
    with console().box.catalog.transaction() as tx:
        progress.finish(tx, forms.actor(), now())
        console().record(tx, "setup:finish", "setup", forms.actor())
    return forms.back_to("/")
