"""Setting up over the pages: nothing before the claim, nothing out of order, answers kept, the key never on a disk."""

import re
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from appliance import certificates, health, identity, settings
from appliance.box import Box, open_box
from appliance.catalog import destinations, devices, rules
from appliance.config import Config, DicomConfig
from appliance.lifecycle import memory
from appliance.model import ae_title
from appliance.store import keys
from appliance.web import create_app
from appliance.wizard import checks, progress
from appliance.wizard.steps import Step
from tests.replication.file_servers import proftpd
from tests.replication.shares import PASSWORD as SHARE_PASSWORD
from tests.replication.shares import SHARE, samba
from tests.web.conftest import PASSWORD, csrf_of
from tests.wizard.test_checks import NOWHERE

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
CLINIC = {
    "name": "Clinique dentaire Tremblay",
    "address": "12, rue des Érables",
    "phone": "418 555-0199",
    "province": "QC",
    "privacy_officer_name": "Marie Tremblay",
    "privacy_officer_email": "marie@clinique.example",
}


@pytest.fixture
def box(data_dir: Path, free_port: Callable[[], int]) -> Iterator[Box]:
    opened = open_box(Config(data=data_dir, dicom=DicomConfig(bind="127.0.0.1", port=free_port())))
    yield opened
    opened.close()


@pytest.fixture
def app(box: Box) -> Iterator[Flask]:
    application = create_app(box)
    application.extensions["console"].checks._around = checks.Surroundings(way_out=NOWHERE)
    yield application
    application.extensions["console"].watcher.close()
    application.extensions["console"].darkroom.close()


