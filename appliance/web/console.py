"""What the views share: the box, the darkroom, the languages, pictures made lately. One `Console` an application."""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Literal, cast

from flask import current_app, g, has_request_context, request

from appliance import audit
from appliance.box import Box
from appliance.catalog import Transaction
from appliance.catalog.errors import PASSES
from appliance.catalog.veil import Veil
from appliance.errors import OperatorNeeded, Transient
from appliance.health.deep import Examiner
from appliance.imaging import Darkroom, View
from appliance.web.drafts import Drafts
from appliance.web.held import HeldForms
from appliance.web.help import Book
from appliance.web.language import DEFAULT, Languages
from appliance.web.live import Watcher
from appliance.web.once import ShownOnce
from appliance.web.pace import Pace
from appliance.web.series import Series
from appliance.web.timings import Timings
from appliance.web.together import Together
from appliance.wizard.checks import Remembered
from appliance.wizard.restoring import Restorer

PICTURES_BYTES = 64 << 20
SAME_SECONDS = 3.0
"""How long somebody waits for whoever draws the same picture."""
VIEWED_SECONDS = 30 * 60
SEARCHED_SECONDS = 60
REFUSED_SECONDS = 60
QUESTIONS, QUESTIONS_SECONDS = 30, 60.0
"""So many questions for a passkey one address may ask for at the door: each is a row."""
VISITOR = "visitor"
"""The actor of what somebody did who has not signed in."""
_REMEMBERED = 4096
_GLIMPSES = 65536


def web_ui() -> Path:
    """The folder of templates, languages and help: beside the package in a check-out, inside it in a wheel."""
    inside = Path(__file__).with_name("ui")
    return inside if inside.is_dir() else Path(__file__).parents[2] / "web-ui"


@dataclass(frozen=True, slots=True)
class Assets:
    """The addresses of what Vite has built; `files` is what a browser may keep, and `version` says which build it is."""

    script: str
    styles: tuple[str, ...]
    files: tuple[str, ...] = ()
    version: str = ""
    service_worker: str = ""

    @classmethod
    def read(cls, build: Path) -> Assets:
        """Read the manifest in `build`. Raises `OperatorNeeded` if nothing is built."""
        try:
            entry = json.loads((build / "manifest.json").read_text("utf-8"))["src/main.ts"]
            worker = (build / "service-worker.js").read_text("utf-8")
        except (OSError, ValueError, KeyError) as error:
            raise OperatorNeeded("the web assets are not built", hint="run: make setup") from error
        files = sorted(path for path in build.rglob("*") if path.is_file())
        digest = sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]
        kept = [path for path in files if path.name not in ("manifest.json", "service-worker.js")]
        return cls(
            script=f"/static/{entry['file']}",
            styles=tuple(f"/static/{name}" for name in entry.get("css", ())),
            files=tuple(f"/static/{path.relative_to(build).as_posix()}" for path in kept),
            version=digest,
            service_worker=worker,
        )


class Pictures:
    """Pictures made lately, up to a number of bytes: scrolling back costs nothing."""

    def __init__(self, limit_bytes: int = PICTURES_BYTES) -> None:
        self._limit = limit_bytes
        self._kept: OrderedDict[tuple[int, View], bytes] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        self._turns: dict[tuple[int, View], tuple[threading.Lock, int]] = {}

    def get(self, instance: int, view: View) -> bytes | None:
        """The picture, if it is still kept."""
        with self._lock:
            found = self._kept.get((instance, view))
            if found is not None:
                self._kept.move_to_end((instance, view))
            return found

    @contextmanager
    def turn(self, instance: int, view: View) -> Iterator[None]:
        """One at a time for the same picture: fifty people who open a list draw each of its pictures once.

        Whoever has waited for long goes on all the same: what can't be drawn must not be waited for by one after the other.
        """
        with self._lock:
            turn, waiting = self._turns.get((instance, view), (threading.Lock(), 0))
            self._turns[instance, view] = turn, waiting + 1
        held = turn.acquire(timeout=SAME_SECONDS)
        try:
            yield
        finally:
            if held:
                turn.release()
            with self._lock:
                turn, waiting = self._turns.pop((instance, view))
                if waiting > 1:
                    self._turns[instance, view] = turn, waiting - 1

    def keep(self, instance: int, view: View, picture: bytes) -> None:
        """Keep a picture, and drop those used longest ago beyond the limit."""
        if len(picture) > self._limit // 4:
            return
        with self._lock:
            replaced = self._kept.pop((instance, view), None)
            self._kept[instance, view] = picture
            self._bytes += len(picture) - (len(replaced) if replaced else 0)
            while self._bytes > self._limit:
                self._bytes -= len(self._kept.popitem(last=False)[1])


