"""Tokens for programs, made and taken back by programs: shown once, and never more than what makes them."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from flask import Flask

from appliance import audit
from appliance.box import Box
from appliance.identity import tokens
from appliance.web.console import now
from tests.web.api.conftest import Caller

NIGHT = {"name": "night report", "scopes": ["health:view"], "days": 7}


def ask(app: Flask, text: str, method: str, path: str, body: Any = None) -> Any:
    """Call an operation as a program that shows a token."""
    headers = {"Authorization": f"Bearer {text}"}
    return app.test_client().open(f"/api/v1{path}", method=method, json=body, headers=headers)


def test_a_token_is_answered_once_works_and_is_taken_back(app: Flask, box: Box, owner: Caller) -> None:
    made = owner("POST", "/tokens", NIGHT)
    assert made.status_code == 201
    told = made.get_json()
    text, number = told["text"], told["token"]["id"]
    assert text.startswith(tokens.PREFIX)
    assert (told["token"]["scopes"], told["token"]["state"]) == (["health:view"], "good")
    assert ask(app, text, "GET", "/health").status_code == 200
    assert ask(app, text, "GET", "/studies").status_code == 403
    listed = owner("GET", "/tokens")
    assert number in [each["id"] for each in listed.get_json()["items"]]
    assert text not in listed.get_data(as_text=True)
    assert text not in owner("GET", f"/tokens/{number}").get_data(as_text=True)
    assert owner("DELETE", f"/tokens/{number}").status_code == 204
    assert ask(app, text, "GET", "/health").status_code == 401
    assert owner("GET", f"/tokens/{number}").get_json()["state"] == "removed"
    assert owner("DELETE", f"/tokens/{number}").status_code == 404
    with box.catalog.reading() as conn:
        rows = [dict(row) for row in audit.recent(conn, limit=20)]
    assert {"token:add", "token:remove"} <= {row["action"] for row in rows}
    assert text not in str(rows)


def test_a_token_may_do_no_more_than_whoever_makes_it(caller: Callable[[str], Caller]) -> None:
    technician = caller("technician")
    assert technician("POST", "/tokens", NIGHT).status_code == 201
    more = technician("POST", "/tokens", NIGHT | {"scopes": ["health:view", "users:manage"]})
    assert more.status_code == 422
    assert technician("POST", "/tokens", NIGHT | {"scopes": ["sky:fall"]}).status_code == 400
    assert technician("POST", "/tokens", NIGHT | {"scopes": []}).status_code == 422
    assert technician("POST", "/tokens", NIGHT | {"days": 400}).status_code == 400


def test_a_token_makes_none_that_may_more_or_lasts_longer_than_itself(
    app: Flask, box: Box, owner: Caller
) -> None:
    body = {"name": "maker", "scopes": ["console:use", "health:view"], "days": 2}
    maker = owner("POST", "/tokens", body).get_json()["text"]
    wanted = {"name": "made", "scopes": ["health:view"], "days": 90}
    made = ask(app, maker, "POST", "/tokens", wanted)
    assert made.status_code == 201
    until = datetime.fromisoformat(made.get_json()["token"]["expires_utc"])
    assert until <= now() + timedelta(days=2)
    assert ask(app, maker, "POST", "/tokens", wanted | {"scopes": ["users:manage"]}).status_code == 422
    assert ask(app, made.get_json()["text"], "POST", "/tokens", wanted).status_code == 403


def test_others_tokens_are_not_there_but_for_those_who_manage_people(
    caller: Callable[[str], Caller], owner: Caller
) -> None:
    technician = caller("technician")
    own = owner("POST", "/tokens", NIGHT).get_json()["token"]["id"]
    theirs = technician("POST", "/tokens", NIGHT).get_json()["token"]["id"]
    assert {each["login"] for each in technician("GET", "/tokens").get_json()["items"]} == {"technician"}
    assert technician("GET", f"/tokens/{own}").status_code == 404
    assert technician("DELETE", f"/tokens/{own}").status_code == 404
    assert {"technician", "owner"} <= {each["login"] for each in owner("GET", "/tokens").get_json()["items"]}
    assert owner("DELETE", f"/tokens/{theirs}").status_code == 204
