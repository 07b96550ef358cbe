"""The dashboard and the performance page in Chromium: both languages, three widths, light and dark, and live."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from appliance import health, identity
from appliance.box import Box
from appliance.catalog import deliveries, destinations, devices, people, samples, settings
from appliance.catalog.samples import Arrived
from appliance.figures import Figures
from appliance.latency import STAGES, Histogram
from appliance.model import AETitle, DestinationSettings, Device, InstanceId, Owed
from appliance.replication.delivery import Breaker
from tests.web.conftest import LOGIN, add_owner, fill
from tests.web.test_browser import PATIENCE_MS, Clinic, browser, clinic  # noqa: F401 - fixtures

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(300)]

WIDTHS = {"desktop": (1440, 900), "laptop": (1200, 900), "tablet": (900, 1180), "phone": (390, 844)}
AXE = Path(__file__).parents[2] / "web-ui" / "node_modules" / "axe-core" / "axe.min.js"
DAYS = 14


def furnish(box: Box) -> None:
    """A clinic at work: two machines, a bucket that can't be reached, a PACS that refused, two weeks of figures."""
    now = datetime.now(UTC)
    fill(box, scale=0.05)
    with box.catalog.transaction() as tx:
        devices.add_device(tx, Device(AETitle("PANO1"), "10.0.0.4", "Panoramic, room 2"), now)
        devices.add_device(tx, Device(AETitle("IO2"), "10.0.0.5", "Intra-oral sensors"), now)
        cloud = destinations.add(
            tx, DestinationSettings("cloud", "folder", "ciphertext", {"path": "/nowhere"})
        )
        pacs = destinations.add(tx, DestinationSettings("pacs", "folder", "dicom", {"path": "/nowhere"}))
        destinations.set_breaker(tx, cloud, Breaker(3, now + timedelta(hours=1), "no route"))
        for number in range(1, 7):
            deliveries.owe(tx, InstanceId(number), [Owed(cloud, 0), Owed(pacs, 0)], now - timedelta(hours=5))
        for each in deliveries.claim(tx, pacs, now=now, lease_seconds=600, limit=6):
            if int(each.id) % 3:
                deliveries.confirm(tx, each.id, {"status": "0000"}, now)
            else:
                deliveries.fail(tx, each.id, each.attempts, reason="will not have it", now=now)
        for ago in range(DAYS):
            at = now - timedelta(days=ago)
            day = at.astimezone().date()
            received = 0 if day.weekday() >= 5 else 60 + (ago * 37) % 90
            senders = {("PANO1", "10.0.0.4", day): 5} if ago > 3 else {}
            senders |= {("IO2", "10.0.0.5", day): received} if received else {}
            figures = Figures(
                received=received,
                received_bytes=received * 9_000_000,
                delivered=received,
                free_bytes=(620 + 6 * ago) * 10**9,
                latencies={stage: quick(0.004 * (1 + place * 3), ago) for place, stage in enumerate(STAGES)},
            )
            samples.write(tx, at, figures, Arrived(received, 0, senders), samples.end(tx))
        kept = {
            (now - timedelta(days=ago)).astimezone().date().isoformat(): (620 + 6 * ago) * 10**9
            for ago in range(DAYS)
        }
        settings.put(tx, "disk.free-by-day", kept, now)
        longest = datetime(2026, 9, 28, 21, 10, tzinfo=UTC)  # in French, 28 sept. 2026, 17 h 10
        made = {"at_utc": longest.isoformat(), "outcome": "succeeded", "succeeded_utc": longest.isoformat()}
        settings.put(tx, f"{health.BACKUP}.cloud", made, now)


def quick(seconds: float, spread: int) -> Histogram:
    made = Histogram()
    for number in range(1, 40):
        made.observe(seconds * (1 + number % (3 + spread % 5)))
    return made


def enter(clinic: Clinic, page: Page) -> None:  # noqa: F811 - the fixture of that name is a value here
    """Sign the owner in."""
    now = datetime.now(UTC)
    with clinic.box.catalog.transaction() as tx:
        person = people.person(tx, LOGIN)
        assert person is not None
        cookie = identity.open_session(tx, person.id, address="127.0.0.1", agent="tests", now=now)
    page.context.add_cookies([{"name": "console_session", "value": cookie, "url": clinic.address}])


