"""One account may ask for so much in a time: what is costly or carries much away, over all its sessions and tokens."""

import re
from datetime import UTC, datetime

import pytest
from flask import Flask
from flask.testing import FlaskClient

from appliance.box import Box
from appliance.catalog import audit_log, people
from appliance.identity import tokens
from appliance.identity.permissions import Permission
from appliance.web import rates
from appliance.web.pace import Pace
from tests.web.conftest import browser_of, csrf_of


@pytest.fixture
def slow(app: Flask, monkeypatch: pytest.MonkeyPatch) -> Flask:
    """The console with limits that a test reaches."""
    paces = {each.name: Pace(3, 600.0) for each in rates.RATES.values()}
    monkeypatch.setitem(vars(app.extensions["console"]), "paces", paces)
    return app


def statuses(browser: FlaskClient, path: str, times: int) -> list[int]:
    return [browser.get(path).status_code for _ in range(times)]


def test_an_account_that_asks_too_often_is_told_when_to_come_back_and_the_audit_is_told_once(
    slow: Flask, box: Box
) -> None:
    browser = browser_of(slow, "owner", "eager")
    assert statuses(browser, "/studies", 5) == [200, 200, 200, 429, 429]
    answer = browser.get("/studies")
    assert 1 <= int(answer.headers["Retry-After"]) <= 600
    html = browser.get("/studies", headers={"Accept-Language": "en"}).get_data(as_text=True)
    assert "That was too often in a short time" in html and "the box is well" in html
    assert re.search(r"Try again in \d+ minutes", html), "it says when to come back"
    assert '<a class="button primary" href="">Try again</a>' in html, (
        "the same page, once it may be asked for"
    )
    with box.catalog.reading() as conn:
        said = [
            row
            for row in audit_log.after(conn, 0, limit=10_000)
            if row.action == "access:pace" and row.actor == "eager"
        ]
    assert len(said) == 1
    assert (said[0].subject, said[0].outcome) == ("studies.search", "refused")
    assert browser.get("/help").status_code == 200  # the rest goes on
    assert browser.get("/me").status_code == 200


def test_another_browser_gains_nothing_tokens_have_a_pace_of_their_own_and_a_colleague_loses_nothing(
    slow: Flask, box: Box
) -> None:
    first, second = browser_of(slow, "owner", "twice"), browser_of(slow, "owner", "twice")
    assert statuses(first, "/studies", 3) == [200] * 3
    assert second.get("/studies").status_code == 429
    now = datetime.now(UTC)
    with box.catalog.transaction() as tx:
        person = people.person(tx, "twice")
        assert person is not None
        scopes = [Permission.USE_CONSOLE.value, Permission.VIEW_STUDIES.value, Permission.ALL_STUDIES.value]
        text, _ = tokens.make(tx, person, name="greedy", scopes=scopes, days=1, now=now)
    program = slow.test_client()
    asked = [program.get("/api/v1/studies", headers={"Authorization": f"Bearer {text}"}) for _ in range(4)]
    assert [each.status_code for each in asked] == [200, 200, 200, 429]
    problem = asked[3].get_json()
    assert problem["code"] == "too_many"
    assert problem["remedy"].startswith("try again in")
    assert int(asked[3].headers["Retry-After"]) >= 1
    with box.catalog.transaction() as tx:
        another, _ = tokens.make(tx, person, name="another", scopes=scopes, days=1, now=now)
    more = program.get("/api/v1/studies", headers={"Authorization": f"Bearer {another}"})
    assert more.status_code == 429, "more tokens are no more pace"
    assert browser_of(slow, "owner", "colleague").get("/studies").status_code == 200


def test_exports_and_what_reaches_others_have_limits_of_their_own(slow: Flask) -> None:
    browser = browser_of(slow, "owner", "exporter")
    assert statuses(browser, "/settings/configuration/export", 4) == [200, 200, 200, 429]
    token = csrf_of(browser.get("/settings").get_data(as_text=True))
    asked = [browser.post("/devices/999/echo", data={"csrf": token}).status_code for _ in range(4)]
    assert 429 not in asked[:3]
    assert asked[3] == 429


def test_every_route_that_gives_a_file_or_reaches_out_is_paced(app: Flask) -> None:
    endpoints = {rule.endpoint for rule in app.url_map.iter_rules()}
    assert set(rates.RATES) <= endpoints
    words = (
        "export",
        "report",
        "sheet",
        "paper",
        "echo",
        "test",
        "try_hook",
        "try_mail",
        "try_copy",
        "invite",
        "link",
        "search",
        "list_studies",
    )
    costly = {
        rule.endpoint
        for rule in app.url_map.iter_rules()
        if any(word in rule.endpoint for word in words) and rule.endpoint not in ALLOWED
    }
    assert costly <= set(rates.RATES)


ALLOWED = {
    "me.recovery_sheet": "shown once for each drawing",
    "setup.report": "a page about the setting up itself",
    "welcome.open_link": "nobody has signed in yet: counted as guesses",
}


def test_a_clinics_busiest_minute_is_far_below() -> None:
    assert rates.LISTS.most >= 5 * 60  # five lists a second, by one person
    assert rates.PICTURES.most >= 60 * 60  # a stack scrolled as fast as a screen redraws
    assert rates.EXPORTS.most >= 30
    assert rates.REACHING.most >= 30


def test_changing_the_own_password_is_slow_on_purpose_and_has_its_pace(slow: Flask) -> None:
    browser = browser_of(slow, "owner", "restless")
    token = csrf_of(browser.get("/me").get_data(as_text=True))
    typed = {"csrf": token, "password": "one of two", "again": "another of two"}
    assert [browser.post("/me/password", data=typed).status_code for _ in range(4)] == [422] * 3 + [429]
    assert 'href=""' not in browser.post("/me/password", data=typed).get_data(as_text=True), (
        "a form is not sent again by a link"
    )
