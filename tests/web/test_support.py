"""The page of support offers what this system can do, and says what it cannot."""

import json
from datetime import UTC, datetime

import pytest
from flask import Flask

from appliance import audit, settings
from appliance.box import Box
from appliance.catalog import outbox, webhooks
from appliance.fleet import line, ticket
from appliance.notify import hooks
from tests.age_reader import READER
from tests.synthetic.patients import HELENE
from tests.web.conftest import browser_of, csrf_of


def test_remote_support_is_not_offered_where_it_cannot_work(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = browser_of(app, "owner")
    assert "must be entered once" in browser.get("/support").get_data(as_text=True)
    monkeypatch.setattr(line, "_PATH", "/nowhere")
    page = browser.get("/support").get_data(as_text=True)
    assert "cannot work on this system" in page
    assert "must be entered once" not in page
    assert 'name="reason"' not in page


def test_a_ticket_is_sent_after_the_file_was_looked_at(app: Flask, box: Box) -> None:
    browser = browser_of(app, "owner")
    assert "enter the vendor’s e-mail address" in browser.get("/support").get_data(as_text=True)
    choose(
        box,
        {"support.mail": "help@vendor.example", "mail.host": "192.0.2.1", "mail.from": "box@clinic.example"},
    )
    page = browser.get("/support").get_data(as_text=True)
    assert "or send it to help@vendor.example with what is wrong" in page
    token = {"csrf": csrf_of(page)}
    assert browser.post("/support/file/send", data=token | {"reason": "x"}).status_code == 404, "no file yet"
    browser.post("/support/file", data=token)
    assert "What is wrong?" in browser.get("/support/file").get_data(as_text=True)

    named = browser.post("/support/file/send", data=token | {"reason": f"{HELENE.family_name} is not there"})
    assert named.status_code == 422
    page = named.get_data(as_text=True)
    assert "may name a patient" in page
    assert ">\n[cut: name] is not there</textarea>" in page
    assert HELENE.family_name not in page.partition('id="support-cut"')[0]
    with box.catalog.reading() as conn:
        assert not outbox.messages(conn)

    answer = browser.post("/support/file/send", data=token | {"reason": "Backups fail since Monday"})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/support")
    page = browser.get("/support").get_data(as_text=True)
    assert "On its way to help@vendor.example" in page
    assert "Backups fail since Monday" in page
    assert 'help@vendor.example <span class="badge wait">waiting</span>' in page
    with box.catalog.reading() as conn:
        (message,) = outbox.messages(conn)
        (row,) = [each for each in audit.export(conn) if each["action"] == "support:ticket"]
    details = json.loads(str(row["details"]))
    assert details["messages"] == [message.id]
    assert details["reason"] == "Backups fail since Monday"
    with box.catalog.transaction() as tx:
        outbox.sent(tx, message.id, datetime.now(UTC))
    arrived = 'help@vendor.example <span class="badge good">arrived</span>'
    assert arrived in browser.get("/support").get_data(as_text=True)


def test_a_program_sends_a_ticket_that_names_nobody(app: Flask, box: Box) -> None:
    browser = browser_of(app, "owner")
    choose(
        box,
        {"support.mail": "help@vendor.example", "mail.host": "192.0.2.1", "mail.from": "box@clinic.example"},
    )
    csrf = {"X-CSRF-Token": browser.get("/api/v1/me").get_json()["csrf"]}

    def send(reason: str):
        return browser.post("/api/v1/support/tickets", json={"reason": reason}, headers=csrf)

    before = told(box)
    unsealed = send("Backups fail")
    assert unsealed.status_code == 422
    assert "sealed" in unsealed.get_json()["detail"]
    assert told(box) == before
    choose(box, {"support.reader_key": READER})
    refused = send(f"{HELENE.family_name} is not there")
    assert refused.status_code == 422
    assert HELENE.family_name not in refused.get_data(as_text=True)
    made = send("Backups fail")
    assert made.status_code == 201
    assert made.get_json()["to"] == ["help@vendor.example"]
    assert made.get_json()["attached"]


def test_each_way_of_a_ticket_shows_its_own_state_and_where_it_leads(app: Flask, box: Box) -> None:
    browser = browser_of(app, "owner")
    choose(
        box,
        {"support.mail": "help@vendor.example", "mail.host": "192.0.2.1", "mail.from": "box@clinic.example"},
    )
    with box.catalog.transaction() as tx:
        hooks.add(
            tx,
            name="atelier",
            url="https://t.vendor.example/geheim",
            now=datetime.now(UTC),
            hears="tickets",
        )
    page = browser.get("/support").get_data(as_text=True)
    assert "send it to help@vendor.example and atelier (t.vendor.example) with what is wrong" in page
    token = {"csrf": csrf_of(page)}
    browser.post("/support/file", data=token)
    page = browser.get("/support/file").get_data(as_text=True)
    assert "go to help@vendor.example and atelier (t.vendor.example)" in page
    assert "geheim" not in page
    browser.post("/support/file/send", data=token | {"reason": "Backups fail since Monday"})
    with box.catalog.transaction() as tx:
        hook = webhooks.by_name(tx, "atelier")
        (posted,) = [each for each in outbox.messages(tx) if each.address == str(hook.id)]
        outbox.sent(tx, posted.id, datetime.now(UTC))
    page = browser.get("/support").get_data(as_text=True)
    assert 'help@vendor.example <span class="badge wait">waiting</span>' in page
    assert 'atelier <span class="badge good">arrived</span>' in page


def test_a_file_is_called_too_large_by_what_would_leave(
    app: Flask, box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = browser_of(app, "owner")
    choose(
        box,
        {
            "support.mail": "help@vendor.example",
            "support.reader_key": READER,
            "mail.host": "192.0.2.1",
            "mail.from": "box@clinic.example",
        },
    )
    token = {"csrf": csrf_of(browser.get("/support").get_data(as_text=True))}
    browser.post("/support/file", data=token)
    sealed = len(browser.post("/support/file/take", data=token).data)
    for most, said in ((sealed, False), (sealed - 1, True)):
        monkeypatch.setattr(ticket, "MOST_FILE_BYTES", most)
        page = browser.get("/support/file").get_data(as_text=True)
        assert ("The file is too large to go with it" in page) is said


def told(box: Box) -> tuple[int, int]:
    """How many messages there are, and rows of support in the audit."""
    with box.catalog.reading() as conn:
        rows = [each for each in audit.export(conn) if each["action"].startswith("support:")]
        return len(outbox.messages(conn)), len(rows)


def choose(box: Box, values: dict[str, object]) -> None:
    with box.catalog.transaction() as tx:
        settings.change(tx, box.audit_key, values, actor="tests", now=datetime.now(UTC))
