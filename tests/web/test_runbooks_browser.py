"""Runbooks of the box's own image walked in Chromium as somebody does who has the help open: by the names of its links and buttons.

`tests.web.test_runbooks` holds that every name is there; `tests.web.test_runbook_attack_browser` and `tests.web.test_runbook_room_browser` walk
an attack and a full disk, `tests.web.test_setup_browser` the wizard that *Install* leads through, to the first image of a machine.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from appliance import health, identity
from appliance.box import Box
from appliance.catalog import destinations, rules, totals
from appliance.ingest import import_file
from appliance.model import DestinationSettings, Intake, Origin, Rule
from appliance.replication import courier
from appliance.replication.destinations import prepare
from appliance.store import keys
from tests import synthetic
from tests.backup.conftest import IMAGES, SOON, clinic_in
from tests.fleet.outposts import choose
from tests.replication import cloud as clouds
from tests.web.conftest import LOGIN, PASSWORD, add_owner
from tests.web.test_browser import PATIENCE_MS, Clinic, browser, claim, clinic
from tests.web.test_restore_browser import stage, type_code
from tests.web.test_setup_browser import Walk, blank, walk

__all__ = ["blank", "browser", "clinic", "walk"]
pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def page(clinic: Clinic) -> Page:
    """Whoever looks after the box, who has just claimed it."""
    code = identity.claim_code(clinic.box)
    assert code is not None
    made = clinic.page()
    claim(clinic, made, code)
    return made


def films(count: int, seed: int = 1) -> Iterator[BytesIO]:
    for ds, _ in zip(synthetic.dental_set(seed, scale=0.05), range(count), strict=False):
        out = BytesIO()
        ds.save_as(out, enforce_file_format=True)
        yield BytesIO(out.getvalue())


def receive(box: Box, count: int, seed: int = 1) -> None:
    for each in films(count, seed):
        import_file(box, each, Origin(Intake.IMPORT, "tests"))


def images(box: Box) -> int:
    with box.catalog.reading() as conn:
        return totals.totals(conn).instances


@contextmanager
def delivering(box: Box) -> Iterator[None]:
    """The courier works, as its process does while the box runs."""
    stop = threading.Event()
    working = threading.Thread(target=courier.run, args=(box, stop, SOON))
    working.start()
    try:
        yield
    finally:
        stop.set()
        working.join(60)


def follow(clinic: Clinic, page: Page, path: str, name: str) -> None:
    """The page that the runbook's link leads to; it bears the name that the runbook gives it."""
    page.goto(clinic.address + path)
    expect(page.locator("main")).to_contain_text(name)


def button(page: Page, name: str) -> None:
    page.locator("main").get_by_role("button", name=name).first.click()


def add_a_disk(clinic: Clinic, page: Page, disk: Path) -> None:
    """*Destinations*, *Add a destination*, sealed; there *Add this rule* for everything that arrives."""
    follow(clinic, page, "/destinations", "Destinations")
    expect(page.locator("main")).to_contain_text("Add a destination")
    page.locator("a.choice[href='/destinations/new/vault']").click()
    page.locator("main [name=name]").fill("usb")
    page.locator("main [name=path]").fill(str(disk))
    page.locator("main [name=everything]").uncheck()
    page.locator("main button.primary").click()
    follow(clinic, page, "/destinations", "Destinations")
    page.locator(".card", has_text="usb").locator("h2 a").click()
    button(page, "Add this rule")
    expect(page.locator(".lines li")).to_have_count(1)


def card_of_the_disk(page: Page) -> Locator:
    return page.locator("section.card", has=page.locator("h2", has_text="usb"))


def back_up(clinic: Clinic, page: Page) -> None:
    """*Backups*, *Back up now*, at the disk, and wait until it is done."""
    follow(clinic, page, "/backups", "Backups")
    card = card_of_the_disk(page)
    card.get_by_role("button", name="Back up now").click()
    expect(card.locator(".under-way")).to_have_count(0, timeout=2 * PATIENCE_MS)
    expect(card.locator(".facts .badge").first).to_have_class(re.compile("good"), timeout=PATIENCE_MS)


def drill(clinic: Clinic, page: Page) -> None:
    """*Run the drill now*, and see that it passes."""
    follow(clinic, page, "/backups", "Backups")
    card_of_the_disk(page).get_by_role("button", name="Run the drill now").click()
    expect(page.locator("tbody .badge.good")).to_have_count(1, timeout=3 * PATIENCE_MS)
    expect(page.locator("tbody")).to_contain_text("passed")


