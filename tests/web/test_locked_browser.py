"""The recovery key is typed into a box that its machine can't open, in Debian's Chromium, and the console comes by itself."""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from appliance import web
from appliance.box import open_box
from appliance.config import Config, WebConfig
from appliance.store import keys
from appliance.store.recovery import RecoveryKey
from appliance.web import locked
from tests.web.test_accessibility import faults_of
from tests.web.test_browser import browser  # noqa: F401 - a fixture

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(300)]

SHOTS = os.environ.get("SCREENSHOTS", "")


@dataclass
class Locked:
    """Where the box is, and what its paper says."""

    address: str
    paper: str


@pytest.fixture
def box(data_dir: Path, free_port: Callable[[], int], eventually: Callable[..., object]) -> Iterator[Locked]:
    config = Config(data=data_dir, web=WebConfig(port=free_port()))
    opened = open_box(config)
    paper = str(keys.show_recovery(config.data / "keys", opened.root))
    opened.close()
    (config.data / "keys" / keys.MACHINE_KEY).write_bytes(secrets.token_bytes(32))
    stop = threading.Event()

    def run() -> None:
        try:
            opened = locked.opened(config, stop)
        except SystemExit:
            return
        web.serve(opened, stop)
        opened.close()

    running = threading.Thread(target=run)
    running.start()
    try:
        yield Locked(f"http://localhost:{config.web.port}", paper)
    finally:
        stop.set()
        running.join(60)


@pytest.mark.parametrize(
    ("locale", "width", "asks", "wrong", "is_open"),
    [
        ("en-CA", 1280, "This box needs its recovery key", "not this box", "The box is open"),
        ("fr-CA", 390, "Ce boîtier a besoin de sa clé", "pas celle de ce boîtier", "Le boîtier est ouvert"),
    ],
)
def test_the_key_is_typed_and_the_console_comes(
    browser: Browser,  # noqa: F811
    box: Locked,
    locale: str,
    width: int,
    asks: str,
    wrong: str,
    is_open: str,
    eventually: Callable[..., object],
) -> None:
    page = browser.new_context(locale=locale, viewport={"width": width, "height": 860}).new_page()
    page.set_default_timeout(60_000)
    eventually(lambda: _answers(page, f"{box.address}/studies"))
    expect(page.locator("h1")).to_contain_text(asks)
    _look(page, f"{locale}-asked")
    page.locator("[name=key]").fill(str(RecoveryKey.generate()))
    page.locator("main button.primary").click()
    expect(page.get_by_role("alert")).to_contain_text(wrong)
    _look(page, f"{locale}-wrong")
    page.route("**/health/live", lambda route: route.fulfill(status=503))  # not before it was looked at
    page.locator("[name=key]").fill(box.paper.replace("-", " "))
    page.locator("main button.primary").click()
    expect(page.locator("h1")).to_contain_text(is_open)
    _look(page, f"{locale}-open")
    page.unroute("**/health/live")
    page.wait_for_url("**/setup/welcome", timeout=120_000)  # of a box that nobody owns yet, by itself


def _answers(page: Page, address: str) -> bool:
    try:
        page.goto(address)
    except Exception:  # noqa: BLE001 - nobody listens yet
        return False
    return True


def _look(page: Page, name: str) -> None:
    if SHOTS:
        Path(SHOTS).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=str(Path(SHOTS) / f"{name}.png"), full_page=True)
    assert faults_of(page) == []
