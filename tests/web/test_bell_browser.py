"""The bell in Debian's Chromium, over the real server: it rings live, is answered by keyboard, and says no more than it may."""

import http.client
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from appliance import identity
from appliance.catalog import notices, people
from appliance.catalog.notices import Wanted
from appliance.notify import judging
from appliance.notify.alerts import Condition
from appliance.notify.telling import tell
from appliance.web.live import MOST_STREAMS
from tests.notify.conftest import use_mail
from tests.notify.mail_room import mail_room
from tests.notify.test_telling import FULL
from tests.web.served import Served, served
from tests.web.test_browser import browser  # noqa: F401 -- a fixture

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(400)]

CLIENTS = 100
SCREENSHOTS = os.environ.get("SCREENSHOTS", "")
FAILED = Condition(
    "delivery-failed", "cloud refused 3 images", "check the connection; nothing is lost meanwhile", "cloud"
)
WITNESS = """
window.rung = [];
window.popped = [];
const Real = window.AudioContext;
window.AudioContext = class extends Real {
  createOscillator() { window.rung.push('tone'); return super.createOscillator(); }
};
window.Notification = class {
  static permission = 'granted';
  static requestPermission() { return Promise.resolve('granted'); }
  constructor(title, options) { window.popped.push([title, options.body]); }
};
"""
"""Sees what the page would have sounded and popped up; the page's own code is as it is."""


@pytest.fixture
def console(
    data_dir: Path,
    free_port: Callable[[], int],
    browser: Browser,  # noqa: F811
    eventually: Callable[..., object],
) -> Iterator[Served]:
    with served(data_dir, free_port(), browser, eventually) as found:
        yield found


def look(page: Page, name: str) -> None:
    if SCREENSHOTS:
        Path(SCREENSHOTS).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=str(Path(SCREENSHOTS) / f"{name}.png"), full_page=True)


def judge(console: Served, *conditions: Condition) -> None:
    judging.apply(console.box.catalog, conditions, datetime.now(UTC))


@pytest.mark.parametrize(
    ("locale", "width", "none", "one", "title", "act", "taken"),
    [
        ("en-CA", 1440, "Notices: 0 unread", "Notices: 1 unread", "The data disk is full", "I am taking care of it", "is taking care of it"),
        ("fr-CA", 1440, "0 non lu", "1 non lu", "Le disque des données est plein", "Je m’en occupe", "s’en occupe"),
        ("fr-CA", 390, "0 non lu", "1 non lu", "Le disque des données est plein", "Je m’en occupe", "s’en occupe"),
    ],
)  # fmt: skip
def test_a_problem_rings_the_bell_live_and_is_taken_in_hand_by_keyboard(
    console: Served, locale: str, width: int, none: str, one: str, title: str, act: str, taken: str
) -> None:
    page = console.page(console.context(locale, width=width, height=900))
    console.sign_in(page)
    name = f"{locale}-{width}"
    expect(page.locator("#bell-face")).to_contain_text(none)
    judge(console, FULL)  # nobody reloads the page
    expect(page.locator("#bell-face")).to_contain_text(one)
    expect(page.locator("[data-bell-said]")).to_contain_text(title)
    page.locator("#bell > summary").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#bell-panel")).to_contain_text(title)
    look(page, f"{name}-panel")
    page.keyboard.press("Escape")
    expect(page.locator("#bell-panel")).to_be_hidden()
    assert page.evaluate("document.activeElement.tagName") == "SUMMARY"
    page.keyboard.press("Enter")
    expect(page.locator("#bell-panel button")).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.locator("#bell-panel button")).to_be_focused()
    expect(page.locator("#bell-panel button")).to_contain_text(act)
    page.keyboard.press("Enter")
    expect(page.locator("#bell-face")).to_contain_text(none)
    page.goto(f"{console.address}/notices")
    expect(page.locator(".notice")).to_contain_text(taken)
    with console.box.catalog.reading() as conn:
        (row,) = notices.history(conn, 0, Wanted(), everything=True, limit=10)
    assert row.acknowledged_name == "Marie Tremblay"
    judge(console, FULL, FAILED)
    expect(page.locator(".notice")).to_have_count(2)
    look(page, f"{name}-history")
    page.locator("[name=severity]").select_option("warning")
    expect(page.locator(".notice")).to_have_count(1)
    assert console.complaints == []


