"""The disaster recovery plan in the console: read, taken as a PDF, and closed to who need not know."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask

from appliance import audit
from appliance.box import Box
from appliance.cli.command import main
from appliance.identity import Role
from appliance.web import create_app
from tests.backup.test_disaster_plan import KEY_ID, SECRET, clinic
from tests.web.conftest import add_owner, browser_of, csrf_of


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    folder: Path = tmp_path_factory.mktemp("planned")
    opened = clinic(folder)
    add_owner(opened)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def app(box: Box) -> Iterator[Flask]:
    application = create_app(box)
    yield application
    application.extensions["console"].watcher.close()
    application.extensions["console"].darkroom.close()


def test_owner_and_privacy_officer_read_it_and_take_it_along(app: Flask, box: Box) -> None:
    for role in (Role.OWNER, Role.PRIVACY_OFFICER):
        browser = browser_of(app, role)
        shown = browser.get("/plan").get_data(as_text=True)
        assert "Dr Roy, the safe at home" in shown
        assert SECRET not in shown
        assert KEY_ID not in shown
        assert 'href="/plan"' in browser.get("/health").get_data(as_text=True)
        answer = browser.post("/plan/pdf", data={"csrf": csrf_of(shown)})
        assert answer.get_data().startswith(b"%PDF-")
        assert answer.headers["Cache-Control"] == "no-store"
    with box.catalog.reading() as conn:
        assert [row["action"] for row in audit.export(conn)].count("plan:print") == 2


def test_each_archive_to_restore_from_has_a_line_of_its_own_on_the_page(app: Flask) -> None:
    browser = browser_of(app, Role.OWNER)
    step = next(
        each for each in browser.get("/plan").get_data(as_text=True).split("<li>") if "From cloud" in each
    )
    _, cloud, usb = step.split("</li>")[0].split("<br>")
    assert cloud.startswith("From cloud") and "restore s3 --bucket clinic-images" in cloud
    assert usb.startswith("From usb") and "restore folder --path /media/backup" in usb


@pytest.mark.parametrize("role", [Role.PRACTITIONER, Role.TECHNICIAN, Role.VENDOR_SUPPORT])
def test_nobody_else_reads_where_the_keys_are(app: Flask, role: Role) -> None:
    browser = browser_of(app, role)
    assert browser.get("/plan").status_code == 403
    assert 'href="/plan"' not in browser.get("/health").get_data(as_text=True)


def test_the_command_line_writes_the_same_plan_and_writes_over_nothing(
    box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("APPLIANCE_DATA", str(box.config.data))
    paper = tmp_path / "plan.pdf"
    assert main(["plan", "--language", "fr", "--pdf", str(paper)]) == 0
    assert paper.read_bytes().startswith(b"%PDF-")
    assert main(["plan", "--pdf", str(paper)]) != 0
    capsys.readouterr()
    assert main(["plan", "--language", "fr"]) == 0
    said = capsys.readouterr().out
    assert "Plan de reprise après sinistre" in said
    assert "clinic-images" in said
    assert "\n      Depuis cloud (choisissez « Du compartiment infonuagique »" in said
    assert "\n      Depuis usb (choisissez « D’un disque, ou d’un partage déjà monté »" in said
    assert SECRET not in said