@pytest.fixture
def visitor(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def owner(app: Flask, box: Box) -> FlaskClient:
    """Whoever has just typed the claim code."""
    return claimed(app, box, "en")


def claimed(app: Flask, box: Box, language: str) -> FlaskClient:
    browser = app.test_client()
    code = identity.claim_code(box)
    assert code is not None
    answer = browser.post(
        "/claim",
        data={
            "csrf": csrf_of(browser.get("/claim").get_data(as_text=True)),
            "code": code,
            "name": "Marie Tremblay",
            "login": "marie",
            "password": PASSWORD,
            "again": PASSWORD,
        },
        headers={"Accept-Language": language},
    )
    assert answer.headers["Location"] == "/setup"
    return browser


def text_of(client: FlaskClient, path: str, language: str = "en") -> str:
    answer = client.get(path, headers={"Accept-Language": language})
    assert answer.status_code == 200, (path, answer.status_code, answer.headers.get("Location"))
    page = answer.get_data(as_text=True)
    return re.sub(r'<div class="offline".*?</div>', "", page)  # a hidden sentence of every page


def send(client: FlaskClient, address: str, /, **data: str):
    token = csrf_of(client.get("/help").get_data(as_text=True))
    return client.post(address, data={"csrf": token, **data}, headers={"Accept-Language": "en"})


def where(client: FlaskClient, path: str = "/setup") -> str:
    return client.get(path).headers.get("Location", "")


def settle(box: Box, *steps: Step) -> None:
    """Let the box show that `steps` are done, or are left for later."""
    for step in steps:
        with box.catalog.transaction() as tx:
            if step is Step.CLINIC:
                values = {f"clinic.{name}": value for name, value in CLINIC.items()}
                settings.change(tx, box.audit_key, values, actor="tests", now=NOW)
            elif step is Step.RECOVERY:
                folder = health.keys_folder(box)
                keys.check_recovery(folder, box.root, str(keys.show_recovery(folder, box.root)))
            else:
                progress.leave_for_later(tx, step, NOW)


# --- before the claim ------------------------------------------------------------------------------------------------


def test_before_the_claim_nothing_but_welcome_language_and_claim_is_there(
    app: Flask, visitor: FlaskClient
) -> None:
    assert where(visitor) == "/setup/welcome"
    for page in ("/setup/welcome", "/setup/language", "/claim", "/setup/restore"):
        assert "<h1>" in text_of(visitor, page)
    for step in list(Step)[3:]:
        assert where(visitor, f"/setup/{step}") == "/sign-in", step
        token = csrf_of(visitor.get("/claim").get_data(as_text=True))
        assert visitor.post(f"/setup/{step}", data={"csrf": token}).status_code in (401, 404, 405), step
    assert visitor.get("/trust").status_code == 404


def test_by_tls_the_claim_says_what_to_compare_before_anything_is_typed(visitor: FlaskClient) -> None:
    page = visitor.get("/claim", base_url="https://localhost").get_data(as_text=True)
    assert "SHA-256" in page[: page.index('action="/claim"')]
    assert "SHA-256" not in text_of(visitor, "/claim"), "without TLS there is nothing to compare"


def test_after_the_claim_a_stranger_learns_nothing_from_the_first_pages(
    owner: FlaskClient, app: Flask
) -> None:
    stranger = app.test_client()
    for page in ("/setup", "/setup/welcome", "/setup/language", "/setup/restore", "/claim"):
        assert where(stranger, page) == "/sign-in", page


def test_the_checks_are_shown_with_what_to_do(visitor: FlaskClient) -> None:
    page = text_of(visitor, "/setup/welcome")
    assert "cannot be reached" in page
    assert "Check the cable" in page
    assert "Vérifiez le câble" in text_of(visitor, "/setup/welcome", "fr")


def test_the_language_of_the_claim_becomes_the_boxs_own(app: Flask, box: Box) -> None:
    browser = claimed(app, box, "fr")
    assert "Votre clinique" in text_of(browser, "/setup/clinic", "en")
    with box.catalog.reading() as conn:
        assert settings.get(conn, "language.default") == "fr"


# --- in order, and resumed -------------------------------------------------------------------------------------------


def test_no_step_opens_before_its_turn(owner: FlaskClient) -> None:
    assert where(owner) == "/setup/clinic"
    for step in list(Step)[4:]:
        assert where(owner, f"/setup/{step}") == "/setup/clinic", step
        assert send(owner, f"/setup/{step}/later").status_code in (303, 404)
    assert where(owner) == "/setup/clinic"


def test_what_was_typed_survives_a_refusal_and_a_restart(owner: FlaskClient, app: Flask, box: Box) -> None:
    refused = send(owner, "/setup/clinic", **{**CLINIC, "privacy_officer_email": "not an address"})
    assert refused.status_code == 422
    assert CLINIC["name"] in text_of(owner, "/setup/clinic")
    again = create_app(box)  # the process died: another one reads what was kept
    browser = again.test_client()
    for cookie in ("console_session",):
        found = owner.get_cookie(cookie)
        assert found is not None
        browser.set_cookie(cookie, found.value)
    page = text_of(browser, "/setup/clinic")
    assert 'value="not an address"' in page
    assert CLINIC["address"] in page
    again.extensions["console"].darkroom.close()
    assert send(owner, "/setup/clinic", **CLINIC).headers["Location"] == "/setup/network"
    with box.catalog.reading() as conn:
        assert settings.get(conn, "clinic.name") == CLINIC["name"]
        assert progress.read(conn).draft(Step.CLINIC) == {}


def test_after_a_restore_without_settings_the_province_is_chosen_and_not_assumed(
    owner: FlaskClient, box: Box
) -> None:
    with box.catalog.transaction() as tx:
        memory.note_restored(tx, None, datetime.now(UTC))
    assert '<option value="" selected>' in text_of(owner, "/setup/clinic")
    assert send(owner, "/setup/clinic", **{**CLINIC, "province": ""}).status_code == 422
    assert send(owner, "/setup/clinic", **CLINIC).status_code == 303
    with box.catalog.reading() as conn:
        assert not memory.lacks_a_province(conn)
        assert memory.gap(conn) is not None, "what was held is still to be looked at"


def test_a_step_is_left_for_later_and_taken_up_again(owner: FlaskClient, box: Box) -> None:
    settle(box, Step.CLINIC)
    assert send(owner, "/setup/network/later").headers["Location"] == "/setup/account"
    assert "later" in text_of(owner, "/setup/network")
    assert send(owner, "/setup/network", host_name="clinicbox").status_code == 303
    with box.catalog.reading() as conn:
        assert Step.NETWORK not in progress.read(conn).later


@pytest.mark.parametrize("step", ["recovery", "clinic", "trial", "nonsense"])
def test_what_must_be_done_is_not_left_for_later(owner: FlaskClient, step: str) -> None:
    assert send(owner, f"/setup/{step}/later").status_code == 404


# --- the network -----------------------------------------------------------------------------------------------------


def test_only_addresses_at_which_the_console_answers_are_named(
    owner: FlaskClient, box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificates, "own_addresses", lambda: ("192.168.1.20", "2606:4700::20"))
    settle(box, Step.CLINIC)
    said = text_of(owner, "/setup/network")
    assert "192.168.1.20" in said
    assert "2606:4700::20" not in said


def test_the_certificate_is_made_laid_out_and_given_to_whoever_asks(
    owner: FlaskClient, app: Flask, box: Box
) -> None:
    settle(box, Step.CLINIC)
    assert send(owner, "/setup/network", host_name="Imagerie").headers["Location"] == "/setup/network"
    with box.catalog.reading() as conn:
        found = certificates.installed(conn)
    assert found is not None
    assert (certificates.folder_of(box) / certificates.SERVER_FILE).is_file()
    stranger = app.test_client()
    page = text_of(stranger, "/trust")
    assert certificates.in_words(found.fingerprint) in page
    assert "iPhone" in page
    assert "Se fier" in text_of(stranger, "/trust", "fr")
    download = stranger.get("/trust/clinic-ca.crt")
    assert download.data == found.authority
    assert download.content_type == "application/x-x509-ca-cert"
    # The console answers by the new name, and by no other.
    assert stranger.get("/trust", headers={"Host": "imagerie.local"}).status_code == 200
    assert stranger.get("/trust", headers={"Host": "evil.example"}).status_code == 421


def test_a_name_that_is_none_is_refused_on_the_page(owner: FlaskClient, box: Box) -> None:
    settle(box, Step.CLINIC)
    refused = send(owner, "/setup/network", host_name="clinique tremblay")
    assert refused.status_code == 422
    assert "That is not a host name" in refused.get_data(as_text=True)


# --- the recovery key ------------------------------------------------------------------------------------------------


def at_recovery(box: Box) -> None:
    settle(box, Step.CLINIC, Step.NETWORK, Step.ACCOUNT)


def test_the_sheet_holds_the_key_large_and_as_a_qr_code_in_both_languages(
    owner: FlaskClient, box: Box, tmp_path: Path
) -> None:
    at_recovery(box)
    answer = send(owner, "/setup/recovery/sheet")
    assert answer.content_type == "application/pdf"
    assert answer.headers["Cache-Control"] == "no-store"
    (tmp_path / "sheet.pdf").write_bytes(answer.data)
    said = subprocess.run(
        ["pdftotext", "-layout", tmp_path / "sheet.pdf", "-"], capture_output=True, text=True, check=True
    ).stdout
    key = str(keys.show_recovery(health.keys_folder(box), box.root))
    assert re.findall(r"\b[0-9A-HJKMNP-TV-Z]{5}\b", said) == key.split("-")
    assert "Recovery key" in said
    assert "Clé de récupération" in said
    assert CLINIC["name"] in said


def test_no_byte_of_the_key_is_left_on_the_disk_or_in_the_log(
    owner: FlaskClient,
    box: Box,
    data_dir: Path,
    tmp_path: Path,
    monkeypatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    caplog.set_level(0)
    at_recovery(box)
    key = keys.show_recovery(health.keys_folder(box), box.root)
    sheet = send(owner, "/setup/recovery/sheet").data
    assert send(owner, "/setup/recovery", key=str(key)).status_code == 303
    groups = str(key).split("-")
    marks = [
        str(key).encode(),
        str(key).replace("-", "").encode(),
        key.secret,
        key.secret.hex().encode(),
        sheet[:4096],
    ]
    for path in [*data_dir.rglob("*"), *tmp_path.rglob("*")]:
        if path.is_file():
            data = path.read_bytes()
            assert not any(mark in data for mark in marks), path
            assert sum(group.encode() in data for group in groups) < 3, path
    assert not any(group in caplog.text for group in groups if not group.isdecimal())


def test_a_mistyped_key_names_its_group_and_another_boxs_key_is_told_apart(
    owner: FlaskClient, box: Box, tmp_path: Path
) -> None:
    at_recovery(box)
    key = str(keys.show_recovery(health.keys_folder(box), box.root))
    groups = key.split("-")
    groups[3] = ("2" if groups[3][0] != "2" else "3") + groups[3][1:]
    wrong = send(owner, "/setup/recovery", key="-".join(groups))
    assert wrong.status_code == 422
    assert "Group 4 of the recovery key is mistyped" in wrong.get_data(as_text=True)
    assert send(owner, "/language", lang="fr", back="/setup/recovery").status_code == 303
    french = send(owner, "/setup/recovery", key="-".join(groups)).get_data(as_text=True)
    assert send(owner, "/language", lang="en", back="/setup/recovery").status_code == 303
    assert "Le groupe 4 de la clé de récupération est mal tapé" in french
    assert key not in french
    other = open_box(Config(data=tmp_path / "other"))
    foreign = str(keys.show_recovery(health.keys_folder(other), other.root))
    other.close()
    told = send(owner, "/setup/recovery", key=foreign)
    assert "This is a recovery key, but not this box&#39;s" in told.get_data(as_text=True)
    assert where(owner) == "/setup/recovery"
    assert send(owner, "/setup/recovery", key=key.lower().replace("-", " ")).status_code == 303
    assert where(owner) == "/setup/storage"


def test_a_confirmed_key_is_not_shown_again_and_a_new_one_opens_the_step_again(
    owner: FlaskClient, box: Box
) -> None:
    at_recovery(box)
    settle(box, Step.RECOVERY)
    assert send(owner, "/setup/recovery/sheet").status_code == 503
    assert send(owner, "/setup/recovery/new").status_code == 303
    assert where(owner) == "/setup/recovery"
    assert send(owner, "/setup/recovery/sheet").status_code == 200


# --- storage, machines, people ---------------------------------------------------------------------------------------


def at_storage(box: Box) -> None:
    at_recovery(box)
    settle(box, Step.RECOVERY)


def test_a_place_outside_canada_is_refused_and_nothing_is_kept(owner: FlaskClient, box: Box) -> None:
    at_storage(box)
    refused = send(
        owner,
        "/setup/storage/cloud",
        bucket="clinic",
        region="us-east-1",
        access_key_id="AK",
        secret="very secret",
    )
    assert refused.status_code == 422
    page = refused.get_data(as_text=True)
    assert "not in Canada" in page
    assert "very secret" not in page
    with box.catalog.reading() as conn:
        assert destinations.destinations(conn) == []


def test_a_cloud_that_does_not_answer_is_told_on_the_page_and_no_rule_feeds_it(
    owner: FlaskClient, box: Box, eventually
) -> None:
    at_storage(box)
    fields = {
        "bucket": "clinic",
        "region": "ca-central-1",
        "access_key_id": "AK",
        "endpoint_url": "http://127.0.0.1:9",
        "canadian": "1",
    }
    assert send(owner, "/setup/storage/cloud", **fields, secret="very secret").status_code == 303
    eventually(lambda: "does not answer" in text_of(owner, "/setup/storage"))
    page = text_of(owner, "/setup/storage")
    assert "Try again" in page
    assert "very secret" not in page
    assert where(owner) == "/setup/storage"
    with box.catalog.reading() as conn:
        assert rules.rules(conn) == ()
        (kept,) = destinations.destinations(conn)
    assert kept.secret == "very secret"
    # Tried again with the field left empty, the secret is still there.
    assert send(owner, "/setup/storage/cloud", **fields, secret="").status_code == 303
    with box.catalog.reading() as conn:
        assert destinations.destinations(conn)[0].secret == "very secret"


def copied(box: Box, kind: str) -> bool:
    """Whether everything goes to the copy of that kind."""
    with box.catalog.reading() as conn:
        fed = {each.destination_id for each in rules.rules(conn)}
        return any(each.kind == kind and each.id in fed for each in destinations.destinations(conn))


def test_a_copy_on_a_disk_is_tried_and_fed(owner: FlaskClient, box: Box, tmp_path: Path, eventually) -> None:
    at_storage(box)
    usb = tmp_path / "usb"
    typed = {"kind": "disk", "path": str(usb)}
    assert send(owner, "/setup/storage/cloud", **typed).status_code == 303
    eventually(lambda: "Try again" in text_of(owner, "/setup/storage?kind=disk"))
    usb.mkdir()
    assert send(owner, "/setup/storage/cloud", **typed).status_code == 303
    eventually(lambda: copied(box, "vault"))
    page = text_of(owner, "/setup/storage")
    assert "see that it stays in Canada" in page
    assert page.count("Whoever takes over the box, with ransomware for instance, can erase what is here") == 3
    assert f'value="{usb}"' in page


def test_a_file_server_shows_its_key_first_and_is_fed_once_it_was_typed(
    owner: FlaskClient, box: Box, tmp_path: Path, eventually
) -> None:
    at_storage(box)
    page = "/setup/storage?kind=server"
    with proftpd(tmp_path / "nas") as server:
        typed = {
            "kind": "server",
            "address": "127.0.0.1",
            "port": str(server.port),
            "folder": str(server.folder),
            "user": server.user,
        }
        assert send(owner, "/setup/storage/cloud", **typed, password=server.secret).status_code == 303
        eventually(lambda: "nobody has compared yet" in text_of(owner, page))
        assert not copied(box, "sftp")
        shown = re.search(r"shows the key (\S+ SHA256:[\w+/]+)", text_of(owner, page))
        assert shown is not None
        assert send(owner, "/setup/storage/cloud", **typed, fingerprint="SHA256:AAAA").status_code == 303
        eventually(lambda: "not the one that was typed" in text_of(owner, page))
        assert send(owner, "/setup/storage/cloud", **typed, fingerprint=shown[1]).status_code == 303
        eventually(lambda: copied(box, "sftp"))
        assert server.secret not in text_of(owner, page)


def test_a_file_server_that_was_off_is_tried_again_with_the_fingerprint_that_was_typed(
    owner: FlaskClient, box: Box, tmp_path: Path, eventually
) -> None:
    at_storage(box)
    page = "/setup/storage?kind=server"

    def try_again() -> dict[str, str]:
        form = text_of(owner, page).partition('id="test"')[2]
        fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', form))
        del fields["csrf"]
        # Who has just failed may not have let go of the test yet.
        eventually(lambda: send(owner, "/setup/storage/cloud", **fields).status_code == 303)
        return fields

    with proftpd(tmp_path / "nas") as server:
        shown = str(server.trusted(server.folder).options["host_key"])
    typed = {
        "kind": "server",
        "address": "127.0.0.1",
        "port": str(server.port),
        "folder": str(server.folder),
        "user": server.user,
        "fingerprint": shown,
    }
    assert send(owner, "/setup/storage/cloud", **typed, password=server.secret).status_code == 303
    eventually(lambda: "Try again" in text_of(owner, page))
    assert "does not answer" in text_of(owner, page)
    assert try_again()["fingerprint"] == shown
    eventually(lambda: "Try again" in text_of(owner, page))
    with proftpd(tmp_path / "nas", port=server.port):
        assert try_again()["fingerprint"] == shown
        eventually(lambda: copied(box, "sftp"))
    assert f'value="{shown}"' not in text_of(owner, page), (
        "the key is pinned, and another may be trusted later"
    )


def test_a_share_lets_the_box_in_with_its_password_and_is_fed(
    owner: FlaskClient, box: Box, tmp_path: Path, eventually
) -> None:
    at_storage(box)
    page = "/setup/storage?kind=share"
    with samba(tmp_path / "nas") as server:
        typed = {
            "kind": "share",
            "share_address": "127.0.0.1",
            "share_port": str(server.port),
            "share": SHARE,
            "share_user": server.user,
        }
        assert send(owner, "/setup/storage/cloud", **typed, share_password="another").status_code == 303
        eventually(lambda: "does not let" in text_of(owner, page))
        assert not copied(box, "smb")
        assert send(owner, "/setup/storage/cloud", **typed, share_password=SHARE_PASSWORD).status_code == 303
        eventually(lambda: copied(box, "smb"))
        assert SHARE_PASSWORD not in text_of(owner, page)


def test_the_days_left_follow_what_the_clinic_expects(owner: FlaskClient, box: Box) -> None:
    at_storage(box)

    def days() -> int:
        found = re.search(r"(?:about )?([\d,]+) days?", text_of(owner, "/setup/storage"))
        assert found is not None
        return int(found[1].replace(",", ""))

    before = days()
    send(owner, "/setup/storage/expected", panoramic="1000", intraoral="1000", cbct="100")
    assert days() < before


def test_a_machine_at_the_door_is_admitted_and_called_back(
    owner: FlaskClient, box: Box, free_port, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificates, "own_addresses", lambda: ("192.168.1.20", "fd00:7::20"))
    at_storage(box)
    settle(box, Step.STORAGE)
    with box.catalog.transaction() as tx:
        devices.seen_at_door(tx, ae_title("ROMEXIS"), "127.0.0.1", NOW)
    assert "ROMEXIS" in text_of(owner, "/setup/devices")
    answer = send(
        owner,
        "/setup/devices/admit",
        ae_title="ROMEXIS",
        address="127.0.0.1",
        name="Panoramic",
        port=str(free_port()),
    )
    assert answer.status_code == 303
    page = text_of(owner, "/setup/devices")
    assert "cannot be reached" in page, "the call back failed, and says why"
    assert "has not called yet" in page
    assert "CLINICBOX" in page
    assert str(box.config.dicom.port) in page
    assert "192.168.1.20" in page and "fd00:7" not in page, "the port of DICOM is not held by IPv6"
    part = owner.get("/setup/devices", headers={"HX-Request": "true", "Accept-Language": "en"}).get_data(
        as_text=True
    )
    assert "<html" not in part
    assert "Panoramic" in part


def test_an_invited_colleague_gets_a_link_that_is_shown_once(owner: FlaskClient, box: Box) -> None:
    at_storage(box)
    settle(box, Step.STORAGE, Step.DEVICES)
    answer = send(owner, "/setup/users", login="luc", name="Luc Gagné", role="assistant", language="fr")
    page = answer.get_data(as_text=True)
    link = re.search(r"http://localhost/welcome#([\w-]{20,})", page)
    assert link is not None
    assert answer.headers["Cache-Control"] == "no-store"
    assert link[1] not in text_of(owner, "/setup/users")
    assert send(owner, "/setup/users", login="x y", name="", role="owner", language="en").status_code == 422
    assert (
        send(owner, "/setup/users", login="v", name="V", role="vendor_support", language="en").status_code
        == 422
    )


# --- the end ---------------------------------------------------------------------------------------------------------


def test_a_test_that_fails_names_its_cause_on_the_page(owner: FlaskClient, box: Box, eventually) -> None:
    """Nobody listens on the DICOM port of this box: the sending fails, and that is what the page says."""
    at_storage(box)
    settle(box, Step.STORAGE, Step.DEVICES, Step.USERS)
    assert send(owner, "/setup/trial/run").status_code == 303
    eventually(lambda: "cannot be reached" in text_of(owner, "/setup/trial"))
    page = text_of(owner, "/setup/trial")
    assert "Try again" in page
    assert where(owner) == "/setup/trial"
    assert where(owner, "/setup/report") == "/setup/trial"
    assert send(owner, "/setup/trial/seen").status_code == 422, "nobody can have seen what isn't there"
