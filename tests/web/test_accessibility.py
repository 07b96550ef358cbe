"""WCAG 2.2 AA on every page, in every full language, light and dark, on a wide screen and the narrowest phone."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from playwright.sync_api import Browser, Page, expect

from appliance import identity
from appliance.catalog import people
from appliance.web import create_app
from appliance.web.console import web_ui
from tests.web import walk
from tests.web.conftest import LOGIN, browser_of
from tests.web.served import Served, served
from tests.web.test_browser import browser  # noqa: F401 -- a fixture
from tests.web.translations import full

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(600)]

AXE = web_ui() / "node_modules" / "axe-core" / "axe.min.js"
TAGS = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa")
HABITS = ("heading-order", "region", "landmark-one-main", "page-has-heading-one", "empty-table-header")
"""Rules of good practice that we hold too."""

RUN = """async ([tags, habits]) => {
  const axe = window.axe;
  const rules = axe.getRules(tags).map((rule) => rule.ruleId).concat(habits);
  const found = await axe.run(document, { runOnly: { type: 'rule', values: rules }, resultTypes: ['violations'] });
  return found.violations.map((each) => each.id + ': ' + each.nodes.slice(0, 3)
    .map((node) => node.target.join(' ') + ' ' + (node.any[0]?.message ?? node.all[0]?.message ?? '')).join(' | '));
}"""

LOOK = """() => {
  const faults = [];
  const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  if (wide > 0) {
    const far = [...document.querySelectorAll('main *')].find(
      (each) => each.getBoundingClientRect().right > document.documentElement.clientWidth + 1);
    faults.push(`scrolls sideways by ${wide} px: ${far?.tagName}.${far?.className}`);
  }
  if (document.querySelectorAll('h1').length !== 1) faults.push('not one h1');
  const targets = 'button, .button, summary, select, textarea, nav a, .help-mark,'
    + 'input:not([type=hidden], [type=checkbox], [type=radio])';
  for (const each of document.querySelectorAll(targets)) {
    if (!each.checkVisibility({ visibilityProperty: true }) || each.closest('.only-spoken, .skip')) continue;
    const { width, height } = each.getBoundingClientRect();
    if (width && (width < 43.5 || height < 43.5))
      faults.push(`small target ${Math.round(width)}×${Math.round(height)}: ${each.outerHTML.slice(0, 120)}`);
  }
  for (const each of document.querySelectorAll('input[type=checkbox], input[type=radio]')) {
    const label = each.closest('label') ?? document.querySelector(`label[for="${each.id}"]`);
    if (each.checkVisibility() && (label ?? each).getBoundingClientRect().height < 43.5)
      faults.push(`small target: ${each.outerHTML.slice(0, 120)}`);
  }
  return faults;
}"""


@dataclass(frozen=True, slots=True)
class Screen:
    """How a page is looked at."""

    width: int
    height: int
    dark: bool


DESK_LIGHT, DESK_DARK = Screen(1280, 860, False), Screen(1280, 860, True)
PHONE_LIGHT, PHONE_DARK = Screen(390, 844, False), Screen(320, 640, True)
SCREENS = {"en": DESK_LIGHT, "fr": PHONE_DARK, "es": PHONE_LIGHT, "zh": DESK_DARK}
"""Colours and widths do not depend on the language: each page is seen in four ways and four languages, once each."""
EACH_WAY = [pytest.param(each, marks=[] if each in ("en", "fr") else pytest.mark.campaign) for each in full()]
"""`make test` sees each page on a wide light screen and on the narrowest dark one; the other two ways are a campaign's."""
LOCALES = {"en": "en-CA", "fr": "fr-CA", "es": "es-MX", "zh": "zh-CN"}


@pytest.fixture(scope="module")
def clinic(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:  # noqa: F811
    import socket
    import time

    def eventually(condition) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.05)

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path_factory.mktemp("walk")
    with served(folder, port, browser, eventually) as running:
        place = folder / "hand-over"
        place.mkdir()
        walk.furnish(running.box, str(place))
        yield running


@pytest.fixture(scope="module")
def own_pages(clinic: Served) -> list[walk.Walked]:
    """What an owner may open, less the pages that stand in for the box: they give way by themselves while looked at."""
    app = create_app(clinic.box)
    try:
        return walk.pages(app, browser_of(app, "owner", LOGIN), lambda rule: rule.endpoint != "shell.offline")
    finally:
        app.extensions["console"].watcher.close()
        app.extensions["console"].darkroom.close()


def signed_in(clinic: Served, language: str, screen: Screen) -> Page:
    """A browser of the owner, by a session that is given to it."""
    context = clinic.context(LOCALES[language], width=screen.width, height=screen.height, dark=screen.dark)
    moment = datetime.now(UTC)
    with clinic.box.catalog.transaction() as tx:
        person = people.person(tx, LOGIN)
        assert person is not None
        cookie = identity.open_session(tx, person.id, address="127.0.0.1", agent="tests", now=moment)
    context.add_cookies([{"name": "console_session", "value": cookie, "url": clinic.address}])
    return clinic.page(context)


def faults_of(page: Page) -> list[str]:
    page.evaluate(AXE.read_text("utf-8"))
    return [*page.evaluate(RUN, [list(TAGS), list(HABITS)]), *page.evaluate(LOOK)]


