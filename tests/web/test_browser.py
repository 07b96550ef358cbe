"""A clinic's first hour in Debian's Chromium, over the real server: claim, live arrival, a picture, the door."""

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Response, expect, sync_playwright

from appliance import identity, web
from appliance.box import Box, open_box
from appliance.catalog import devices, people
from appliance.config import Config, WebConfig
from appliance.model import ae_title
from tests.web.conftest import PASSWORD, fill

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(300)]

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
PATIENCE_MS = 30_000
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SCREENSHOTS = os.environ.get("SCREENSHOTS", "")
"""A folder to leave screenshots in, for a person to look at."""


@dataclass
class Clinic:
    """A running console and what its pages complained of."""

    box: Box
    address: str
    browser: Browser
    complaints: list[str] = field(default_factory=list)

    def page(self, locale: str = "en-CA", width: int = 1440, height: int = 900) -> Page:
        page = self.browser.new_context(locale=locale, viewport={"width": width, "height": height}).new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.complaints.append(f"page: {error}"))
        page.on("response", self._response)
        return page

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.type}: {message.text}")

    def _response(self, response: Response) -> None:
        if response.status >= 400:
            self.complaints.append(f"{response.status} {response.url}")

    def look(self, page: Page, name: str) -> None:
        if SCREENSHOTS:
            Path(SCREENSHOTS).mkdir(parents=True, exist_ok=True)
            page.screenshot(path=str(Path(SCREENSHOTS) / f"{name}.png"), full_page=True)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    assert found is not None, "Debian's chromium is not installed: run make setup"
    expect.set_options(timeout=PATIENCE_MS)  # else five seconds, which a busy machine may take for a page
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=found, args=list(ARGUMENTS))
        yield running
        running.close()