class _Recording:
    """What somebody is recording just now, for those who wait for it."""

    __slots__ = ("ended", "is_recorded")

    def __init__(self) -> None:
        self.ended = threading.Event()
        self.is_recorded = False


class Recently:
    """Whether something was recorded within some seconds; bounded, and by the monotonic clock.

    Noted once it is recorded, never before: who asks for the same meanwhile waits until it is, so that nobody is shown what
    has no row yet.
    """

    def __init__(self, seconds: float, most: int = _REMEMBERED) -> None:
        self._seconds = seconds
        self._most = most
        self._noted: OrderedDict[Hashable, float] = OrderedDict()
        self._recording: dict[Hashable, _Recording] = {}
        self._lock = threading.Lock()

    def note(self, what: Hashable) -> None:
        """It is recorded, in whatever way."""
        with self._lock:
            self._note(what)

    @contextmanager
    def fresh(self, wanted: Iterable[Hashable]) -> Iterator[tuple[Hashable, ...]]:
        """Those of `wanted` that nobody has recorded lately, in order: the block records them, and they are noted if it
        ends well.

        Then waits for those that others are recording, and raises `Transient` if one of these was not recorded. Not before, so
        that two who want the same in another order never wait for each other.
        """
        asked = tuple(dict.fromkeys(wanted))
        with self._lock:
            others = {each: found for each in asked if (found := self._recording.get(each)) is not None}
            mine = tuple(each for each in asked if each not in others and not self._is_noted(each))
            own = _Recording()
            self._recording.update(dict.fromkeys(mine, own))
        try:
            yield mine
            own.is_recorded = True
        finally:
            with self._lock:
                for each in mine:
                    del self._recording[each]
                    if own.is_recorded:
                        self._note(each)
            own.ended.set()
        for found in others.values():
            found.ended.wait()
            if not found.is_recorded:
                raise Transient("it could not be recorded who sees this", hint=PASSES)

    def _is_noted(self, what: Hashable) -> bool:
        before = self._noted.get(what)
        return before is not None and time.monotonic() - before < self._seconds

    def _note(self, what: Hashable) -> None:
        self._noted[what] = time.monotonic()
        self._noted.move_to_end(what)
        while len(self._noted) > self._most:
            self._noted.popitem(last=False)


@dataclass(frozen=True, slots=True)
class Notice:
    """A message to show on the next page of a session, once; texts are ready to show. `link` is there to be copied."""

    tone: Literal["good", "wait", "bad"]
    title: str
    text: str = ""
    link: str = field(default="", repr=False)