def test_a_page_that_signs_out_asks_for_nothing_more(
    console: Served, eventually: Callable[..., object]
) -> None:
    refresh = "document.body.dispatchEvent(new CustomEvent('live-notices'))"
    page = console.page(console.context())
    console.sign_in(page)
    asked, given_up = list[str](), list[str]()
    page.on("request", lambda request: asked.append(request.url.removeprefix(console.address)))
    page.on("requestfailed", lambda request: given_up.append(request.url.removeprefix(console.address)))
    page.route("**/notices/*", lambda _: None)  # no answer comes: the page is left while it waits
    page.evaluate(refresh)
    eventually(lambda: page.evaluate("true") and {"/notices/bell", "/notices/panel"} <= {*asked})
    # It stays as it is in the moment before it goes.
    page.evaluate("addEventListener('submit', (event) => event.preventDefault())")
    asked.clear()
    page.locator("form[action='/sign-out'] button").click()
    page.evaluate(refresh)
    eventually(lambda: page.evaluate("true") and {"/notices/bell", "/notices/panel"} <= {*given_up})
    # By the same way: once this has been told, so has what was asked before it.
    page.evaluate("void fetch('/notices/last')")
    eventually(lambda: page.evaluate("true") and "/notices/last" in asked)
    assert [each for each in asked if each.startswith("/notices/")] == ["/notices/last"]
    assert console.complaints == []


def test_sound_and_pop_up_are_choices_and_say_the_title_only(console: Served) -> None:
    context = console.context()
    page = console.page(context)
    page.add_init_script(WITNESS)
    console.sign_in(page)
    judge(console, FAILED)
    expect(page.locator("#bell-face")).to_contain_text("1 unread")
    assert page.evaluate("[window.rung, window.popped]") == [[], []], (
        "silent until somebody chooses otherwise"
    )
    page.goto(f"{console.address}/notices/preferences")
    for name in ("sound", "desktop"):
        page.locator(f"[name={name}]").check()
    page.locator("[name=mail_address]").fill("marie@clinique.example")
    page.locator("[name=quiet_start]").fill("00:00")
    page.locator("[name=quiet_end]").fill("23:59")
    page.locator("main button.primary").click()
    expect(page.locator(".note.good")).to_be_visible()
    with console.box.catalog.transaction() as tx:
        tell(tx, "delivery-failed", subject="pacs", words="secret words", now=datetime.now(UTC))
    expect(page.locator("#bell-face")).to_contain_text("2 unread")
    assert page.evaluate("[window.rung, window.popped]") == [[], []], "these are quiet hours"
    judge(console, FULL, FAILED)
    expect(page.locator("#bell-face")).to_contain_text("3 unread")
    expect(page.locator("[data-bell-said]")).to_contain_text("The data disk is full")
    assert page.evaluate("window.popped") == [
        ["The data disk is full: images are refused", "Open the console to see what to do."]
    ]
    page.locator("h1").click()
    page.locator("[data-try-sound]").click()
    expect(page.locator("#bell-face")).to_contain_text("3 unread")
    assert page.evaluate("window.rung.length") >= 2
    assert console.complaints == []


@pytest.mark.parametrize("locale", ["en-CA", "fr-CA"])
def test_alerts_and_channels_are_set_and_tried(console: Served, locale: str) -> None:
    page = console.page(console.context(locale, width=1440, height=900))
    console.sign_in(page)
    page.goto(f"{console.address}/notices/alerts")
    rule = page.locator("#disk-low")
    rule.locator("summary").click()
    rule.locator("[name=delay_minutes]").fill("30")
    look(page, f"{locale}-alerts")
    rule.locator("button.primary").click()
    expect(page.locator(".note.good")).to_be_visible()
    expect(page.locator("#disk-low .badge.kind")).to_be_visible()
    page.goto(f"{console.address}/notices/channels")
    page.locator("[name=to][type=email]").fill("marie@clinique.example")
    page.locator(".one-line button").click()
    expect(page.locator("#mail-trial .note.bad")).to_be_visible()
    look(page, f"{locale}-mail-failed")
    with mail_room() as room:
        use_mail(console.box, room.port, security="none")
        page.locator("#mail-trial button").click()
        expect(page.locator("#mail-trial .note.good")).to_contain_text("marie@clinique.example")
        assert len(room.letters) == 1
    page.locator(".add-hook summary").click()
    page.locator(".add-hook [name=name]").fill("chat")
    page.locator(".add-hook [name=url]").fill("https://hooks.example.ca/x")
    look(page, f"{locale}-channels")
    page.locator(".add-hook button.primary").click()
    expect(page.locator("[data-secret]")).to_contain_text("whsec_")
    page.goto(f"{console.address}/notices/preferences")
    look(page, f"{locale}-preferences")
    page.set_viewport_size({"width": 390, "height": 844})
    for path in ("preferences", "alerts", "channels"):
        page.goto(f"{console.address}/notices/{path}")
        look(page, f"{locale}-phone-{path}")
    assert console.complaints == []


