"""The test study, as it goes: sent, kept, seen, replicated, brought back; and what becomes of it afterwards."""

from __future__ import annotations

from dataclasses import dataclass

from flask import Response, g
from werkzeug.wrappers import Response as AnyResponse

from appliance.errors import Refused
from appliance.identity.permissions import Permission
from appliance.imaging import View
from appliance.web import forms
from appliance.web.access import needs
from appliance.web.background import in_background
from appliance.web.console import console, now
from appliance.web.pages import is_partial, show
from appliance.web.views.setup.frame import (
    PartLine,
    SetupPage,
    blueprint,
    in_turn,
    onward,
    part_lines,
    setup_page,
)
from appliance.wizard import progress, runs, trial
from appliance.wizard.steps import Step


@dataclass(frozen=True, slots=True)
class TrialPage(SetupPage):
    """The parts; `picture` and `study` are row ids, empty until there is one; `tested` is no, running, passed, failed."""

    parts: tuple[PartLine, ...]
    tested: str
    picture: str
    study: str
    seen: str
    shown: str


@blueprint.get("/trial")
@needs(Permission.CHANGE_SETTINGS)
@in_turn(Step.TRIAL)
def trial_page() -> Response:
    """The page, or its live part alone."""
    return _form()


@blueprint.post("/trial/run")
@needs(Permission.CHANGE_SETTINGS)
@in_turn(Step.TRIAL)
def run_trial() -> AnyResponse:
    """Start, or go on where it stopped; `fresh` starts over with another test image."""
    box, actor, darkroom = console().box, forms.actor(), console().darkroom
    with box.catalog.reading() as conn:
        run = runs.latest(box, conn, trial.RUN)
    if run is not None and run.is_running:
        return forms.back_to("/setup/trial")
    picture = trial.picture_by(box, lambda reader, size: darkroom.render(reader, size, View()))
    with box.catalog.transaction() as tx:
        made = trial.prepare(tx, now(), fresh=forms.text("fresh") == "1")
        progress.take_up(tx, Step.TRIAL, now())
    in_background("setup-trial", trial.begin(box, made, picture, actor))
    return forms.back_to("/setup/trial")


@blueprint.post("/trial/seen")
@needs(Permission.CHANGE_SETTINGS)
@in_turn(Step.TRIAL)
def saw_trial() -> AnyResponse:
    """A person says to have seen the picture."""
    moment, actor = now(), forms.actor()
    with console().box.catalog.transaction() as tx:
        made = trial.kept(tx)
        if made is None or trial.instance_of(tx, made) is None:
            raise Refused("there is no test image to see yet", hint="start the test first")
        trial.saw(tx, actor, moment)
        console().record(tx, "setup:see", "test study", actor, {"study": made.study_instance_uid})
    return onward(Step.TRIAL)


@blueprint.post("/trial/hide", defaults={"act": "hide"})
@blueprint.post("/trial/show", defaults={"act": "show"})
@needs(Permission.CHANGE_SETTINGS)
@in_turn(Step.TRIAL)
def keep_trial(act: str) -> AnyResponse:
    """Take the test study out of the lists, or put it back; its objects and its proof stay."""
    with console().box.catalog.transaction() as tx:
        made = trial.set_hidden(tx, hidden=act == "hide", now=now())
        details = {"study": made.study_instance_uid, "act": act}
        console().record(tx, "setup:hide", "test study", forms.actor(), details)
    return forms.back_to("/setup/trial")


def _form() -> Response:
    box = console().box
    with box.catalog.reading() as conn:
        made = trial.kept(conn)
        run = runs.latest(box, conn, trial.RUN)
        row = None if made is None else trial.instance_of(conn, made)
        seen = trial.was_seen(conn)
        hidden = row is not None and trial.is_hidden(conn, row)
    if made is not None and run is not None and run.subject != made.study_instance_uid:
        run = None
    if run is None:
        tested = "no"
    else:
        tested = "running" if run.is_running else "passed" if run.passed else "failed"
    page = setup_page(
        TrialPage,
        Step.TRIAL,
        parts=part_lines(run, trial.PARTS),
        tested=tested,
        picture=str(row.id) if row else "",
        study=str(row.study_id) if row else "",
        seen=g.words("trial.seen_by", who=seen.who, at=g.words.moment(seen.at_utc)) if seen else "",
        shown="no" if hidden else "yes",
    )
    return show("setup/parts/trial.html" if is_partial() else "setup/trial.html", page)