@pytest.fixture
def clinic(browser: Browser, data_dir: Path, free_port: Callable[[], int], eventually) -> Iterator[Clinic]:
    port = free_port()
    box = open_box(Config(data=data_dir, web=WebConfig(port=port)))
    stop = threading.Event()
    serving = threading.Thread(target=web.serve, args=(box, stop), daemon=True)
    serving.start()
    clinic = Clinic(box, f"http://127.0.0.1:{port}", browser)

    def answers() -> bool:
        import urllib.request

        try:
            with urllib.request.urlopen(f"{clinic.address}/health/live", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    eventually(answers)
    try:
        yield clinic
    finally:
        for context in browser.contexts:
            context.close()
        stop.set()
        serving.join(60)
        assert not serving.is_alive(), "the console did not stop"
        box.close()


def claim(clinic: Clinic, page: Page, code: str, login: str = "marie") -> None:
    """Become the owner, and leave setting up for later: these tests are about the day after."""
    page.goto(f"{clinic.address}/claim")
    page.locator("[name=code]").fill(code)
    page.locator("[name=name]").fill("Marie Tremblay")
    page.locator("[name=login]").fill(login)
    page.locator("[name=password]").fill(PASSWORD)
    page.locator("[name=again]").fill(PASSWORD)
    page.locator("main button.primary").click()
    page.locator(".bar-person, [role=alert]").first.wait_for(state="attached")
    if page.locator(".bar-person").count():
        page.goto(
            f"{clinic.address}/studies"
        )  # an owner starts at the dashboard; these tests are about patients


@pytest.mark.parametrize(
    ("locale", "studies", "none", "images"),
    [("en-CA", "Studies", "No study yet", "19 images"), ("fr-CA", "Examens", "Aucun examen", "19 images")],
)
def test_from_a_blank_box_to_a_picture(
    clinic: Clinic, locale: str, studies: str, none: str, images: str
) -> None:
    code = identity.claim_code(clinic.box)
    assert code is not None
    page = clinic.page(locale)
    claim(clinic, page, code)
    expect(page.locator("h1")).to_have_text(studies)
    expect(page.locator("#rows")).to_contain_text(none)
    clinic.look(page, f"{locale}-empty")

    fill(clinic.box, scale=0.2)  # nobody reloads the page
    helene = page.locator(".study", has_text="Côté-Lévesque, Hélène")
    expect(helene).to_contain_text(images, timeout=PATIENCE_MS)
    expect(page.locator(".study")).to_have_count(3)

    page.locator("[data-search]").fill("cote levesque helene")
    expect(page.locator(".study")).to_have_count(1)
    assert "cote" not in page.url
    clinic.look(page, f"{locale}-studies")

    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    picture = page.locator("[data-picture]")
    expect(picture).to_be_visible()
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 200
    plain = picture.get_attribute("src")
    page.locator("[data-do=invert]").click()
    expect(picture).to_have_attribute("src", f"{plain}?inverted=1")
    page.locator("[data-do=larger]").click()
    assert "is-fitted" not in (page.locator("[data-stage]").get_attribute("class") or "")
    clinic.look(page, f"{locale}-study")
    page.locator(".strip a").nth(3).click()
    expect(page.locator(".strip a").nth(3)).to_have_attribute("aria-current", "true")
    for section in ("deliveries", "devices", "destinations", "health", "help"):
        page.locator(f".side a[href='/{section}']").first.click()
        expect(page.locator(".side [aria-current]").first).to_have_attribute("href", f"/{section}")
        clinic.look(page, f"{locale}-{section}")
    assert clinic.complaints == []


def test_frames_of_a_volume_by_slider_wheel_and_keys(clinic: Clinic) -> None:
    code = identity.claim_code(clinic.box)
    assert code is not None
    fill(clinic.box, scale=0.15)
    page = clinic.page()
    claim(clinic, page, code)
    page.locator("a[data-row]", has_text="Gagné").click()
    page.locator(".strip a", has=page.locator(".mark", has_text="×")).click()
    number, picture = page.locator("[data-frame-number]"), page.locator("[data-picture]")
    expect(number).to_have_text("1")
    page.locator("[data-stage]").focus()
    page.keyboard.press("ArrowDown")
    expect(number).to_have_text("2")
    page.keyboard.press("PageDown")
    expect(number).to_have_text("12")
    page.locator("[name=frame]").fill("5")
    expect(picture).to_have_attribute("src", clinic_frame(page, 4))
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 10
    assert clinic.complaints == []


def clinic_frame(page: Page, frame: int) -> str:
    return f"{page.locator('[data-viewer]').get_attribute('data-image')}?frame={frame}"


def test_a_machine_at_the_door_appears_by_itself_and_is_admitted(clinic: Clinic) -> None:
    code = identity.claim_code(clinic.box)
    assert code is not None
    page = clinic.page(width=390, height=844)
    claim(clinic, page, code)
    page.locator(".side a[href='/devices']").first.click()
    expect(page.locator("h1")).to_have_text("Devices")
    with clinic.box.catalog.transaction() as tx:
        devices.seen_at_door(tx, ae_title("ROMEXIS"), "192.168.1.77", NOW)
    admit = page.get_by_role("button", name="Admit")
    expect(admit).to_be_visible()
    clinic.look(page, "phone-door")
    admit.click()
    expect(page.locator(".note.good")).to_contain_text("ROMEXIS may now send")
    expect(page.locator("#lists")).not_to_contain_text("Seen at the door")
    with clinic.box.catalog.reading() as conn:
        assert devices.is_known(conn, ae_title("ROMEXIS"), "192.168.1.77")
    assert clinic.complaints == []


def test_two_browsers_racing_the_claim_make_one_owner(clinic: Clinic) -> None:
    code = identity.claim_code(clinic.box)
    assert code is not None
    pages = [clinic.page(), clinic.page()]
    for number, page in enumerate(pages):
        page.goto(f"{clinic.address}/claim")
        for name, value in (("code", code), ("name", "Marie"), ("login", f"owner{number}")):
            page.locator(f"[name={name}]").fill(value)
        page.locator("[name=password]").fill(PASSWORD)
        page.locator("[name=again]").fill(PASSWORD)
    for page in pages:  # both are under way before either is answered
        page.evaluate("() => { document.querySelector('main form').requestSubmit(); }")
    titles = set()
    for page in pages:
        expect(page.locator("h1")).not_to_have_text("Set up this box")
        titles.add(page.locator("h1").text_content())
    assert titles == {"Your clinic", "Sign in"}
    with clinic.box.catalog.reading() as conn:
        assert len(people.people(conn)) == 1


def test_the_language_can_be_changed_and_is_kept(clinic: Clinic) -> None:
    page = clinic.page("fr-CA")
    page.goto(clinic.address)
    expect(page.locator("h1")).to_have_text("Bienvenue")
    page.locator(".languages summary").click()
    page.locator(".languages button[lang=en]").click()
    expect(page.locator("h1")).to_have_text("Welcome")
    page.goto(clinic.address)
    expect(page.locator("html")).to_have_attribute("lang", "en")
    assert clinic.complaints == []


def test_a_wrong_code_is_explained_and_counted(clinic: Clinic) -> None:
    code = identity.claim_code(clinic.box)
    page = clinic.page()
    claim(clinic, page, "ZZZZ-ZZZZ" if code != "ZZZZ-ZZZZ" else "YYYY-YYYY")
    expect(page.locator("[role=alert]")).to_contain_text("4 tries are left")


def test_many_open_streams_leave_the_console_usable(clinic: Clinic) -> None:
    """40 readers of the stream at once: some are told to poll, and pages still come."""
    import http.client

    code = identity.claim_code(clinic.box)
    assert code is not None
    page = clinic.page()
    claim(clinic, page, code)
    expect(page.locator("h1")).to_have_text("Studies")
    cookie = next(each for each in page.context.cookies() if each["name"] == "console_session")
    host = clinic.address.removeprefix("http://")

    def open_stream(_: int) -> tuple[int, http.client.HTTPConnection]:
        connection = http.client.HTTPConnection(host, timeout=30)
        connection.request("GET", "/events", headers={"Cookie": f"console_session={cookie['value']}"})
        return connection.getresponse().status, connection

    with ThreadPoolExecutor(40) as threads:
        streams = list(threads.map(open_stream, range(40)))
    try:
        statuses = [status for status, _ in streams]
        assert statuses.count(200) >= 20
        assert set(statuses) <= {200, 503}
        page.goto(f"{clinic.address}/devices")
        expect(page.locator("h1")).to_have_text("Devices")
    finally:
        for _, connection in streams:
            connection.close()