# --- a hundred browsers ----------------------------------------------------------------------------------------------


class Follower:
    """A signed-in browser that follows the box: by the stream, or by asking when it is told that there is no place."""

    def __init__(self, host: str, cookie: str) -> None:
        self._host = host
        self._headers = {"Cookie": f"console_session={cookie}"}
        self.way = ""
        self._before: dict[str, Any] = {}
        self._stream: http.client.HTTPResponse | None = None
        self._connection = http.client.HTTPConnection(host, timeout=120)

    def begin(self) -> None:
        """Ask for the stream; without a place on it, note how things are now."""
        self._connection.request("GET", "/events", headers=self._headers)
        answer = self._connection.getresponse()
        if answer.status == 200:
            self.way, self._stream = "stream", answer
            assert answer.readline().startswith(b"retry:")
            self._before = self._told()
        else:
            assert answer.status == 503
            answer.read()
            self.way, self._before = "poll", self._pulse()

    def hear(self, eventually: Callable[..., object]) -> str:
        """Wait for the notice; the way by which it was heard of."""
        if self._stream is not None:
            while self._told()["notices"] == self._before["notices"]:
                pass
            return self.way
        eventually(lambda: self._pulse()["notices"] != self._before["notices"], within_seconds=120)
        return self.way

    def end(self) -> None:
        self._connection.close()

    def _told(self) -> dict[str, Any]:
        assert self._stream is not None
        while not (line := self._stream.readline()).startswith(b"data:"):
            assert line, "the stream ended"
        return dict(json.loads(line.removeprefix(b"data:")))

    def _pulse(self) -> dict[str, Any]:
        connection = http.client.HTTPConnection(self._host, timeout=120)
        try:
            connection.request("GET", "/events/pulse", headers=self._headers)
            answer = connection.getresponse()
            assert answer.status == 200
            found: dict[str, Any] = json.loads(answer.read())
            return found
        finally:
            connection.close()


def test_a_hundred_browsers_all_hear_by_the_stream_or_by_asking(
    console: Served, eventually: Callable[..., object]
) -> None:
    now = datetime.now(UTC)
    cookies = []
    with console.box.catalog.transaction() as tx:
        for number in range(CLIENTS):
            person = people.add(
                tx,
                login=f"person{number}",
                name=f"Person {number}",
                role="technician",
                password_hash="none",
                language="fr",
                now=now,
            )
            cookies.append(identity.open_session(tx, person.id, address="127.0.0.1", agent="tests", now=now))
    host = console.address.removeprefix("http://").replace("localhost", "127.0.0.1")
    followers = [Follower(host, cookie) for cookie in cookies]
    try:
        with ThreadPoolExecutor(CLIENTS) as threads:
            list(threads.map(Follower.begin, followers))
            heard = [threads.submit(follower.hear, eventually) for follower in followers]
            judge(console, FULL)
            ways = Counter(each.result() for each in heard)
    finally:
        for follower in followers:
            follower.end()
    assert ways["stream"] == MOST_STREAMS
    assert ways["stream"] + ways["poll"] == CLIENTS
    with console.box.catalog.reading() as conn:
        unread = [
            notices.unread(conn, each.id).count for each in people.people(conn) if each.role == "technician"
        ]
    assert unread == [1] * CLIENTS
