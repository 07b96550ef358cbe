"""Backups, the ransomware guard and the recovery plan for programs: what the command line shows and does, they may too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from appliance import audit
from appliance.backup import drill
from appliance.box import Box
from appliance.identity import Role
from appliance.web import create_app
from appliance.wizard import by_hand
from tests.backup.conftest import Clinic, eventually
from tests.web.api.conftest import Caller
from tests.web.conftest import kept_clinic

OTHERS = (Role.PRACTITIONER, Role.TECHNICIAN, Role.VENDOR_SUPPORT)


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clinic]:
    with kept_clinic(tmp_path_factory.mktemp("kept"), images=2) as made:
        yield made


@pytest.fixture(scope="module")
def box(clinic: Clinic) -> Box:
    return clinic.box


@pytest.fixture(scope="module")
def app(box: Box) -> Iterator[Flask]:
    application = create_app(box)
    yield application
    application.extensions["console"].watcher.close()
    application.extensions["console"].darkroom.close()


def test_what_an_archive_holds_is_listed_with_its_proof(owner: Caller, clinic: Clinic) -> None:
    path = f"/backups/{clinic.place.id}"
    assert owner("GET", path).get_json() == {"items": [], "older": 0}
    made = clinic.back_up()
    (row,) = owner("GET", path).get_json()["items"]
    assert (row["name"], row["instances"], row["proof"], row["tried_utc"]) == (made.name, 2, "untried", None)
    assert drill.drill(clinic.box, clinic.place, datetime.now(UTC), actor="tests").passed
    (row,) = owner("GET", path).get_json()["items"]
    assert row["proof"] == "passed"
    assert owner("GET", "/backups/999").status_code == 404
    place = Path(str(clinic.place.options["path"]))
    place.rename(place.with_name("away"))
    away = owner("GET", path)
    place.with_name("away").rename(place)
    assert away.status_code == 422, (
        "it is the archive that doesn't answer; a 503 would say that this box is busy"
    )
    assert away.get_json()["detail"]


def begun(owner: Caller, path: str, *, until: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Begin it, and wait until it has ended; what it came to."""
    answer = owner("POST", path)
    assert answer.status_code == 202, answer.get_json()
    eventually(lambda: until()["state"] != "running")
    return until()


def test_a_program_makes_a_backup_now_and_tries_it_out(owner: Caller, clinic: Clinic, box: Box) -> None:
    path = f"/backups/{clinic.place.id}"
    before = len(owner("GET", path).get_json()["items"])
    never = owner("GET", f"{path}/progress").get_json()
    assert {each["state"] for each in never.values()} == {"never"}

    def work(name: str) -> dict[str, Any]:
        return dict(owner("GET", f"{path}/progress").get_json()[name])

    made = begun(owner, f"{path}/make", until=lambda: work("backup"))
    assert (made["state"], made["percent"]) == ("done", 100)
    assert len(owner("GET", path).get_json()["items"]) == before + 1
    tried = begun(owner, f"{path}/drill", until=lambda: work("drill"))
    assert tried["state"] == "done", tried
    assert owner("GET", path).get_json()["items"][0]["proof"] == "passed"
    whole = begun(owner, "/verification", until=lambda: dict(owner("GET", "/verification").get_json()))
    assert whole["state"] == "done", whole
    with box.catalog.reading() as conn:
        rows = {(row["action"], row["actor"]) for row in audit.recent(conn, limit=200)}
    assert {("backup:make", "owner"), ("backup:drill", "owner"), ("store:verify", "owner")} <= rows
    assert owner("POST", "/backups/999/make").status_code == 404


def test_what_is_under_way_is_not_begun_twice(owner: Caller, clinic: Clinic, box: Box) -> None:
    path = f"/backups/{clinic.place.id}"
    begins = {
        f"{path}/make": by_hand.begin_backup(box, clinic.place.id, "tests"),
        f"{path}/drill": by_hand.begin_drill(box, clinic.place.id, "tests"),
        "/verification": by_hand.begin_verification(box, "tests"),
    }
    try:
        for each in begins:
            answer = owner("POST", each)
            assert (answer.status_code, answer.get_json()["code"]) == (409, "conflict")
            assert answer.get_json()["detail"] == "this is under way already"
        assert owner("GET", f"{path}/progress").get_json()["backup"]["state"] == "running"
    finally:
        for finish in begins.values():
            finish()


def test_what_a_backup_failed_of_is_told(owner: Caller, clinic: Clinic) -> None:
    place = Path(str(clinic.place.options["path"]))
    path = f"/backups/{clinic.place.id}"
    place.rename(place.with_name("away"))
    failed = begun(
        owner, f"{path}/make", until=lambda: dict(owner("GET", f"{path}/progress").get_json()["backup"])
    )
    place.with_name("away").rename(place)
    assert failed["state"] == "failed"
    assert failed["cause"]


def test_a_program_holds_everything_and_lets_it_go_on(owner: Caller, box: Box) -> None:
    assert owner("GET", "/guard").get_json() == {"holds": False, "freezes": []}
    held = owner("POST", "/guard/freeze", {"reason": "strange messages on two computers"})
    assert held.status_code == 200
    assert held.get_json()["holds"] is True
    assert owner("POST", "/guard/freeze", {"reason": "again and again"}).status_code == 422
    assert owner("GET", "/guard").get_json()["freezes"][0]["why"] == "by-hand"
    assert owner("POST", "/guard/release", {"reason": " "}).status_code == 422
    let_go = owner("POST", "/guard/release", {"reason": "it was a joke of the nephew"}).get_json()
    assert (let_go["holds"], let_go["freezes"][0]["released_by"]) == (False, "owner")
    with box.catalog.reading() as conn:
        rows = [(row["action"], row["actor"]) for row in audit.recent(conn, limit=200)]
    assert [each for each in rows if each[0].startswith("guard:")] == [
        ("guard:release", "owner"),
        ("guard:freeze", "owner"),
    ]


def test_the_recovery_plan_is_read_in_a_language_and_that_is_on_record(owner: Caller, box: Box) -> None:
    plan = owner("GET", "/plan?language=fr").get_json()
    assert plan["title"] == "Plan de reprise après sinistre"
    assert "usb" in str(plan["sections"])
    assert owner("GET", "/plan?language=tlh").status_code == 400
    with box.catalog.reading() as conn:
        (row,) = [row for row in audit.recent(conn, limit=200) if row["action"] == "plan:print"]
    assert row["actor"] == "owner"


@pytest.mark.parametrize("role", OTHERS)
def test_who_may_not_hold_everything_or_read_the_plan_is_refused(
    caller: Callable[[str], Caller], role: Role
) -> None:
    asked = caller(role)
    assert asked("GET", "/guard").status_code == 200
    for act in ("freeze", "release"):
        assert asked("POST", f"/guard/{act}", {"reason": "because"}).status_code == 403
    assert asked("GET", "/plan").status_code == 403
    for path in ("/backups/1/make", "/backups/1/drill", "/verification"):
        assert asked("POST", path).status_code == 403
