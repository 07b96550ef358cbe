"""The console as an app, in Chromium with its network cut: what is kept, what is said, and what is never kept."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from appliance.web.views import shell
from tests.web.served import Served, served
from tests.web.test_browser import browser  # noqa: F401 -- a fixture

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(300)]

INSTALLED_MS = 120_000


@pytest.fixture
def clinic(browser: Browser, data_dir, free_port, eventually) -> Iterator[Served]:  # noqa: F811
    with served(data_dir, free_port(), browser, eventually) as running:
        yield running


@pytest.fixture
def context(clinic: Served) -> BrowserContext:
    return clinic.context()


def kept_by(page: Page) -> list[str]:
    """Every address in the browser's Cache Storage."""
    return page.evaluate(
        """async () => {
          const found = [];
          for (const name of await caches.keys())
            for (const request of await (await caches.open(name)).keys()) found.push(new URL(request.url).pathname);
          return found.sort();
        }"""
    )


def controlled(page: Page) -> None:
    """Wait until the service worker is in charge of the page.

    One that takes over while the page is between two documents is in charge of neither, but of every page that follows.
    """
    assert page.evaluate(
        """(patience) => Promise.race([
          navigator.serviceWorker.ready.then(() => true),
          new Promise((tell) => setTimeout(tell, patience, false)),
        ])""",
        INSTALLED_MS,
    ), "the service worker was not installed"
    if not in_charge(page):
        page.reload()
    assert in_charge(page)


def in_charge(page: Page) -> bool:
    return bool(page.evaluate("() => navigator.serviceWorker.controller !== null"))


@pytest.mark.parametrize(
    ("locale", "title", "works", "word"),
    [
        ("en-CA", "The box cannot be reached", "X-ray machines", "accents"),
        ("fr-CA", "Le boîtier est injoignable", "appareils", "majuscules"),
    ],
)
def test_without_the_network_a_page_says_so_helps_and_comes_back_by_itself(
    clinic: Served, locale: str, title: str, works: str, word: str
) -> None:
    context = clinic.context(locale)
    page = clinic.page(context)
    clinic.sign_in(page)
    controlled(page)
    page.goto(f"{clinic.address}/studies")
    context.set_offline(True)
    banner = page.locator("[data-offline]")
    expect(banner).to_be_visible()
    expect(banner).to_contain_text(works)

    page.goto(f"{clinic.address}/studies/1")
    expect(page.locator("h1")).to_have_text(title)
    expect(page.locator("main")).not_to_contain_text("Tremblay")
    before = page.locator("[data-help-section]:visible").count()
    page.locator("[data-search-here]").fill(word)
    expect(page.locator("[data-help-section]:visible")).not_to_have_count(before)
    expect(page.locator("[data-help-section]:visible").first).to_contain_text(re.compile(word, re.IGNORECASE))
    page.locator("[data-search-here]").fill("zeppelin")
    expect(page.locator("[data-none-found]")).to_be_visible()

    context.set_offline(False)
    expect(page.locator("[data-viewer]")).to_be_visible()
    assert page.url == f"{clinic.address}/studies/1"
    expect(page.locator("[data-offline]")).to_be_hidden()


def test_a_banner_goes_by_itself_when_the_network_is_back(clinic: Served, context: BrowserContext) -> None:
    page = clinic.page(context)
    clinic.sign_in(page)
    context.set_offline(True)
    expect(page.locator("[data-offline]")).to_be_visible()
    context.set_offline(False)
    expect(page.locator("[data-offline]")).to_be_hidden()


def test_the_browser_keeps_the_shell_and_nothing_of_a_patient(
    clinic: Served, context: BrowserContext
) -> None:
    page = clinic.page(context)
    clinic.sign_in(page)
    controlled(page)
    for path in ("/studies", "/studies/1", "/studies/2", "/deliveries", "/help", "/health"):
        page.goto(f"{clinic.address}{path}")
    page.locator("[data-search]").first.wait_for(state="detached")
    kept = kept_by(page)
    assert any(name.endswith(".js") for name in kept)
    assert "/offline/fr" in kept
    strange = [name for name in kept if not name.startswith(("/static/", "/offline/"))]
    assert strange == []
    text = page.evaluate(
        """async () => {
          let all = "";
          for (const name of await caches.keys()) {
            const cache = await caches.open(name);
            for (const request of await cache.keys()) all += await (await cache.match(request)).text();
          }
          return all;
        }"""
    )
    for secret in ("Bélanger", "Gagné^", "GAGF", "COTH", "Marie Tremblay", 'name="csrf"'):
        assert secret not in text
    assert clinic.complaints == []


def test_signing_out_makes_the_browser_forget(clinic: Served, context: BrowserContext) -> None:
    page = clinic.page(context)
    clinic.sign_in(page)
    page.evaluate("() => caches.open('left over').then((cache) => cache.put('/x', new Response('x')))")
    page.evaluate("() => localStorage.setItem('left', 'over')")
    page.locator("form[action='/sign-out'] button").click()
    expect(page.locator("h1")).to_have_text("Sign in")
    assert "/x" not in kept_by(page)
    assert page.evaluate("() => localStorage.length") == 0


def test_a_new_version_is_offered_and_taken_when_asked_for(
    clinic: Served, context: BrowserContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = clinic.page(context)
    clinic.sign_in(page)
    controlled(page)
    page.goto(f"{clinic.address}/help")
    expect(page.locator("[data-update]")).to_be_hidden()
    monkeypatch.setattr(shell, "__version__", "99.0.0")
    page.evaluate(
        "() => navigator.serviceWorker.ready.then((registration) => registration.update()).then(() => null)"
    )
    expect(page.locator("[data-update]")).to_be_visible()
    page.evaluate("() => { document.body.dataset.before = 'yes'; }")
    page.locator("[data-update] button").click()
    expect(page.locator("body[data-before]")).to_have_count(0)
    expect(page.locator("[data-update]")).to_be_hidden()
    names = page.evaluate("() => caches.keys()")
    assert [name for name in names if "99.0.0" in name] == names
    assert clinic.complaints == []


@pytest.mark.parametrize(("locale", "name"), [("en-CA", "Clinic Box"), ("fr-CA", "Boîtier clinique")])
def test_the_console_can_be_installed_under_its_own_name(clinic: Served, locale: str, name: str) -> None:
    page = clinic.page(clinic.context(locale))
    clinic.sign_in(page)
    controlled(page)
    devtools = page.context.new_cdp_session(page)
    manifest = devtools.send("Page.getAppManifest")
    assert manifest["errors"] == []
    assert f'"name": "{name}"' in manifest["data"]
    faults = devtools.send("Page.getInstallabilityErrors")["installabilityErrors"]
    # A window of a test is "incognito", where nothing is installed; nothing else may stand in the way.
    assert [fault["errorId"] for fault in faults if fault["errorId"] != "in-incognito"] == []
    for icon in ("icon-192.png", "icon-512.png", "icon-maskable-512.png", "icon-180.png"):
        size = page.evaluate(
            "(address) => { const image = new Image(); image.src = address; return image.decode().then(() => image.width); }",
            f"/static/{icon}",
        )
        assert str(size) in icon
    assert clinic.complaints == []
