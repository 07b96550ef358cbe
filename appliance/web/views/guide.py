"""Help: its contents, a search, and a topic, as a page or beside another page."""

from __future__ import annotations

from dataclasses import dataclass

from flask import Blueprint, Response, g

from appliance.errors import Unknown
from appliance.web import forms
from appliance.web.console import console
from appliance.web.help import Section, Topic
from appliance.web.pages import Page, is_partial, page_of, show

blueprint = Blueprint("help", __name__, url_prefix="/help")


@dataclass(frozen=True, slots=True)
class HelpPage(Page):
    """The contents and what was searched, or one topic. `tag` is the language of the help itself."""

    tag: str
    text: str
    topics: tuple[Topic, ...]
    found: tuple[Section, ...]
    topic: Topic | None


@blueprint.get("")
def contents() -> Response:
    """All topics, or what a search finds in them."""
    text = forms.asked("q")
    book = console().help_in(g.language)
    page = page_of(
        HelpPage,
        title=g.words("help.title"),
        section="help",
        tag=book.tag,
        text=text,
        topics=book.topics,
        found=book.search(text),
        topic=None,
    )
    return show("parts/help-list.html" if is_partial() else "help.html", page)


@blueprint.get("/<name>")
def topic(name: str) -> Response:
    """One topic; as a part, it is shown beside the page that it explains."""
    book = console().help_in(g.language)
    found = book.topic(name)
    if found is None:
        raise Unknown("there is no such help", hint="search the help")
    page = page_of(
        HelpPage,
        title=found.title,
        section="help",
        tag=book.tag,
        text="",
        topics=book.topics,
        found=(),
        topic=found,
    )
    return show("parts/help-topic.html" if is_partial() else "help-topic.html", page)
