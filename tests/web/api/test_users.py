"""Users and grants for programs: what the pages do, as JSON, with the same limits."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from flask import Flask

from appliance import audit, settings
from appliance.box import Box
from appliance.catalog import outbox, people
from appliance.web.api import operation
from tests.web.api.conftest import Caller
from tests.web.conftest import LOGIN, browser_of, csrf_of

CHOSEN = "sept ours au bord du lac"


def number_of(box: Box, login: str) -> int:
    with box.catalog.reading() as conn:
        found = people.person(conn, login)
    assert found is not None
    return found.id


def change(owner: Caller, number: int, **wanted: Any) -> Any:
    """Read a user and write it back with other values."""
    read = owner("GET", f"/users/{number}")
    kept = {name: read.get_json()[name] for name in ("login", "name", "role", "language")}
    return owner("PUT", f"/users/{number}", kept | {"language": "fr"} | wanted, If_Match=read.headers["ETag"])


def test_a_user_from_invitation_to_deactivation(app: Flask, box: Box, owner: Caller) -> None:
    made = owner("POST", "/users", {"login": "api.luc", "name": "Luc", "role": "assistant", "language": "fr"})
    assert made.status_code == 201
    told = made.get_json()
    number = told["user"]["id"]
    assert told["user"]["state"] == "invited"
    code = told["address"].split("/welcome#")[1]
    guest = app.test_client()
    token = csrf_of(guest.get("/welcome").get_data(as_text=True))
    fields = {"csrf": token, "code": code, "password": CHOSEN, "again": CHOSEN}
    assert guest.post("/welcome/password", data=fields).status_code == 200
    assert owner("GET", f"/users/{number}").get_json()["state"] == "active"
    changed = change(owner, number, role="technician").get_json()
    assert (changed["role"], changed["name"], changed["language"]) == ("technician", "Luc", "fr")
    assert owner("POST", f"/users/{number}/deactivate").get_json()["state"] == "deactivated"
    assert owner("POST", f"/users/{number}/link").status_code == 422
    assert owner("POST", f"/users/{number}/reactivate").get_json()["state"] == "active"
    listed = owner("GET", "/users").get_json()["items"]
    assert "api.luc" in [each["login"] for each in listed]
    assert code not in str(listed)
    assert "password" not in str(listed)
    with box.catalog.reading() as conn:
        rows = audit.recent(conn, limit=30)
    assert {"user:invite", "user:change", "user:deactivate", "user:reactivate"} <= {
        row["action"] for row in rows
    }
    assert code not in str(rows)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"login": "x y", "name": "X", "role": "assistant"}, 400),
        ({"login": "xy", "name": "X", "role": "king"}, 400),
        ({"login": 7, "name": "X", "role": "assistant"}, 400),
        ({"login": "xy", "name": "X" * 101, "role": "assistant"}, 400),
        ({"login": "xy", "name": "X", "role": "assistant", "password": "chosen by somebody else"}, 400),
        ({"login": LOGIN, "name": "X", "role": "assistant"}, 422),
        ({"login": "xy", "name": " ", "role": "assistant"}, 422),
        ({"login": "xy", "name": "X", "role": "assistant", "language": "xx"}, 422),
    ],
)
def test_an_invitation_that_will_not_do_is_refused(owner: Caller, body: dict[str, Any], status: int) -> None:
    assert owner("POST", "/users", body).status_code == status


def test_a_change_of_what_somebody_else_has_changed_is_refused(box: Box, app: Flask, owner: Caller) -> None:
    browser_of(app, "assistant", "api-twice")
    number = number_of(box, "api-twice")
    before = owner("GET", f"/users/{number}")
    assert change(owner, number, name="First").status_code == 200
    body = {"login": "api-twice", "name": "Second", "role": "owner", "language": "en"}
    late = owner("PUT", f"/users/{number}", body, If_Match=before.headers["ETag"])
    assert late.status_code == 412
    assert owner("GET", f"/users/{number}").get_json()["name"] == "First"


def test_the_last_owner_stays_here_too(app: Flask, box: Box, owner: Caller) -> None:
    number = number_of(box, LOGIN)
    with box.catalog.reading() as conn:
        others = people.able(conn, "owner") - {number}
    for other in others - {number_of(box, "owner")}:
        owner("POST", f"/users/{other}/deactivate")
    assert owner("POST", f"/users/{number}/deactivate").status_code == 200
    own = number_of(box, "owner")
    assert change(owner, own, role="student").status_code == 422
    assert owner("POST", f"/users/{own}/deactivate").status_code == 422
    assert owner("POST", f"/users/{number}/reactivate").status_code == 200


def test_a_privacy_officer_makes_no_link_for_an_owner(
    app: Flask, box: Box, caller: Callable[[str], Caller]
) -> None:
    officer = caller("privacy_officer")
    browser_of(app, "assistant", "api-helped")
    assert officer("POST", f"/users/{number_of(box, 'api-helped')}/link").status_code == 201
    assert officer("POST", f"/users/{number_of(box, LOGIN)}/link").status_code == 403
    assert officer("POST", "/users", {"login": "xy", "name": "X", "role": "owner"}).status_code == 403


def test_a_study_is_granted_and_taken_back(box: Box, caller: Callable[[str], Caller]) -> None:
    referrer, doctor, officer = caller("referrer"), caller("practitioner"), caller("privacy_officer")
    number = number_of(box, "referrer")
    assert referrer("GET", "/studies").get_json()["items"] == []
    made = doctor("POST", "/studies/1/grants", {"user": number, "days": 7, "reason": "second opinion"})
    assert made.status_code == 201
    assert [each["id"] for each in referrer("GET", "/studies").get_json()["items"]] == [1]
    until = datetime.fromisoformat(made.get_json()["expires_utc"])
    assert 6 < (until - datetime.now(UTC)).total_seconds() / 86400 <= 7
    assert doctor("DELETE", f"/grants/{made.get_json()['id']}").get_json()["holds"] is False
    assert referrer("GET", "/studies").get_json()["items"] == []
    (kept,) = officer("GET", f"/users/{number}/grants").get_json()["items"]
    assert (kept["study"], kept["holds"], kept["by"]) == (1, False, "practitioner")


@pytest.mark.parametrize(
    ("wrong", "status"),
    [
        ({"days": 0}, 400),
        ({"days": 367}, 400),
        ({"days": "7"}, 400),
        ({"reason": ""}, 400),
        ({"reason": "     "}, 422),
        ({"user": 987654}, 404),
    ],
)
def test_a_grant_that_will_not_do_is_not_made(
    box: Box, caller: Callable[[str], Caller], wrong: dict[str, Any], status: int
) -> None:
    caller("student")
    doctor = caller("practitioner")
    whole = {"user": number_of(box, "student"), "days": 7, "reason": "teaching"}
    assert doctor("POST", "/studies/1/grants", whole | wrong).status_code == status
    assert doctor("POST", "/studies/987654/grants", whole).status_code == 404


def test_a_session_says_again_who_it_is_before_an_act_that_could_harm(
    owner: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operation, "is_confirmed", lambda session, moment: False)
    assert owner("POST", "/users", {"login": "later", "name": "L", "role": "owner"}).status_code == 403
    assert owner("GET", "/users").status_code == 200


def test_an_invitation_goes_by_mail_where_mail_is_set_up(box: Box, owner: Caller) -> None:
    body = {"name": "Ève", "role": "assistant", "language": "fr", "mail": True}
    nowhere = owner("POST", "/users", body | {"login": "eve@clinique.example"})
    assert (nowhere.status_code, nowhere.get_json()["mailed"]) == (201, False)
    with box.catalog.transaction() as tx:
        values = {"mail.host": "mail.clinique.example", "mail.from": "boitier@clinique.example"}
        settings.change(tx, box.audit_key, values, actor="tests", now=datetime.now(UTC))
    made = owner("POST", "/users", body | {"login": "eva@clinique.example"}).get_json()
    assert made["mailed"]
    assert not owner("POST", "/users", body | {"login": "no-address"}).get_json()["mailed"]
    assert not owner(
        "POST", "/users", body | {"login": "unasked@clinique.example", "mail": False}
    ).get_json()["mailed"]
    again = owner("POST", f"/users/{made['user']['id']}/link?mail=true").get_json()
    assert again["mailed"]
    with box.catalog.reading() as conn:
        sent = [each for each in outbox.messages(conn) if each.address == "eva@clinique.example"]
    assert len(sent) == 2


def test_a_user_is_signed_out_everywhere(app: Flask, box: Box, owner: Caller) -> None:
    browser = browser_of(app, "assistant", "api-gone")
    assert browser.get("/studies").status_code == 200
    assert owner("POST", f"/users/{number_of(box, 'api-gone')}/end-sessions").status_code == 200
    assert browser.get("/studies").status_code in (302, 303)
    assert owner("POST", "/users/99999/end-sessions").status_code == 404
