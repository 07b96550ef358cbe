"""Support: the file that says how the box does, without anything of a patient."""

from __future__ import annotations

from dataclasses import dataclass

from flask import Blueprint, Response, current_app, g
from werkzeug.wrappers import Response as AnyResponse

from appliance.errors import ApplianceError, Unknown
from appliance.fleet import bundle
from appliance.fleet.bundle import Bundle
from appliance.identity.permissions import Permission
from appliance.web import forms
from appliance.web.access import needs
from appliance.web.console import console, now
from appliance.web.pages import Page, page_of, show

blueprint = Blueprint("support", __name__, url_prefix="/support")

MOST_SHOWN_CHARACTERS = 60_000
"""Of each file on the page; the file itself is whole."""


@dataclass(frozen=True, slots=True)
class SupportPage(Page):
    """What there is towards support; `sealed` says whether a support file is for the vendor alone."""

    sealed: bool


@dataclass(frozen=True, slots=True)
class FileShown:
    """One file within; `text` ends early where it is long, and begins at its end for a log."""

    name: str
    size: str
    text: str
    whole: bool


@dataclass(frozen=True, slots=True)
class FilePage(Page):
    """A support file, before it leaves."""

    name: str
    size: str
    sealed: bool
    cut: tuple[tuple[str, str], ...]
    files: tuple[FileShown, ...]


@blueprint.get("")
@needs(Permission.ADMIT_SUPPORT)
def overview() -> Response:
    """The page."""
    with console().box.catalog.reading() as conn:
        sealed = bool(bundle.reader_of(conn))
    page = page_of(SupportPage, title=g.words("support.title"), section="support", sealed=sealed)
    return show("support.html", page)


@blueprint.post("/file")
@needs(Permission.ADMIT_SUPPORT)
def make_file() -> AnyResponse:
    """Make a support file, and go to where it can be looked at."""
    box, moment = console().box, now()
    try:
        made = bundle.make(box, moment)
    except ApplianceError as error:
        forms.say_error(error)
        return forms.back_to("/support")
    with box.catalog.transaction() as tx:
        details = {"cut": sum(made.cut.values())}
        console().record(tx, "support:file", made.name, forms.actor(), details)
    console().drafts.keep(forms.session().id, made)
    return forms.back_to("/support/file")


@blueprint.get("/file")
@needs(Permission.ADMIT_SUPPORT)
def file() -> Response:
    """The support file of this session, to be looked at."""
    made = _made()
    words = g.words
    with console().box.catalog.reading() as conn:
        sealed = bool(bundle.reader_of(conn))
    page = page_of(
        FilePage,
        title=words("support.file.title"),
        section="support",
        name=made.name,
        size=words.size(len(made.data)),
        sealed=sealed,
        cut=tuple(
            (words(f"support.cut.{kind}"), words.number(count)) for kind, count in sorted(made.cut.items())
        ),
        files=tuple(_shown(name, text) for name, text in sorted(made.files.items())),
    )
    return show("support-file.html", page)


@blueprint.post("/file/take")
@needs(Permission.ADMIT_SUPPORT)
def take_file() -> Response:
    """The support file itself."""
    made, box = _made(), console().box
    with box.catalog.transaction() as tx:
        reader = bundle.reader_of(tx)
        data = made.sealed_for(reader) if reader else made.data
        console().record(tx, "support:take", made.name, forms.actor(), {"sealed": bool(reader)})
    answer = current_app.response_class(data, content_type="application/octet-stream")
    answer.headers["Content-Disposition"] = f'attachment; filename="{made.name}{bundle.suffix(reader)}"'
    answer.headers["Cache-Control"] = "no-store"
    return answer


def _made() -> Bundle:
    made = console().drafts.find(forms.session().id)
    if made is None:
        raise Unknown("there is no support file any more", hint="make another on the page of support")
    return made


def _shown(name: str, text: str) -> FileShown:
    whole = len(text) <= MOST_SHOWN_CHARACTERS
    log = name.startswith("logs/")
    piece = text if whole else text[-MOST_SHOWN_CHARACTERS:] if log else text[:MOST_SHOWN_CHARACTERS]
    return FileShown(name, g.words.size(len(text.encode("utf-8", "replace"))), piece, whole)
