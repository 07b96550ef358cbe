"""What of the box's numbers a visitor may know, on a stream and in every page."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace

from flask import g, request

from appliance.catalog import sight
from appliance.catalog.sight import Pulse
from appliance.errors import ApplianceError
from appliance.identity.permissions import Permission
from appliance.web import access
from appliance.web.console import console, now


def seen_by_visitor() -> Callable[[Pulse], Pulse]:
    """What whoever makes this request may know of a pulse; to be asked later too, outside the request."""
    catalog, sees = console().box.catalog, access.sight()
    follows_health = access.may(Permission.VIEW_HEALTH)

    def seen(latest: Pulse) -> Pulse:
        health = latest.health if follows_health else 0
        if sees.all_studies:
            return replace(latest, health=health)
        with catalog.reading() as conn:
            return replace(sight.pulse(conn, replace(sees, at=now())), health=health)

    return seen


def note() -> None:
    """Keep the numbers of this moment for the page that is about to be made: before it reads anything."""
    g.pulse = ""
    is_page = "text/html" in request.headers.get("Accept", "") and "HX-Request" not in request.headers
    if request.method != "GET" or not is_page:
        return
    try:
        g.pulse = json.dumps(asdict(seen_by_visitor()(console().watcher.recent())))
    except ApplianceError:
        return  # a page that knows no numbers asks for its lists once more, and what is wrong is said elsewhere