def test_without_internet_images_go_to_a_disk_and_then_the_box_goes_for_good(
    clinic: Clinic, page: Page, tmp_path: Path, eventually: Callable[..., object]
) -> None:
    """*No Internet for a month*; then, with the archive that this has made, *Install* from its last step and *The box goes for good*."""
    box, disk = clinic.box, tmp_path / "usb"
    disk.mkdir()
    with clouds.cloud() as before:
        clinics = before.new_bucket()
    with box.catalog.transaction() as tx:
        away = destinations.add(tx, clouds.settings(before.url, clinics))
        rules.add_rule(tx, Rule(away, "cloud", "ciphertext"))
    with delivering(box):
        receive(box, 2)
        follow(clinic, page, "/destinations", "Destinations")
        bucket = page.locator("#cards .card", has_text="cloud")
        expect(bucket.locator(".badge.bad")).to_be_visible(timeout=PATIENCE_MS)
        expect(bucket.locator("p.note.bad")).to_be_visible()
        add_a_disk(clinic, page, disk)
        back_up(clinic, page)
        receive(box, 3, seed=2)
        assert images(box) == 5, "receiving goes on"
        eventually(lambda: len(list((disk / "objects").rglob("*.sealed"))) == 3, within_seconds=60)
        follow(clinic, page, "/studies", "Studies")
        expect(page.locator("#rows .study").first).to_be_visible()
        follow(clinic, page, "/deliveries", "Deliveries")
        waits = page.locator("#rows p.note", has_text="for cloud")
        expect(waits).to_contain_text(re.compile(r"objects wait for cloud"))
        with clouds.cloud(before.port) as back:  # the line is back, and nobody does anything
            expect(waits).to_have_count(0, timeout=4 * PATIENCE_MS)
            assert len(back.keys(clinics, "objects/")) == 5, "those too that came before the disk was there"
            eventually(lambda: len(back.keys(clinics, "manifests/")) > 0, within_seconds=60)

    back_up(clinic, page)
    drill(clinic, page)

    follow(clinic, page, "/audit", "Audit")
    with page.expect_download() as kept:
        button(page, "Export JSON")
    lines = Path(kept.value.path()).read_text("utf-8").splitlines()
    actions = {json.loads(each)["action"] for each in lines}
    assert {"backup:make", "backup:drill"} <= actions, actions
    choose(box, {"heartbeat.address": "https://fleet.example.ca/heartbeats"}, datetime.now(UTC))
    follow(clinic, page, "/support/heartbeat", "Heartbeats")
    page.locator("form[action='/support/heartbeat/agree'] button").click()
    button(page, "Send no more")
    expect(page.locator("main")).to_contain_text("No heartbeat is sent")


def test_a_box_is_replaced_from_a_disk_on_the_first_page_of_the_new_one(walk: Walk, tmp_path: Path) -> None:
    """*Replace the box*, by whoever has the paper and the disk."""
    disk, page = tmp_path / "disk", walk.page
    disk.mkdir()
    place = prepare(DestinationSettings("usb", "vault", "ciphertext", {"path": str(disk)}))
    with clinic_in(tmp_path / "lost", place) as lost:
        add_owner(lost.box)
        folder = health.keys_folder(lost.box)
        keys.check_recovery(folder, lost.box.root, str(lost.paper))
        lost.receive(*IMAGES[:3])
        lost.deliver()
        lost.back_up()
    walk.goto("/")
    page.get_by_role("link", name="Restore from backup instead").click()
    stage(walk, "code")
    type_code(walk)
    stage(walk, "source")
    page.locator("[value=disk]").check()
    walk.fill(path=str(disk), key=str(lost.paper))
    walk.press("/setup/restore/look")
    stage(walk, "found")
    expect(page.locator("#restore")).to_contain_text("3 images", timeout=PATIENCE_MS)
    walk.press("/setup/restore/start")
    expect(page).to_have_url(re.compile(r"/sign-in$"), timeout=4 * PATIENCE_MS)
    page.locator("[name=login]").fill(LOGIN)
    page.locator("[name=password]").fill(PASSWORD)
    page.locator("main button.primary").click()
    page.locator(".side").wait_for()
    walk.goto("/health")
    expect(page.locator("h1")).to_contain_text("Dashboard")
    expect(page.locator("main")).not_to_contain_text(re.compile("recovery key", re.IGNORECASE))
    walk.goto("/studies")
    expect(page.locator("#rows .study").first).to_be_visible(timeout=PATIENCE_MS)
