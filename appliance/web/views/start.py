"""The address of the box itself: whoever comes is led to the page that is next for them.

Who treats patients comes for a patient and starts at the studies; who looks after the box starts at the dashboard.
Either is one click from the other.
"""

from __future__ import annotations

from flask import Blueprint, Response, g, redirect
from werkzeug.wrappers import Response as AnyResponse

from appliance.catalog import people
from appliance.identity.permissions import Permission
from appliance.identity.roles import Role
from appliance.web.access import may
from appliance.web.console import console
from appliance.web.pages import sections
from appliance.web.views.dashboard import dashboard

blueprint = Blueprint("start", __name__)

LOOKS_AFTER_THE_BOX = frozenset({Role.OWNER, Role.PRIVACY_OFFICER, Role.TECHNICIAN, Role.VENDOR_SUPPORT})
"""Roles that start at the dashboard, as far as they may see it."""


@blueprint.get("/")
def home() -> Response | AnyResponse:
    """The dashboard, or the way to the studies; for who has not signed in, to setting up a new box or the door."""
    if g.session is not None:
        if g.session.person.role in LOOKS_AFTER_THE_BOX and may(Permission.VIEW_HEALTH):
            return dashboard()
        return redirect(f"/{next((each for each in sections() if each != 'health'), 'help')}", 303)
    with console().box.catalog.reading() as conn:
        claimed = people.anybody(conn)
    return redirect("/sign-in" if claimed else "/setup", 303)
