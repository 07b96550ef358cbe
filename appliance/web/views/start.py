"""The address of the box itself: whoever comes is led to the page that is next for them."""

from __future__ import annotations

from flask import Blueprint, g, redirect
from werkzeug.wrappers import Response

from appliance.catalog import people
from appliance.web.console import console
from appliance.web.pages import sections

blueprint = Blueprint("start", __name__)


@blueprint.get("/")
def home() -> Response:
    """To the claim of a new box, the door, or the first section that whoever has signed in may open."""
    if g.session is not None:
        return redirect(f"/{next(iter(sections()), 'help')}", 303)
    with console().box.catalog.reading() as conn:
        claimed = people.anybody(conn)
    return redirect("/sign-in" if claimed else "/claim", 303)
