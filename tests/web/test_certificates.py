"""Certificates of destruction in the console: listed, read, and taken along as paper and as a signed file."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from appliance import audit
from appliance.box import Box, open_box
from appliance.catalog import destinations, obeying
from appliance.catalog.destroyed_keys import Tombstone
from appliance.cli import destructions, main
from appliance.config import Config
from appliance.errors import OperatorNeeded, Refused
from appliance.identity import Role
from appliance.lifecycle import certificate
from appliance.model import DestinationSettings, KeyId
from appliance.web import create_app, papers
from appliance.web.certificate_words import Line, Section, WordedCertificate, worded
from appliance.web.console import web_ui
from appliance.web.language import Languages
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


def take(
    browser: FlaskClient, kind: str, label: str = "D-2026-0001", language: str = "en"
) -> tuple[int, bytes, str]:
    token = csrf_of(browser.get("/retention/certificates").get_data(as_text=True))
    answer = browser.post(f"/retention/certificates/{label}/{kind}?lang={language}", data={"csrf": token})
    return answer.status_code, answer.get_data(), answer.headers.get("Content-Disposition", "")


def printed(paper: bytes) -> str:
    """The words of a PDF as another program than ours reads them, without spaces: lines are broken anywhere."""
    told = subprocess.run(["pdftotext", "-raw", "-", "-"], input=paper, capture_output=True, check=True)
    return "".join(told.stdout.decode().split())


def attached(paper: bytes, folder: Path) -> dict[str, bytes]:
    """The files in a PDF, as another program than ours finds them."""
    file, out = folder / "paper.pdf", folder / "attached"
    file.write_bytes(paper)
    out.mkdir()
    subprocess.run(["pdfdetach", "-saveall", "-o", out, file], capture_output=True, check=True)
    return {each.name: each.read_bytes() for each in out.iterdir()}


def said(paper: WordedCertificate) -> list[str]:
    """Every text that stands on a certificate in words."""
    lines = [text for section in paper.sections for line in section.lines for text in (line.label, line.text)]
    return [paper.title, paper.clinic, paper.made, paper.verdict, *lines]


def differs(paper: bytes, signed: bytes, box: Box, language: str) -> list[str]:
    """What the signed file says and the paper does not. Raises `Refused` if the file was changed."""
    with box.catalog.reading() as conn:
        found = certificate.verify(conn, box.root, signed)
    digest = hashlib.sha256(signed).hexdigest()
    words = Languages(web_ui() / "languages").words(language)
    expected = said(worded(found.document, found.fingerprint, words, digest))
    shown = printed(paper)
    return [text for text in expected if "".join(text.split()) not in shown]


def forged(text: WordedCertificate, wrong: dict[str, str]) -> WordedCertificate:
    """The same with some words changed."""

    def changed(told: str) -> str:
        for each, by in wrong.items():
            told = told.replace(each, by)
        return told

    sections = tuple(
        Section(each.title, tuple(Line(line.label, changed(line.text), line.tone) for line in each.lines))
        for each in text.sections
    )
    return replace(text, verdict=changed(text.verdict), sections=sections)


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


@pytest.mark.parametrize("language", ["en", "fr", "es", "zh"])
def test_the_paper_holds_the_signed_file_and_says_the_same(
    owner: FlaskClient, box: Box, tmp_path: Path, language: str
) -> None:
    _, paper, _ = take(owner, "pdf", language=language)
    ((name, signed),) = attached(paper, tmp_path).items()
    assert name == "D-2026-0001.json"
    assert hashlib.sha256(signed).hexdigest() in printed(paper)
    assert differs(paper, signed, box, language) == []
    with box.catalog.reading() as conn:
        assert certificate.verify(conn, box.root, signed).ours
        rows = [row for row in audit.export(conn) if row["action"] == "destruction:certify"]
    assert json.loads(rows[-1]["details"])["sha256"] == hashlib.sha256(signed).hexdigest()


def test_words_that_were_altered_on_the_paper_differ_from_the_file_in_it(
    owner: FlaskClient, box: Box, tmp_path: Path
) -> None:
    _, paper, _ = take(owner, "pdf")
    ((name, signed),) = attached(paper, tmp_path).items()
    languages, digest = Languages(web_ui() / "languages"), hashlib.sha256(signed).hexdigest()
    told, seal = json.loads(signed)["document"], certificate.fingerprint(box.root)
    text = worded(told, seal, languages.words("en"), digest)
    file = papers.Attached(name, signed)
    assert differs(papers.report(languages, "en", text, file), signed, box, "en") == []
    for wrong, right in (("marie", "luc"), ("4 images", "3 images"), (digest, "0" * 64), (seal, "AB-CD")):
        altered = papers.report(languages, "en", forged(text, {wrong: right}), file)
        assert differs(altered, signed, box, "en"), wrong
    altered = papers.report(languages, "en", replace(text, verdict="Everything is destroyed."), file)
    assert differs(altered, signed, box, "en") == [text.verdict]
    with pytest.raises(Refused, match="changed"):
        differs(paper, signed.replace(b'"marie"', b'"luc"'), box, "en")
    _, later, _ = take(owner, "json")  # as true, and not the one of this paper
    assert [each for each in differs(paper, later, box, "en") if hashlib.sha256(later).hexdigest() in each]


def test_the_command_line_says_of_the_file_in_a_paper_what_the_paper_says(
    box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("APPLIANCE_DATA", str(box.config.data))
    paper, file = tmp_path / "c.pdf", tmp_path / "saved.json"
    command = ["destruction", "certificate", "D-2026-0001", "--pdf", str(paper), "--language", "fr"]
    assert main([*command, "--file", str(tmp_path / "c.json")]) == 0
    (signed,) = attached(paper.read_bytes(), tmp_path).values()
    assert signed == (tmp_path / "c.json").read_bytes()
    file.write_bytes(signed)
    capsys.readouterr()
    assert main(["destruction", "verify", str(file), "--language", "fr"]) == 0
    answer = "".join(capsys.readouterr().out.split())
    assert hashlib.sha256(signed).hexdigest() in answer
    told, words = json.loads(signed)["document"], Languages(web_ui() / "languages").words("fr")
    text = worded(told, certificate.fingerprint(box.root), words, hashlib.sha256(signed).hexdigest())
    shown = printed(paper.read_bytes())
    assert [each for each in said(text) if "".join(each.split()) not in answer] == []
    assert [each for each in said(text) if "".join(each.split()) not in shown] == []


def test_whoever_checks_a_certificate_on_a_computer_without_a_box_gets_none_made(
    box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, nothing = tmp_path / "c.json", tmp_path / "nothing"
    monkeypatch.setenv("APPLIANCE_DATA", str(box.config.data))
    assert main(["destruction", "certificate", "D-2026-0001", "--file", str(file)]) == 0
    monkeypatch.setenv("APPLIANCE_DATA", str(nothing))
    capsys.readouterr()
    assert main(["destruction", "verify", str(file)]) == 0
    answer = capsys.readouterr().out
    assert "compare the signing key" in answer and certificate.fingerprint(box.root) in answer
    assert not nothing.exists()
    file.write_bytes(file.read_bytes().replace(b'"marie"', b'"luc"'))
    assert main(["destruction", "verify", str(file)]) == 65
    assert not nothing.exists()


def test_where_nobody_may_look_there_may_be_a_box(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def shut(*_: object) -> bool:
        raise PermissionError

    def no_box() -> None:
        raise OperatorNeeded("the data folder cannot be used", hint="run it as the box does")

    (tmp_path / "c.json").write_bytes(b"{}")
    monkeypatch.setattr(Path, "exists", shut)
    monkeypatch.setattr(destructions, "opened_box", no_box)
    assert main(["destruction", "verify", str(tmp_path / "c.json")]) != 0
    assert "the data folder cannot be used" in capsys.readouterr().err
