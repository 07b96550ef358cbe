"""Retention for programs: what is due page by page, and holds; deciding stays with people at the console."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from flask import Flask

from appliance.box import Box
from appliance.catalog import holds as hold_rows
from appliance.catalog import people
from appliance.identity import Role, tokens
from appliance.identity.permissions import Permission
from appliance.web.api import RESOURCES
from tests.lifecycle.clinic import arrive, bring_up_to_date, watch
from tests.web.api.conftest import Caller
from tests.web.conftest import browser_of

OLD = datetime.now(UTC) - timedelta(days=365 * 14)


def test_what_is_due_is_listed_page_by_page_and_held_until_it_is_released(box: Box, owner: Caller) -> None:
    watch(box.catalog, datetime.now(UTC))
    numbers = [
        arrive(box.catalog, f"1.9.{n}", at=OLD + timedelta(days=n), patient_id=f"D-{n}", patient_name=f"D{n}")
        for n in range(3)
    ]
    bring_up_to_date(box.catalog)
    first = owner("GET", "/retention/due?limit=2").get_json()
    assert [each["study"] for each in first["items"]] == numbers[:2]
    assert first["items"][0]["source"].startswith("M-9")
    assert (first["studies"], first["held"], first["doubt"], first["forgotten"]) == (3, 0, None, False)
    second = owner("GET", f"/retention/due?limit=2&after={first['next']}").get_json()
    assert ([each["study"] for each in second["items"]], second["next"]) == (numbers[2:], None)
    assert owner("GET", "/retention/due?at=2001-01-01").get_json()["items"] == []
    assert owner("GET", "/retention/due?at=2026-02-30").status_code == 422

    made = owner("POST", f"/studies/{numbers[0]}/holds", {"reason": "claim 2026-114", "patient": True})
    assert made.status_code == 201
    hold = made.get_json()
    assert (hold["study"], hold["kind"], hold["released_utc"]) == (None, "legal", None)
    assert owner("GET", "/retention/due").get_json()["items"][0]["state"] == "held"
    assert owner("POST", f"/studies/{numbers[0]}/holds", {"reason": " "}).status_code == 422
    assert owner("POST", "/studies/999999/holds", {"reason": "a claim"}).status_code == 404
    ended = owner(
        "POST", f"/retention/holds/{hold['id']}/release", {"reason": "judgment of 3 May"}
    ).get_json()
    assert ended["release_reason"] == "judgment of 3 May"
    assert owner("POST", f"/retention/holds/{hold['id']}/release", {"reason": "again"}).status_code == 422
    assert hold["id"] in [each["id"] for each in owner("GET", "/retention/holds").get_json()["items"]]
    assert owner("GET", "/retention/requests").get_json() == {"items": [], "next": None}


def test_a_token_without_sight_of_studies_reads_no_reason_and_releases_no_hold(app: Flask, box: Box) -> None:
    study = arrive(box.catalog, "1.9.77", patient_id="H-7", patient_name="H7")
    now = datetime.now(UTC)
    with box.catalog.transaction() as tx:
        held = hold_rows.add(
            tx, kind=hold_rows.HoldKind.LEGAL, study=study, whole_patient=False, reason="X", by="z", now=now
        )
        person = people.add(
            tx, login="keeper", name="Keeper", role=Role.OWNER, password_hash="", language="en", now=now
        )
        scopes = [Permission.USE_CONSOLE.value, Permission.MANAGE_RETENTION.value]
        text, _ = tokens.make(tx, person, name="narrow", scopes=scopes, days=1, now=now)
    program, bearer = app.test_client(), {"Authorization": f"Bearer {text}"}
    listed = program.get("/api/v1/retention/holds", headers=bearer)
    assert listed.status_code == 200
    assert held.id not in [each["id"] for each in listed.get_json()["items"]]
    path = f"/api/v1/retention/holds/{held.id}/release"
    assert program.post(path, json={"reason": "let go"}, headers=bearer).status_code == 404
    answer = program.post(f"/api/v1/studies/{study}/holds", json={"reason": "a claim"}, headers=bearer)
    assert answer.status_code == 404
    with box.catalog.reading() as conn:
        assert hold_rows.hold(conn, held.id).is_in_force
        assert len(hold_rows.of_study(conn, study)) == 1


def test_a_visit_is_entered_listed_and_withdrawn(app: Flask, box: Box, owner: Caller) -> None:
    study = arrive(box.catalog, "1.9.78", patient_id="V-8", patient_name="V8")
    made = owner("POST", f"/studies/{study}/visits", {"day": "2020-03-01"})
    assert made.status_code == 201
    visit = made.get_json()
    for day in ("2199-01-01", "2026-02-30", "2020-03-01"):
        assert owner("POST", f"/studies/{study}/visits", {"day": day}).status_code == 422, day
    assert owner("POST", "/studies/999999/visits", {"day": "2020-03-01"}).status_code == 404
    (listed,) = owner("GET", f"/studies/{study}/visits").get_json()["items"]
    assert listed == visit

    now = datetime.now(UTC)
    with box.catalog.transaction() as tx:
        person = people.add(
            tx, login="desk", name="Desk", role=Role.OWNER, password_hash="", language="en", now=now
        )
        scopes = [Permission.USE_CONSOLE.value, Permission.MANAGE_RETENTION.value]
        text, _ = tokens.make(tx, person, name="blind", scopes=scopes, days=1, now=now)
    program, bearer = app.test_client(), {"Authorization": f"Bearer {text}"}
    address, body = f"/api/v1/retention/visits/{visit['id']}/withdraw", {"reason": "another patient"}
    assert program.get(f"/api/v1/studies/{study}/visits", headers=bearer).status_code == 404
    answer = program.post(f"/api/v1/studies/{study}/visits", json={"day": "2020-03-02"}, headers=bearer)
    assert answer.status_code == 404
    assert program.post(address, json=body, headers=bearer).status_code == 404

    ended = owner("POST", f"/retention/visits/{visit['id']}/withdraw", body)
    assert ended.get_json()["withdraw_reason"] == "another patient"
    assert owner("POST", f"/retention/visits/{visit['id']}/withdraw", body).status_code == 422
    assert owner("POST", "/retention/visits/999999/withdraw", body).status_code == 404


def test_no_program_asks_for_a_destruction_or_approves_one() -> None:
    acts = [each for module in RESOURCES for each in module.OPERATIONS if each.method != "GET"]
    assert acts
    assert not [each.name for each in acts if each.permission is Permission.DESTROY_STUDIES]


def test_who_does_not_look_after_retention_is_refused(app: Flask) -> None:
    browser = browser_of(app, Role.PRACTITIONER)
    for path in ("/retention/due", "/retention/holds", "/retention/requests"):
        assert browser.get(f"/api/v1{path}").status_code == 403
