"""The stream of what has changed, and the numbers for pages that have no stream."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

from flask import Blueprint, Response, current_app, jsonify, request

from appliance.errors import ApplianceError, Transient
from appliance.identity import find_session
from appliance.identity.permissions import Permission
from appliance.web import forms, pulses
from appliance.web.access import needs
from appliance.web.console import console, now
from appliance.web.security import SESSION_COOKIE, cookie_name

blueprint = Blueprint("live", __name__)


@blueprint.get("/events")
@needs(Permission.USE_CONSOLE)
def stream() -> Response:
    """Server-Sent Events, until the browser goes or its session ends."""
    catalog = console().box.catalog
    cookie = request.cookies.get(cookie_name(SESSION_COOKIE), "")

    role, seen = forms.session().person.role, pulses.seen_by_visitor()

    def signed_out() -> bool:
        """So is somebody whose role has changed: the browser comes back, and is told what the new one may know."""
        try:
            with catalog.reading() as conn:
                session = find_session(conn, cookie, now())
        except ApplianceError:
            return True
        return session is None or session.person.role != role

    gone: Callable[[], bool] = request.environ.get("waitress.client_disconnected", lambda: False)
    try:
        lines = console().watcher.follow(gone, signed_out, seen)
    except (
        Transient
    ):  # many pages are open, which is no error: this one asks for the pulse instead, and comes again
        return Response(status=503, headers={"Retry-After": "30"})
    answer = current_app.response_class(lines, content_type="text/event-stream; charset=utf-8")
    answer.headers["X-Accel-Buffering"] = "no"
    return answer


@blueprint.get("/events/pulse")
@needs(Permission.USE_CONSOLE)
def pulse() -> Response:
    """The numbers whose change is a change of a list."""
    return jsonify(asdict(pulses.seen_by_visitor()(console().watcher.pulse())))
