"""A form that is not accepted says what is wrong where it is wrong, and two people don't undo each other unseen."""

import re

import pytest
from flask import Flask
from flask.testing import FlaskClient

from appliance.box import Box
from appliance.catalog import alerts, people
from tests.web.conftest import browser_of, csrf_of


def control(html: str, name: str) -> str:
    """The opening tag of the field of that name which a person fills in."""
    found = [tag for tag in re.findall(r"<(?:input|textarea|select)[^>]*>", html) if f'name="{name}"' in tag]
    return next(tag for tag in found if 'type="hidden"' not in tag and 'id="field-' in tag)


def send(browser: FlaskClient, page: str, to: str, /, **typed: str):
    csrf = csrf_of(browser.get(page).get_data(as_text=True))
    return browser.post(to, data={"csrf": csrf, **typed})


WRONG = (
    (
        "/devices",
        "/devices/add",
        {"ae_title": "PANO 1 TOO LONG A TITLE", "address": "192.168.1.4"},
        "ae_title",
    ),
    ("/devices", "/devices/add", {"ae_title": "PANO", "address": "the panoramic"}, "address"),
    ("/devices", "/devices/add", {"ae_title": "PANO", "address": "192.168.1.4", "port": "x"}, "port"),
    (
        "/users/invite",
        "/users/invite",
        {"name": "Luc", "login": "é", "role": "student", "language": "fr"},
        "login",
    ),
    (
        "/users/invite",
        "/users/invite",
        {"name": "", "login": "luc2", "role": "student", "language": "fr"},
        "name",
    ),
    (
        "/destinations/new/dicom",
        "/destinations/new/dicom",
        {"name": "p", "ae_title": "P", "port": "1"},
        "address",
    ),
    (
        "/destinations/new/s3",
        "/destinations/new/s3",
        {"name": "c", "bucket": "bucket", "region": "us-east-1"},
        "region",
    ),
    ("/me/tokens", "/me/tokens/add", {"name": "", "days": "90", "scope": "health:view"}, "name"),
    (
        "/notices/channels",
        "/notices/channels/webhooks",
        {"name": "", "url": "https://x.ca", "format": "json"},
        "name",
    ),
)


@pytest.mark.parametrize(("page", "address", "typed", "field"), WRONG)
def test_the_field_in_error_says_so_and_the_summary_leads_to_it(
    app: Flask, page: str, address: str, typed: dict[str, str], field: str
) -> None:
    answer = send(browser_of(app, "owner"), page, address, **typed)
    html = answer.get_data(as_text=True)
    assert answer.status_code == 422
    tag = control(html, field)
    assert 'aria-invalid="true"' in tag
    assert html.count('aria-invalid="true"') == 1
    described = re.search(r'aria-describedby="([^"]+)"', tag)
    assert described is not None
    assert f"error-{field}" in described[1].split()
    assert all(f'id="{each}"' in html for each in described[1].split())
    summary = re.search(r'<div class="note bad form-error"[^>]*>.*?</div>', html, re.DOTALL)
    assert summary is not None
    assert "autofocus" in summary[0]
    assert f'href="#field-{field}"' in summary[0]
    assert html.count(f'id="field-{field}"') == 1
    said = re.search(rf'id="error-{field}">([^<]+)<', html)
    assert said is not None
    assert said[1] in summary[0]


def test_every_section_of_the_settings_lists_its_faults_with_links(app: Flask) -> None:
    browser = browser_of(app, "owner")
    typed = {"mail.port": "x", "mail.host": "http://x", "mail.security": "tls"}
    html = send(browser, "/settings/mail", "/settings/mail", **typed).get_data(as_text=True)
    links = re.findall(r'<li><a href="#(field-\d+)">', html)
    assert len(links) == 2
    assert all(f'id="{link}"' in html for link in links)


def test_of_two_who_change_a_person_the_second_is_told_and_keeps_what_was_typed(app: Flask, box: Box) -> None:
    browser_of(app, "assistant", "josee")
    with box.catalog.reading() as conn:
        person = people.person(conn, "josee")
    assert person is not None
    first, second = browser_of(app, "owner"), browser_of(app, "owner", "other-owner")
    address = f"/users/{person.id}"
    stale = second.get(address).get_data(as_text=True)
    seen = re.search(r'name="seen" value="([^"]+)"', stale)
    assert seen is not None
    done = send(first, address, address, name="Josée Roy", login="josee", role="technician", language="fr")
    assert done.status_code == 303
    typed = {"name": "Josée Roy-Côté", "login": "josee", "role": "assistant", "language": "fr"}
    answer = second.post(address, data={"csrf": csrf_of(stale), "seen": seen[1], **typed})
    html = answer.get_data(as_text=True)
    assert answer.status_code == 409
    assert 'value="Josée Roy-Côté"' in html
    assert "Now: Josée Roy" in html
    assert "Now: Technician" in html
    with box.catalog.reading() as conn:
        assert people.person_by_id(conn, person.id).role == "technician"  # type: ignore[union-attr]
    fresh = re.search(r'name="seen" value="([^"]+)"', html)
    assert fresh is not None
    again = second.post(address, data={"csrf": csrf_of(html), "seen": fresh[1], **typed})
    assert again.status_code == 303


