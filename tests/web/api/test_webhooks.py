"""Webhooks for programs: added with a secret that is shown once, tried, taken away; their addresses never come out."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from appliance import audit
from appliance.box import Box
from appliance.catalog import webhooks
from appliance.identity import Role
from appliance.notify import signing
from tests.notify.receiver import receiver
from tests.web.api.conftest import Caller

OTHERS = (Role.PRACTITIONER, Role.ASSISTANT, Role.VENDOR_SUPPORT)
CHAT = {"name": "chat", "url": "https://chat.example.ca/hooks/geheim", "format": "slack", "language": "fr"}


def test_a_webhook_is_added_and_its_secret_is_answered_once(owner: Caller, box: Box) -> None:
    added = owner("POST", "/webhooks", {**CHAT, "least": "critical"})
    assert added.status_code == 201
    made = added.get_json()
    number = made["webhook"]["id"]
    with box.catalog.reading() as conn:
        kept = webhooks.by_name(conn, "chat")
    assert (kept.id, kept.url, kept.secret) == (number, CHAT["url"], made["secret"])
    listed = owner("GET", "/webhooks")
    assert listed.get_json()["items"] == [made["webhook"]] == [owner("GET", f"/webhooks/{number}").get_json()]
    assert made["webhook"] == {
        "id": number,
        "name": "chat",
        "host": "chat.example.ca",
        "format": "slack",
        "hears": "notices",
        "least": "critical",
        "language": "fr",
        "place": "internet",
        "trouble": "",
        "last_success_utc": None,
    }
    assert "geheim" not in listed.get_data(as_text=True)
    assert made["secret"] not in listed.get_data(as_text=True)
    again = owner("POST", "/webhooks", CHAT)
    assert (again.status_code, again.get_json()["detail"]) == (422, "there is a webhook named chat already")
    assert owner("DELETE", f"/webhooks/{number}").status_code == 204
    assert owner("GET", f"/webhooks/{number}").status_code == 404
    assert owner("DELETE", f"/webhooks/{number}").status_code == 404
    with box.catalog.reading() as conn:
        written = [row for row in audit.recent(conn, limit=500) if row["action"].startswith("webhook:")]
    assert [(row["action"], row["subject"], row["actor"]) for row in written] == [
        ("webhook:remove", "chat", "owner"),
        ("webhook:add", "chat", "owner"),
    ]
    assert json.loads(str(written[-1]["details"])) == {
        "host": "chat.example.ca",
        "format": "slack",
        "language": "fr",
        "on_lan": False,
        "hears": "notices",
    }
    assert "geheim" not in str(written)
    assert made["secret"] not in str(written)


@pytest.mark.parametrize(
    ("wrong", "status"),
    [
        ({"url": "http://chat.example.ca/hooks"}, 422),
        ({"url": "https://marie:geheim@chat.example.ca/hooks"}, 422),
        ({"format": "sms", "to": "call me"}, 422),
        ({"format": "smoke"}, 400),
        ({"least": "loud"}, 400),
        ({"name": ""}, 400),
        ({"colour": "red"}, 400),
    ],
)
def test_what_cannot_be_posted_to_is_not_kept(owner: Caller, wrong: dict[str, str], status: int) -> None:
    answer = owner("POST", "/webhooks", CHAT | wrong)
    assert answer.status_code == status, answer.get_json()
    assert owner("GET", "/webhooks").get_json() == {"items": []}


def test_a_test_arrives_signed_and_what_does_not_answer_is_told(owner: Caller, box: Box) -> None:
    with receiver() as there:
        body = {"name": "gateway", "url": there.url(), "place": "lan"}
        made = owner("POST", "/webhooks", body).get_json()
        path = f"/webhooks/{made['webhook']['id']}"
        answer = owner("POST", f"{path}/test")
        assert (answer.status_code, answer.get_json()) == (200, {"status": 204})
        (posted,), (headers,) = there.bodies, there.headers
        assert json.loads(posted)["event"] == "test"
        stamp, signed = headers["X-Appliance-Timestamp"], headers["X-Appliance-Signature"]
        assert signing.check(made["secret"], stamp, signed, posted, datetime.now(UTC))
        assert owner("GET", path).get_json()["last_success_utc"] is not None
        there.answers.append(500)
        refused = owner("POST", f"{path}/test")
        assert refused.status_code == 422, "a 503 would say that this box is busy"
        assert refused.get_json()["detail"]
    assert owner("POST", f"{path}/test").status_code == 422
    with box.catalog.reading() as conn:
        tried = [row for row in audit.recent(conn, limit=500) if row["action"] == "webhook:test"]
    assert len(tried) == 3
    assert owner("DELETE", path).status_code == 204


@pytest.mark.parametrize("role", OTHERS)
def test_who_may_not_change_settings_adds_and_removes_none(
    caller: Callable[[str], Caller], role: Role
) -> None:
    asked = caller(role)
    assert asked("POST", "/webhooks", CHAT).status_code == 403
    assert asked("DELETE", "/webhooks/1").status_code == 403
    assert asked("POST", "/webhooks/1/test").status_code == 403
