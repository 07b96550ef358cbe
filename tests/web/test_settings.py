"""The settings pages: every setting in a form, errors beside their field, history with undo, the configuration."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from html import unescape
from io import BytesIO

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from appliance import audit, settings
from appliance.box import Box
from appliance.catalog import operator_settings
from appliance.identity.permissions import Permission
from appliance.identity.roles import Role
from appliance.settings import SECTIONS, SETTINGS
from appliance.web.language import Languages
from tests.web.conftest import browser_of, csrf_of

SECRET = "a-secret-that-nobody-may-see"


@pytest.fixture
def owner(app: Flask, box: Box) -> Iterator[FlaskClient]:
    """A browser whose owner has signed in; settings are as new afterwards."""
    yield browser_of(app, "owner")
    with box.catalog.transaction() as tx:
        settings.change(tx, box.audit_key, dict.fromkeys(SETTINGS), actor="tests", now=datetime.now(UTC))


def fields_of(html: str) -> dict[str, str]:
    """What a browser would send of a settings form as it stands."""
    found = dict(re.findall(r'<input[^>]*type="(?:text|hidden)" name="([^"]+)" value="([^"]*)"', html))
    for control in re.findall(r"<input[^>]*>", html):
        name, value = re.search(r'name="([^"]+)"', control), re.search(r'value="([^"]*)"', control)
        if (
            name and value and "checked" in control
        ):  # boxes of one name come as one list, which a form reads alike
            found[name[1]] = ", ".join(filter(None, (found.get(name[1]), unescape(value[1]))))
        if name and value and 'type="checkbox"' not in control:
            found[name[1]] = unescape(value[1])
    for name, value in re.findall(r'<textarea[^>]*name="([^"]+)"[^>]*>\n?(.*?)</textarea>', html, re.DOTALL):
        found[name] = unescape(value)
    for name, body in re.findall(r'<select[^>]*name="([^"]+)"[^>]*>(.*?)</select>', html, re.DOTALL):
        chosen = re.search(r'value="([^"]+)" selected', body)
        assert chosen is not None
        found[name] = chosen[1]
    return found


def save(browser: FlaskClient, section: str, **changed: str) -> TestResponse:
    """Fill the form of a section and send it. Names of fields with __ for the dot."""
    typed = fields_of(browser.get(f"/settings/{section}").get_data(as_text=True))
    typed |= {key.replace("__", "."): value for key, value in changed.items()}
    return browser.post(f"/settings/{section}", data=typed)


def test_every_setting_stands_in_the_form_of_its_section(owner: FlaskClient) -> None:
    for section in SECTIONS:
        html = owner.get(f"/settings/{section}").get_data(as_text=True)
        for key, each in SETTINGS.items():
            assert (f'name="{key}"' in html) is (each.section == section), key
        assert save(owner, section).status_code == 303, section  # a form sent back as it came is right
    assert owner.get("/settings").status_code == 200


def test_no_section_has_the_name_of_a_page() -> None:
    assert not {"history", "machine", "configuration"} & set(SECTIONS)


def test_every_setting_is_guarded_by_a_permission_that_exists() -> None:
    assert {each.permission for each in SETTINGS.values()} <= {each.value for each in Permission}


def test_a_change_is_kept_listed_and_taken_back(owner: FlaskClient, box: Box) -> None:
    assert save(owner, "clinic", clinic__name="Émard & fils").status_code == 303
    assert "Émard &amp; fils" in owner.get("/settings/clinic").get_data(as_text=True)
    page = owner.get("/settings/history").get_data(as_text=True)
    assert "Émard &amp; fils" in page
    with box.catalog.reading() as reading:
        latest = settings.history(reading, key="clinic.name")[0]
    undone = owner.post(f"/settings/history/{latest.id}/undo", data={"csrf": csrf_of(page)})
    assert undone.status_code == 303
    with box.catalog.reading() as reading:
        assert settings.get(reading, "clinic.name") == ""
        rows = [row for row in audit.recent(reading, limit=5) if row["action"] == "setting:change"]
    assert json.loads(rows[0]["details"])["undoes"] == latest.id


def test_what_is_wrong_is_said_beside_its_field_and_nothing_is_changed(owner: FlaskClient, box: Box) -> None:
    answer = save(owner, "mail", mail__port="99999", mail__host="http://x", mail__user="luc")
    html = answer.get_data(as_text=True)
    assert answer.status_code == 422
    assert html.count('aria-invalid="true"') == 2
    assert 'value="99999"' in html
    assert 'value="luc"' in html
    with box.catalog.reading() as reading:
        assert settings.get(reading, "mail.user") == ""
    answer = save(owner, "mail", mail__host="mail.clinic.ca")  # without its sender
    assert answer.status_code == 422
    assert "name@clinic.ca" in answer.get_data(as_text=True) or "nom@clinique.ca" in answer.get_data(
        as_text=True
    )


def test_two_people_at_once_do_not_undo_each_other(owner: FlaskClient, app: Flask, box: Box) -> None:
    stale = fields_of(owner.get("/settings/clinic").get_data(as_text=True))
    assert save(owner, "clinic", clinic__name="First").status_code == 303
    answer = owner.post("/settings/clinic", data=stale | {"clinic.phone": "514 555-0100"})
    assert answer.status_code == 409
    with box.catalog.reading() as reading:
        assert settings.get(reading, "clinic.name") == "First"
        assert settings.get(reading, "clinic.phone") == ""


def test_a_mistyped_field_does_not_forget_that_somebody_else_was_faster(owner: FlaskClient, box: Box) -> None:
    stale = fields_of(owner.get("/settings/clinic").get_data(as_text=True))
    assert save(owner, "clinic", clinic__phone="514 555-0199").status_code == 303
    answer = owner.post("/settings/clinic", data=stale | {"clinic.privacy_officer_email": "nobody"})
    assert answer.status_code == 422
    mended = fields_of(answer.get_data(as_text=True)) | {"clinic.privacy_officer_email": "luc@clinic.ca"}
    assert owner.post("/settings/clinic", data=mended).status_code == 409
    with box.catalog.reading() as reading:
        assert settings.get(reading, "clinic.phone") == "514 555-0199"


def test_a_port_of_support_that_is_no_choice_any_more_is_shown_and_says_what_is(
    owner: FlaskClient, box: Box
) -> None:
    with box.catalog.transaction() as tx:
        operator_settings.put(tx, "support.port", 2222, datetime.now(UTC))
    assert fields_of(owner.get("/settings/support").get_data(as_text=True))["support.port"] == "2222"
    answer = save(owner, "support", support__user="boxes")
    assert answer.status_code == 422
    assert "22, 443" in answer.get_data(as_text=True)
    assert save(owner, "support", support__user="boxes", support__port="443").status_code == 303


def test_roles_are_chosen_not_typed(owner: FlaskClient, box: Box) -> None:
    html = owner.get("/settings/access").get_data(as_text=True)
    boxes = re.findall(r'name="access.second_factor_roles" value="(\w+)"( checked)?', html)
    assert [word for word, _ in boxes] == [role.value for role in Role]
    assert {word for word, checked in boxes if checked} == {"owner", "privacy_officer", "vendor_support"}
    typed = fields_of(html) | {"access.second_factor_roles": ["student", "owner"]}
    assert owner.post("/settings/access", data=typed).status_code == 303
    with box.catalog.reading() as reading:
        assert settings.get(reading, "access.second_factor_roles") == ["owner", "student"]
    assert "Owner and Student" in owner.get("/settings/history").get_data(as_text=True)
    refused = owner.post("/settings/access", data=typed | {"access.second_factor_roles": "dentist"})
    assert refused.status_code == 422


def test_the_clinics_language_is_any_that_the_console_speaks_whole(app: Flask, box: Box) -> None:
    kind = SETTINGS["language.default"].kind
    assert isinstance(kind, settings.Choice)
    assert set(kind.words) == {manner.code for manner in Languages.offered()}


def test_a_browser_without_a_language_of_ours_is_spoken_to_in_the_clinics(
    owner: FlaskClient, app: Flask
) -> None:
    assert save(owner, "language", language__default="es").status_code == 303
    door = app.test_client()
    assert '<html lang="es"' in door.get("/sign-in").get_data(as_text=True)
    for wish, tag in (("de-CH, tlh;q=0.5", "es"), ("de, zh;q=0.1", "zh")):
        html = app.test_client().get("/sign-in", headers={"Accept-Language": wish}).get_data(as_text=True)
        assert re.search(r'<html lang="(\w+)', html)[1] == tag  # type: ignore[index]


def test_limits_that_contradict_each_other_are_refused(owner: FlaskClient) -> None:
    assert save(owner, "health", health__delivery_late_hours="100").status_code == 422
    assert save(owner, "health", health__backup_late_days="9").status_code == 422
    assert save(owner, "backup", backup__every_hours="48").status_code == 422
    assert save(owner, "health", health__backup_late_days="4").status_code == 303
    assert save(owner, "backup", backup__every_hours="48").status_code == 303


def test_a_secret_is_typed_kept_and_forgotten_but_never_shown(owner: FlaskClient, box: Box) -> None:
    save(owner, "mail", mail__password=SECRET)
    pages = [owner.get(path).get_data(as_text=True) for path in ("/settings/mail", "/settings/history")]
    pages.append(owner.get("/settings/configuration/export").get_data(as_text=True))
    assert not any(SECRET in page for page in pages)
    save(owner, "mail", mail__user="luc")  # the empty field leaves it
    with box.catalog.reading() as reading:
        assert settings.secret(reading, box.root, "mail.password") == SECRET
    save(owner, "mail", **{"forget:mail__password": "1"})
    with box.catalog.reading() as reading:
        assert settings.secret(reading, box.root, "mail.password") == ""


def test_a_configuration_is_previewed_and_then_imported(owner: FlaskClient, box: Box) -> None:
    document = json.loads(owner.get("/settings/configuration/export").data)
    document["settings"]["clinic.name"] = "Ailleurs"
    token = csrf_of(owner.get("/settings/configuration").get_data(as_text=True))

    def send(text: str) -> TestResponse:
        return owner.post(
            "/settings/configuration/preview",
            data={"csrf": token, "file": (BytesIO(text.encode()), "c.json")},
        )

    html = send(json.dumps(document)).get_data(as_text=True)
    assert "Ailleurs" in html
    with box.catalog.reading() as reading:
        assert settings.get(reading, "clinic.name") == ""
    typed = fields_of(html)
    assert owner.post("/settings/configuration/import", data=typed).status_code == 303
    with box.catalog.reading() as reading:
        assert settings.get(reading, "clinic.name") == "Ailleurs"
    assert send("no configuration").status_code == 422
    document["settings"]["mail.port"] = 0
    assert "65535" in send(json.dumps(document)).get_data(as_text=True)


def test_what_is_set_elsewhere_is_shown_with_where_it_comes_from(
    owner: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APPLIANCE_WEB_PORT", "8080")
    html = owner.get("/settings/machine").get_data(as_text=True)
    assert "dicom.max_associations" in html
    assert "APPLIANCE_WEB_PORT" in html


def test_who_may_only_read_gets_no_button_and_is_refused(app: Flask) -> None:
    reader = browser_of(app, "privacy_officer")
    html = reader.get("/settings/clinic").get_data(as_text=True)
    assert "fieldset" in html
    assert "disabled" in html
    token = csrf_of(html)
    assert reader.post("/settings/clinic", data={"csrf": token, "clinic.name": "x"}).status_code == 403
    assert reader.get("/settings/configuration/export").status_code == 403
    assert browser_of(app, "assistant").get("/settings/clinic").status_code == 403
