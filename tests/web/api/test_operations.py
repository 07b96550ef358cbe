"""What the interface does: every resource, its lists, its changes, its refusals."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from appliance import audit, settings
from appliance.box import Box
from appliance.catalog import devices
from appliance.model import ae_title
from appliance.settings import SETTINGS
from tests.replication.cloud import cloud
from tests.replication.cloud import settings as bucket_at
from tests.web.api.conftest import Caller

SECRET = "a-secret-that-nobody-may-see"


def actions(box: Box, count: int = 30) -> list[str]:
    with box.catalog.reading() as conn:
        return [row["action"] for row in audit.recent(conn, limit=count)]


# --- studies ---------------------------------------------------------------------------------------------------------


def test_pages_of_studies_hold_each_study_once(owner: Caller) -> None:
    whole = owner("GET", "/studies").get_json()
    assert whole["next"] is None
    ids = [each["id"] for each in whole["items"]]
    assert len(ids) == len(set(ids)) >= 3
    seen: list[int] = []
    after = ""
    while True:
        page = owner("GET", f"/studies?limit=1{after}").get_json()
        seen += [each["id"] for each in page["items"]]
        if page["next"] is None:
            break
        after = f"&after={page['next']}"
    assert seen == ids


def test_a_search_finds_without_accents_and_its_words_are_in_no_address_and_no_audit(
    owner: Caller, box: Box
) -> None:
    found = owner("POST", "/studies/search", {"text": "helene cote", "limit": 1}).get_json()
    assert found["items"][0]["patient_name"].startswith("Côté-Lévesque^Hélène")
    assert owner("POST", "/studies/search", {"text": "nobody of that name"}).get_json()["items"] == []
    assert owner("POST", "/studies/search", {"modality": "PX"}).status_code == 200
    with box.catalog.reading() as conn:
        row = next(row for row in audit.recent(conn, limit=5) if row["action"] == "study:search")
    assert "helene" not in json.dumps(row)


def test_a_study_opens_to_its_series_and_instances_and_leaves_a_row(owner: Caller, box: Box) -> None:
    study = owner("GET", "/studies").get_json()["items"][0]
    assert owner("GET", f"/studies/{study['id']}").get_json() == study
    series = owner("GET", f"/studies/{study['id']}/series").get_json()["items"]
    instances = owner("GET", f"/studies/{study['id']}/instances").get_json()["items"]
    assert len(instances) == study["instances"]
    assert {each["series_instance_uid"] for each in instances} == {
        each["series_instance_uid"] for each in series
    }
    assert "object_id" not in json.dumps(instances)
    with box.catalog.reading() as conn:
        rows = [row for row in audit.recent(conn, limit=3) if row["action"] == "study:view"]
    assert [row["subject"] for row in rows] == [f"study:{study['id']}"] * 3


def test_lists_of_patients_leave_rows(owner: Caller, box: Box) -> None:
    owner("GET", "/studies")
    assert actions(box, 1) == ["study:list"]
    owner("GET", "/deliveries")
    assert actions(box, 1) == ["delivery:list"]
    owner("GET", "/audit")
    assert actions(box, 1) == ["audit:view"]


def test_a_study_that_was_not_granted_is_not_there(caller: Callable[[str], Caller], owner: Caller) -> None:
    ids = [each["id"] for each in owner("GET", "/studies").get_json()["items"]]
    for role in ("referrer", "student"):
        stranger = caller(role)
        for body in ({}, {"text": "tremblay"}):
            answer = stranger("POST", "/studies/search", body)
            assert answer.status_code == 403 or answer.get_json()["items"] == []
        for path in ("", "/series", "/instances"):
            for number in ids:
                assert stranger("GET", f"/studies/{number}{path}").status_code in (403, 404)


# --- destinations, rules, deliveries ---------------------------------------------------------------------------------


def test_a_destination_is_added_used_changed_and_removed_and_its_secret_never_comes_out(
    owner: Caller, box: Box
) -> None:
    made = owner(
        "POST",
        "/destinations/s3",
        {
            "name": "nuage",
            "bucket": "clinic",
            "region": "ca-central-1",
            "access_key_id": "AK",
            "secret": SECRET,
        },
    )
    assert made.status_code == 201
    cloud = made.get_json()
    assert cloud["secret"] == "given"
    assert owner("POST", "/rules", {"destination": "nuage", "modality": "PX"}).status_code == 201
    place = f"/destinations/{cloud['id']}"
    tag = owner("GET", place).headers["ETag"]
    changed = owner("PATCH", place, {"options": {"bucket": "other"}}, If_Match=tag)
    assert changed.get_json()["options"]["bucket"] == "other"
    assert changed.headers["ETag"] != tag
    assert owner("PATCH", place, {"options": {"bucket": "x-y-z"}}, If_Match=tag).status_code == 412
    assert owner("PATCH", place, {"options": {"bucket": "x-y-z"}}).status_code == 428
    outside = owner("PATCH", place, {"options": {"region": "us-east-1"}}, If_Match="*")
    assert outside.status_code == 422
    without = owner("PATCH", place, {"options": {"access_key_id": "OTHER"}}, If_Match="*")
    assert without.status_code == 422  # another key needs its own secret
    for act, state in (("pause", "paused"), ("resume", "on")):
        assert owner("POST", f"{place}/{act}").get_json()["state"] == state
    assert owner("DELETE", place).status_code == 204
    assert owner("GET", place).status_code == 404
    assert "nuage" not in owner("GET", "/rules").get_data(as_text=True)
    answers = [made, changed, outside, without]
    assert not any(SECRET in each.get_data(as_text=True) for each in answers)
    with box.catalog.reading() as conn:
        assert SECRET not in json.dumps(audit.recent(conn, limit=20))


def test_a_folder_is_tested_and_a_missing_one_is_explained(owner: Caller, tmp_path: Path) -> None:
    for folder, status in ((tmp_path, 200), (tmp_path / "missing", 503)):
        made = owner("POST", "/destinations/folder", {"name": folder.name, "path": str(folder)}).get_json()
        answer = owner("POST", f"/destinations/{made['id']}/test")
        assert answer.status_code == status
        assert answer.get_json()["outcome" if status == 200 else "remedy"]
        owner("DELETE", f"/destinations/{made['id']}")


def test_the_test_of_a_bucket_says_which_of_its_protections_are_missing(owner: Caller) -> None:
    with cloud() as server:
        options = bucket_at(server.url, server.new_bucket()).options
        made = owner("POST", "/destinations/s3", {"name": "plain", "secret": SECRET, **options}).get_json()
        found = owner("POST", f"/destinations/{made['id']}/test").get_json()["protections"]
    owner("DELETE", f"/destinations/{made['id']}")
    assert {each["name"]: each["state"] for each in found}["removal"] == "missing"
    assert [each["name"] for each in found] == ["versioning", "object lock", "life cycle", "removal"]


def test_a_delivery_is_decided_about_and_tells_its_life(owner: Caller, box: Box, tmp_path: Path) -> None:
    from appliance.catalog import deliveries, destinations
    from appliance.model import InstanceId, Owed

    made = owner("POST", "/destinations/folder", {"name": "remise", "path": str(tmp_path)}).get_json()
    study = owner("GET", "/studies").get_json()["items"][0]
    instance = owner("GET", f"/studies/{study['id']}/instances").get_json()["items"][0]["id"]
    with box.catalog.transaction() as tx:
        place = destinations.destination(tx, "remise")
        assert place is not None
        from datetime import UTC, datetime

        deliveries.owe(tx, InstanceId(instance), [Owed(place.id, 0)], datetime.now(UTC))
    (row,) = owner("GET", "/deliveries?destination=remise&state=PENDING").get_json()["items"]
    assert owner("GET", f"/deliveries?destination=remise&after={row['id']}").get_json()["items"] == []
    path = f"/deliveries/{row['id']}"
    for act, state in (
        ("pause", "PAUSED"),
        ("resume", "PENDING"),
        ("cancel", "CANCELLED"),
        ("retry", "PENDING"),
    ):
        assert owner("POST", f"{path}/{act}").get_json()["state"] == state
    refused = owner("POST", f"{path}/resume")
    assert refused.status_code == 422
    assert refused.get_json()["detail"]
    events = [each["event"] for each in owner("GET", f"{path}/events").get_json()["items"]]
    assert events[1:] == ["pause", "resume", "cancel", "retry"]
    owner("DELETE", f"/destinations/{made['id']}")


# --- devices ---------------------------------------------------------------------------------------------------------


def test_a_machine_at_the_door_is_admitted_renamed_and_sent_away(owner: Caller, box: Box) -> None:
    from datetime import UTC, datetime

    with box.catalog.transaction() as tx:
        devices.seen_at_door(tx, ae_title("PANO7"), "192.168.1.70", datetime.now(UTC))
    assert [each["ae_title"] for each in owner("GET", "/door").get_json()["items"]] == ["PANO7"]
    made = owner("POST", "/devices", {"ae_title": "PANO7", "address": "192.168.1.70"})
    assert made.status_code == 201
    assert owner("GET", "/door").get_json()["items"] == []
    place = f"/devices/{made.get_json()['id']}"
    assert owner("POST", "/devices", {"ae_title": "PANO7", "address": "192.168.1.70"}).status_code == 422
    tag = owner("GET", place).headers["ETag"]
    changed = owner("PUT", place, {"name": "Room 2", "port": 104}, If_Match=tag).get_json()
    assert (changed["name"], changed["port"]) == ("Room 2", 104)
    assert owner("PUT", place, {"name": "Room 3"}, If_Match=tag).status_code == 412
    assert owner("DELETE", place).status_code == 204
    assert owner("POST", f"{place}/echo").status_code == 404
    assert {"device:add", "device:change", "device:remove"} <= set(actions(box))


# --- settings and configuration --------------------------------------------------------------------------------------


def test_settings_are_listed_changed_all_or_nothing_and_undone(owner: Caller, box: Box) -> None:
    listed = owner("GET", "/settings")
    assert [each["key"] for each in listed.get_json()["items"]] == list(SETTINGS)
    tag = listed.headers["ETag"]
    wrong = owner(
        "PATCH", "/settings", {"clinic.name": "Émard", "mail.port": 0, "mail.security": "x"}, If_Match=tag
    )
    assert wrong.status_code == 422
    assert {each["pointer"] for each in wrong.get_json()["faults"]} == {"/mail.port", "/mail.security"}
    assert owner("GET", "/settings").headers["ETag"] == tag
    unknown = owner("PATCH", "/settings", {"clinic.nmae": "x"}, If_Match=tag)
    assert unknown.status_code == 400
    assert unknown.get_json()["faults"][0]["remedy"] == "did you mean clinic.name?"
    done = owner("PATCH", "/settings", {"clinic.name": "Émard", "mail.password": SECRET}, If_Match=tag)
    assert done.status_code == 200
    assert SECRET not in done.get_data(as_text=True)
    assert owner("PATCH", "/settings", {"clinic.name": "B"}, If_Match=tag).status_code == 412
    changes = owner("GET", "/settings/history?limit=2").get_json()["items"]
    name = next(each for each in changes if each["key"] == "clinic.name")
    assert owner("POST", f"/settings/history/{name['id']}/undo").status_code == 201
    with box.catalog.reading() as conn:
        assert settings.get(conn, "clinic.name") == ""
    owner("PATCH", "/settings", {"mail.password": None}, If_Match="*")


def test_a_configuration_is_exported_previewed_and_imported(owner: Caller) -> None:
    document = owner("GET", "/configuration").get_json()
    document["settings"]["clinic.phone"] = "514 555-0100"
    preview = owner("POST", "/configuration/preview", document)
    assert [each["subject"] for each in preview.get_json()["differences"]] == ["clinic.phone"]
    assert owner("POST", "/configuration/import", document).get_json() == preview.get_json()
    assert owner("POST", "/configuration/preview", document).get_json()["differences"] == []
    assert owner("POST", "/configuration/import", {"appliance_configuration": 9}).status_code == 422
    owner("PATCH", "/settings", {"clinic.phone": None}, If_Match="*")


# --- the box, and who asks -------------------------------------------------------------------------------------------


def test_health_audit_and_oneself_are_told(owner: Caller) -> None:
    assert isinstance(owner("GET", "/health").get_json()["ready"], bool)
    page = owner("GET", "/audit?limit=2").get_json()
    older = owner("GET", f"/audit?limit=2&after={page['next']}").get_json()
    assert older["items"][0]["id"] == page["items"][-1]["id"] - 1
    assert owner("GET", "/me").get_json()["role"] == "owner"


def test_a_role_does_by_program_only_what_it_may_in_the_console(
    caller: Callable[[str], Caller], app: Flask
) -> None:
    student = caller("student")
    permitted = set(student("GET", "/me").get_json()["permissions"])
    tried = 0
    for path, methods in app.extensions["openapi"]["paths"].items():
        for method, said in methods.items():
            scope = said["security"][0]["token"][0]
            if scope in permitted:
                continue
            tried += 1
            answer = student(method.upper(), path.removeprefix("/api/v1").replace("{", "").replace("}", ""))
            sample = student(method.upper(), _with_numbers(path))
            assert sample.status_code == 403, path
            assert sample.get_json()["code"] == "forbidden"
            assert answer.status_code in (403, 404)
    assert tried > 30


def _with_numbers(path: str) -> str:
    import re

    return re.sub(r"{\w+}", "1", path.removeprefix("/api/v1"))


@pytest.mark.parametrize(
    ("body", "kind", "status", "code"),
    [
        ('{"text": "a", "text": "b"}', "application/json", 400, "malformed"),
        ('{"limit": NaN}', "application/json", 400, "malformed"),
        ("[" * 100_000, "application/json", 413, "too_large"),
        ("[" * 20_000, "application/json", 400, "malformed"),
        (b"\xff", "application/json", 400, "malformed"),
        ('{"text": "\\ud800"}', "application/json", 400, "malformed"),
        ("{}", "text/plain", 415, "media_type"),
        ("text=a", "application/x-www-form-urlencoded", 415, "media_type"),
        ('{"surprise": 1}', "application/json", 400, "malformed"),
        ('{"limit": true}', "application/json", 400, "malformed"),
        ('{"limit": 501}', "application/json", 400, "malformed"),
        ('{"after": 99999999}', "application/json", 404, "missing"),
    ],
)
def test_a_body_that_is_not_as_described_is_refused_with_its_reason(
    owner: Caller, body: Any, kind: str, status: int, code: str
) -> None:
    answer = owner.browser.post(
        "/api/v1/studies/search", data=body, content_type=kind, headers={"X-CSRF-Token": owner.csrf}
    )
    problem = answer.get_json()
    assert (answer.status_code, problem["code"], problem["status"]) == (status, code, status)
    assert answer.content_type == "application/problem+json"
    assert problem["reference"]
    assert problem["type"] == f"/help/api/reference#{code}"


def test_what_stands_in_an_address_is_checked_too(owner: Caller) -> None:
    for path, status in (
        ("/studies?limit=0", 400),
        ("/studies?limit=x", 400),
        ("/studies?limit=1&limit=2", 400),
        ("/studies?text=tremblay", 400),
        ("/studies/0", 400),
        ("/studies/-1", 404),
        ("/studies/99999999999999999999", 404),
        ("/rules?x=1", 400),
        ("/deliveries?state=nonsense", 400),
        ("/nothing", 404),
    ):
        assert owner("GET", path).status_code == status, path
    answer = owner("PUT", "/rules")
    assert answer.status_code == 405
    assert answer.headers["Allow"] == "GET, HEAD, OPTIONS, POST"


def test_without_the_csrf_token_a_session_changes_nothing(owner: Caller) -> None:
    bare = Caller(owner.browser, "x" * 43)
    assert bare("POST", "/rules", {"destination": "nuage"}).status_code == 400
    assert bare("GET", "/rules").status_code == 200


def test_without_a_session_nothing_is_told(app: Flask) -> None:
    stranger = app.test_client()
    for path in app.extensions["openapi"]["paths"]:
        answer = stranger.get(path.replace("{", "").replace("}", ""))
        assert answer.status_code in (401, 404, 405)
        assert answer.content_type == "application/problem+json"
    answer = stranger.get("/api/v1/openapi.json")
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
