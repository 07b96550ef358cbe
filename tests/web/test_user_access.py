"""Looking after other people's sessions and second factors: by whom, of whom, and with what effect."""

import re

from flask import Flask

from appliance.box import Box
from appliance.catalog import people, second_factors
from appliance.identity import Role
from tests.web.conftest import browser_of, csrf_of, sign_in
from tests.web.second_factor import add_enrolled, add_person, code, half_open, is_in, send, show_code


def number(box: Box, login: str) -> int:
    with box.catalog.reading() as conn:
        person = people.person(conn, login)
    assert person is not None
    return person.id


def test_an_owner_removes_a_lost_second_factor_and_the_sessions_end(app: Flask, box: Box, signed_in) -> None:
    secret, _ = add_enrolled(box, "lost")
    browser = half_open(app, "lost")
    show_code(browser, code(secret))
    page = f"/users/{number(box, 'lost')}/access"
    html = signed_in.get(page).get_data(as_text=True)
    assert "remove-second-factor" in html
    assert secret not in html
    waiting = half_open(app, "lost")
    assert send(signed_in, page.replace("access", "remove-second-factor"), page).status_code == 303
    assert not is_in(browser)
    assert waiting.get("/sign-in/second-factor").headers["Location"] == "/sign-in"
    with box.catalog.reading() as conn:
        assert second_factors.recovery_codes_left(conn, number(box, "lost")) == 0
    assert sign_in(app.test_client(), login="lost").headers["Location"] == "/"


def test_nobody_removes_their_own_there(box: Box, signed_in) -> None:
    own = number(box, "mtremblay")
    page = f"/users/{own}/access"
    assert "remove-second-factor" not in signed_in.get(page).get_data(as_text=True)
    token = csrf_of(signed_in.get(page).get_data(as_text=True))
    answer = signed_in.post(f"/users/{own}/remove-second-factor", data={"csrf": token})
    assert answer.status_code == 403


def test_a_privacy_officer_ends_a_session_of_anybody_but_an_owner(app: Flask, box: Box, signed_in) -> None:
    officer = browser_of(app, Role.PRIVACY_OFFICER, "po")
    add_person(box, "nurse", Role.ASSISTANT)
    nurse = app.test_client()
    sign_in(nurse, login="nurse")
    page = f"/users/{number(box, 'nurse')}/access"
    (handle,) = re.findall(r'name="handle" value="(\w+)"', officer.get(page).get_data(as_text=True))
    assert send(officer, page.replace("access", "sessions/end"), page, handle=handle).status_code == 303
    assert not is_in(nurse)
    owners = f"/users/{number(box, 'mtremblay')}/access"
    assert 'name="handle"' not in officer.get(owners).get_data(as_text=True)
    token = csrf_of(officer.get(owners).get_data(as_text=True))
    for act in ("sessions/end", "remove-second-factor"):
        answer = officer.post(owners.replace("access", act), data={"csrf": token, "handle": "0"})
        assert answer.status_code == 403, act
    assert is_in(signed_in)


def test_others_do_not_see_where_anybody_is_signed_in(app: Flask, box: Box) -> None:
    for role in (Role.PRACTITIONER, Role.TECHNICIAN, Role.VENDOR_SUPPORT, Role.REFERRER):
        assert browser_of(app, role).get(f"/users/{number(box, 'mtremblay')}/access").status_code == 403
