"""The ransomware guard in the console: what it says, what to do first, and who may release it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from appliance import audit
from appliance.box import Box, open_box
from appliance.catalog import freezes
from appliance.config import Config
from appliance.identity import Role
from appliance.lifecycle import freezing
from appliance.lifecycle.acting import Act
from appliance.lifecycle.mass_loss import Count
from appliance.web import create_app
from tests.web.conftest import LOGIN, add_owner, browser_of, csrf_of, sign_in
from tests.web.second_factor import age_confirmation


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    folder: Path = tmp_path_factory.mktemp("guarded")
    opened = open_box(Config(data=folder))
    add_owner(opened)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
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


@pytest.fixture
def struck(box: Box) -> Iterator[None]:
    """Half of a thousand images are gone."""
    now = datetime.now(UTC)
    with box.catalog.transaction() as tx:
        freezing.counted(tx, Act("jobs", now, box.audit_key), Count(1000, missing=500, opened=40), kept=1000)
    yield
    with box.catalog.transaction() as tx:
        if freezes.in_force(tx) is not None:
            freezes.release(tx, reason="the test is over", by="tests", now=now)


def shown(browser: FlaskClient, language: str = "en") -> str:
    answer = browser.get("/guard", headers={"Accept-Language": language})
    assert answer.status_code == 200
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.get_data(as_text=True)))


def post(browser: FlaskClient, act: str, reason: str) -> int:
    token = csrf_of(browser.get("/help").get_data(as_text=True))
    return browser.post(f"/guard/{act}", data={"csrf": token, "reason": reason}).status_code


def frozen(box: Box) -> freezes.Freeze | None:
    with box.catalog.reading() as conn:
        return freezes.in_force(conn)


def test_as_long_as_nothing_is_lost_it_says_so(owner: FlaskClient) -> None:
    assert "Everything goes its way" in shown(owner)
    assert "Ransomware guard" in owner.get("/health").get_data(as_text=True)


@pytest.mark.usefixtures("struck")
def test_what_was_found_and_what_to_do_first_stand_on_the_page(owner: FlaskClient) -> None:
    said = shown(owner)
    assert "Nothing is overwritten or removed any more" in said
    assert "Missing 500" in said
    assert said.index("Unplug the computers") < said.index("Only then release the guard")
    french = shown(owner, "fr-CA")
    assert "Plus rien n’est remplacé ni retiré" in french
    assert "guard." not in french
    board = owner.get("/health").get_data(as_text=True)
    assert 'data-problem="mass-loss"' in board
    assert 'href="/guard"' in board


@pytest.mark.usefixtures("struck")
def test_it_is_released_with_a_reason_and_the_audit_tells_of_it(owner: FlaskClient, box: Box) -> None:
    assert post(owner, "release", "") == 303
    assert frozen(box) is not None, "not without a reason"
    assert post(owner, "release", "the disk was replaced") == 303
    assert frozen(box) is None
    assert "the disk was replaced" in shown(owner)
    with box.catalog.reading() as conn:
        rows = [row for row in audit.export(conn) if row["action"] == "guard:release"]
    assert rows
    assert "disk" not in str(rows), "what people write stays out of the audit"


def test_a_person_holds_everything_by_hand(owner: FlaskClient, box: Box) -> None:
    assert post(owner, "freeze", "strange messages") == 303
    found = frozen(box)
    assert found is not None
    assert (found.why, found.reason) == (freezes.Why.BY_HAND, "strange messages")
    assert post(owner, "release", "it was nothing") == 303


@pytest.mark.usefixtures("struck")
@pytest.mark.parametrize("role", [Role.PRACTITIONER, Role.TECHNICIAN, Role.PRIVACY_OFFICER])
def test_others_see_it_and_cannot_release_it(app: Flask, box: Box, role: Role) -> None:
    browser = browser_of(app, role)
    assert "Nothing is overwritten or removed any more" in shown(browser)
    assert post(browser, "release", "I would like to") == 403
    assert frozen(box) is not None


@pytest.mark.usefixtures("struck")
def test_who_releases_it_proves_again_who_it_is(app: Flask, box: Box) -> None:
    browser = app.test_client()
    sign_in(browser)
    age_confirmation(box, LOGIN)
    post(browser, "release", "the disk was replaced")
    assert frozen(box) is not None
