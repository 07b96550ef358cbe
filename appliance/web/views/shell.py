"""The console as an app: its manifest, its service worker, and the page that stands in while the box is away.

Nothing here depends on who asks, and nothing of a patient is in it: a browser may keep these answers, and no others.
The service worker carries the list of what it keeps, so that a new build is a new worker, which the browser notices.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

from flask import Blueprint, Response, make_response, render_template, url_for

from appliance import __version__
from appliance.errors import Unknown
from appliance.web.console import console
from appliance.web.help import Book
from appliance.web.language import Languages, Words
from appliance.web.manner import MANNERS

blueprint = Blueprint("shell", __name__)

COLOUR = "#0a5f6b"


@dataclass(frozen=True, slots=True)
class OfflinePage:
    """What is said while the box is away: no session, no form, and all of the help."""

    tag: str
    direction: Literal["ltr", "rtl"]
    title: str
    script: str
    styles: tuple[str, ...]
    book: Book


@blueprint.get("/manifest/<code>.webmanifest")
def manifest(code: str) -> Response:
    """The name and icons of the app, in one language."""
    words = _words(code)
    icons = [
        {"src": f"/static/{name}", "sizes": sizes, "type": "image/png", "purpose": purpose}
        for name, sizes, purpose in (
            ("icon-192.png", "192x192", "any"),
            ("icon-512.png", "512x512", "any"),
            ("icon-maskable-512.png", "512x512", "maskable"),
        )
    ]
    told = {
        "id": "/",
        "name": words("product"),
        "short_name": words("product"),
        "description": words("app.description"),
        "lang": words.manner.tag,
        "dir": words.manner.direction,
        "start_url": "/",
        "scope": "/",
        "display": "standalone",
        "theme_color": COLOUR,
        "background_color": COLOUR,
        "icons": icons,
    }
    answer = make_response(json.dumps(told, ensure_ascii=False))
    answer.content_type = "application/manifest+json; charset=utf-8"
    return answer


@blueprint.get("/service-worker.js")
def service_worker() -> Response:
    """The built worker, told what to keep."""
    assets = console().assets
    offline = {each.code: url_for("shell.offline", code=each.code) for each in Languages.offered()}
    shell = {"version": f"{__version__}-{assets.version}", "files": assets.files, "offline": offline}
    answer = make_response(f"self.shell = {json.dumps(shell)};\n{assets.service_worker}")
    answer.content_type = "text/javascript; charset=utf-8"
    answer.headers["Cache-Control"] = "no-cache"
    return answer


@blueprint.get("/offline/<code>")
def offline(code: str) -> Response:
    """The page that stands in, in one language, for everybody alike."""
    words = _words(code)
    page = OfflinePage(
        tag=words.manner.tag,
        direction=words.manner.direction,
        title=words("offline.title"),
        script=console().assets.script,
        styles=console().assets.styles,
        book=console().help_in(code),
    )
    return make_response(render_template("offline.html", page=page, t=words))


def _words(code: str) -> Words:
    if code not in MANNERS or not MANNERS[code].is_offered_at(None):
        raise Unknown("there is no such language", hint="choose one of those listed")
    return console().languages.words(code)
