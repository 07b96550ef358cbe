"""The root key is replaced in the console: with the paper, in the background, one at a time, and on record."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from appliance import audit, health, settings
from appliance.box import Box, open_box
from appliance.catalog import study_keys
from appliance.config import Config
from appliance.lifecycle import rotation
from appliance.store import keys
from appliance.store.recovery import RecoveryKey
from appliance.web import create_app
from appliance.wizard import by_hand, progress
from appliance.wizard.steps import DEFERRABLE
from tests.web.conftest import LOGIN, PASSWORD, add_owner, csrf_of, fill, sign_in
from tests.web.second_factor import age_confirmation

ENTRY = audit.Entry("key:rotate-root", "root key", "tests")
CLINIC = {
    "clinic.name": "Clinique Tremblay",
    "clinic.province": "QC",
    "clinic.privacy_officer_name": "Marie Tremblay",
    "clinic.privacy_officer_email": "marie@clinique.example",
}


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    """A box that is set up, with images."""
    opened = open_box(Config(data=tmp_path / "box"))
    add_owner(opened)
    fill(opened, scale=0.05)
    now = datetime.now(UTC)
    with opened.catalog.transaction() as tx:
        settings.change(tx, opened.audit_key, CLINIC, actor="tests", now=now)
        for step in DEFERRABLE:
            progress.leave_for_later(tx, step, now)
        progress.finish(tx, LOGIN, now)
    yield opened
    opened.close()


@pytest.fixture
def paper(box: Box) -> str:
    """The recovery key, printed and typed back."""
    folder = health.keys_folder(box)
    found = str(keys.show_recovery(folder, box.root))
    keys.check_recovery(folder, box.root, found)
    return found


@pytest.fixture
def app(box: Box) -> Iterator[Flask]:
    application = create_app(box)
    yield application
    application.extensions["console"].watcher.close()
    application.extensions["console"].darkroom.close()


@pytest.fixture
def owner(app: Flask) -> FlaskClient:
    browser = app.test_client()
    assert sign_in(browser).status_code == 303
    return browser


def shown(browser: FlaskClient, language: str = "en", **headers: str) -> str:
    answer = browser.get("/setup/recovery", headers={"Accept-Language": language, **headers})
    assert answer.status_code == 200
    return " ".join(re.sub(r"<[^>]+>", " ", answer.get_data(as_text=True)).split())


def replace(browser: FlaskClient, paper: str):
    token = csrf_of(browser.get("/help").get_data(as_text=True))
    return browser.post(
        "/setup/recovery/root", data={"csrf": token, "paper": paper}, headers={"Accept-Language": "en"}
    )


def finished(box: Box) -> bool:
    with box.catalog.reading() as conn:
        return rotation.standing(box, conn).is_finished


def test_who_types_the_paper_gets_a_new_root_key_under_which_everything_lies(
    owner: FlaskClient, box: Box, paper: str, eventually: Callable[..., object]
) -> None:
    assert "still that of the box’s first start" in shown(owner)
    assert 'href="/setup/recovery"' in owner.get("/backups").get_data(as_text=True)
    answer = replace(owner, paper.lower().replace("-", " "))
    assert answer.headers["Location"] == "/setup/recovery#root-key"
    eventually(lambda: "root key number 2" in shown(owner), within_seconds=120)
    assert finished(box)
    with box.catalog.reading() as conn:
        rows = [row for row in audit.export(conn) if row["action"].startswith("key:")]
        kept, earlier = study_keys.counts(conn, 2)
        assert audit.verify(conn, box.audit_key, None) == []
    assert (kept > 0, earlier) == (True, 0)
    assert [(row["action"], row["actor"]) for row in rows] == [
        ("key:rotate-root", LOGIN),
        ("key:rewrap", "jobs"),
    ]
    assert rows[0]["address"] == "127.0.0.1"
    folder = health.keys_folder(box)
    assert keys.open_with_recovery(keys.recovery_slot(folder), RecoveryKey.parse(paper)).generation == 2
    assert paper not in shown(owner)
    assert "clé racine numéro 2" in shown(owner, "fr")


def test_a_mistyped_paper_names_its_group_and_changes_nothing(
    owner: FlaskClient, box: Box, paper: str
) -> None:
    groups = paper.split("-")
    groups[3] = ("2" if groups[3][0] != "2" else "3") + groups[3][1:]
    answer = replace(owner, "-".join(groups))
    assert answer.status_code == 422
    assert "Group 4 of the recovery key is mistyped" in answer.get_data(as_text=True)
    assert box.root.generation == 1


def test_while_one_is_under_way_its_progress_is_said_and_no_other_begins(
    owner: FlaskClient, box: Box, paper: str
) -> None:
    finish = by_hand.begin_rotation(box, paper, ENTRY)
    try:
        assert replace(owner, paper).status_code == 303
        said = shown(owner)
        assert "That is under way already" in said
        assert "being moved under it: 0%" in said
        part = owner.get("/setup/recovery", headers={"X-Refresh": "live", "Accept-Language": "en"})
        assert "hx-get" in part.get_data(as_text=True)
        assert "Replace the root key" not in shown(owner, **{"X-Refresh": "live"})
    finally:
        finish()
    assert box.root.generation == 2
    assert "root key number 2" in shown(owner)


def test_what_was_cut_or_begun_elsewhere_is_said_until_the_jobs_have_finished_it(
    owner: FlaskClient, box: Box, paper: str
) -> None:
    rotation.rotate(box, paper, ENTRY, datetime.now(UTC))
    said = shown(owner)
    assert re.search(r"\d study keys? and the index may still lie under an earlier one", said)
    rotation.finish(box, datetime.now(UTC))
    assert "root key number 2" in shown(owner)


def test_a_paper_that_was_never_typed_back_opens_no_such_form(owner: FlaskClient, box: Box) -> None:
    assert "Replace the root key" not in shown(owner)
    key = str(keys.show_recovery(health.keys_folder(box), box.root))
    assert replace(owner, key).status_code == 422
    assert box.root.generation == 1


def test_who_signed_in_long_ago_is_asked_again_and_the_paper_is_not_sent_back(
    owner: FlaskClient, box: Box, paper: str, eventually: Callable[..., object]
) -> None:
    age_confirmation(box, LOGIN)
    asked = replace(owner, paper)
    html = asked.get_data(as_text=True)
    assert "Is it still you?" in html
    assert paper not in html
    assert box.root.generation == 1
    ticket = re.findall(r'name="held" value="([^"]+)"', html)[0]
    form = {"csrf": csrf_of(html), "held": ticket, "confirm_password": PASSWORD}
    assert owner.post("/setup/recovery/root", data=form).status_code == 303
    eventually(lambda: finished(box) and box.root.generation == 2, within_seconds=120)


def test_a_program_of_the_owner_replaces_it_too_and_one_at_a_time(
    owner: FlaskClient, box: Box, paper: str, eventually: Callable[..., object]
) -> None:
    csrf = owner.get("/api/v1/me").get_json()["csrf"]

    def ask(key: str):
        return owner.post("/api/v1/root-key", json={"recovery_key": key}, headers={"X-CSRF-Token": csrf})

    before = owner.get("/api/v1/root-key").get_json()
    assert (before["number"], before["work"]["state"]) == (1, "never")
    assert ask("2" * 45).status_code == 422
    finish = by_hand.begin_rotation(box, paper, ENTRY)
    assert ask(paper).status_code == 409
    finish()
    answer = ask(paper)
    assert answer.status_code == 202
    assert paper not in answer.get_data(as_text=True)
    eventually(
        lambda: owner.get("/api/v1/root-key").get_json()["work"]["state"] == "done", within_seconds=120
    )
    after = owner.get("/api/v1/root-key").get_json()
    assert (after["number"], after["under_earlier"], after["index_under"]) == (3, 0, 3)
