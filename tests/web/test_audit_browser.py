"""The audit and its reports in Debian's Chromium: both languages, on a desk and on a phone, with an empty console."""

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from appliance import duties
from tests.web.served import Served, served
from tests.web.test_accessibility import AXE, HABITS, LOOK, RUN, TAGS
from tests.web.test_browser import browser  # noqa: F401 - a fixture

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(300)]

SHOTS = os.environ.get("SCREENSHOTS", "")


@pytest.fixture
def console(
    tmp_path: Path,
    browser: Browser,  # noqa: F811
    free_port: Callable[[], int],
    eventually: Callable[..., object],
) -> Iterator[Served]:
    with served(tmp_path, free_port(), browser, eventually) as running:
        duties.check_audit(running.box, datetime.now(UTC))
        yield running


def _look(page: Page, name: str) -> None:
    if SHOTS:
        Path(SHOTS).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=str(Path(SHOTS) / f"{name}.png"), full_page=True)
    page.evaluate(AXE.read_text("utf-8"))
    assert page.evaluate(RUN, [list(TAGS), list(HABITS)]) == [], name
    faults = page.evaluate(LOOK)
    # A bar that is too wide for a phone is not of this page: what its own parts do is judged here.
    assert [each for each in faults if "undefined.undefined" not in each] == [], name


@pytest.mark.parametrize("locale", ["en-CA", "fr-CA"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_audit_is_searched_and_reported(console: Served, locale: str, width: int) -> None:
    english = locale.startswith("en")
    context = console.context(locale, width=width)
    page = console.page(context)
    console.sign_in(page)
    page.goto(f"{console.address}/studies/1")
    page.goto(f"{console.address}/audit")
    opened = "Opened a study" if english else "Examen ouvert"
    expect(page.locator("#rows")).to_contain_text(opened)
    expect(page.locator(".chain")).to_contain_text("The log is whole" if english else "Le journal est intact")
    _look(page, f"audit-{locale}-{width}")
    page.locator("select[name=kind]").select_option("security")
    expect(page.locator("#rows")).not_to_contain_text(opened)
    page.locator("select[name=kind]").select_option("")
    page.locator("input[name=patient]").fill("zzz nobody")
    page.locator("form.filters button.primary").click()
    expect(page.locator("#rows .empty")).to_be_visible()
    page.goto(f"{console.address}/audit/reports")
    _look(page, f"reports-{locale}-{width}")
    page.locator("form:has([value=year]) button.primary").click()
    expect(page.locator(".report .facts")).to_be_visible()
    _look(page, f"report-{locale}-{width}")
    assert console.complaints == []
    context.close()
