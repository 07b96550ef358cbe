"""Passkeys, codes and the end of a session in a real Chromium, whose virtual authenticator signs as a telephone would."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, CDPSession, Page, expect
from sqlalchemy import update

from appliance import audit, settings
from appliance.catalog import people, second_factors
from appliance.catalog.schema import web_sessions
from appliance.identity import Role
from tests.web.conftest import LOGIN, PASSWORD
from tests.web.second_factor import add_enrolled, add_person, age_confirmation, code
from tests.web.served import Served, served
from tests.web.test_browser import browser  # noqa: F401 -- a fixture

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(300)]

SCREENSHOTS = os.environ.get("SCREENSHOTS", "")


@pytest.fixture
def clinic(browser: Browser, data_dir, free_port, eventually) -> Iterator[Served]:  # noqa: F811
    with served(data_dir, free_port(), browser, eventually) as running:
        yield running


class Device:
    """A device with a fingerprint reader, in the browser of `page`."""

    def __init__(self, page: Page) -> None:
        self.cdp: CDPSession = page.context.new_cdp_session(page)
        self.cdp.send("WebAuthn.enable")
        options = {
            "protocol": "ctap2",
            "transport": "internal",
            "hasResidentKey": True,
            "hasUserVerification": True,
            "isUserVerified": True,
            "automaticPresenceSimulation": True,
        }
        self.id = self.cdp.send("WebAuthn.addVirtualAuthenticator", {"options": options})["authenticatorId"]

    def credentials(self) -> list[dict[str, Any]]:
        return self.cdp.send("WebAuthn.getCredentials", {"authenticatorId": self.id})["credentials"]

    def put_back(self, credential: dict[str, Any]) -> None:
        """What a copy of the device would hold: the same key, with the counter of the moment it was copied."""
        named = {"authenticatorId": self.id, "credentialId": credential["credentialId"]}
        self.cdp.send("WebAuthn.removeCredential", named)
        self.cdp.send("WebAuthn.addCredential", {"authenticatorId": self.id, "credential": credential})


def look(page: Page, name: str) -> None:
    if SCREENSHOTS:
        Path(SCREENSHOTS).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=str(Path(SCREENSHOTS) / f"{name}.png"), full_page=True)


def type_password(clinic: Served, page: Page, login: str) -> None:
    page.goto(f"{clinic.address}/sign-in")
    page.locator("[name=login]").fill(login)
    page.locator("[name=password]").fill(PASSWORD)
    page.locator("main button.primary").click()


def sign_out(page: Page) -> None:
    page.locator("form[action='/sign-out'] button").click()
    page.locator("[name=login]").wait_for()


def add_passkey(page: Page, name: str) -> None:
    page.locator("[data-passkey=create] [name=name]").fill(name)
    page.locator("[data-passkey=create] button").click()


def actions(clinic: Served, login: str) -> list[str]:
    with clinic.box.catalog.reading() as conn:
        return [row["action"] for row in audit.recent(conn, limit=50) if row["subject"] == login]


def test_a_passkey_is_registered_signs_in_alone_and_confirms(clinic: Served) -> None:
    add_person(clinic.box, "anne")
    page = clinic.page(clinic.context())
    device = Device(page)
    type_password(clinic, page, "anne")
    page.goto(f"{clinic.address}/me")
    look(page, "me-unprotected")
    page.get_by_role("button", name="Add a second factor").click()
    look(page, "enrol")
    add_passkey(page, "My laptop")
    expect(page.locator("h1")).to_have_text("Recovery codes")
    expect(page.locator(".codes li")).to_have_count(10)
    look(page, "recovery-codes")
    page.goto(f"{clinic.address}/me")
    expect(page.locator(".lines").first).to_contain_text("My laptop")
    look(page, "me-protected")
    assert len(device.credentials()) == 1

    sign_out(page)
    page.locator("[data-passkey=get] button").click()
    expect(page.locator(".bar-person")).to_contain_text("Anne")

    age_confirmation(clinic.box, "anne")
    page.goto(f"{clinic.address}/me")
    page.locator("summary", has_text="Make new codes").click()
    page.locator("form[action='/me/recovery-codes'] button").click()
    expect(page.locator("h1")).to_have_text("Is it still you?")
    look(page, "confirm")
    page.locator("[data-passkey=get] button").click()
    expect(page.locator("h1")).to_have_text("Recovery codes")

    sign_out(page)
    type_password(clinic, page, "anne")
    expect(page.locator("h1")).to_have_text("One more step")
    look(page, "second-factor-passkey")
    page.locator("[data-passkey=get] button").click()
    expect(page.locator(".bar-person")).to_contain_text("Anne")
    assert {"user:second-factor-add", "user:confirm", "user:login"} <= set(actions(clinic, "anne"))
    assert clinic.complaints == []


def test_several_devices_each_sign_in_and_one_that_is_removed_does_not(clinic: Served) -> None:
    add_person(clinic.box, "bea")
    page = clinic.page(clinic.context())
    first = Device(page)
    type_password(clinic, page, "bea")
    page.goto(f"{clinic.address}/enrol")
    add_passkey(page, "Laptop")
    expect(page.locator("h1")).to_have_text("Recovery codes")
    first.cdp.send("WebAuthn.removeVirtualAuthenticator", {"authenticatorId": first.id})
    Device(page)
    page.goto(f"{clinic.address}/enrol")
    add_passkey(page, "Telephone")
    expect(page.locator(".lines").first).to_contain_text("Telephone")
    page.locator(".lines li", has_text="Telephone").locator("summary").click()
    page.locator(".lines li", has_text="Telephone").locator("form button").click()
    expect(page.locator(".note.good")).to_contain_text("removed")
    sign_out(page)
    page.locator("[data-passkey=get] button").click()
    expect(page.locator("[role=alert]:visible")).to_contain_text("does not open this console")


def test_a_copied_device_is_found_by_its_counter_and_blocked(clinic: Served) -> None:
    add_person(clinic.box, "carl")
    page = clinic.page(clinic.context())
    device = Device(page)
    type_password(clinic, page, "carl")
    page.goto(f"{clinic.address}/enrol")
    add_passkey(page, "Token")
    expect(page.locator("h1")).to_have_text("Recovery codes")
    (copied,) = device.credentials()
    sign_out(page)
    page.locator("[data-passkey=get] button").click()
    expect(page.locator(".bar-person")).to_contain_text("Carl")
    sign_out(page)
    device.put_back(copied)
    page.locator("[data-passkey=get] button").click()
    expect(page.locator("[role=alert]:visible")).to_contain_text("does not open this console")
    with clinic.box.catalog.reading() as conn:
        person = people.person(conn, "carl")
        assert person is not None
        (kept,) = second_factors.passkeys_of(conn, person.id)
    assert kept.blocked_utc is not None
    with page.expect_response(
        lambda answer: answer.request.method == "POST" and "question" not in answer.url
    ):
        page.locator(
            "[data-passkey=get] button"
        ).click()  # its counter has grown past it: blocked all the same
    expect(page.locator("[role=alert]:visible")).to_contain_text("does not open this console")
    page.wait_for_load_state("load")
    assert "user:passkey-block" in actions(clinic, "carl")
    type_password(clinic, page, "carl")
    expect(page.locator("h1")).to_have_text("One more step")
    expect(page.locator("[data-passkey]")).to_have_count(0)


def test_a_device_that_does_not_know_its_user_is_no_passkey(clinic: Served) -> None:
    add_person(clinic.box, "dora")
    page = clinic.page(clinic.context())
    device = Device(page)
    device.cdp.send("WebAuthn.setUserVerified", {"authenticatorId": device.id, "isUserVerified": False})
    type_password(clinic, page, "dora")
    page.goto(f"{clinic.address}/enrol")
    add_passkey(page, "Token")
    expect(page.locator("[data-passkey-failed]")).to_be_visible()
    assert device.credentials() == []


@pytest.mark.parametrize(("locale", "width"), [("fr-CA", 390), ("en-CA", 1280)])
def test_an_owner_is_led_through_setting_up_an_app(clinic: Served, locale: str, width: int) -> None:
    with clinic.box.catalog.transaction() as tx:
        default = {"access.second_factor_roles": None}
        settings.change(tx, clinic.box.audit_key, default, actor="tests", now=datetime.now(UTC))
    page = clinic.page(clinic.context(locale, width=width, height=844))
    type_password(clinic, page, LOGIN)
    look(page, f"{locale}-obliged")
    page.locator("form[action='/enrol/code'] button").click()
    picture = page.locator(".qr")
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 100
    page.locator("details.unfold summary").click()
    secret = (page.locator("[data-secret]").text_content() or "").replace(" ", "")
    look(page, f"{locale}-code")
    page.locator("[name=code]").fill("000000")
    page.locator("main button.primary").click()
    expect(page.locator("#form-error")).to_be_visible()
    clinic.complaints.clear()  # Chromium says that the wrong code was refused
    page.locator("[name=code]").fill(code(secret))
    page.locator("main button.primary").click()
    expect(page.locator(".codes li")).to_have_count(10)
    look(page, f"{locale}-recovery-codes")
    page.goto(f"{clinic.address}/me")
    look(page, f"{locale}-me")
    page.goto(f"{clinic.address}/me/tokens")
    look(page, f"{locale}-tokens")
    sign_out(page)
    look(page, f"{locale}-sign-in")
    type_password(clinic, page, LOGIN)
    look(page, f"{locale}-second-factor")
    page.locator("[name=code]").fill(code(secret, +1))
    page.locator("main button.primary").first.click()
    page.locator(".side").wait_for()
    assert clinic.complaints == []


# --- the end of a session --------------------------------------------------------------------------------------------


def age(clinic: Served, login: str, minutes: float) -> None:
    """Let the sessions of somebody have been unused for so long."""
    with clinic.box.catalog.transaction() as tx:
        person = people.person(tx, login)
        assert person is not None
        tx.execute(
            update(web_sessions)
            .where(web_sessions.c.user == person.id)
            .values(seen_utc=datetime.now(UTC) - timedelta(minutes=minutes))
        )


@pytest.mark.parametrize("locale", ["en-CA", "fr-CA"])
def test_a_page_warns_before_the_session_ends_and_goes_on_when_somebody_is_there(
    clinic: Served, locale: str
) -> None:
    add_enrolled(clinic.box, "eve", Role.OWNER)
    page = clinic.page(clinic.context(locale))
    page.clock.install()
    clinic.sign_in(page)
    page.goto(f"{clinic.address}/devices")
    page.locator("#add ~ .card [name=name]").fill("Panoramique, salle 2")
    bar = page.locator("[data-session]")
    expect(bar).to_be_hidden()
    age(clinic, LOGIN, 28.5)
    page.clock.fast_forward("28:30")
    expect(bar).to_be_visible()
    look(page, f"{locale}-session-soon")
    page.locator("[data-session-stay]").click()
    expect(bar).to_be_hidden()
    with clinic.box.catalog.reading() as conn:
        person = people.person(conn, LOGIN)
        assert person is not None
        (session,) = people.sessions_of(conn, person.id)
    assert datetime.now(UTC) - session.seen_utc < timedelta(minutes=5)
    expect(page.locator("#add ~ .card [name=name]")).to_have_value("Panoramique, salle 2")


def test_what_was_typed_is_sent_after_signing_in_again_elsewhere(clinic: Served) -> None:
    context = clinic.context()
    page, other = clinic.page(context), clinic.page(context)
    page.clock.install()
    clinic.sign_in(page)
    page.goto(f"{clinic.address}/devices")
    form = page.locator("#add ~ .card")
    for name, value in (("ae_title", "PANO7"), ("address", "192.168.1.47"), ("name", "Salle 7")):
        form.locator(f"[name={name}]").fill(value)
    age(clinic, LOGIN, 31)
    page.clock.fast_forward("31:00")
    expect(page.locator("[data-session-again]")).to_be_visible()
    look(page, "session-over")
    clinic.sign_in(other)
    page.clock.fast_forward("00:20")
    expect(page.locator("[data-session]")).to_be_hidden()
    form.locator("button.primary").click()
    expect(page.locator(".note.good")).to_contain_text("Salle 7")


def test_a_session_that_is_ended_elsewhere_ends_its_stream_at_once(clinic: Served, eventually) -> None:
    import http.client

    page = clinic.page(clinic.context())
    clinic.sign_in(page)
    cookie = next(each for each in page.context.cookies() if "console_session" in each["name"])
    connection = http.client.HTTPConnection(clinic.address.removeprefix("http://"), timeout=10)
    connection.request("GET", "/events", headers={"Cookie": f"{cookie['name']}={cookie['value']}"})
    answer = connection.getresponse()
    assert answer.status == 200
    assert answer.readline()
    with clinic.box.catalog.transaction() as tx:
        person = people.person(tx, LOGIN)
        assert person is not None
        people.end_sessions_of(tx, person.id)
    assert b"still here" not in answer.read(), "it ended before its next comment was due"
    connection.close()
