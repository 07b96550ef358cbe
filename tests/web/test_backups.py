"""The page of backups: what lies where, how it went, and what is begun by hand, watched, and told in the end."""

import queue
import re
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from appliance import audit
from appliance.box import Box
from appliance.catalog import destinations
from appliance.identity import Role
from appliance.lifecycle import verification
from appliance.model import DestinationSettings
from appliance.replication.destinations import prepare
from appliance.web import create_app
from appliance.wizard import by_hand, runs
from tests.backup.conftest import Clinic, eventually
from tests.web.conftest import browser_of, csrf_of, kept_clinic, sign_in


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clinic]:
    """A box with three images, whose ciphertext is on a USB disk."""
    with kept_clinic(tmp_path_factory.mktemp("kept"), images=3) as made:
        yield made


@pytest.fixture(scope="module")
def app(clinic: Clinic) -> Iterator[Flask]:
    application = create_app(clinic.box)
    yield application
    application.extensions["console"].watcher.close()
    application.extensions["console"].darkroom.close()


@pytest.fixture
def owner(app: Flask) -> FlaskClient:
    browser = app.test_client()
    assert sign_in(browser).status_code == 303
    return browser


def page(browser: FlaskClient, language: str = "en") -> str:
    answer = browser.get("/backups", headers={"Accept-Language": language})
    assert answer.status_code == 200
    return str(answer.get_data(as_text=True))


def press(browser: FlaskClient, button: str) -> str:
    """Press it, wait until it has ended, and read the page."""
    token = csrf_of(page(browser))
    answer = browser.post(f"/backups/{button}", data={"csrf": token})
    assert answer.status_code == 303, answer.status_code
    eventually(lambda: "every 2s" not in page(browser))
    return page(browser)


def number(box: Box, name: str = "usb") -> int:
    with box.catalog.reading() as conn:
        found = destinations.destination(conn, name)
    assert found is not None
    return int(found.id)


def rows(box: Box, action: str) -> list[tuple[str, str]]:
    with box.catalog.reading() as conn:
        found = [row for row in audit.recent(conn, limit=60) if row["action"] == action]
    return [(row["subject"], row["actor"]) for row in found]


def test_a_backup_is_made_tried_out_and_certified_by_hand(owner: FlaskClient, clinic: Clinic) -> None:
    usb = number(clinic.box)
    assert "none yet" in page(owner)
    failed = press(owner, f"{usb}/drill")
    assert "There is no backup to try out" in failed
    assert "Il n’y a pas de sauvegarde à mettre à l’essai" in page(owner, "fr")
    assert "none yet" in failed, "a drill that failed says nothing of the backup"
    made = press(owner, f"{usb}/make")
    assert rows(clinic.box, "backup:make") == [("usb", "mtremblay")]
    assert "none yet" not in made
    tried = press(owner, f"{usb}/drill")
    assert "There is no backup to try out" not in tried
    assert "3 images" in tried and "passed" in tried
    found = re.search(r'action="(/backups/certificates/[0-9a-f]+)"', tried)
    assert found is not None
    headers = {"Accept-Language": "fr"}
    paper = owner.post(found[1], data={"csrf": csrf_of(tried)}, headers=headers)
    assert paper.data.startswith(b"%PDF")
    assert "restore-drill-" in paper.headers["Content-Disposition"]
    assert rows(clinic.box, "backup:certify") == [("usb", "mtremblay")]


def test_everything_is_read_and_an_image_that_is_gone_is_said(owner: FlaskClient, clinic: Clinic) -> None:
    whole = press(owner, "verify")
    assert "3 images were read, and all are whole" in whole
    folder = clinic.box.config.data / "objects"
    victim = next(folder.rglob("*.sealed"))
    kept = victim.read_bytes()
    victim.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    try:
        damaged = press(owner, "verify")
    finally:
        victim.write_bytes(kept)
    assert "1 of 3 images are damaged or missing" in damaged
    assert "1 image is damaged or missing" in damaged
    assert "images sur 3 sont endommagées" in page(owner, "fr")
    assert "3 images were read" in press(owner, "verify")


