"""The console without a mouse: from the door to an open study and back, in an order that makes sense."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.web.conftest import LOGIN, PASSWORD
from tests.web.served import Served, served
from tests.web.test_browser import browser  # noqa: F401 -- a fixture

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def clinic(browser: Browser, data_dir, free_port, eventually) -> Iterator[Served]:  # noqa: F811
    with served(data_dir, free_port(), browser, eventually) as running:
        yield running


def focused(page: Page) -> str:
    """What has the focus, in short."""
    return page.evaluate(
        """() => { const at = document.activeElement;
          return (at.name || at.className || at.tagName) + ' ' + (at.getAttribute('href') ?? ''); }"""
    ).strip()


def tab_to(page: Page, what: str, most: int = 40) -> None:
    for _ in range(most):
        page.keyboard.press("Tab")
        if re.search(what, focused(page)):
            return
    raise AssertionError(f"{what} was not reached; last was {focused(page)}")


def test_from_the_door_to_a_study_and_back_without_a_mouse(clinic: Served) -> None:
    page = clinic.page(clinic.context("en-CA"))
    page.goto(f"{clinic.address}/sign-in")
    expect(page.locator("[name=login]")).to_be_focused()
    page.keyboard.type(LOGIN)
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("Dashboard")
    tab_to(page, "/studies$")
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("Studies")

    page.keyboard.press("Tab")
    assert focused(page) == "skip #page"
    box = page.locator(".skip").bounding_box()
    assert box is not None
    assert box["height"] >= 44, "the skip link can be seen when it has the focus"
    page.keyboard.press("Enter")
    expect(page.locator("#page")).to_be_focused()

    page.keyboard.press("/")
    expect(page.locator("[data-search]")).to_be_focused()
    page.keyboard.type("helene cote")
    expect(page.locator(".study")).to_have_count(1)
    page.keyboard.press("ArrowDown")
    expect(page.locator(".study-name")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_contain_text("Côté-Lévesque")

    tab_to(page, "instance=")
    page.locator("[data-stage]").focus()
    src = page.locator("[data-picture]").get_attribute("src")
    page.keyboard.press("i")
    expect(page.locator("[data-picture]")).not_to_have_attribute("src", src or "")
    page.locator("#page").focus()
    tab_to(page, r"button quiet /studies$")
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("Studies")
    assert clinic.complaints == []


def test_menus_and_help_give_the_focus_back(clinic: Served) -> None:
    page = clinic.page(clinic.context("en-CA"))
    clinic.sign_in(page)
    page.goto(f"{clinic.address}/devices")
    summary = page.locator(".languages summary")
    summary.focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.locator(".languages button").first).to_be_focused()
    page.keyboard.press("Escape")
    expect(summary).to_be_focused()
    expect(page.locator(".languages form")).to_be_hidden()

    mark = page.locator(".help-mark")
    mark.focus()
    page.keyboard.press("Enter")
    panel = page.locator("[data-help-panel]")
    expect(panel).to_contain_text("Admit an X-ray machine")
    expect(panel.locator("h2").first).to_be_focused()
    page.keyboard.press("Escape")
    expect(panel).to_be_hidden()
    expect(mark).to_be_focused()
    assert clinic.complaints == []


def test_the_tour_by_keyboard_keeps_the_focus_inside_and_is_offered_once(clinic: Served) -> None:
    page = clinic.page(clinic.context("fr-CA"))
    clinic.sign_in(page)
    page.goto(f"{clinic.address}/studies")
    page.locator("[data-tour-start]").focus()
    page.keyboard.press("Enter")
    tour = page.locator("dialog[data-tour]")
    expect(tour.locator("h3:visible")).to_have_text("Les examens arrivent d’eux-mêmes")
    expect(tour.locator("h3:visible")).to_be_focused()
    for _ in range(8):
        page.keyboard.press("Tab")
        assert page.evaluate("() => document.activeElement.closest('dialog, body').tagName") == "DIALOG" or (
            page.evaluate("() => document.activeElement === document.body")
        )
    page.keyboard.press("ArrowRight")
    expect(tour.locator("h3:visible")).to_have_text("Trouver un patient")
    expect(page.locator(".is-toured")).to_have_count(1)
    with page.expect_response("**/tour"):
        page.keyboard.press("Escape")
    expect(tour).to_be_hidden()
    expect(page.locator("#page")).to_be_focused()
    expect(page.locator(".is-toured")).to_have_count(0)
    page.goto(f"{clinic.address}/studies")
    expect(page.locator("[data-tour-offer]")).to_have_count(0)

    page.goto(f"{clinic.address}/help")
    page.locator("a[href='/studies#tour']").click()
    expect(tour).to_be_visible()
    while (next_button := tour.locator("[data-tour-next]")).text_content() == "Suivant":
        next_button.press("Enter")
    expect(tour.locator("h3:visible")).to_have_text("L’aide, là où vous êtes")
    tour.locator("[data-tour-next]").press("Enter")
    expect(tour).to_be_hidden()
    assert clinic.complaints == []
