"""Somebody who fears that the account was used by another finds out on the own page, and is told."""

from datetime import UTC, datetime

import pytest
from flask import Flask
from flask.testing import FlaskClient

from appliance import identity
from appliance.box import Box
from appliance.catalog import audit_log, people
from appliance.identity import Role, limits
from appliance.notify import judging
from tests.web.conftest import PASSWORD, browser_of, csrf_of, sign_in

STRANGER = {"REMOTE_ADDR": "10.6.6.6"}


@pytest.fixture(scope="module")
def nora(box: Box) -> str:
    with box.catalog.transaction() as tx:
        person = identity.add_user(
            tx,
            login="nora",
            name="N. Roy",
            role=Role.ASSISTANT,
            password=PASSWORD,
            language="en",
            now=datetime.now(UTC),
        )
    return person.login


def guess(app: Flask, login: str, times: int) -> list[int]:
    browser = app.test_client()
    token = csrf_of(browser.get("/sign-in", environ_base=STRANGER).get_data(as_text=True))
    form = {"csrf": token, "login": login, "password": "not this one at all"}
    return [browser.post("/sign-in", data=form, environ_base=STRANGER).status_code for _ in range(times)]


def locks(box: Box, login: str) -> int:
    with box.catalog.reading() as conn:
        return sum(
            row.action == "user:lock" and row.subject == login
            for row in audit_log.after(conn, 0, limit=10_000)
        )


def test_guessing_is_told_to_the_person_and_listed_and_says_nothing_to_the_guesser(
    app: Flask, box: Box, nora: str
) -> None:
    known, unknown = guess(app, nora, limits.HERE + 2), guess(app, "nobody-here", limits.HERE + 2)
    assert known == unknown == [422] * limits.HERE + [429] * 2
    assert (locks(box, nora), locks(box, "nobody-here")) == (1, 0)
    judging.apply(box.catalog, [], datetime.now(UTC))
    browser: FlaskClient = app.test_client()
    assert sign_in(browser, login=nora).status_code == 303  # from her own place she is not shut out
    page = browser.get("/me").get_data(as_text=True)
    assert "Account held shut for a while" in page
    assert "10.6.6.6" in page
    assert "Somebody tried to open your account" in browser.get("/notices").get_data(as_text=True)


def test_what_another_person_did_names_that_person_and_everybody_sees_only_the_own(
    app: Flask, box: Box, nora: str
) -> None:
    owner = browser_of(app, "owner", "chief")
    with box.catalog.reading() as conn:
        person = people.person(conn, nora)
    assert person is not None
    token = csrf_of(owner.get(f"/users/{person.id}").get_data(as_text=True))
    owner.post(f"/users/{person.id}/link", data={"csrf": token})
    hers = browser_of(app, "assistant", nora).get("/me").get_data(as_text=True)
    assert "by chief" in hers
    other = browser_of(app, "assistant", "other").get("/me").get_data(as_text=True)
    assert "by chief" not in other
    assert "10.6.6.6" not in other
