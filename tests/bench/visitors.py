"""Signed-in people who browse: keep-alive HTTP over asyncio, as light as it can be, so that the console is what is measured.

Each visitor has what a browser has of them: a session cookie, a kept connection for pages, a connection on which the events
stream, the pictures that were fetched before with their tags, and a script that asks for a list again when the stream says
that it changed (`live.ts`), by the same pauses. Pages come one after another with a pause of 3 to 6 s between them, drawn from
a seeded schedule: a quick reader's pace, since a desk that looks at a study takes longer; what they open is drawn by weight.

Chose an own client of a hundred lines because every library's costs more CPU for an answer than the console needs to make
it, on the same cores; rejected threads, which would share one lock among fifty visitors. It reads no HTML but the numbers of
rows, and holds every answer to what it must be: status, kind, and for a study's page that it is that study's.
"""

import asyncio
import contextlib
import json
import random
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlencode

LEAST_PAUSE_SECONDS, MOST_PAUSE_SECONDS = 3.0, 6.0
ANSWER_WITHIN_SECONDS = 120.0
POLL_SECONDS = 4.0
STREAM_AGAIN_SECONDS = 30.0
CALM_SECONDS = 0.5
LULL_SECONDS = 3.0
THUMBNAILS_IN_SIGHT = 8
"""Rows of the list that a screen shows before anybody scrolls; pictures below are fetched when they come in sight."""

WEIGHTS: Mapping[str, int] = {
    "studies": 30,
    "search": 15,
    "study": 25,
    "image": 10,
    "dashboard": 8,
    "deliveries": 6,
    "devices": 3,
    "settings": 3,
}
"""How often each is opened, of a hundred. Thumbnails and refreshes come by themselves."""

LISTENS: Mapping[str, tuple[str, ...]] = {
    "studies": ("studies", "deliveries"),
    "search": ("studies", "deliveries"),
    "deliveries": ("deliveries",),
    "dashboard": ("health",),
    "devices": ("devices",),
}
"""Which numbers of the stream have a page ask for its list again: the ``hx-trigger`` of its template."""

_STUDY = re.compile(rb'href="/studies/(\d+)"')
_THUMBNAIL = re.compile(rb'"(/instances/\d+/thumbnail(?:\?opened=1)?)"')
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_TAG = re.compile(rb"(?i)\r\netag: *([^\r]+)")
_KIND = re.compile(rb"(?i)\r\ncontent-type: *([^\r;]+)")


@dataclass(frozen=True)
class Account:
    """Who browses: the cookie of an open session, its CSRF token, and words to search for."""

    cookie: str
    csrf: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class Fetched:
    """One answer: what was asked for, how long the whole took, and when it was asked (seconds, monotonic)."""

    what: str
    seconds: float
    at: float


@dataclass
class Log:
    """What all visitors saw."""

    fetched: list[Fetched] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    refused_streams: int = 0
    streams: int = 0
    events: int = 0


@dataclass(frozen=True)
class _Answer:
    status: int
    kind: bytes
    tag: bytes
    body: bytes


class _Line:
    """One kept connection to the console."""

    def __init__(self, port: int, cookie: str) -> None:
        self._port, self._cookie = port, cookie
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(
        self, path: str, *, form: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
    ) -> _Answer:
        """One request and its whole answer; an idle connection that the console has closed is opened again."""
        fresh = self._writer is None
        try:
            return await asyncio.wait_for(self._once(path, form, headers or {}), ANSWER_WITHIN_SECONDS)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.close()
            if fresh:
                raise
            return await asyncio.wait_for(self._once(path, form, headers or {}), ANSWER_WITHIN_SECONDS)

    async def open(self, path: str, accept: str, extra: Mapping[str, str], body: bytes | None) -> bytes:
        """Send a request; the head of its answer."""
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 22)
        assert self._reader is not None
        lines = [
            f"{'GET' if body is None else 'POST'} {path} HTTP/1.1",
            f"Host: 127.0.0.1:{self._port}",
            f"Cookie: console_session={self._cookie}",
            f"Accept: {accept}",
            "Accept-Encoding: gzip, deflate",
            *(f"{name}: {value}" for name, value in extra.items()),
        ]
        if body is not None:
            lines += ["Content-Type: application/x-www-form-urlencoded", f"Content-Length: {len(body)}"]
        self._writer.write("\r\n".join([*lines, "", ""]).encode() + (body or b""))
        return await self._reader.readuntil(b"\r\n\r\n")

    async def read_some(self) -> bytes:
        assert self._reader is not None
        return await self._reader.read(65536)

    async def _once(self, path: str, form: Mapping[str, str] | None, headers: Mapping[str, str]) -> _Answer:
        body = None if form is None else urlencode(form).encode()
        accept = "image/*" if path.startswith("/instances/") else "text/html"
        head = await self.open(path, accept, headers, body)
        assert self._reader is not None
        status = int(head.split(b" ", 2)[1])
        if length := _LENGTH.search(head):
            content = await self._reader.readexactly(int(length[1]))
        elif b"transfer-encoding: chunked" in head.lower():
            content = await self._chunks(self._reader)
        else:
            content = b""
        kind, tag = _KIND.search(head), _TAG.search(head)
        if b"connection: close" in head.lower():
            self.close()
        return _Answer(status, kind[1] if kind else b"", tag[1] if tag else b"", content)

    @staticmethod
    async def _chunks(reader: asyncio.StreamReader) -> bytes:
        pieces = []
        while size := int(await reader.readline(), 16):
            pieces.append(await reader.readexactly(size))
            await reader.readline()
        await reader.readline()
        return b"".join(pieces)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None


