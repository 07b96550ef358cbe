"""The address of the box itself: whoever comes is led to the page that is next for them."""

from __future__ import annotations

from flask import Blueprint, g, redirect
from werkzeug.wrappers import Response

from appliance.catalog import people
from appliance.web.console import console

blueprint = Blueprint("start", __name__)


@blueprint.get("/")
def home() -> Response:
    """To the claim of a new box, the door, or the studies."""
    if g.session is not None:
        return redirect("/studies", 303)
    with console().box.catalog.reading() as conn:
        claimed = people.anybody(conn)
    return redirect("/sign-in" if claimed else "/claim", 303)
