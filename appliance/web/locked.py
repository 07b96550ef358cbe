"""The one page of a box that this machine can't open any more: it asks for the recovery key, and for nothing else.

The machine seal is gone or another one after a change of hardware or firmware, a reset TPM2, a disk in another machine
(`appliance.store.keys`). Every image is there and no process can open one. A clinic has no command line, so the console, which
can't be shown, gives its place to this page until somebody has typed what is printed on the paper; then the root key is
sealed to this machine anew, and the processes that were waiting begin by themselves.

Chose an application of its own with one template, because every page of the console needs the catalog, which is not open; and a page
on the network rather than a question on the box's screen, because most boxes stand in a cupboard without a keyboard. Whoever
has the paper may open the box from any machine anyway. The key is 160 random bits: nobody comes upon it by trying.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Literal

from flask import Flask, Response, g, make_response, render_template, request
from jinja2 import FileSystemLoader, StrictUndefined

from appliance import audit
from appliance.box import Box, open_box
from appliance.config import Config
from appliance.errors import ApplianceError, Refused, SealedElsewhere
from appliance.store import keys
from appliance.web.application import BUILD
from appliance.web.console import VISITOR, Assets, web_ui
from appliance.web.language import Languages, Words
from appliance.web.manner import Manner
from appliance.web.security import HEADERS
from appliance.web.server import serve_alone

log = logging.getLogger(__name__)

MOST_BYTES: Final = 4096
AGAIN_SECONDS: Final = 5
"""Until a program may ask again."""


@dataclass(frozen=True, slots=True)
class LockedPage:
    """What is said: `state` is what happened to the key that was typed, `cause` and `hint` why it was none."""

    tag: str
    direction: Literal["ltr", "rtl"]
    script: str
    styles: tuple[str, ...]
    languages: tuple[Manner, ...]
    state: Literal["asked", "wrong", "open"]
    cause: str = ""
    hint: str = ""


@dataclass
class Paper:
    """Whether the right recovery key was `typed`, and from which address."""

    typed: threading.Event = field(default_factory=threading.Event)
    address: str = ""


def opened(config: Config, stop: threading.Event) -> Box:
    """The box of `config`; where this machine can't open it, once somebody has typed its recovery key.

    Raises as `open_box`, and SystemExit when `stop` comes first.
    """
    try:
        return open_box(config)
    except SealedElsewhere as error:
        log.error("the console waits for the recovery key: %s", error)
    paper = Paper()
    serve_alone(create_locked_app(config, paper), config.web, paper.typed, stop)
    if not paper.typed.is_set():
        raise SystemExit(0)
    box = open_box(config)
    entry = audit.Entry("key:reseal", "root key", VISITOR, address=paper.address)
    box.record([entry], datetime.now(UTC))
    log.info("the root key was sealed to this machine anew")
    return box


def create_locked_app(config: Config, paper: Paper) -> Flask:
    """The application; once the root key is sealed anew, `paper` has been typed."""
    app = Flask("appliance.web", static_folder=str(BUILD), static_url_path="/static", template_folder=None)
    app.config.update(MAX_CONTENT_LENGTH=MOST_BYTES, MAX_FORM_MEMORY_SIZE=MOST_BYTES, MAX_FORM_PARTS=8)
    app.jinja_options = {"undefined": StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    app.jinja_loader = FileSystemLoader(web_ui() / "templates")
    app.jinja_env.autoescape = True
    languages, assets = Languages(web_ui() / "languages"), Assets.read(BUILD)
    folder = config.data.absolute() / "keys"
    one_at_a_time = threading.Lock()

    @app.before_request
    def choose_language() -> None:
        accepted = request.headers.get("Accept-Language", "")
        g.words = languages.words(Languages.choose(request.args.get("lang"), accepted=accepted))

    @app.after_request
    def finish(answer: Response) -> Response:
        answer.headers.update(HEADERS)
        if request.endpoint != "static":
            answer.headers["Cache-Control"] = "no-store"
        return answer

    def page(
        state: Literal["asked", "wrong", "open"], status: int, cause: str = "", hint: str = ""
    ) -> Response:
        words: Words = g.words
        manner = words.manner
        offered = tuple(Languages.offered())
        shown = LockedPage(
            manner.tag, manner.direction, assets.script, assets.styles, offered, state, cause, hint
        )
        answer = make_response(render_template("locked.html", page=shown, t=words), status)
        if state != "wrong":
            answer.headers["Retry-After"] = str(AGAIN_SECONDS)
        return answer

    @app.post("/")
    def unlock() -> Response:
        words: Words = g.words
        with one_at_a_time:
            if paper.typed.is_set():
                return page("open", 200)
            try:
                keys.reseal(folder, request.form.get("key", ""))
            except ApplianceError as error:
                log.warning("a recovery key was refused: %s", error.message)
                status = 422 if isinstance(error, Refused) else 503
                return page(
                    "wrong", status, words.cause(error.message), words.cause(error.hint) if error.hint else ""
                )
            paper.address = request.remote_addr or ""
            paper.typed.set()
        return page("open", 200)

    # Programs that ask whether the console works must not take this for a yes.
    @app.get("/", defaults={"path": ""})
    @app.get("/<path:path>")
    def ask(path: str) -> Response:
        if not paper.typed.is_set():
            return page("asked", 503)
        return page("open", 503 if path else 200)

    return app
