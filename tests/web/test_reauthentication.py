"""Acts that do harm in the wrong hands ask again who it is; what was typed is not lost, and not shown."""

import re

import pytest
from flask import Flask

from appliance import audit
from appliance.box import Box
from appliance.catalog import destinations, devices
from appliance.identity import Role
from appliance.model import Device, ae_title
from appliance.web.access import is_reauthenticated
from tests.web.conftest import PASSWORD, csrf_of, sign_in
from tests.web.second_factor import (
    add_enrolled,
    add_person,
    age_confirmation,
    code,
    half_open,
    send,
    show_code,
)

DANGEROUS = (
    "channels.add_hook",
    "destinations.add",
    "destinations.remove",
    "disk_pin.choose",
    "disk_pin.remove",
    "disk_pin.show_key",
    "devices.remove",
    "guard.freeze",
    "guard.release",
    "heartbeat.agree",
    "me.add_factor",
    "me.remove_codes",
    "me.remove_passkey",
    "me.draw_codes",
    "me.change_password",
    "updates.restart",
)


@pytest.mark.parametrize("endpoint", DANGEROUS)
def test_the_dangerous_acts_ask(app: Flask, endpoint: str) -> None:
    assert is_reauthenticated(app.view_functions[endpoint])


def tickets(html: str) -> list[str]:
    return re.findall(r'name="held" value="([^"]+)"', html)


def confirm(browser, asked, **fields: str):
    html = asked.get_data(as_text=True)
    action = re.findall(r'<form method="post" action="([^"]+)"', html.split("<main")[1])[0]
    return browser.post(action, data={"csrf": csrf_of(html), "held": tickets(html)[0], **fields})


def test_a_recent_sign_in_is_enough(app: Flask, box: Box) -> None:
    add_person(box, "uma")
    browser = app.test_client()
    sign_in(browser, login="uma")
    assert send(browser, "/me/second-factor/add", "/me").headers["Location"] == "/enrol"


def test_after_five_minutes_the_form_waits_and_then_goes_on_as_it_was(app: Flask, box: Box) -> None:
    add_person(box, "victor", Role.OWNER)
    browser = app.test_client()
    sign_in(browser, login="victor")
    age_confirmation(box, "victor")
    before = browser.get_cookie("console_session")
    form = {
        "name": "nuage",
        "bucket": "b",
        "region": "ca-central-1",
        "access_key_id": "AKX",
        "secret": "s3cr3t-typed",
    }
    asked = send(browser, "/destinations/new/s3", "/destinations/new/s3", **form)
    html = asked.get_data(as_text=True)
    assert "Is it still you?" in html
    assert "s3cr3t-typed" not in html
    assert confirm(browser, asked, confirm_password="wrong password").status_code == 422
    with box.catalog.reading() as conn:
        assert not [each for each in destinations.destinations(conn) if each.name == "nuage"]
    assert confirm(browser, asked, confirm_password=PASSWORD).status_code == 303
    with box.catalog.reading() as conn:
        assert [each for each in destinations.destinations(conn) if each.name == "nuage"]
    after = browser.get_cookie("console_session")
    assert before is not None
    assert after is not None
    assert before.value != after.value, "who has proved who it is has a new cookie"
    thief = app.test_client()
    thief.set_cookie("console_session", before.value)
    assert thief.get("/me").status_code == 303


def test_a_page_that_is_only_seen_asks_too_and_is_then_gone_to(app: Flask, box: Box) -> None:
    add_person(box, "vera")
    browser = app.test_client()
    sign_in(browser, login="vera")
    assert browser.get("/me/confirm").headers["Location"] == "/me"
    age_confirmation(box, "vera")
    asked = browser.get("/me/confirm")
    assert asked.status_code == 200
    assert confirm(browser, asked, confirm_password="wrong password").status_code == 422
    assert confirm(browser, asked, confirm_password=PASSWORD).headers["Location"] == "/me/confirm"
    assert browser.get("/me/confirm").headers["Location"] == "/me"


def test_a_ticket_is_of_one_session_one_act_and_one_use(app: Flask, box: Box) -> None:
    add_person(box, "wanda", Role.OWNER)
    with box.catalog.transaction() as tx:
        from datetime import UTC, datetime

        for name in ("ONE", "TWO"):
            devices.add_device(tx, Device(ae_title(name), "10.9.9.9"), datetime.now(UTC))
        numbers = [each.id for each in devices.devices(tx) if each.address == "10.9.9.9"]
    browser, other = app.test_client(), app.test_client()
    for each in (browser, other):
        sign_in(each, login="wanda")
    age_confirmation(box, "wanda")
    asked = send(browser, f"/devices/{numbers[0]}/remove", "/devices")
    ticket = tickets(asked.get_data(as_text=True))[0]
    proof = {"confirm_password": PASSWORD, "held": ticket}
    assert send(other, f"/devices/{numbers[0]}/remove", "/devices", **proof).status_code == 400
    assert send(browser, f"/devices/{numbers[1]}/remove", "/devices", **proof).status_code == 400
    assert send(browser, f"/devices/{numbers[0]}/remove", "/devices", **proof).status_code == 303
    assert send(browser, f"/devices/{numbers[0]}/remove", "/devices", **proof).status_code == 400
    with box.catalog.reading() as conn:
        assert [each.id for each in devices.devices(conn) if each.address == "10.9.9.9"] == numbers[1:]


def test_a_code_of_the_telephone_will_do_and_counts_once(app: Flask, box: Box) -> None:
    secret, _ = add_enrolled(box, "xavier")
    browser = half_open(app, "xavier")
    shown = code(secret)
    show_code(browser, shown)
    age_confirmation(box, "xavier")
    asked = send(browser, "/me/recovery-codes", "/me")
    assert confirm(browser, asked, confirm_code=shown).status_code == 422
    assert confirm(browser, asked, confirm_code=code(secret, +1)).headers["Location"] == "/me/recovery-codes"


def test_guessing_at_the_confirmation_is_limited_like_at_the_door(app: Flask, box: Box) -> None:
    add_person(box, "yann")
    browser = app.test_client()
    sign_in(browser, login="yann")
    age_confirmation(box, "yann")
    asked = send(browser, "/me/second-factor/add", "/me")
    statuses = [confirm(browser, asked, confirm_password="no such password").status_code for _ in range(6)]
    assert statuses == [422] * 5 + [429]
    assert confirm(browser, asked, confirm_password=PASSWORD).status_code == 429
    with box.catalog.reading() as conn:
        rows = [row for row in audit.recent(conn, limit=40) if row["action"] == "user:lock"]
    assert [(row["subject"], row["actor"]) for row in rows if row["subject"] == "yann"] == [("yann", "yann")]