class Visitor:
    """One person's browser."""

    def __init__(self, port: int, account: Account, chance: random.Random, log: Log) -> None:
        self._port, self._account, self._chance, self._log = port, account, chance, log
        self._line, self._pictures = _Line(port, account.cookie), _Line(port, account.cookie)
        self._turn = asyncio.Lock()
        self._tags: dict[str, bytes] = {}
        self._studies: list[str] = []
        self._seen: dict[str, int] = {}
        self._open = ""
        self._form: dict[str, str] = {}
        self._due: dict[str, asyncio.Task[None]] = {}
        self._refreshed: dict[str, float] = {}

    async def browse(self, until: float) -> None:
        """Open pages until `until` (monotonic seconds), with a stream beside them."""
        stream = asyncio.create_task(self._follow())
        try:
            await asyncio.sleep(self._chance.uniform(0, LEAST_PAUSE_SECONDS))  # nobody comes in step
            await self._visit("studies")
            while time.monotonic() < until:
                await asyncio.sleep(self._chance.uniform(LEAST_PAUSE_SECONDS, MOST_PAUSE_SECONDS))
                (what,) = self._chance.choices(list(WEIGHTS), list(WEIGHTS.values()))
                await self._visit(what)
        finally:
            for task in (stream, *self._due.values()):
                task.cancel()
            await asyncio.gather(stream, *self._due.values(), return_exceptions=True)
            self._line.close()
            self._pictures.close()

    async def _visit(self, what: str) -> None:
        async with self._turn:
            self._open, self._form = what, {}
            match what:
                case "search":
                    self._form = {"text": self._chance.choice(self._account.words)}
                    await self._list("search")
                case "studies":
                    await self._list("studies")
                case "study" | "image" if self._studies:
                    await self._study(self._chance.choice(self._studies), larger=what == "image")
                case "study" | "image":
                    await self._list("studies")
                case "dashboard":
                    await self._page("dashboard", "/health")
                case _:
                    await self._page(what, f"/{what}")

    async def _list(self, what: str) -> None:
        if self._form:
            form = {"csrf": self._account.csrf, "modality": "", "period": "", **self._form}
            body = await self._page(what, "/studies", form=form, headers={"HX-Request": "true"})
        else:
            body = await self._page(what, "/studies")
        self._studies = list(dict.fromkeys(each.decode() for each in _STUDY.findall(body)))
        await self._fetch_pictures(_THUMBNAIL.findall(body)[:THUMBNAILS_IN_SIGHT])

    async def _study(self, study: str, *, larger: bool) -> None:
        body = await self._page("study", f"/studies/{study}")
        own = f"/studies/{study}".encode()
        if own not in body:
            self._log.wrong.append(f"/studies/{study} is another study's page")
        thumbnails = _THUMBNAIL.findall(body)
        await self._fetch_pictures(thumbnails[:THUMBNAILS_IN_SIGHT])
        if thumbnails:  # the first picture large comes with the page; who looks closer changes its contrast
            image = thumbnails[0].decode().replace("/thumbnail", "/image")
            await self._picture("image", f"{image}?frame=0")
            if larger:
                await self._picture("image", f"{image}?frame=0&contrast={self._chance.randrange(-50, 51)}")

    async def _page(
        self,
        what: str,
        path: str,
        *,
        form: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        answer = await self._timed(what, self._line, path, form=form, headers=headers)
        if answer.status != 200 or answer.kind != b"text/html":
            self._log.wrong.append(f"{path} was answered {answer.status} {answer.kind.decode()}")
        return answer.body

    async def _fetch_pictures(self, paths: Sequence[bytes]) -> None:
        for path in paths:
            await self._picture("thumbnail", path.decode())

    async def _picture(self, what: str, path: str) -> None:
        known = self._tags.get(path, b"").decode()
        answer = await self._timed(
            what, self._pictures, path, headers={"If-None-Match": known} if known else None
        )
        if answer.status == 200 and answer.kind == b"image/jpeg" and answer.body.startswith(b"\xff\xd8"):
            self._tags[path] = answer.tag
        elif answer.status != 304 or not known:
            self._log.wrong.append(f"{path} was answered {answer.status} {answer.kind.decode()}")

    async def _timed(
        self,
        what: str,
        line: _Line,
        path: str,
        *,
        form: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> _Answer:
        started = time.monotonic()
        answer = await line.ask(path, form=form, headers=headers)
        self._log.fetched.append(Fetched(what, time.monotonic() - started, started))
        return answer

    # --- live, as live.ts and stream.ts --------------------------------------------------------------------------------

    async def _follow(self) -> None:
        while True:
            line = _Line(self._port, self._account.cookie)
            try:
                if not await self._listen(line):
                    await self._poll(time.monotonic() + STREAM_AGAIN_SECONDS)
            except (ConnectionError, asyncio.IncompleteReadError):
                await asyncio.sleep(2.0)
            finally:
                line.close()

    async def _listen(self, line: _Line) -> bool:
        head = await line.open("/events", "text/event-stream", {}, None)
        if head.split(b" ", 2)[1] != b"200":
            self._log.refused_streams += 1
            return False
        self._log.streams += 1
        left = b""
        while piece := await line.read_some():
            *lines, left = (left + piece).split(b"\n")
            for each in lines:
                if each.startswith(b"data: "):
                    self._log.events += 1
                    self._hear(json.loads(each[6:]))
        return True

    async def _poll(self, until: float) -> None:
        while time.monotonic() < until:
            await asyncio.sleep(POLL_SECONDS)
            async with self._turn:
                answer = await self._timed(
                    "pulse", self._line, "/events/pulse", headers={"X-Refresh": "live"}
                )
            if answer.status == 200:
                self._hear(json.loads(answer.body))

    def _hear(self, pulse: dict[str, int]) -> None:
        known, self._seen = self._seen, pulse
        if known and any(known[topic] != pulse[topic] for topic in LISTENS.get(self._open, ())):
            self._refresh_soon()

    def _refresh_soon(self) -> None:
        what = self._open
        if what in self._due:
            return
        calm = refresh_in(time.monotonic() - self._refreshed.get(what, float("-inf")))

        async def refresh() -> None:
            await asyncio.sleep(calm)
            del self._due[what]
            self._refreshed[what] = time.monotonic()
            async with self._turn:
                if self._open == what:
                    await self._refresh(what)

        self._due[what] = asyncio.create_task(refresh())

    async def _refresh(self, what: str) -> None:
        headers = {"HX-Request": "true", "X-Refresh": "live"}
        if what in ("studies", "search"):
            form = {"csrf": self._account.csrf, "text": "", "modality": "", "period": "", **self._form}
            body = await self._page("refresh", "/studies", form=form, headers=headers)
            await self._fetch_pictures(_THUMBNAIL.findall(body)[:THUMBNAILS_IN_SIGHT])
        else:
            path = "/health" if what == "dashboard" else f"/{what}"
            await self._page("refresh", path, headers=headers)


def refresh_in(since_last_seconds: float) -> float:
    """How long a page waits before it asks for a list again: `CALM_MS` and `LULL_MS` of `live.ts`."""
    return max(CALM_SECONDS, LULL_SECONDS - since_last_seconds)


def browse(port: int, accounts: Sequence[Account], seconds: float, seed: int) -> Log:
    """Let all of `accounts` browse for so long; what they saw."""
    log = Log()

    async def all_of_them() -> None:
        until = time.monotonic() + seconds
        visitors = [
            Visitor(port, account, random.Random(f"{seed} {number}"), log)
            for number, account in enumerate(accounts)
        ]
        results = await asyncio.gather(*(each.browse(until) for each in visitors), return_exceptions=True)
        for each in results:
            if isinstance(each, BaseException):
                log.wrong.append(f"a visitor was cut off: {type(each).__name__} {each}")

    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(all_of_them())
    return log
