"""Emergency access: with a reason, for a time, told at once, and looked into by somebody else."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient

from appliance import audit, identity
from appliance.box import Box
from appliance.catalog import emergencies, grants, people, studies
from appliance.errors import NotAuthorised
from appliance.identity import Role, break_glass
from appliance.notify.judging import TOLD_FROM_AUDIT
from tests.web.conftest import browser_of, csrf_of
from tests.web.second_factor import send

REASON = "bleeding after an extraction, no answer from the clinic"


@pytest.fixture
def number(box: Box) -> str:
    """The patient ID of a study that nobody was shown."""
    with box.catalog.reading() as conn:
        return studies.find(conn, limit=1)[0].patient_id


def shown(browser: FlaskClient) -> int:
    return browser.get("/studies").get_data(as_text=True).count('class="study"')


def take(browser: FlaskClient, number: str, reason: str = REASON):
    return send(browser, "/emergency", "/emergency", number=number, reason=reason)


def test_a_referrer_opens_a_closed_study_for_a_time_and_it_is_told(app: Flask, box: Box, number: str) -> None:
    browser = browser_of(app, Role.REFERRER, "dr.roy")
    with box.catalog.reading() as conn:
        wanted = emergencies.studies_of(conn, number)
    assert wanted
    assert browser.get(f"/studies/{wanted[0]}").status_code == 404
    assert "/emergency" in browser.get("/studies").get_data(as_text=True)
    assert take(browser, number).status_code == 303
    assert browser.get(f"/studies/{wanted[0]}").status_code == 200
    with box.catalog.reading() as conn:
        rows = [row for row in audit.recent(conn, limit=30) if row["action"] == "access:break-glass"]
        person = people.person(conn, "dr.roy")
        assert person is not None
        held = list(grants.of_user(conn, person.id))
    assert [row["subject"] for row in rows] == [f"study:{each}" for each in reversed(wanted)]
    assert all(row["actor"] == "dr.roy" and row["study"] and REASON not in row["details"] for row in rows)
    assert "access:break-glass" in TOLD_FROM_AUDIT
    now = datetime.now(UTC)
    assert all(each.holds(now) and not each.holds(now + break_glass.LASTS) for each in held)
    other = browser_of(app, Role.REFERRER, "dr.gagnon")
    assert other.get(f"/studies/{wanted[0]}").status_code == 404


@pytest.mark.parametrize("reason", ["", "urgent", "          "])
def test_without_a_reason_nothing_opens(app: Flask, box: Box, number: str, reason: str) -> None:
    browser = browser_of(app, Role.REFERRER, "dr.lavoie")
    assert take(browser, number, reason).status_code == 422
    with box.catalog.reading() as conn:
        person = people.person(conn, "dr.lavoie")
        assert person is not None
        assert grants.of_user(conn, person.id) == []


@pytest.mark.parametrize("role", [Role.STUDENT, Role.VENDOR_SUPPORT, Role.ASSISTANT, Role.TECHNICIAN])
def test_other_roles_have_no_such_way(app: Flask, role: Role) -> None:
    browser = browser_of(app, role)
    assert browser.get("/emergency").status_code == 403
    token = csrf_of(browser.get("/help").get_data(as_text=True))
    form = {"csrf": token, "number": "1", "reason": REASON}
    assert browser.post("/emergency", data=form).status_code == 403


def test_who_sees_everything_needs_none(app: Flask, signed_in: FlaskClient, number: str) -> None:
    answer = take(signed_in, number)
    assert answer.status_code == 422
    assert "déjà" in answer.get_data(as_text=True) or "already" in answer.get_data(as_text=True)


def test_numbers_cannot_be_tried_out(app: Flask, box: Box) -> None:
    browser = browser_of(app, Role.REFERRER, "dr.probe")
    statuses = [take(browser, f"NOBODY{guess}").status_code for guess in range(6)]
    assert statuses == [422] * 5 + [429]
    with box.catalog.reading() as conn:
        tried = [row for row in audit.recent(conn, limit=30) if row["action"] == "access:break-glass-fail"]
    assert len(tried) == 5
    assert not any("NOBODY" in str(row) for row in tried)
    assert browser.get("/me").status_code == 200, "and the account is not locked out of the rest"


def test_another_person_countersigns_and_once(app: Flask, box: Box, number: str) -> None:
    taker = browser_of(app, Role.REFERRER, "dr.cote")
    assert take(taker, number).status_code == 303
    with box.catalog.reading() as conn:
        mine = [each for each in emergencies.latest(conn) if each.login == "dr.cote"]
    officer = browser_of(app, Role.PRIVACY_OFFICER, "officer")
    html = officer.get("/emergency/reviews").get_data(as_text=True)
    assert REASON in html
    path = f"/emergency/reviews/{mine[0].id}"
    assert taker.get("/emergency/reviews").status_code == 403
    assert send(officer, path, "/emergency/reviews", finding="confirmed with the clinic").status_code == 303
    send(officer, path, "/emergency/reviews", finding="once more")
    with box.catalog.reading() as conn:
        kept = emergencies.emergency(conn, mine[0].id)
    assert kept is not None
    assert (kept.reviewed_by, kept.finding) == ("officer", "confirmed with the clinic")
    assert re.search(r"confirmed with the clinic", officer.get("/emergency/reviews").get_data(as_text=True))


def test_nobody_countersigns_for_themselves(box: Box, number: str) -> None:
    now = datetime.now(UTC)
    with box.catalog.transaction() as tx:
        person = identity.add_user(
            tx,
            login="dr.self",
            name="S",
            role=Role.REFERRER,
            password="quatre lapins sur une horloge",
            language="en",
            now=now,
        )
        study = emergencies.studies_of(tx, number)[0]
        taken = break_glass.take(tx, person, study, reason=REASON, now=now)
    with pytest.raises(NotAuthorised), box.catalog.transaction() as tx:
        break_glass.review(tx, taken.id, person, finding="all fine", now=now + timedelta(hours=1))
