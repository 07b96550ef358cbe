"""Certificates of destruction in the console: listed, read, and taken along as paper and as a signed file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from appliance import audit
from appliance.box import Box, open_box
from appliance.catalog import destinations, obeying
from appliance.catalog.destroyed_keys import Tombstone
from appliance.config import Config
from appliance.identity import Role
from appliance.lifecycle import certificate
from appliance.model import DestinationSettings, KeyId
from appliance.web import create_app
from tests.web.conftest import add_owner, browser_of, csrf_of, sign_in
from tests.web.walk import NOW, bury_one


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    folder: Path = tmp_path_factory.mktemp("destroyed")
    opened = open_box(Config(data=folder))
    add_owner(opened)
    with opened.catalog.transaction() as tx:
        archive = destinations.add(tx, DestinationSettings("usb", "vault", "ciphertext", {}))
        bury_one(tx, archive)
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


def take(browser: FlaskClient, kind: str, label: str = "D-2026-0001") -> tuple[int, bytes, str]:
    token = csrf_of(browser.get("/retention/certificates").get_data(as_text=True))
    answer = browser.post(f"/retention/certificates/{label}/{kind}", data={"csrf": token})
    return answer.status_code, answer.get_data(), answer.headers.get("Content-Disposition", "")


def test_the_list_says_which_archive_is_waited_for_and_the_page_what_is_left(owner: FlaskClient) -> None:
    listed = owner.get("/retention/certificates").get_data(as_text=True)
    assert "D-2026-0001" in listed
    assert "usb" in listed
    shown = owner.get("/retention/certificates/D-2026-0001").get_data(as_text=True)
    for text in ("marie", "paul", "M-9, r. 20.3", "Was given 4 images in clear", "Not finished"):
        assert text in shown


def test_it_is_taken_as_paper_and_as_a_file_whose_signature_is_right(owner: FlaskClient, box: Box) -> None:
    code, paper, name = take(owner, "pdf")
    assert (code, paper[:5]) == (200, b"%PDF-")
    assert "D-2026-0001.pdf" in name
    code, signed, _ = take(owner, "json")
    assert code == 200
    with box.catalog.reading() as conn:
        assert certificate.verify(conn, box.root, signed).ours
        rows = [row for row in audit.export(conn) if row["action"] == "destruction:certify"]
    assert [json.loads(each["details"])["as"] for each in rows] == ["pdf", "json"]
    assert take(owner, "doc")[0] == 404
    assert take(owner, "pdf", "D-1999-0001")[0] == 404


def test_who_may_not_destroy_sees_no_certificate(app: Flask) -> None:
    technician = browser_of(app, Role.TECHNICIAN, "luc")
    for address in ("/retention/certificates", "/retention/certificates/D-2026-0001"):
        assert technician.get(address).status_code == 403


def test_what_a_restored_box_found_is_listed_with_the_number_of_the_first_certificate(
    owner: FlaskClient, box: Box
) -> None:
    with box.catalog.transaction() as tx:
        mark = Tombstone((KeyId("e" * 32),), "D-2019-0007", NOW)
        (found,) = obeying.obey(tx, "manifests/a.sealed", [mark], NOW, found_in="usb")
    listed = owner.get("/retention/certificates").get_data(as_text=True)
    assert found.certificate in listed
    assert "Destroyed before this box was restored, by D-2019-0007" in listed
    shown = owner.get(f"/retention/certificates/{found.certificate}").get_data(as_text=True)
    assert "The archive “usb” holds the mark of a destruction by certificate D-2019-0007" in shown
    assert "One study of which the restored box had no record" in shown
    code, paper, name = take(owner, "pdf", found.certificate)
    assert (code, paper[:5]) == (200, b"%PDF-") and f"{found.certificate}.pdf" in name
