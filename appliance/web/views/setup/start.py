"""The first pages: welcome with the checks, and the language; and where everything stands."""

from __future__ import annotations

from dataclasses import dataclass

from flask import Response, g, redirect
from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Response as AnyResponse

from appliance.identity.permissions import Permission
from appliance.web import forms
from appliance.web.access import needs
from appliance.web.console import console, now
from appliance.web.pages import is_partial, show
from appliance.web.views.setup.frame import (
    SetupPage,
    address_of,
    blueprint,
    current_plan,
    in_turn,
    is_claimed,
    onward,
    setup_page,
)
from appliance.web.views.setup.wording import finding_words
from appliance.wizard import progress
from appliance.wizard.checks import Finding
from appliance.wizard.steps import DEFERRABLE, Step


@dataclass(frozen=True, slots=True)
class FindingLine:
    """A check in words."""

    subject: str
    tone: str
    words: str
    fix: str


@dataclass(frozen=True, slots=True)
class WelcomePage(SetupPage):
    """The checks of the machine."""

    findings: tuple[FindingLine, ...]


@dataclass(frozen=True, slots=True)
class OverviewPage(SetupPage):
    """All steps, to be done again by those who may."""

    finished: str
    who: str


@blueprint.get("")
def home() -> AnyResponse:
    """To the step whose turn it is; once all are done, how everything stands."""
    if not is_claimed():
        return redirect("/setup/welcome", 303)
    if g.session is None:
        return redirect("/sign-in", 303)
    plan = current_plan()
    if plan.current is not None:
        return redirect(address_of(plan.current), 303)
    return redirect("/setup/overview", 303)


@blueprint.get("/overview")
@needs(Permission.VIEW_SETTINGS)
def overview() -> Response:
    """Every step with its state."""
    with console().box.catalog.reading() as conn:
        kept = progress.read(conn)
    page = setup_page(
        OverviewPage,
        Step.REPORT,
        finished=g.words.moment(kept.finished.at_utc) if kept.finished else "",
        who=kept.finished.who if kept.finished else "",
    )
    return show("setup/overview.html", page)


@blueprint.get("/welcome")
@in_turn(Step.WELCOME)
def welcome() -> Response:
    """What this is, and whether the machine is fit for it."""
    found = console().checks.look(console().box)
    page = setup_page(WelcomePage, Step.WELCOME, findings=tuple(_line(each) for each in found))
    return show("setup/parts/checks.html" if is_partial() else "setup/welcome.html", page)


@blueprint.get("/language")
@in_turn(Step.LANGUAGE)
def language() -> Response:
    """The language of this browser; the owner's, and the box's, once it is claimed."""
    return show("setup/language.html", setup_page(SetupPage, Step.LANGUAGE))


@blueprint.post("/<step>/later")
@needs(Permission.CHANGE_SETTINGS)
def later(step: str) -> AnyResponse:
    """Go on without a step."""
    chosen = next((each for each in DEFERRABLE if each.value == step), None)
    if chosen is None:
        raise NotFound
    if not current_plan().may_open(chosen):
        return redirect("/setup", 303)
    with console().box.catalog.transaction() as tx:
        progress.leave_for_later(tx, chosen, now())
        console().record(tx, "setup:later", chosen.value, forms.actor())
    return onward(chosen)


def _line(found: Finding) -> FindingLine:
    return FindingLine(
        subject=g.words(f"check.{found.subject}"),
        tone=found.tone,
        words=finding_words(found, g.words),
        fix="" if found.tone == "good" else g.words(f"check.{found.code}.fix"),
    )
