"""A clinic's box, filled, owned and served to a real browser: one for all the tests of a module that only look."""

import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Response

from appliance import web
from appliance.box import Box, open_box
from appliance.config import Config, WebConfig
from tests.web.conftest import LOGIN, PASSWORD, add_owner, fill

PATIENCE_MS = 30_000


@dataclass
class Served:
    """A running console, and what its pages complained of."""

    box: Box
    address: str
    browser: Browser
    complaints: list[str] = field(default_factory=list)

    def context(self, locale: str = "en-CA", *, width: int = 1280, height: int = 860, dark: bool = False):
        return self.browser.new_context(
            locale=locale,
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
        )

    def page(self, context: BrowserContext) -> Page:
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.complaints.append(f"page: {error}"))
        page.on("response", self._response)
        return page

    def sign_in(self, page: Page) -> None:
        page.goto(f"{self.address}/sign-in")
        page.locator("[name=login]").fill(LOGIN)
        page.locator("[name=password]").fill(PASSWORD)
        page.locator("main button.primary").click()
        page.locator(".side").wait_for()

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.type} at {message.location.get('url')}: {message.text}")

    def _response(self, response: Response) -> None:
        if response.status >= 500:
            self.complaints.append(f"{response.status} {response.url}")


@contextmanager
def served(
    folder: Path, port: int, browser: Browser, eventually: Callable[..., object], *, scale: float = 0.1
) -> Iterator[Served]:
    """A box in `folder` with an owner and three studies, its console on `port`."""
    box = open_box(Config(data=folder, web=WebConfig(port=port)))
    try:
        add_owner(box)
        fill(box, scale=scale)
        with serving(box, browser, eventually) as running:
            yield running
    finally:
        box.close()


@contextmanager
def serving(box: Box, browser: Browser, eventually: Callable[..., object]) -> Iterator[Served]:
    """The console of `box`, as it is, on the port that its configuration names."""
    stop = threading.Event()
    thread = threading.Thread(target=web.serve, args=(box, stop), daemon=True)
    thread.start()
    address = f"http://localhost:{box.config.web.port}"

    def answers() -> bool:
        try:
            with urllib.request.urlopen(f"{address}/health/live", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    try:
        eventually(answers)
        yield Served(box, address, browser)
    finally:
        for context in browser.contexts:
            context.close()
        stop.set()
        thread.join(60)
        assert not thread.is_alive(), "the console did not stop"