class Notices:
    """Messages waiting for their session's next page. In memory: one that is lost was only a courtesy."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, list[Notice]] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, session: str, notice: Notice) -> None:
        with self._lock:
            self._waiting.setdefault(session, []).append(notice)
            while len(self._waiting) > _REMEMBERED:
                self._waiting.popitem(last=False)

    def take(self, session: str) -> tuple[Notice, ...]:
        with self._lock:
            return tuple(self._waiting.pop(session, ()))


@dataclass(frozen=True)
class Console:
    """Everything that outlives a request. `together` writes rows of the audit, `uses` when sessions were used."""

    box: Box
    languages: Languages
    help: Mapping[str, Book]
    assets: Assets
    darkroom: Darkroom
    watcher: Watcher
    examiner: Examiner
    restorer: Restorer
    together: Together[audit.Entry]
    uses: Together[tuple[str, datetime]]
    pictures: Pictures = field(default_factory=Pictures)
    notices: Notices = field(default_factory=Notices)
    once: ShownOnce = field(default_factory=ShownOnce)
    held: HeldForms = field(default_factory=HeldForms)
    drafts: Drafts = field(default_factory=Drafts)
    questions: Pace = field(default_factory=lambda: Pace(QUESTIONS, QUESTIONS_SECONDS))
    paces: Mapping[str, Pace] = field(default_factory=dict)
    viewed: Recently = field(default_factory=lambda: Recently(VIEWED_SECONDS))
    glimpsed: Recently = field(default_factory=lambda: Recently(VIEWED_SECONDS, _GLIMPSES))
    searched: Recently = field(default_factory=lambda: Recently(SEARCHED_SECONDS))
    refused: Recently = field(default_factory=lambda: Recently(REFUSED_SECONDS))
    veil: Veil = field(default_factory=lambda: Veil(secrets.token_bytes(32)))
    timings: Timings = field(default_factory=Timings)
    series: Series = field(default_factory=Series)
    checks: Remembered = field(default_factory=Remembered)
    visit_key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)

    def help_in(self, language: str) -> Book:
        """The help in that language, or the default's."""
        return self.help.get(language) or self.help[DEFAULT]

    def record(
        self,
        tx: Transaction,
        action: str,
        subject: str,
        actor: str,
        details: Mapping[str, object] | None = None,
        *,
        study: str = "",
        outcome: audit.Outcome | None = None,
    ) -> None:
        """Write what `actor` did, from where the request comes, into the audit, in the transaction that does it."""
        entry = _entry(action, subject, actor, details, study=study, outcome=outcome)
        audit.append(tx, self.box.audit_key, [entry], now())

    def entry(self, action: str, subject: str, actor: str) -> audit.Entry:
        """What `actor` does, from where the request comes: for work that records it later, in another thread."""
        return _entry(action, subject, actor, None, study="")

    def record_alone(
        self,
        action: str,
        subject: str,
        actor: str,
        details: Mapping[str, object] | None = None,
        *,
        study: str = "",
    ) -> None:
        """`record` what changed nothing: committed on return, in one transaction with the rows of others who wait.

        Raises what the catalog raises: what leaves no trace is not shown.
        """
        self.together.append(_entry(action, subject, actor, details, study=study))

    def record_once(
        self,
        lately: Recently,
        what: Hashable,
        action: str,
        subject: str,
        actor: str,
        details: Mapping[str, object] | None = None,
        *,
        study: str = "",
    ) -> None:
        """`record_alone`, unless `what` was recorded `lately`.

        For what is done again and again: pictures, lists, refusals. If it cannot be written it has not been noted
        either, and the error goes on to the visitor: what leaves no trace is not shown. Who asks for the same while it is
        being written waits for it.
        """
        with lately.fresh([what]) as fresh:
            if fresh:
                self.record_alone(action, subject, actor, details, study=study)


def _entry(
    action: str,
    subject: str,
    actor: str,
    details: Mapping[str, object] | None,
    *,
    study: str,
    outcome: audit.Outcome | None = None,
) -> audit.Entry:
    """What `actor` did, from where the request of this thread comes."""
    return audit.Entry(
        action,
        subject,
        actor,
        {**(details or {}), **_by_token()},
        study=study,
        address=(request.remote_addr or "") if has_request_context() else "",
        actor_kind=audit.ActorKind.VISITOR if actor == VISITOR else audit.ActorKind.PERSON,
        outcome=outcome,
    )


def _by_token() -> dict[str, object]:
    """Which token asks, if one does: the audit names its person, and says by which of that person's tokens."""
    bearer = g.get("bearer") if has_request_context() else None
    return {} if bearer is None else {"token": bearer.token.id}


def console() -> Console:
    """The console of the current application."""
    return cast(Console, current_app.extensions["console"])


def now() -> datetime:
    """The moment, in UTC."""
    return datetime.now(UTC)
