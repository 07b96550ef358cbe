"""Two people at two browsers: one invites, the other accepts; a role changes, a study is shown, an account is closed."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.web.served import Served, served
from tests.web.test_browser import browser  # noqa: F401 -- a fixture

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(300)]

CHOSEN = "cinq renards sous la lampe"
SCREENSHOTS = os.environ.get("SCREENSHOTS", "")


@pytest.fixture
def clinic(browser: Browser, data_dir, free_port, eventually) -> Iterator[Served]:  # noqa: F811
    with served(data_dir, free_port(), browser, eventually) as running:
        yield running


def look(page: Page, name: str) -> None:
    if SCREENSHOTS:
        Path(SCREENSHOTS).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=str(Path(SCREENSHOTS) / f"{name}.png"), full_page=True)


def fits(page: Page) -> None:
    """Nothing makes the page wider than its window."""
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), page.url


@pytest.mark.parametrize(
    ("locale", "lang", "width", "height"),
    [("en-CA", "en", 1280, 860), ("fr-CA", "fr", 1280, 860), ("fr-CA", "fr", 390, 844)],
)
def test_a_colleague_is_invited_accepts_changes_role_and_leaves(
    clinic: Served, locale: str, lang: str, width: int, height: int
) -> None:
    shot = f"{lang}-{width}"
    owner = clinic.page(clinic.context(locale, width=width, height=height))
    clinic.sign_in(owner)
    owner.goto(f"{clinic.address}/users/invite?lang={lang}")
    owner.locator("[name=name]").fill("Étienne Référent")
    owner.locator("[name=login]").fill("etienne@example.ca")
    owner.locator("[name=role][value=referrer]").check()
    owner.locator("[name=language]").select_option(lang)
    fits(owner)
    look(owner, f"{shot}-invite")
    owner.locator("main .form button.primary").click()
    address = owner.locator("[data-copy-from]").input_value()
    assert address.startswith(f"{clinic.address}/welcome#")
    fits(owner)
    look(owner, f"{shot}-invited")
    number = owner.url.split("/users/")[1].split("?")[0]

    asked: list[str] = []
    colleague = clinic.page(clinic.context(locale, width=width, height=height))
    colleague.on("request", lambda request: asked.append(request.url))
    colleague.goto(address)
    expect(colleague.locator("[name=password]")).to_be_visible()
    assert address.split("#")[1] not in "".join(asked), "the secret is in no address"
    assert "#" not in colleague.url
    fits(colleague)
    look(colleague, f"{shot}-welcome")
    colleague.locator("[name=password]").fill(CHOSEN)
    colleague.locator("[name=again]").fill(CHOSEN)
    colleague.locator("main button.primary").click()
    look(colleague, f"{shot}-chosen")
    colleague.locator("main a.primary").click()
    colleague.locator("[name=login]").fill("etienne@example.ca")
    colleague.locator("[name=password]").fill(CHOSEN)
    colleague.locator("main button.primary").click()
    expect(colleague.locator("#rows .empty")).to_contain_text({"en": "granted", "fr": "accordé"}[lang])
    look(colleague, f"{shot}-referrer-empty")

    # A study is granted while the colleague looks: it appears by itself, and nothing else does.
    owner.goto(f"{clinic.address}/studies/1")
    sharing = owner.locator(".sharing", has=owner.locator("[name=person]"))
    sharing.locator("summary.button").click()
    sharing.locator("[name=person]").select_option(number)
    sharing.locator("[name=reason]").fill("Deuxième avis")
    look(owner, f"{shot}-study-sharing")
    sharing.locator("button.primary").click()
    expect(owner.locator(".grants li")).to_have_count(1)
    fits(owner)
    expect(colleague.locator(".study")).to_have_count(1)
    colleague.locator(".study a[data-row]").click()
    expect(colleague.locator("[data-picture]")).to_be_visible()
    look(colleague, f"{shot}-referrer-study")

    # As a student, the same study has no name.
    name = colleague.locator("h1").inner_text()
    owner.goto(f"{clinic.address}/users/{number}")
    look(owner, f"{shot}-user")
    owner.locator("[name=role][value=student]").check()
    owner.locator("main .form button.primary").click()
    expect(owner.locator(".page-head .badge.kind")).not_to_be_empty()
    colleague.reload()
    expect(colleague.locator("h1")).to_contain_text({"en": "Case ", "fr": "Cas "}[lang])
    expect(colleague.locator("body")).not_to_contain_text(name)
    fits(colleague)
    look(colleague, f"{shot}-student-study")
    assert clinic.complaints == []  # afterwards the colleague's open page is told 401, as it should be

    owner.goto(f"{clinic.address}/users/{number}")
    owner.locator(".acts details.confirm summary").last.click()
    look(owner, f"{shot}-deactivate")
    owner.locator(".acts details[open] button.danger").click()
    expect(owner.locator("form[action$='/reactivate']")).to_be_visible()
    owner.goto(f"{clinic.address}/users")
    expect(owner.locator("tbody tr")).to_have_count(2)
    fits(owner)
    look(owner, f"{shot}-users")
    owner.goto(f"{clinic.address}/roles")
    fits(owner)
    look(owner, f"{shot}-roles")
    colleague.goto(f"{clinic.address}/studies")
    expect(colleague.locator("[name=login]")).to_be_visible()


def test_a_link_that_was_used_says_so_and_what_to_do(clinic: Served) -> None:
    page = clinic.page(clinic.context("fr-CA", width=390, height=844))
    page.goto(f"{clinic.address}/welcome#{'x' * 43}")
    expect(page.locator("#form-error")).to_contain_text("n’est plus valable")
    look(page, "fr-390-link-bad")
    page.goto(f"{clinic.address}/welcome")
    expect(page.locator("[name=code]")).to_be_visible()
    look(page, "fr-390-link-none")
