"""The stream of what has changed, and the numbers for pages that have no stream."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

from flask import Blueprint, Response, current_app, jsonify, request

from appliance.errors import ApplianceError
from appliance.identity import find_session
from appliance.identity.permissions import Permission
from appliance.web.access import needs
from appliance.web.console import console, now
from appliance.web.security import SESSION_COOKIE

blueprint = Blueprint("live", __name__)


@blueprint.get("/events")
@needs(Permission.USE_CONSOLE)
def stream() -> Response:
    """Server-Sent Events, until the browser goes or its session ends."""
    catalog = console().box.catalog
    cookie = request.cookies.get(SESSION_COOKIE, "")

    def signed_out() -> bool:
        try:
            with catalog.reading() as conn:
                return find_session(conn, cookie, now()) is None
        except ApplianceError:
            return True

    gone: Callable[[], bool] = request.environ.get("waitress.client_disconnected", lambda: False)
    answer = current_app.response_class(
        console().watcher.follow(gone, signed_out), content_type="text/event-stream; charset=utf-8"
    )
    answer.headers["X-Accel-Buffering"] = "no"
    return answer


@blueprint.get("/events/pulse")
@needs(Permission.USE_CONSOLE)
def pulse() -> Response:
    """The numbers whose change is a change of a list."""
    return jsonify(asdict(console().watcher.pulse()))
