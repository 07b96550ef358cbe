"""Retention in Debian's Chromium: a hold, a request, and the approval by another person, on a desk and on a phone."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from appliance import identity
from appliance.catalog import people
from appliance.identity import Role
from tests.lifecycle.clinic import arrive, bring_up_to_date, watch
from tests.web.served import Served, served
from tests.web.test_accessibility import AXE, HABITS, LOOK, RUN, TAGS
from tests.web.test_browser import browser  # noqa: F401 - a fixture

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(300)]

SHOTS = os.environ.get("SCREENSHOTS", "")
OLD = datetime.now(UTC) - timedelta(days=365 * 12)


@pytest.fixture
def console(
    tmp_path: Path,
    browser: Browser,  # noqa: F811
    free_port: Callable[[], int],
    eventually: Callable[..., object],
) -> Iterator[Served]:
    with served(tmp_path, free_port(), browser, eventually) as running:
        watch(running.box.catalog, datetime.now(UTC))
        for number, name in enumerate(("LÉVESQUE^Hélène", "TREMBLAY^Luc", "NGUYEN^Thi", "GAGNON^Zoé") * 3):
            patient = {"patient_id": f"P-{number:04}", "patient_name": name, "modality": "PX"}
            arrive(running.box.catalog, f"1.2.3.{number}", at=OLD + timedelta(days=number), **patient)
        bring_up_to_date(running.box.catalog)
        yield running


def _look(page: Page, name: str) -> None:
    if SHOTS:
        Path(SHOTS).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=str(Path(SHOTS) / f"{name}.png"), full_page=True)
    page.evaluate(AXE.read_text("utf-8"))
    assert page.evaluate(RUN, [list(TAGS), list(HABITS)]) == [], name
    assert page.evaluate(LOOK) == [], name


def _officer(console: Served, locale: str, width: int) -> Page:
    """Another person's browser, who has just signed in."""
    moment = datetime.now(UTC)
    with console.box.catalog.transaction() as tx:
        person = people.person(tx, "officer") or people.add(
            tx,
            login="officer",
            name="Paul Roy",
            role=Role.PRIVACY_OFFICER,
            password_hash="none",
            language="",
            now=moment,
        )
        cookie = identity.open_session(tx, person.id, address="127.0.0.1", agent="tests", now=moment)
    context = console.context(locale, width=width)
    context.add_cookies([{"name": "console_session", "value": cookie, "url": console.address}])
    return console.page(context)


@pytest.mark.parametrize(("locale", "width"), [("en-CA", 1280), ("fr-CA", 390)])
def test_two_people_decide(console: Served, locale: str, width: int) -> None:
    place = f"{locale}-{width}"
    page = console.page(console.context(locale, width=width))
    console.sign_in(page)
    page.goto(f"{console.address}/retention")
    _look(page, f"due-{place}")
    page.locator("input[name=study]").nth(0).check()
    page.locator("input[name=study]").nth(1).check()
    page.locator("input[name=reason]").fill("yearly review 2026")
    page.locator("main form button.primary").last.click()
    page.wait_for_url("**/retention/requests/*")
    _look(page, f"own-request-{place}")
    address = page.url
    page.locator("main table a").first.click()
    page.locator("#keeping-title").wait_for()
    page.locator("details:has(form[action$='/visits']) summary").click()
    page.locator("form[action$='/visits'] input[name=day]").fill("2001-03-01")
    page.locator("form[action$='/visits'] button").click()
    expect(page.locator("[aria-labelledby=keeping-title] form[action$='/withdraw']")).to_have_count(1)
    page.locator("details:has(form[action$='/holds']) summary").click()
    page.locator("form[action$='/holds'] input[name=reason]").fill("claim 2026-114")
    page.locator("form[action$='/holds'] button").click()
    expect(page.locator("[aria-labelledby=keeping-title]")).to_contain_text("claim 2026-114")
    _look(page, f"study-{place}")
    for name in ("holds", "rules"):
        page.goto(f"{console.address}/retention/{name}")
        _look(page, f"{name}-{place}")
    other = _officer(console, locale, width)
    other.goto(address)
    expect(other.locator("table .badge.wait")).to_have_count(1)
    _look(other, f"request-{place}")
    other.locator("input[name=understood]").check()
    other.locator("form[action$='/approve'] button").click()
    expect(other.locator(".page-head .badge.kind")).to_be_visible()
    _look(other, f"approved-{place}")
    other.goto(f"{console.address}/retention/requests")
    _look(other, f"requests-{place}")
    assert console.complaints == []