def test_of_two_who_change_an_alert_the_second_is_told_and_keeps_what_was_typed(app: Flask, box: Box) -> None:
    browser = browser_of(app, "owner")
    stale = browser.get("/notices/alerts").get_data(as_text=True)
    form = stale[stale.index('action="/notices/alerts/job"') :]
    seen = re.search(r'name="seen" value="([^"]+)"', form)
    assert seen is not None
    typed = {
        "csrf": csrf_of(stale),
        "enabled": "1",
        "severity": "warning",
        "role.owner": "1",
        "seen": seen[1],
    }
    typed |= {"channel.bell": "1", "repeat_hours": "24"}
    assert browser.post("/notices/alerts/job", data=typed | {"delay_minutes": "3"}).status_code == 303
    answer = browser.post("/notices/alerts/job", data=typed | {"delay_minutes": "7"})
    assert answer.status_code == 409
    assert 'id="job" open' in answer.get_data(as_text=True)
    assert 'value="7"' in answer.get_data(as_text=True)
    with box.catalog.reading() as conn:
        assert alerts.changes(conn)["job"]["delay_seconds"] == 180
    html = answer.get_data(as_text=True)
    assert 'href="#job-delay"' in html
    assert "After how many minutes" in html and "Now: 3" in html
    assert "Now: 24" not in html, "what is alike is not compared"
    answer = browser.post("/notices/alerts/job", data=typed | {"persons": "nobody-of-that-name", "seen": ""})
    assert answer.status_code == 422
    assert 'aria-invalid="true"' in control(answer.get_data(as_text=True), "persons")
    with box.catalog.transaction() as tx:
        alerts.change_rule(tx, "job", {}, people.person(tx, "owner").created_utc)  # type: ignore[union-attr]


def test_what_is_refused_in_between_does_not_hide_another_change_of_an_alert(app: Flask, box: Box) -> None:
    browser = browser_of(app, "owner")
    stale = browser.get("/notices/alerts").get_data(as_text=True)
    typed = {"csrf": csrf_of(stale), "enabled": "1", "severity": "warning", "role.owner": "1"}
    typed |= {"channel.bell": "1", "repeat_hours": "24", "delay_minutes": "3", "seen": _seen(stale, "clock")}
    assert browser.post("/notices/alerts/clock", data=typed).status_code == 303
    refused = browser.post("/notices/alerts/clock", data=typed | {"persons": "nobody-of-that-name"})
    assert refused.status_code == 422
    carried = _seen(refused.get_data(as_text=True), "clock")
    again = browser.post("/notices/alerts/clock", data=typed | {"seen": carried, "delay_minutes": "9"})
    assert again.status_code == 409
    with box.catalog.reading() as conn:
        assert alerts.changes(conn)["clock"]["delay_seconds"] == 180


def test_a_change_of_the_escalation_meanwhile_is_shown_step_by_step(app: Flask) -> None:
    browser = browser_of(app, "owner")
    stale = browser.get("/notices/alerts").get_data(as_text=True)
    form = stale[stale.index('action="/notices/escalation"') :]
    seen = re.search(r'name="seen" value="([^"]+)"', form)
    assert seen is not None
    typed = {"csrf": csrf_of(stale), "seen": seen[1], "0.role.owner": "1", "0.channel.bell": "1"}
    assert browser.post("/notices/escalation", data=typed | {"0.minutes": "11"}).status_code == 303
    answer = browser.post("/notices/escalation", data=typed | {"0.minutes": "12"})
    assert answer.status_code == 409
    html = answer.get_data(as_text=True)
    assert 'href="#step-1"' in html
    assert "Now: after 11 min: Owner" in html


def _seen(html: str, rule: str) -> str:
    found = re.search(r'name="seen" value="([^"]+)"', html[html.index(f'action="/notices/alerts/{rule}"') :])
    assert found is not None
    return found[1]
