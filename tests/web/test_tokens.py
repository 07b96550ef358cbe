"""Machines at the interface: by a token, within its scopes, and nowhere else."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from flask import Flask
from flask.testing import FlaskClient

from appliance import audit, settings
from appliance.box import Box
from appliance.catalog import people
from appliance.identity import Role, tokens
from appliance.identity.permissions import Permission
from appliance.web.access import needed_by
from appliance.web.security import OPEN
from tests.web.conftest import sign_in
from tests.web.second_factor import add_person, send
from tests.web.test_security import routes

AWAY = {"REMOTE_ADDR": "192.168.1.9"}


def token(box: Box, login: str, *scopes: str, role: Role = Role.OWNER) -> str:
    with box.catalog.reading() as conn:
        person = people.person(conn, login)
    person = person or add_person(box, login, role)
    with box.catalog.transaction() as tx:
        text, _ = tokens.make(tx, person, name="tests", scopes=scopes, days=1, now=datetime.now(UTC))
    return text


def bearing(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


def test_a_token_opens_what_its_scopes_say_and_nothing_else(app: Flask, box: Box) -> None:
    machine = app.test_client()
    shown = bearing(token(box, "robot", "deliveries:view"))
    answer = machine.get("/api/v1/deliveries", headers=shown)
    assert answer.status_code == 200
    assert "Set-Cookie" not in answer.headers
    assert machine.get("/api/v1/studies", headers=shown).status_code == 403


def test_every_route_of_the_interface_holds_a_token_to_its_scopes(app: Flask, box: Box) -> None:
    """A token of everything but what the route needs is refused by every route."""
    machine, walked = app.test_client(), 0
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        for endpoint, path in routes(app, method):
            if not path.startswith("/api/") or endpoint in OPEN:
                continue
            needed = needed_by(app.view_functions[endpoint])
            assert needed is not None, endpoint
            scopes = [each.value for each in Permission if each is not needed]
            shown = bearing(token(box, f"w{walked}.bot", *scopes))
            answer = machine.open(path, method=method, headers=shown, json={})
            assert answer.status_code == 403, endpoint
            walked += 1
    assert walked >= 2


def test_a_token_is_no_key_to_the_pages(app: Flask, box: Box) -> None:
    machine = app.test_client()
    shown = bearing(token(box, "robot2", *(each.value for each in Permission)))
    for endpoint, path in routes(app, "GET"):
        if endpoint not in OPEN and not path.startswith("/api/"):
            assert machine.get(path, headers=shown).status_code in (303, 401), endpoint


def test_a_request_with_a_token_does_not_borrow_the_cookie_beside_it(
    app: Flask, signed_in: FlaskClient
) -> None:
    assert signed_in.get("/api/v1/deliveries").status_code == 200
    answer = signed_in.get("/api/v1/deliveries", headers=bearing("clinicbox_wrong"))
    assert answer.status_code == 401
    assert "Bearer" in answer.headers["WWW-Authenticate"]


def test_a_token_in_an_address_is_none(app: Flask, box: Box) -> None:
    text = token(box, "robot3", "deliveries:view")
    for query in (f"access_token={text}", f"token={text}"):
        assert app.test_client().get(f"/api/v1/deliveries?{query}").status_code == 401


def test_metrics_are_for_a_token_that_may_see_how_the_box_is(app: Flask, box: Box) -> None:
    machine = app.test_client()
    good, other = token(box, "prom", "health:view"), token(box, "prom", "deliveries:view")
    assert machine.get("/metrics", headers=bearing(good), environ_base=AWAY).status_code == 200
    assert machine.get("/metrics", headers=bearing(other), environ_base=AWAY).status_code == 403
    assert machine.get("/metrics", headers=bearing(good[:-1]), environ_base=AWAY).status_code == 401


def test_the_audit_names_the_person_and_the_token(app: Flask, box: Box) -> None:
    app.test_client().get(
        "/api/v1/studies", headers=bearing(token(box, "robot4", "studies:view", "studies:all"))
    )
    with box.catalog.reading() as conn:
        (row, *_) = [row for row in audit.recent(conn, limit=20) if row["actor"] == "robot4"]
    assert '"token":' in row["details"]


def test_a_wrong_token_is_soon_not_examined_and_another_still_is(app: Flask, box: Box) -> None:
    machine, base = app.test_client(), {"REMOTE_ADDR": "10.8.8.8"}
    wrong = bearing(tokens.PREFIX + "x" * 43)
    statuses = [
        machine.get("/api/v1/deliveries", headers=wrong, environ_base=base).status_code for _ in range(6)
    ]
    assert statuses == [401] * 5 + [429]
    good = bearing(token(box, "robot5", "deliveries:view"))
    assert machine.get("/api/v1/deliveries", headers=good, environ_base=base).status_code == 200
    for number in range(35):
        guess = bearing(f"{tokens.PREFIX}guess{number}")
        machine.get("/api/v1/deliveries", headers=guess, environ_base=base)
    answer = machine.get("/api/v1/deliveries", headers=bearing("clinicbox_new"), environ_base=base)
    assert answer.status_code == 429
    assert answer.headers["Retry-After"]


def test_a_token_is_made_in_the_console_shown_once_and_taken_back(app: Flask, box: Box) -> None:
    add_person(box, "zoe", Role.TECHNICIAN)
    browser = app.test_client()
    sign_in(browser, login="zoe")
    refused = send(browser, "/me/tokens/add", "/me/tokens", name="night", days="30", scope="users:manage")
    assert refused.status_code == 422
    made = send(browser, "/me/tokens/add", "/me/tokens", name="night", days="30", scope="deliveries:view")
    assert made.status_code == 303
    html = browser.get("/me/tokens").get_data(as_text=True)
    found = re.search(r"data-token>(clinicbox_[\w-]+)<", html)
    assert found is not None
    assert found[1] not in browser.get("/me/tokens").get_data(as_text=True)
    machine = app.test_client()
    assert machine.get("/api/v1/deliveries", headers=bearing(found[1])).status_code == 200
    (number,) = re.findall(r"/me/tokens/(\d+)/remove", html)
    stranger = app.test_client()
    add_person(box, "yves", Role.TECHNICIAN)
    sign_in(stranger, login="yves")
    assert send(stranger, f"/me/tokens/{number}/remove", "/me/tokens").status_code == 404
    assert send(browser, f"/me/tokens/{number}/remove", "/me/tokens").status_code == 303
    assert machine.get("/api/v1/deliveries", headers=bearing(found[1])).status_code == 401


# --- addresses -------------------------------------------------------------------------------------------------------


@pytest.fixture
def restore(box: Box) -> Iterator[None]:
    yield
    with box.catalog.transaction() as tx:
        changes = {"access.allowed_addresses": None}
        settings.change(tx, box.audit_key, changes, actor="tests", now=datetime.now(UTC))


def allow(box: Box, *networks: str) -> None:
    with box.catalog.transaction() as tx:
        changes = {"access.allowed_addresses": list(networks)}
        settings.change(tx, box.audit_key, changes, actor="tests", now=datetime.now(UTC))


def test_every_route_is_closed_to_an_address_that_is_not_in_the_list(
    app: Flask, box: Box, signed_in: FlaskClient, restore: None
) -> None:
    allow(box, "192.168.1.0/24")
    for method in ("GET", "POST"):
        for endpoint, path in routes(app, method):
            if endpoint != "static":
                answer = signed_in.open(path, method=method, environ_base={"REMOTE_ADDR": "10.0.0.1"})
                assert answer.status_code == 403, endpoint
    assert signed_in.get("/me", environ_base=AWAY).status_code == 200
    assert signed_in.get("/me").status_code == 200, "this machine itself"
    with box.catalog.reading() as conn:
        assert any(row["action"] == "access:address" for row in audit.recent(conn, limit=20))


def test_nobody_shuts_themselves_out(app: Flask, box: Box, signed_in: FlaskClient, restore: None) -> None:
    page = signed_in.get("/settings/access", environ_base=AWAY).get_data(as_text=True)
    from tests.web.conftest import csrf_of

    found = re.search(r'name="revision" value="(\d+)"', page)
    assert found is not None
    form = {
        "csrf": csrf_of(page),
        "revision": found[1],
        "access.allowed_addresses": "10.0.0.0/8",
        "access.second_factor_roles": "",
    }
    answer = signed_in.post("/settings/access", data=form, environ_base=AWAY)
    assert answer.status_code == 422
    assert "not in the list" in answer.get_data(as_text=True) or "pas dans la liste" in answer.get_data(
        as_text=True
    )
    assert signed_in.get("/me", environ_base=AWAY).status_code == 200
    form["access.allowed_addresses"] = "10.0.0.0/8, 192.168.1.9"
    assert signed_in.post("/settings/access", data=form, environ_base=AWAY).status_code == 303