def test_how_far_the_reading_is_is_seen_while_it_goes_on(
    owner: FlaskClient, clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real run, held before each image until the page was read."""
    reached: queue.Queue[None] = queue.Queue()
    go_on = threading.Semaphore(0)
    look = verification._finding

    def held(*of: Any) -> verification.Finding | None:
        reached.put(None)
        assert go_on.acquire(timeout=60)
        return look(*of)

    monkeypatch.setattr(verification, "_finding", held)
    answer = owner.post("/backups/verify", data={"csrf": csrf_of(page(owner))})
    assert answer.status_code == 303
    try:
        for percent in (0, 33, 66):
            reached.get(timeout=60)
            part = owner.get("/backups", headers={"HX-Request": "true"}).get_data(as_text=True)
            for html in (page(owner), part):
                assert f"Everything is being read: {percent}%" in html
                assert f'<progress max="100" value="{percent}"' in html
                assert 'hx-trigger="every 2s"' in html
                assert 'action="/backups/verify"' not in html
            go_on.release()
    finally:
        go_on.release(3)
    eventually(lambda: "every 2s" not in page(owner))
    assert "3 images were read, and all are whole" in page(owner)


def test_an_archive_that_is_away_keeps_no_other_from_its_backup(
    owner: FlaskClient, clinic: Clinic, tmp_path: Path
) -> None:
    (tmp_path / "away").mkdir()
    away = prepare(DestinationSettings("away", "vault", "ciphertext", {"path": str(tmp_path / "away")}))
    with clinic.box.catalog.transaction() as tx:
        destinations.add(tx, away)
    (tmp_path / "away").rename(tmp_path / "elsewhere")
    try:
        html = press(owner, f"{number(clinic.box, 'away')}/make")
        assert "the latest failed" in html
        assert "It failed" in html
        assert rows(clinic.box, "backup:fail") == [("away", "mtremblay")]
        press(owner, f"{number(clinic.box)}/make")
        assert rows(clinic.box, "backup:make")[0] == ("usb", "mtremblay")
    finally:
        with clinic.box.catalog.transaction() as tx:
            destinations.remove(tx, "away", datetime.now(UTC))


def test_what_is_under_way_is_shown_and_not_begun_twice(owner: FlaskClient, clinic: Clinic) -> None:
    usb = number(clinic.box)
    begun = by_hand.begin_backup(clinic.box, usb, "tests")
    html = page(owner)
    assert 'hx-trigger="every 2s"' in html
    assert "The backup is being made" in html
    assert f'action="/backups/{usb}/make"' not in html
    answer = owner.post(f"/backups/{usb}/make", data={"csrf": csrf_of(html)}, follow_redirects=True)
    assert "That is under way already" in answer.get_data(as_text=True)
    part = owner.get("/backups", headers={"HX-Request": "true"}).get_data(as_text=True)
    assert "<html" not in part and "The backup is being made" in part
    assert begun().passed
    assert "every 2s" not in page(owner)


def test_what_a_restart_has_cut_begins_anew(owner: FlaskClient, clinic: Clinic) -> None:
    begun = runs.begin(clinic.box, by_hand.VERIFY, "before the restart", {"act": lambda tell: {}})
    begun.held.let_go()  # as the end of the process does
    html = page(owner)
    assert "It was interrupted" in html
    assert 'action="/backups/verify"' in html
    assert "all are whole" in press(owner, "verify")


@pytest.mark.parametrize("role", [Role.TECHNICIAN, Role.PRIVACY_OFFICER, Role.VENDOR_SUPPORT])
def test_who_may_only_look_has_no_buttons(app: Flask, clinic: Clinic, role: Role) -> None:
    browser, usb = browser_of(app, role), number(clinic.box)
    html = page(browser)
    assert "usb" in html
    assert "/make" not in html and "/backups/verify" not in html
    for button in (f"{usb}/make", f"{usb}/drill", "verify"):
        assert browser.post(f"/backups/{button}", data={"csrf": csrf_of(html)}).status_code == 403


def test_what_is_not_there_is_not_found(owner: FlaskClient) -> None:
    token = csrf_of(page(owner))
    for path in ("/backups/999/make", "/backups/999/drill", "/backups/certificates/0123456789abcdef"):
        assert owner.post(path, data={"csrf": token}).status_code == 404, path


def test_the_page_of_an_archive_says_what_it_holds_and_what_if_it_is_away(
    owner: FlaskClient, clinic: Clinic
) -> None:
    usb, place = number(clinic.box), Path(str(clinic.place.options["path"]))
    press(owner, f"{usb}/make")
    assert f'href="/backups/{usb}"' in page(owner)
    html = owner.get(f"/backups/{usb}").get_data(as_text=True)
    assert "Backups in usb" in html
    assert "3 images" in html and "not yet" in html
    press(owner, f"{usb}/drill")
    assert "passed, " in owner.get(f"/backups/{usb}").get_data(as_text=True)
    place.rename(place.with_name("away"))
    try:
        answer = owner.get(f"/backups/{usb}", headers={"Accept-Language": "fr"})
    finally:
        place.with_name("away").rename(place)
    assert answer.status_code == 200
    assert "L’archive n’a pas pu être lue" in answer.get_data(as_text=True)
    assert owner.get("/backups/999").status_code == 404
