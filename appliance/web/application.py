"""The application factory: one `Console` around a box, the guards before every view, the blueprints behind."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

from flask import Flask
from jinja2 import FileSystemLoader, StrictUndefined
from werkzeug.routing import IntegerConverter

from appliance import audit
from appliance.box import Box
from appliance.catalog import people
from appliance.catalog.veil import Veil
from appliance.health.deep import Examiner
from appliance.imaging import Darkroom, NotShown, View
from appliance.web import api, problems, rates, security, timings, views
from appliance.web.console import Assets, Console, now, web_ui
from appliance.web.help import Book
from appliance.web.language import Languages
from appliance.web.live import Watcher
from appliance.web.manner import MANNERS
from appliance.web.pace import Pace
from appliance.web.together import Together
from appliance.web.views.dashboard import judgement_mark
from appliance.wizard.restoring import Restorer

BUILD = Path(__file__).with_name("static") / "build"
MOST_FORM_BYTES = 64 * 1024
MOST_FORM_FIELDS = 64

_EXAMINED_PIXELS: Final = 180


class RowNumber(IntegerConverter):
    """A number in an address that a row can have: beyond what the catalog can hold, there is no such page.

    By its digits, and not by a greatest number: of that, Werkzeug would say 405 where another method is known.
    """

    regex = r"[0-9]{1,18}"


def _append(box: Box, entries: Sequence[audit.Entry]) -> None:
    """Write rows of the audit of which nothing else depends."""
    with box.catalog.transaction() as tx:
        audit.append(tx, box.audit_key, entries, now())


def _see(box: Box, uses: Sequence[tuple[str, datetime]]) -> None:
    """Write when sessions were last used, by their ids."""
    with box.catalog.transaction() as tx:
        for session, moment in uses:
            people.see_session(tx, session, moment)


def create_app(box: Box) -> Flask:
    """The console of `box`. Raises `OperatorNeeded` when it is not built or installed whole.

    The pictures' children are not started yet: `Darkroom.warm`, or the first picture, does.
    """
    app = Flask("appliance.web", static_folder=str(BUILD), static_url_path="/static", template_folder=None)
    app.config.update(
        MAX_CONTENT_LENGTH=MOST_FORM_BYTES,
        MAX_FORM_MEMORY_SIZE=MOST_FORM_BYTES,
        MAX_FORM_PARTS=MOST_FORM_FIELDS,
        SEND_FILE_MAX_AGE_DEFAULT=86_400,
    )
    app.jinja_options = {"undefined": StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    app.jinja_loader = FileSystemLoader(web_ui() / "templates")
    app.jinja_env.autoescape = True
    measured = timings.Timings()
    darkroom = Darkroom(max(2, min(4, os.cpu_count() or 2)))
    app.extensions["console"] = Console(
        timings=measured,
        examiner=Examiner(box, partial(_draw, darkroom)),
        restorer=Restorer(box),
        together=Together(partial(_append, box)),
        uses=Together(partial(_see, box)),
        box=box,
        languages=Languages(web_ui() / "languages"),
        help={
            folder.name: Book.read(folder, MANNERS[folder.name].tag)
            for folder in (web_ui() / "help").iterdir()
        },
        assets=Assets.read(BUILD),
        darkroom=darkroom,
        watcher=Watcher(box.catalog, lambda: judgement_mark(box)),
        paces={each.name: Pace(each.most, each.seconds) for each in rates.RATES.values()},
        veil=Veil(box.root.derive("study pseudonyms")),
        visit_key=box.root.derive("web visit"),
    )
    app.url_map.converters["int"] = RowNumber
    timings.mount(app, measured)
    security.guard(app)
    problems.mount(app)
    views.mount(app)
    api.mount(app)
    return app


def _draw(darkroom: Darkroom, file: BinaryIO, size_bytes: int) -> None:
    """A picture for the deep examination: people who want theirs, or a machine that is slow just now, are no fault of a version."""
    try:
        darkroom.render(file, size_bytes, View(longest=_EXAMINED_PIXELS))
    except NotShown as error:
        if error.reason not in ("busy", "timeout"):
            raise
