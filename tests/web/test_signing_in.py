"""Signing in by steps, as a browser without a screen: none can be left out, replayed, or taken from somebody else."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient

from appliance import audit, settings
from appliance.box import Box
from appliance.catalog import people, second_factors
from appliance.identity import Role
from appliance.web.security import OPEN
from tests.web.conftest import PASSWORD, csrf_of, sign_in
from tests.web.second_factor import (
    add_enrolled,
    add_person,
    code,
    half_open,
    is_in,
    send,
    show_code,
)
from tests.web.test_security import routes


def oblige(box: Box, *roles: str) -> None:
    with box.catalog.transaction() as tx:
        settings.change(
            tx,
            box.audit_key,
            {"access.second_factor_roles": list(roles)},
            actor="tests",
            now=datetime.now(UTC),
        )


def actions(box: Box, login: str) -> list[str]:
    with box.catalog.reading() as conn:
        return [row["action"] for row in audit.recent(conn, limit=60) if row["subject"] == login]


def test_password_then_code_opens_and_is_in_the_audit(app: Flask, box: Box) -> None:
    secret, _ = add_enrolled(box, "anne")
    browser = half_open(app, "anne")
    assert not is_in(browser)
    assert show_code(browser, code(secret)).headers["Location"] == "/"
    assert is_in(browser)
    assert browser.get_cookie("console_sign_in") is None
    assert "user:login" in actions(box, "anne")


def test_a_half_open_sign_in_reaches_no_route_but_the_doors(app: Flask, box: Box) -> None:
    add_enrolled(box, "bruno")
    browser = half_open(app, "bruno")
    token = csrf_of(browser.get("/sign-in/second-factor").get_data(as_text=True))
    walked = 0
    for endpoint, path in routes(app, "GET"):
        if endpoint not in OPEN:
            walked += 1
            assert browser.get(path).status_code in (303, 401), endpoint
    for endpoint, path in routes(app, "POST"):
        if endpoint not in OPEN:
            walked += 1
            assert browser.post(path, data={"csrf": token}).status_code == 401, endpoint
    assert walked > 30
    assert not is_in(browser)


def test_the_cookie_of_a_half_open_sign_in_is_no_session(app: Flask, box: Box) -> None:
    add_enrolled(box, "chloe")
    cookie = half_open(app, "chloe").get_cookie("console_sign_in")
    assert cookie is not None
    thief = app.test_client()
    thief.set_cookie("console_session", cookie.value)
    assert not is_in(thief)


def test_the_pages_of_the_second_step_want_the_first(app: Flask) -> None:
    browser = app.test_client()
    token = csrf_of(browser.get("/sign-in").get_data(as_text=True))
    assert browser.get("/sign-in/second-factor").headers["Location"] == "/sign-in"
    for path in ("/sign-in/second-factor", "/sign-in/recovery-code"):
        assert browser.post(path, data={"csrf": token, "code": "123456"}).headers["Location"] == "/sign-in"
    browser.set_cookie("console_sign_in", "x" * 43)
    assert browser.get("/sign-in/second-factor").headers["Location"] == "/sign-in"
    for path in ("/enrol", "/enrol/code", "/enrol/code.svg"):
        assert browser.get(path).status_code == 403
    for path in ("/enrol/code", "/enrol/code/confirm"):
        assert browser.post(path, data={"csrf": token, "code": "123456"}).status_code == 403


def test_guesses_at_a_new_factor_that_shut_the_account_are_said(app: Flask, box: Box) -> None:
    add_person(box, "zoe")
    browser = app.test_client()
    sign_in(browser, login="zoe")
    assert send(browser, "/enrol/code", "/enrol").status_code == 303
    statuses = [
        send(browser, "/enrol/code/confirm", "/enrol/code", code="000000").status_code for _ in range(6)
    ]
    assert statuses == [422] * 5 + [429]
    assert actions(box, "zoe").count("user:lock") == 1


def test_who_owes_a_factor_cannot_enrol_in_another_instead(app: Flask, box: Box) -> None:
    """Whoever has the password of a protected account must not be able to give it a factor of their own."""
    add_enrolled(box, "denis")
    browser = half_open(app, "denis")
    token = csrf_of(browser.get("/sign-in/second-factor").get_data(as_text=True))
    assert browser.get("/enrol").status_code == 403
    for path in ("/enrol/code", "/enrol/code/confirm"):
        assert browser.post(path, data={"csrf": token, "code": "123456"}).status_code == 403


def test_the_same_code_in_two_browsers_at_once_opens_one(app: Flask, box: Box) -> None:
    secret, _ = add_enrolled(box, "elise")
    browsers = [half_open(app, "elise") for _ in range(4)]
    tokens = [csrf_of(each.get("/sign-in/second-factor").get_data(as_text=True)) for each in browsers]
    typed = code(secret)

    def show(number: int) -> int:
        form = {"csrf": tokens[number], "code": typed}
        return browsers[number].post("/sign-in/second-factor", data=form).status_code

    with ThreadPoolExecutor(4) as threads:
        statuses = list(threads.map(show, range(4)))
    assert sorted(statuses) == [303, 422, 422, 422]
    assert sum(is_in(each) for each in browsers) == 1


def test_a_code_seen_over_the_shoulder_is_void(app: Flask, box: Box) -> None:
    secret, _ = add_enrolled(box, "felix")
    typed = code(secret)
    assert show_code(half_open(app, "felix"), typed).status_code == 303
    thief = half_open(app, "felix")
    assert show_code(thief, typed).status_code == 422
    assert not is_in(thief)
    assert "user:second-factor-fail" in actions(box, "felix")


def test_a_telephone_whose_clock_is_half_a_minute_off_still_opens(app: Flask, box: Box) -> None:
    secret, _ = add_enrolled(box, "gaelle")
    assert show_code(half_open(app, "gaelle"), code(secret, -1)).status_code == 303
    assert show_code(half_open(app, "gaelle"), code(secret, +1)).status_code == 303


def test_wrong_codes_use_the_sign_in_up_and_then_the_account_waits(app: Flask, box: Box) -> None:
    secret, _ = add_enrolled(box, "hugo")
    browser = half_open(app, "hugo")
    statuses = [show_code(browser, "000000").status_code for _ in range(4)]
    assert statuses == [422] * 4
    token = csrf_of(browser.get("/sign-in/second-factor").get_data(as_text=True))
    browser.post("/sign-in/second-factor", data={"csrf": token, "code": "000000"})
    assert browser.get("/sign-in/second-factor").headers["Location"] == "/sign-in"
    answer = sign_in(app.test_client(), login="hugo")
    assert answer.status_code == 429
    assert "Try again after" in answer.get_data(as_text=True)
    assert (
        browser.post("/sign-in/second-factor", data={"csrf": token, "code": code(secret)}).status_code == 303
    )
    assert not is_in(browser)


def test_a_recovery_code_opens_once_and_few_left_are_said(app: Flask, box: Box) -> None:
    _, codes = add_enrolled(box, "ines")
    for each in codes[:6]:
        with box.catalog.transaction() as tx:
            from appliance.identity import recovery_codes

            person = people.person(tx, "ines")
            assert person is not None
            assert recovery_codes.use(tx, box.root, person.id, each, datetime.now(UTC))
    browser = half_open(app, "ines")
    page = "/sign-in/second-factor"
    answer = send(browser, "/sign-in/recovery-code", page, recovery_code=codes[6].lower())
    assert answer.headers["Location"] == "/"
    assert "Only 3 recovery codes are left" in browser.get("/me").get_data(as_text=True)
    again = send(half_open(app, "ines"), "/sign-in/recovery-code", page, recovery_code=codes[6])
    assert again.status_code == 422
    assert "user:recovery-code-use" in actions(box, "ines")


def test_two_browsers_with_one_recovery_code_are_one_sign_in(app: Flask, box: Box) -> None:
    _, codes = add_enrolled(box, "jules")
    browsers = [half_open(app, "jules") for _ in range(3)]
    tokens = [csrf_of(each.get("/sign-in/second-factor").get_data(as_text=True)) for each in browsers]

    def show(number: int) -> int:
        form = {"csrf": tokens[number], "recovery_code": codes[0]}
        return browsers[number].post("/sign-in/recovery-code", data=form).status_code

    with ThreadPoolExecutor(3) as threads:
        assert sorted(threads.map(show, range(3))) == [303, 422, 422]


# --- enrolling at the door -------------------------------------------------------------------------------------------


@pytest.fixture
def obliged(box: Box):
    oblige(box, "practitioner")
    yield
    oblige(box)


def secret_on(html: str) -> str:
    import re

    found = re.search(r"data-secret>([A-Z2-7 ]+)<", html)
    assert found is not None
    return found[1].replace(" ", "")


def enrolling(app: Flask, login: str) -> FlaskClient:
    browser = app.test_client()
    assert sign_in(browser, login=login).headers["Location"] == "/enrol"
    return browser


def test_a_role_that_must_have_a_second_factor_sets_one_up_before_it_is_let_in(
    app: Flask, box: Box, obliged: None
) -> None:
    add_person(box, "karim")
    browser = enrolling(app, "karim")
    assert not is_in(browser)
    assert send(browser, "/enrol/code", "/enrol").headers["Location"] == "/enrol/code"
    secret = secret_on(browser.get("/enrol/code").get_data(as_text=True))
    picture = browser.get("/enrol/code.svg")
    assert picture.content_type.startswith("image/svg+xml")
    assert picture.headers["Cache-Control"] == "no-store"
    assert b"style" not in picture.data
    assert send(browser, "/enrol/code/confirm", "/enrol/code", code="000000").status_code == 422
    assert not is_in(browser)
    done = send(browser, "/enrol/code/confirm", "/enrol/code", code=code(secret))
    assert done.headers["Location"] == "/me/recovery-codes"
    sheet = browser.get("/me/recovery-codes").get_data(as_text=True)
    assert sheet.count('<li class="code">') == 10
    assert browser.get("/me/recovery-codes").headers["Location"] == "/me", "they are shown once"
    assert is_in(browser)
    assert show_code(half_open(app, "karim"), code(secret, +1)).status_code == 303
    with box.catalog.reading() as conn:
        person = people.person(conn, "karim")
        assert person is not None
        assert second_factors.recovery_codes_left(conn, person.id) == 10


def test_of_two_who_know_the_password_the_second_cannot_add_a_factor_once_the_first_has(
    app: Flask, box: Box, obliged: None
) -> None:
    add_person(box, "lea")
    owner, thief = enrolling(app, "lea"), enrolling(app, "lea")
    send(owner, "/enrol/code", "/enrol")
    secret = secret_on(owner.get("/enrol/code").get_data(as_text=True))
    assert send(owner, "/enrol/code/confirm", "/enrol/code", code=code(secret)).status_code == 303
    token = csrf_of(thief.get("/sign-in").get_data(as_text=True))
    assert thief.post("/enrol/code/confirm", data={"csrf": token, "code": code(secret, 1)}).status_code == 403
    assert thief.post("/enrol/code", data={"csrf": token}).status_code in (403, 422)
    assert not is_in(thief)


def test_an_obliged_role_cannot_remove_its_last_factor(app: Flask, box: Box, obliged: None) -> None:
    secret, _ = add_enrolled(box, "marc")
    browser = half_open(app, "marc")
    show_code(browser, code(secret))
    assert send(browser, "/me/codes/remove", "/me").status_code == 422
    oblige(box)
    assert send(browser, "/me/codes/remove", "/me").status_code == 303
    assert sign_in(app.test_client(), login="marc").headers["Location"] == "/"


# --- sessions --------------------------------------------------------------------------------------------------------


def test_sessions_are_listed_with_device_and_ended_at_once(app: Flask, box: Box) -> None:
    add_person(box, "nadia")
    here, there = app.test_client(), app.test_client()
    sign_in(here, login="nadia")
    page = there.get("/sign-in", headers={"User-Agent": "Mozilla/5.0 (iPhone) Version/19 Safari/605"})
    there.post(
        "/sign-in",
        data={"csrf": csrf_of(page.get_data(as_text=True)), "login": "nadia", "password": PASSWORD},
        headers={"User-Agent": "Mozilla/5.0 (iPhone) Version/19 Safari/605"},
    )
    html = here.get("/me").get_data(as_text=True)
    assert "Safari on iPhone" in html
    import re

    (handle,) = re.findall(r'name="handle" value="(\w+)"', html)
    assert send(here, "/me/sessions/end", "/me", handle=handle).status_code == 303
    assert not is_in(there)
    assert is_in(here)


def test_nobody_ends_the_session_of_somebody_else_by_its_handle(app: Flask, box: Box) -> None:
    add_person(box, "oscar")
    add_person(box, "paul")
    one, other = app.test_client(), app.test_client()
    sign_in(one, login="oscar")
    sign_in(other, login="paul")
    with box.catalog.reading() as conn:
        person = people.person(conn, "paul")
        assert person is not None
        (session,) = people.sessions_of(conn, person.id)
    send(one, "/me/sessions/end", "/me", handle=session.id[:16])
    assert is_in(other)


def test_one_session_too_many_ends_the_one_unused_longest_and_says_so(app: Flask, box: Box) -> None:
    add_person(box, "quentin")
    browsers = [app.test_client() for _ in range(6)]
    for each in browsers:
        sign_in(each, login="quentin")
    assert [is_in(each) for each in browsers[1:]] == [True] * 5
    assert not is_in(browsers[0])
    assert "session:end" in actions(box, "quentin")


def test_a_changed_password_ends_the_other_sessions(app: Flask, box: Box) -> None:
    add_person(box, "rose")
    here, there = app.test_client(), app.test_client()
    sign_in(here, login="rose")
    sign_in(there, login="rose")
    new = "cinq renards sous un parapluie"
    assert send(here, "/me/password", "/me", password="short", again="short").status_code == 422
    assert send(here, "/me/password", "/me", password=new, again=new).status_code == 303
    assert is_in(here)
    assert not is_in(there)
    assert sign_in(app.test_client(), new, "rose").status_code == 303


def test_shorter_limits_hold_for_sessions_that_are_open(app: Flask, box: Box, monkeypatch) -> None:
    from appliance.web import security

    add_person(box, "sacha")
    browser = app.test_client()
    sign_in(browser, login="sacha")
    with box.catalog.transaction() as tx:
        changes = {"sessions.idle_minutes": 2}
        settings.change(tx, box.audit_key, changes, actor="tests", now=datetime.now(UTC))
    real = vars(security)["now"]
    monkeypatch.setattr(security, "now", lambda: real() + timedelta(minutes=3))
    try:
        assert not is_in(browser)
    finally:
        with box.catalog.transaction() as tx:
            default = {"sessions.idle_minutes": None}
            settings.change(tx, box.audit_key, default, actor="tests", now=datetime.now(UTC))


def test_the_second_factor_survives_a_role_that_needs_none(app: Flask, box: Box) -> None:
    add_enrolled(box, "theo", Role.STUDENT)
    assert half_open(app, "theo").get("/sign-in/second-factor").status_code == 200