@pytest.mark.parametrize("language", EACH_WAY)
def test_every_page_is_for_everybody(clinic: Served, own_pages: list[walk.Walked], language: str) -> None:
    clinic.complaints.clear()
    page = signed_in(clinic, language, SCREENS[language])
    found: dict[str, list[str]] = {}
    for walked in own_pages:
        page.goto(f"{clinic.address}{walked.address}")
        if faults := faults_of(page):
            found[walked.address] = faults
    page.context.close()
    assert len(own_pages) >= 20
    assert not found, json.dumps(found, indent=1, ensure_ascii=False)
    assert clinic.complaints == []


@pytest.mark.parametrize("language", full())
def test_the_door_is_for_everybody(clinic: Served, language: str) -> None:
    clinic.complaints.clear()
    screen = SCREENS[language]
    for address in ("/sign-in", "/nowhere", "/help"):
        page = clinic.page(
            clinic.context(LOCALES[language], width=screen.width, height=screen.height, dark=screen.dark)
        )
        page.goto(f"{clinic.address}{address}")
        assert faults_of(page) == [], address
        page.context.close()


@pytest.mark.parametrize("screen", [DESK_LIGHT, PHONE_DARK], ids=["desk", "phone"])
def test_arabic_pages_are_for_everybody(clinic: Served, screen: Screen) -> None:
    clinic.complaints.clear()
    context = clinic.context("ar", width=screen.width, height=screen.height, dark=screen.dark)
    page = clinic.page(context)
    page.goto(f"{clinic.address}/sign-in")
    assert faults_of(page) == []
    clinic.sign_in(page)
    page.goto(f"{clinic.address}/studies")
    assert page.locator("html").get_attribute("dir") == "rtl"
    assert faults_of(page) == []
    bar, name = page.locator(".bar-name").bounding_box(), page.locator(".bar-end").bounding_box()
    assert bar is not None
    assert name is not None
    assert bar["x"] > name["x"], "the bar runs from right to left"
    assert clinic.complaints == []


def test_the_page_that_stands_in_is_for_everybody(clinic: Served) -> None:
    for language in full():
        page = clinic.page(clinic.context(LOCALES[language], width=320, height=640))
        page.add_init_script(
            "window.fetch = () => new Promise(() => {})"
        )  # else it gives way: the box does answer
        page.goto(f"{clinic.address}/offline/{language}")
        assert faults_of(page) == [], language
        page.context.close()


def test_a_form_in_error_is_for_everybody_and_begins_at_what_is_wrong(clinic: Served) -> None:
    for screen in (DESK_LIGHT, PHONE_DARK):
        page = signed_in(clinic, "fr", screen)
        page.goto(f"{clinic.address}/devices")
        page.locator("#field-ae_title").fill("PANO")
        page.locator("#field-address").fill("la panoramique")
        page.locator("form:has(#field-ae_title) button").click()
        summary = page.locator("#form-error")
        expect(summary).to_be_focused()
        expect(page.locator("#field-address[aria-invalid=true]")).to_be_visible()
        assert faults_of(page) == []
        summary.locator("a").click()
        expect(page.locator("#field-address")).to_be_focused()
        page.goto(f"{clinic.address}/settings/mail")
        page.locator("[name='mail.port']").fill("x")
        page.locator("main form button.primary").click()
        expect(page.locator("#form-error")).to_be_focused()
        assert faults_of(page) == []
        page.context.close()


def test_help_beside_a_page_and_an_open_menu_are_for_everybody(clinic: Served) -> None:
    for screen in (DESK_LIGHT, PHONE_DARK):
        page = signed_in(clinic, "fr", screen)
        page.goto(f"{clinic.address}/devices")
        page.locator(".languages summary").click()
        assert faults_of(page) == []
        page.keyboard.press("Escape")
        page.locator("[data-help]").click()
        page.locator(".help-panel section").first.wait_for()
        assert faults_of(page) == []
        page.context.close()


def test_on_a_tablet_no_table_is_wider_than_the_page(clinic: Served) -> None:
    """Upright, beside the bar of icons; in French, whose words are the longest."""
    page = signed_in(clinic, "fr", Screen(820, 1180, False))
    for address in (
        "/deliveries",
        "/audit",
        "/devices",
        "/users",
        "/notices/channels",
        "/performance",
        "/me",
    ):
        page.goto(f"{clinic.address}{address}")
        expect(page.locator(".table").first).to_be_visible()
        assert page.evaluate(LOOK) == [], address
    page.context.close()


def test_on_a_phone_the_bar_holds_what_is_in_it(clinic: Served) -> None:
    """The longest words of all: *go on setting up*, which an unfinished box shows beside the rest."""
    for language in ("en", "fr"):
        page = clinic.page(clinic.context(LOCALES[language], width=360, height=640))
        clinic.sign_in(page)
        page.goto(f"{clinic.address}/studies")
        assert page.locator(".bar-end > .button.primary").count() == 1, "the box counts as set up"
        bar = page.locator(".bar").bounding_box()
        assert bar is not None
        for each in page.locator(".bar-end > *:visible").all():
            box = each.bounding_box()
            assert box is None or box["y"] + box["height"] <= bar["y"] + bar["height"], language
        page.context.close()
