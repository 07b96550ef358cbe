"""How the box is: problems first, each with its fix; then the figures."""

from __future__ import annotations

from dataclasses import dataclass

from flask import Blueprint, Response, g

from appliance import health
from appliance.identity.permissions import Permission
from appliance.web.access import needs
from appliance.web.console import console, now
from appliance.web.pages import Page, page_of, show

blueprint = Blueprint("about", __name__)


@dataclass(frozen=True, slots=True)
class ProblemLine:
    """A problem and its fix, in words."""

    words: str
    fix: str
    blocks: bool


@dataclass(frozen=True, slots=True)
class HealthPage(Page):
    """The state of the box; figures are ready to show."""

    ready: bool
    problems: tuple[ProblemLine, ...]
    figures: tuple[tuple[str, str], ...]
    processes: tuple[tuple[str, bool], ...]


@blueprint.get("/health")
@needs(Permission.VIEW_HEALTH)
def status() -> Response:
    """The judgement of `appliance.health`, for people."""
    found = health.status(console().box, now())
    words = g.words
    figures = [
        (words("health.studies"), words.number(found.studies) if found.studies is not None else ""),
        (words("health.images"), words.number(found.instances) if found.instances is not None else ""),
        (words("health.kept"), words.size(found.bytes) if found.bytes is not None else ""),
        (words("health.free"), words.size(found.free_bytes) if found.free_bytes is not None else ""),
    ]
    page = page_of(
        HealthPage,
        title=words("health.title"),
        section="health",
        ready=found.ready,
        problems=tuple(
            ProblemLine(words.cause(each.words), words.cause(each.fix), each.blocks)
            for each in found.problems
        ),
        figures=tuple((label, value) for label, value in figures if value),
        processes=tuple(
            (words(f"process.{name}") if words.has(f"process.{name}") else name, alive)
            for name, alive in (found.processes or {}).items()
        ),
    )
    return show("health.html", page)
