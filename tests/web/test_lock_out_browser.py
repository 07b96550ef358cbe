"""Whoever guesses a password too often is shut out, is told what helps, and both things that help do: time, and another owner."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from appliance import identity
from appliance.catalog import people
from appliance.identity import limits
from appliance.identity.roles import Role
from appliance.web import security
from appliance.web.views import door
from tests.web.conftest import LOGIN, PASSWORD
from tests.web.served import PATIENCE_MS, Served, served
from tests.web.test_accessibility import faults_of
from tests.web.test_browser import browser  # noqa: F401 -- a fixture

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(300)]

OTHER = "luc"
CHOSEN = "cinq renards sous la lampe"
SCREENSHOTS = os.environ.get("SCREENSHOTS", "")
WRONG = {"en": "do not match", "fr": "ne correspondent"}
SHUT = {
    "en": "ask an owner to reset the password",
    "fr": "demandez à un propriétaire de réinitialiser le mot de passe",
}


@pytest.fixture
def clinic(browser: Browser, data_dir, free_port, eventually) -> Iterator[Served]:  # noqa: F811
    with served(data_dir, free_port(), browser, eventually) as running:
        moment = datetime.now(UTC)
        with running.box.catalog.transaction() as tx:
            identity.add_user(
                tx, login=OTHER, name="Luc Roy", role=Role.OWNER, password=PASSWORD, language="fr", now=moment
            )
        yield running


def type_in(clinic: Served, page: Page, login: str, password: str) -> None:
    page.goto(f"{clinic.address}/sign-in")
    page.locator("[name=login]").fill(login)
    page.locator("[name=password]").fill(password)
    page.locator("main button.primary").click()


def shut_out(clinic: Served, page: Page, language: str) -> None:
    """Guess until nothing is examined any more, the right password neither; what is said is for everybody."""
    for _ in range(limits.HERE):
        type_in(clinic, page, LOGIN, "un chat sur le toit")
        expect(page.locator("#form-error")).to_contain_text(WRONG[language], timeout=PATIENCE_MS)
    type_in(clinic, page, LOGIN, PASSWORD)
    said = page.locator("#form-error")
    expect(said).to_contain_text(SHUT[language], ignore_case=True, timeout=PATIENCE_MS)
    expect(said).to_contain_text(
        re.compile(r"\d{1,2}\s*[:h]\s*\d\d")
    )  # the hour from which it may be tried again
    assert faults_of(page) == []
    if SCREENSHOTS:
        Path(SCREENSHOTS).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=str(Path(SCREENSHOTS) / f"shut-{language}.png"), full_page=True)


@pytest.mark.parametrize("language", ["en", "fr"])
def test_who_is_locked_out_is_told_and_comes_in_when_the_time_is_over(
    clinic: Served, monkeypatch: pytest.MonkeyPatch, language: str
) -> None:
    page = clinic.page(clinic.context(f"{language}-CA", width=1280 if language == "en" else 390))
    shut_out(clinic, page, language)
    later = limits.WINDOW + timedelta(seconds=30)
    for module in (door, security):  # a session that begins then is looked at then
        monkeypatch.setattr(module, "now", lambda: datetime.now(UTC) + later)
    type_in(clinic, page, LOGIN, PASSWORD)
    page.locator(".bar-person, .side").first.wait_for(state="attached", timeout=PATIENCE_MS)
    assert clinic.complaints == [] or all("422" in each or "429" in each for each in clinic.complaints)


def test_who_is_locked_out_is_let_in_by_another_owner(clinic: Served) -> None:
    page = clinic.page(clinic.context("fr-CA"))
    shut_out(clinic, page, "fr")
    other = clinic.page(clinic.context("fr-CA"))
    type_in(clinic, other, OTHER, PASSWORD)
    other.locator(".side").wait_for(state="attached")
    with clinic.box.catalog.reading() as conn:
        person = people.person(conn, LOGIN)
    assert person is not None
    other.goto(f"{clinic.address}/users/{person.id}")
    for folded in other.locator("main details.confirm summary").all():
        folded.click()
    other.locator(f"form[action='/users/{person.id}/link'] button").first.click()
    if other.locator("[name=confirm_password]").count():
        other.locator("[name=confirm_password]").fill(PASSWORD)
        other.locator("main button.primary").click()
    address = other.locator("[data-copy-from]").input_value()
    page.goto(address)
    page.locator("[name=password]").fill(CHOSEN)
    page.locator("[name=again]").fill(CHOSEN)
    page.locator("main button.primary").click()
    page.locator("main a.primary").click()
    type_in(clinic, page, LOGIN, CHOSEN)
    page.locator(".side").wait_for(state="attached")
