"""Who hears of what, for programs: each rule of an alert and the escalation, as the console's forms keep them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from appliance import audit
from appliance.box import Box
from appliance.catalog import alerts
from appliance.identity import Role
from appliance.notify import judging
from appliance.notify.escalation import CHAIN
from appliance.notify.kinds import RULES, Severity, rule_for
from tests.web.api.conftest import Caller

OTHERS = (Role.PRACTITIONER, Role.ASSISTANT, Role.STUDENT, Role.REFERRER)
NEXT = {"after_minutes": 10, "roles": ["owner"], "channels": ["mail"]}


def by_kind(caller: Caller) -> dict[str, dict[str, object]]:
    return {each["kind"]: each for each in caller("GET", "/alerts").get_json()["items"]}


def change(caller: Caller, **rules: object):
    named = {kind.replace("_", "-"): what for kind, what in rules.items()}
    return caller("PATCH", "/alerts", {"rules": named}, If_Match="*")


def rows(box: Box, action: str) -> list[tuple[str, str]]:
    with box.catalog.reading() as conn:
        return [
            (row["subject"], row["actor"]) for row in audit.recent(conn, limit=500) if row["action"] == action
        ]


def test_a_rule_is_changed_in_part_and_kept_as_the_form_keeps_it(owner: Caller, box: Box) -> None:
    before = by_kind(owner)["disk-low"]
    assert set(by_kind(owner)) == set(RULES) - {"test"}
    assert before["source"] == "delivered"
    assert change(owner, disk_low={"delay_seconds": 600, "persons": ["MTremblay"]}).status_code == 200
    after = by_kind(owner)["disk-low"]
    assert after == before | {"delay_seconds": 600, "persons": ["mtremblay"], "source": "clinic"}
    assert change(owner, disk_low={"severity": "critical", "delay_seconds": 60}).status_code == 200
    with box.catalog.reading() as conn:
        kept = alerts.changes(conn)["disk-low"]
    assert kept == {"severity": "critical", "persons": ["mtremblay"]}, (
        "only what differs from the delivered one"
    )
    assert rule_for("disk-low", kept).severity is Severity.CRITICAL
    assert ("disk-low", "owner") in rows(box, "alert:change")
    assert change(owner, disk_low=None).status_code == 200
    assert by_kind(owner)["disk-low"] == before


def test_all_changes_are_made_or_none(owner: Caller) -> None:
    before = by_kind(owner)
    wrongs: tuple[dict[str, object], ...] = (
        {"roles": [], "persons": []},
        {"roles": ["student"]},
        {"severity": "critical", "channels": ["mail"]},
        {"persons": ["nobody-of-that-name"]},
    )
    for wrong in wrongs:
        answer = change(owner, disk_low={"delay_seconds": 900}, backup_late=wrong)
        assert answer.status_code == 422, wrong
        assert answer.get_json()["remedy"]
    assert change(owner, disk_low={"delay_seconds": 900}, moonrise=None).status_code == 422
    assert change(owner, disk_low={"delay_seconds": "long"}).status_code == 400
    assert by_kind(owner) == before


def test_somebody_elses_change_is_not_undone(owner: Caller) -> None:
    tag = owner("GET", "/alerts").headers["ETag"]
    body = {"rules": {"clock": {"repeat_seconds": 7200}}}
    assert owner("PATCH", "/alerts", body).status_code == 428
    assert owner("PATCH", "/alerts", body, If_Match=tag).status_code == 200
    assert owner("PATCH", "/alerts", {"rules": {"clock": None}}, If_Match=tag).status_code == 412
    assert by_kind(owner)["clock"]["repeat_seconds"] == 7200


def test_who_hears_next_is_read_and_changed(owner: Caller, box: Box) -> None:
    told = owner("GET", "/escalation")
    assert [each["after_minutes"] for each in told.get_json()["steps"]] == [
        step.after_seconds // 60 for step in CHAIN
    ]
    steps = [
        NEXT,
        {**NEXT, "after_minutes": 30, "roles": ["owner", "technician"], "channels": ["bell", "webhook"]},
    ]
    tag = told.headers["ETag"]
    assert owner("PUT", "/escalation", {"steps": steps}, If_Match=tag).get_json() == {"steps": steps}
    assert owner("PUT", "/escalation", {"steps": []}, If_Match=tag).status_code == 412
    with box.catalog.reading() as conn:
        assert [(each.after_seconds, each.roles) for each in judging.chain(conn)] == [
            (600, ("owner",)),
            (1800, ("owner", "technician")),
        ]
    assert rows(box, "escalation:change") == [(judging.ESCALATION, "owner")]
    for wrong in (
        [NEXT, NEXT],
        [{**NEXT, "roles": []}],
        [{**NEXT, "channels": []}],
        [{**NEXT, "roles": ["student"]}],
    ):
        assert owner("PUT", "/escalation", {"steps": wrong}, If_Match="*").status_code == 422, wrong
    many = [{**NEXT, "after_minutes": minutes} for minutes in (1, 2, 3, 4)]
    assert owner("PUT", "/escalation", {"steps": many}, If_Match="*").status_code == 422, (
        "the console's form has room for three, and would lose the fourth"
    )


@pytest.mark.parametrize("role", OTHERS)
def test_who_may_not_change_settings_changes_no_alert(caller: Callable[[str], Caller], role: Role) -> None:
    asked = caller(role)
    assert change(asked, clock=None).status_code == 403
    assert asked("PUT", "/escalation", {"steps": [NEXT]}, If_Match="*").status_code == 403
