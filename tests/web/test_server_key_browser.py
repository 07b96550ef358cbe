"""A NAS is added in Debian's Chromium, by SFTP and by SMB, and chosen while setting up; on a desk and on a phone."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from appliance.wizard.steps import Step
from tests.replication.file_servers import openssh, private_key
from tests.replication.shares import PASSWORD, SHARE, samba
from tests.web.served import Served, served
from tests.web.test_accessibility import AXE, HABITS, LOOK, RUN, TAGS
from tests.web.test_browser import browser  # noqa: F401 - a fixture
from tests.web.test_setup import settle

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(300)]

SHOTS = os.environ.get("SCREENSHOTS", "")


@pytest.fixture
def console(
    tmp_path: Path,
    browser: Browser,  # noqa: F811
    free_port: Callable[[], int],
    eventually: Callable[..., object],
) -> Iterator[Served]:
    with served(tmp_path / "box", free_port(), browser, eventually) as running:
        yield running


def _look(page: Page, name: str) -> None:
    if SHOTS:
        Path(SHOTS).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=str(Path(SHOTS) / f"{name}.png"), full_page=True)
    page.evaluate(AXE.read_text("utf-8"))
    assert page.evaluate(RUN, [list(TAGS), list(HABITS)]) == [], name
    assert page.evaluate(LOOK) == [], name


def test_a_file_server_is_added_compared_and_missed_when_it_changes(console: Served, tmp_path: Path) -> None:
    desk = console.page(console.context())
    console.sign_in(desk)
    with openssh(tmp_path / "nas") as server:
        desk.goto(f"{console.address}/destinations")
        desk.locator("a[href='/destinations/new/sftp']").click()
        for name, value in (
            ("name", "NAS"),
            ("address", "127.0.0.1"),
            ("port", str(server.port)),
            ("folder", str(server.folder)),
            ("user", server.user),
        ):
            desk.locator(f"[name={name}]").fill(value)
        desk.locator("[name=login]").select_option("key")
        _look(desk, "sftp-new")
        desk.get_by_role("button", name="Add and test").click()
        ours = desk.locator("#own-key")
        expect(ours).to_contain_text("ssh-ed25519 ")
        (tmp_path / "nas" / "let_in").write_text(ours.inner_text())
        _look(desk, "sftp-compare")
        desk.get_by_role("button", name="It is the same").click()
        expect(desk.get_by_text("NAS works")).to_be_visible()
        _look(desk, "sftp-trusted")
    with openssh(tmp_path / "nas", host_key=private_key()[0], port=server.port):
        phone = console.page(console.context("fr-CA", width=390, height=844, dark=True))
        console.sign_in(phone)
        phone.goto(f"{console.address}/destinations/1/key")
        expect(phone.get_by_text("La clé du serveur a changé")).to_be_visible()
        _look(phone, "sftp-changed-fr-phone")
    assert console.complaints == []


def test_a_share_is_added_and_chosen_while_setting_up(console: Served, tmp_path: Path) -> None:
    desk = console.page(console.context())
    phone = console.page(console.context("fr-CA", width=390, height=844, dark=True))
    for page in (desk, phone):
        console.sign_in(page)
    settle(console.box, Step.CLINIC, Step.NETWORK, Step.ACCOUNT, Step.RECOVERY)
    with samba(tmp_path / "nas") as server:
        desk.goto(f"{console.address}/destinations")
        desk.locator("a[href='/destinations/new/smb']").click()
        for name, value in (
            ("name", "Share"),
            ("address", "127.0.0.1"),
            ("port", str(server.port)),
            ("share", SHARE),
            ("user", server.user),
            ("secret", PASSWORD),
        ):
            desk.locator(f"[name={name}]").fill(value)
        _look(desk, "smb-new")
        desk.get_by_role("button", name="Add and test").click()
        expect(desk.get_by_text("Share works")).to_be_visible()
        desk.goto(f"{console.address}/destinations/1")
        expect(desk.get_by_text("calls itself testnas")).to_be_visible()
        _look(desk, "smb-added")
        phone.goto(f"{console.address}/destinations/1")
        _look(phone, "smb-added-fr-phone")

        for page, name in ((desk, "storage"), (phone, "storage-fr-phone")):
            page.goto(f"{console.address}/setup/storage")
            _look(page, f"{name}-share-kept")
            for kind in ("bucket", "server", "disk", "share"):
                page.locator(f"input[name=kind][value={kind}]").check()
                _look(page, f"{name}-{kind}")
        desk.locator("[name=share_password]").fill("another password")
        desk.locator("form[action='/setup/storage/cloud'] button").first.click()
        expect(desk.locator("#test .is-failed")).to_be_visible()
        expect(desk.locator("#test")).to_contain_text("Try again")
        _look(desk, "storage-share-failed")
        desk.locator("[name=share_password]").fill(PASSWORD)
        desk.locator("form[action='/setup/storage/cloud'] button").first.click()
        expect(desk.locator("#test .is-done")).to_have_count(3)
        _look(desk, "storage-share-works")
    assert console.complaints == []
