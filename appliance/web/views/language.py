"""Changing the language: of a person, or of a browser before anybody has signed in."""

from __future__ import annotations

from flask import Blueprint, g, redirect
from werkzeug.wrappers import Response

from appliance.catalog import people
from appliance.errors import Refused
from appliance.web import forms, security
from appliance.web.console import console, now
from appliance.web.language import NAMES

blueprint = Blueprint("language", __name__)


@blueprint.post("/language")
def choose() -> Response:
    """Keep the language, with the person if there is one, and go back to the page."""
    code, back = forms.text("lang"), forms.text("back")
    if code not in NAMES:
        raise Refused("there is no such language", hint="choose one of those listed")
    if g.session is not None:
        person = forms.session().person
        with console().box.catalog.transaction() as tx:
            people.set_language(tx, person.id, code, now())
            console().record(tx, "user:change", person.login, person.login, {"language": code})
    return security.keep_language(redirect(back if _is_path(back) else "/", 303), code)


def _is_path(text: str) -> bool:
    """Whether `text` is a page of this console, and not a way to another site."""
    return text.startswith("/") and not text.startswith("//") and text.isprintable() and "\\" not in text
