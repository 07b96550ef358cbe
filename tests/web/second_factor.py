"""People with second factors, for the tests of the console."""

from datetime import UTC, datetime, timedelta

import pyotp
from flask import Flask
from flask.testing import FlaskClient

from appliance import identity
from appliance.box import Box
from appliance.catalog import people
from appliance.identity import Role, one_time_codes, recovery_codes
from tests.web.conftest import PASSWORD, csrf_of, sign_in

STEP = timedelta(seconds=30)


def code(secret: str, steps_on: int = 0) -> str:
    """The code of this moment, or of so many steps later."""
    return pyotp.TOTP(secret).at(datetime.now(UTC) + steps_on * STEP)


def box_of(app: Flask) -> Box:
    return app.extensions["console"].box


def add_person(box: Box, login: str, role: Role = Role.PRACTITIONER) -> people.Person:
    with box.catalog.transaction() as tx:
        return identity.add_user(
            tx,
            login=login,
            name=login.title(),
            role=role,
            password=PASSWORD,
            language="en",
            now=datetime.now(UTC),
        )


def add_enrolled(box: Box, login: str, role: Role = Role.PRACTITIONER) -> tuple[str, tuple[str, ...]]:
    """Somebody with one-time codes, set up an hour ago, and recovery codes; returns the secret and those codes."""
    person, before = add_person(box, login, role), datetime.now(UTC) - timedelta(hours=1)
    with box.catalog.transaction() as tx:
        one_time_codes.begin(tx, box.root, person.id, before)
        shown = one_time_codes.set_up(tx, box.root, person.id, login=login, issuer="Box")
        assert shown is not None
        assert one_time_codes.confirm(tx, box.root, person.id, pyotp.TOTP(shown.secret).at(before), before)
        return shown.secret, recovery_codes.draw(tx, box.root, person.id, before)


def half_open(app: Flask, login: str) -> FlaskClient:
    """A browser that has shown the right password of somebody who has a second factor."""
    browser = app.test_client()
    answer = sign_in(browser, login=login)
    assert answer.headers["Location"] == "/sign-in/second-factor"
    return browser


def send(browser: FlaskClient, path: str, page: str, **fields: str):
    """Post a form as the page `page` holds it."""
    token = csrf_of(browser.get(page).get_data(as_text=True))
    return browser.post(path, data={"csrf": token, **fields})


def show_code(browser: FlaskClient, typed: str):
    return send(browser, "/sign-in/second-factor", "/sign-in/second-factor", code=typed)


def is_in(browser: FlaskClient) -> bool:
    return browser.get("/me").status_code == 200


def age_confirmation(box: Box, login: str, minutes: int = 10) -> None:
    """Let the sessions of somebody have been confirmed so long ago."""
    from sqlalchemy import update

    from appliance.catalog.schema import web_sessions

    with box.catalog.transaction() as tx:
        person = people.person(tx, login)
        assert person is not None
        tx.execute(
            update(web_sessions)
            .where(web_sessions.c.user == person.id)
            .values(confirmed_utc=datetime.now(UTC) - timedelta(minutes=minutes))
        )
