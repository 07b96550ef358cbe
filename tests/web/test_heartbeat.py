"""The page of heartbeats shows the very document, lets nobody agree unseen, and takes the agreement back at once."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from flask import Flask
from flask.testing import FlaskClient

from appliance import audit
from appliance.box import Box
from appliance.fleet import consent, heartbeat, vocabulary
from appliance.identity import Role
from tests.fleet.outposts import agree, choose
from tests.web.conftest import browser_of, csrf_of
from tests.web.second_factor import age_confirmation

ADDRESS = "https://fleet.example.ca/heartbeats"


@pytest.fixture
def owner(app: Flask) -> FlaskClient:
    return browser_of(app, "owner")


@pytest.fixture(autouse=True)
def addressed(box: Box) -> Iterator[None]:
    """An address is entered, and nobody has agreed."""
    choose(box, {"heartbeat.address": ADDRESS}, datetime.now(UTC))
    yield
    choose(box, {"heartbeat.address": ""}, datetime.now(UTC))
    with box.catalog.transaction() as tx:
        consent.withdraw(tx)


def page(browser: FlaskClient, language: str = "en") -> str:
    answer = browser.get("/support/heartbeat", headers={"Accept-Language": language})
    assert answer.status_code == 200
    return answer.get_data(as_text=True)


def post(browser: FlaskClient, act: str, **fields: str):
    token = csrf_of(browser.get("/help").get_data(as_text=True))
    return browser.post(f"/support/heartbeat/{act}", data={"csrf": token, **fields})


def terms_of(text: str) -> str:
    return re.findall(r'name="terms" value="(\w+)"', text)[0]


def is_agreed(box: Box) -> bool:
    with box.catalog.reading() as conn:
        return consent.standing(conn) is not None


def test_the_whole_document_is_shown_before_anybody_agrees(box: Box, owner: FlaskClient) -> None:
    text = page(owner)
    assert "No heartbeat is sent" in text
    shown = html.unescape(re.findall(r"<pre[^>]*>(.*?)</pre>", text, re.DOTALL)[0])
    for name in vocabulary.FIELDS:
        assert f'"{name}"' in shown
    assert ADDRESS in text


def test_the_page_shows_where_the_bucket_is_and_whose_answer_counts(box: Box, owner: FlaskClient) -> None:
    line = "ssh-ed25519 " + base64.b64encode(b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + bytes(32)).decode()
    others = {"heartbeat.endpoint_url": "https://s3.example.ca", "heartbeat.authority": line}
    assert "s3.example.ca" not in page(owner)
    choose(box, others | {"heartbeat.address": "s3://fleet/clinics"}, datetime.now(UTC))
    try:
        text = page(owner)
    finally:
        choose(box, dict.fromkeys(others, ""), datetime.now(UTC))
    for shown in ("s3://fleet/clinics", "https://s3.example.ca", line):
        assert shown in html.unescape(text)


def test_who_agreed_when_and_to_what_is_kept_and_can_be_taken_back(box: Box, owner: FlaskClient) -> None:
    terms = terms_of(page(owner))
    assert post(owner, "agree", terms=terms).status_code == 303
    assert is_agreed(box)
    assert "Heartbeats are sent" in page(owner)
    assert post(owner, "withdraw").status_code == 303
    assert not is_agreed(box)
    with box.catalog.reading() as conn:
        found = [row for row in audit.export(conn) if row["action"].startswith("heartbeat:")]
    assert [row["action"] for row in found[-2:]] == ["heartbeat:agree", "heartbeat:withdraw"]
    assert ADDRESS in found[-2]["details"]
    assert terms in found[-2]["details"]


def test_what_was_not_seen_is_not_agreed_to(box: Box, owner: FlaskClient) -> None:
    terms = terms_of(page(owner))
    choose(box, {"heartbeat.address": ADDRESS + "/elsewhere"}, datetime.now(UTC))
    post(owner, "agree", terms=terms)
    post(owner, "agree")
    assert not is_agreed(box)


def test_a_changed_address_is_told_and_asks_again(box: Box, owner: FlaskClient) -> None:
    post(owner, "agree", terms=terms_of(page(owner)))
    choose(box, {"heartbeat.address": ADDRESS + "/elsewhere"}, datetime.now(UTC))
    assert "was changed since somebody agreed" in page(owner)
    assert not is_agreed(box)


def test_what_a_newer_version_could_say_besides_is_offered_while_all_else_goes_on(
    box: Box, owner: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds, severities = vocabulary.FIELDS["problems"].words
    fewer = replace(
        vocabulary.FIELDS["problems"], words=(tuple({*kinds} - {"update-failed", "disk-low"}), severities)
    )
    before = {name: each for name, each in vocabulary.FIELDS.items() if name != "left"} | {"problems": fewer}
    with monkeypatch.context() as older:
        older.setattr(vocabulary, "FIELDS", before)
        agree(box, datetime.now(UTC))
    text = page(owner)
    assert "Heartbeats are sent" in text
    assert "What this version could say besides" in text
    assert "problems: disk-low, update-failed" in text
    shown = html.unescape(re.findall(r"<pre[^>]*>(.*?)</pre>", text, re.DOTALL)[0])
    assert '"left"' not in shown, "it is shown as it is sent"
    found = owner.get("/api/v1/heartbeat").get_json()
    assert found["sends"]
    assert "problems: disk-low, update-failed" in found["more"]
    post(owner, "agree", terms=terms_of(text))
    assert "could say besides" not in page(owner)
    assert owner.get("/api/v1/heartbeat").get_json()["more"] == []
    assert '"left"' in html.unescape(page(owner))


def test_where_something_was_changed_one_can_also_forbid_it_for_good(box: Box, owner: FlaskClient) -> None:
    assert "/withdraw" not in page(owner)
    post(owner, "agree", terms=terms_of(page(owner)))
    choose(box, {"heartbeat.address": ADDRESS + "/elsewhere"}, datetime.now(UTC))
    assert "/withdraw" in page(owner)
    post(owner, "withdraw")
    with box.catalog.reading() as conn:
        assert consent.given(conn) is None


def test_agreeing_asks_who_it_is_and_withdrawing_never_does(app: Flask, box: Box) -> None:
    browser = browser_of(app, Role.PRIVACY_OFFICER, "hugo")
    terms = terms_of(page(browser))
    age_confirmation(box, "hugo")
    asked = post(browser, "agree", terms=terms)
    assert asked.status_code == 200
    assert not is_agreed(box)
    assert post(browser, "withdraw").status_code == 303


def test_who_may_not_let_support_in_may_not_look(app: Flask) -> None:
    browser = browser_of(app, Role.ASSISTANT, "aline")
    assert browser.get("/support/heartbeat").status_code == 403


@pytest.mark.parametrize(("language", "words"), [("fr", "Consentir"), ("es", "Aceptar"), ("zh", "同意")])
def test_it_speaks_the_languages(owner: FlaskClient, language: str, words: str) -> None:
    text = page(owner, language)
    assert words in text
    assert "heartbeat.state" not in text


def test_a_program_sees_it_and_may_forbid_it(box: Box, owner: FlaskClient) -> None:
    post(owner, "agree", terms=terms_of(page(owner)))
    csrf = owner.get("/api/v1/me").get_json()["csrf"]
    found = owner.get("/api/v1/heartbeat").get_json()
    assert (found["sends"], found["address"], found["box"]) == (
        True,
        ADDRESS,
        heartbeat.name_of(found["key"]),
    )
    assert found["document"].startswith("{")
    answer = owner.delete("/api/v1/heartbeat/consent", headers={"X-CSRF-Token": csrf})
    assert answer.status_code == 204
    assert not is_agreed(box)