def faults(page: Page) -> list[str]:
    """What axe finds against WCAG 2.2 AA."""
    page.evaluate(AXE.read_text("utf-8"))
    found = page.evaluate(
        """async () => (await axe.run(document, {runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}))
        .violations.map(each => each.id + ": " + each.nodes.map(node => node.target.join(" ")).join(", "))"""
    )
    return [str(each) for each in found]


BROKEN = """() => [...document.querySelectorAll(".tile-value")].flatMap(each => {
    const text = each.firstChild, range = document.createRange();
    return [...text.data.matchAll(/[^\\s]+/g)].filter(word => {
        range.setStart(text, word.index);
        range.setEnd(text, word.index + word[0].length);
        return range.getClientRects().length > 1;
    }).map(word => word[0]);
})"""
"""The words of the tiles that stand on two lines: 202 above and 6 below is no year."""


@pytest.mark.parametrize("locale", ["en-CA", "fr-CA"])
def test_both_pages_at_every_width_in_light_and_dark(clinic: Clinic, locale: str) -> None:  # noqa: F811
    add_owner(clinic.box)
    furnish(clinic.box)
    for width, (across, down) in WIDTHS.items():
        page = clinic.page(locale, across, down)
        enter(clinic, page)
        for name, path in (("dashboard", "/"), ("performance", "/performance?period=month")):
            page.goto(f"{clinic.address}{path}")
            expect(page.locator("h1")).to_be_visible()
            for scheme in ("light", "dark"):
                page.emulate_media(color_scheme=scheme)
                assert faults(page) == [], (name, width, scheme)
                clinic.look(page, f"{locale}-{name}-{width}-{scheme}")
            assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), (name, width)
            assert page.evaluate(BROKEN) == [], (name, width)
        page.context.close()
    assert clinic.complaints == []


def test_problems_appear_and_vanish_while_one_looks(clinic: Clinic) -> None:  # noqa: F811
    add_owner(clinic.box)
    page = clinic.page()
    enter(clinic, page)
    page.goto(clinic.address)
    expect(page.locator("[data-problem=dicom-stopped]")).to_be_visible()
    damaged = page.locator("[data-problem=damaged]")
    expect(damaged).to_have_count(0)
    now = datetime.now(UTC)
    with clinic.box.catalog.transaction() as tx:
        settings.put(tx, health.VERIFICATION, {"damaged": 2}, now)
    expect(damaged).to_contain_text("2 stored images were found damaged", timeout=PATIENCE_MS)
    fill(clinic.box, scale=0.05)
    expect(page.locator("[data-figure=kept]")).to_contain_text("3 studies", timeout=PATIENCE_MS)
    with clinic.box.catalog.transaction() as tx:
        settings.remove(tx, health.VERIFICATION)
    expect(damaged).to_have_count(0, timeout=PATIENCE_MS)
    assert clinic.complaints == []


def test_numbers_that_were_opened_stay_open_and_equal_what_is_drawn(clinic: Clinic) -> None:  # noqa: F811
    add_owner(clinic.box)
    furnish(clinic.box)
    page = clinic.page()
    enter(clinic, page)
    page.goto(clinic.address)
    chart = page.locator("[data-chart=received]")
    chart.locator("summary").click()
    rows = chart.locator("tbody tr")
    expect(rows).to_have_count(DAYS)
    drawn = chart.locator("[data-shown]").evaluate_all("all => all.map(each => each.dataset.shown)")
    assert drawn == chart.locator("tbody td").all_inner_texts()
    now = datetime.now(UTC)
    with clinic.box.catalog.transaction() as tx:
        settings.put(tx, health.VERIFICATION, {"damaged": 2}, now)
    expect(page.locator("[data-problem=damaged]")).to_be_visible(timeout=PATIENCE_MS)
    expect(rows.first).to_be_visible()
    assert clinic.complaints == []


def test_a_button_beside_a_problem_helps_and_its_help_is_one_click_away(clinic: Clinic) -> None:  # noqa: F811
    add_owner(clinic.box)
    furnish(clinic.box)
    page = clinic.page("fr-CA", 390, 844)
    enter(clinic, page)
    page.goto(clinic.address)
    refused = page.locator("[data-problem=delivery-failed]")
    refused.get_by_role("link", name="Que faire").click()
    expect(page.locator("#delivery-failed h2")).to_have_text("Une destination a refusé des images")
    page.goto(clinic.address)
    refused.get_by_role("button", name="Tout réessayer").click()
    expect(page.locator(".note.good")).to_contain_text("réessayé")
    page.goto(clinic.address)
    expect(refused).to_have_count(0)
    assert clinic.complaints == []
