"""The pages of retention: what is due and why, holds, periods, and a destruction that two people decide."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from appliance import audit, settings
from appliance.box import Box, open_box
from appliance.catalog import destructions, holds, retention_rules, visits
from appliance.catalog import settings as kept_values
from appliance.config import Config
from appliance.identity import Role
from appliance.lifecycle import memory, retention, unsettled
from appliance.lifecycle.request import ItemState, Method, State
from appliance.web import create_app
from tests.lifecycle.clinic import arrive, bring_up_to_date, watch
from tests.web.conftest import add_owner, browser_of, csrf_of, sign_in

OLD = datetime.now(UTC) - timedelta(days=365 * 14)


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """A box without any image file: these pages show rows only."""
    folder: Path = tmp_path_factory.mktemp("kept")
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
def officer(app: Flask) -> FlaskClient:
    return browser_of(app, Role.PRIVACY_OFFICER, "officer")


_numbers = iter(range(1, 1000))


def due(box: Box, *, at: datetime = OLD, **header: str) -> int:
    """A study of a patient of its own, old enough to be due."""
    number = next(_numbers)
    watch(box.catalog, datetime.now(UTC))
    patient = {"patient_id": f"P-{number}", "patient_name": f"PATIENT{number}^Zoé"}
    study = arrive(box.catalog, f"1.2.3.{number}", at=at, **patient, **header)
    bring_up_to_date(box.catalog)
    return study


def page(browser: FlaskClient, address: str) -> str:
    answer = browser.get(address)
    assert answer.status_code == 200, answer.status_code
    return str(answer.get_data(as_text=True))


def post(browser: FlaskClient, address: str, **form: object) -> str:
    """Send a form and read the page that follows."""
    token = csrf_of(page(browser, "/help"))
    answer = browser.post(address, data={"csrf": token, **form}, follow_redirects=True)
    assert answer.status_code in (200, 422)
    return str(answer.get_data(as_text=True))


def newest(box: Box) -> destructions.DestructionRequest:
    with box.catalog.reading() as conn:
        return destructions.latest(conn, limit=1)[0]


def approve(browser: FlaskClient, asked: destructions.DestructionRequest, **changes: str) -> str:
    form = {"digest": asked.digest, "understood": "yes"} | changes
    return post(browser, f"/retention/requests/{asked.id}/approve", **form)


def test_the_list_says_since_when_and_by_which_law(box: Box, owner: FlaskClient) -> None:
    study, young = due(box), due(box, at=datetime.now(UTC) - timedelta(days=365 * 10 - 60))
    shown = page(owner, "/retention")
    assert f'value="{study}"' in shown
    assert f'value="{young}"' not in shown
    assert "M-9, r. 20.3.1, s. 14" in shown
    assert f"/studies/{young}" in page(owner, "/retention?when=year")
    assert f'value="{young}"' not in page(owner, "/retention?when=year")  # not today, so not to be asked for
    assert f"/studies/{study}" not in page(owner, "/retention?when=day&at=2015-01-01")
    with box.catalog.reading() as conn:
        assert audit.recent(conn, limit=1)[0]["action"] == "retention:list"


def test_the_list_goes_out_as_a_spreadsheet_and_on_paper_with_its_row(box: Box, owner: FlaskClient) -> None:
    study = due(box)
    token = csrf_of(page(owner, "/help"))
    sheet = owner.post("/retention/list/csv", data={"csrf": token, "when": "today"})
    rows = list(csv.DictReader(io.StringIO(sheet.get_data(as_text=True))))
    assert str(study) in {row["study"] for row in rows}
    paper = owner.post("/retention/list/pdf", data={"csrf": token, "when": "today"})
    assert paper.data.startswith(b"%PDF")
    with box.catalog.reading() as conn:
        actions = [row["action"] for row in audit.recent(conn, limit=4)]
    assert actions.count("retention:export") == 2


def test_each_list_in_which_a_patient_was_seen_is_in_that_patients_report(
    box: Box, app: Flask, owner: FlaskClient, officer: FlaskClient
) -> None:
    study, other = due(box), due(box)
    post(owner, f"/studies/{study}/holds", kind="legal", on="patient", reason="claim 7")
    post(owner, "/retention/requests", study=other, reason="yearly review")
    asked = newest(box)
    token = csrf_of(page(officer, "/help"))
    page(officer, "/retention?when=year")
    page(officer, "/retention/holds")
    for kind in ("csv", "pdf"):
        assert officer.post(f"/retention/list/{kind}", data={"csrf": token}).status_code == 200
    page(officer, f"/retention/requests/{asked.id}")

    def told(number: int) -> list[str]:
        sheet = {"csrf": token, "about": "patient", "study": str(number), "as": "csv"}
        answer = officer.post("/audit/reports", data=sheet)
        rows = list(csv.DictReader(io.StringIO(answer.get_data(as_text=True))))
        listed = [row for row in rows if "studies" in json.loads(row["details"])]
        for row in listed:
            named = json.loads(row["details"])["studies"]
            assert named == [number], "the report is of one patient"
        return [row["action"] for row in listed if row["actor"] == "officer"]

    assert {"retention:list", "hold:list"} <= set(told(study))
    assert told(study).count("retention:export") == 2
    assert "destruction:view" not in told(study)
    assert {"retention:list", "destruction:view"} <= set(told(other))
    assert "hold:list" not in told(other)


def test_one_asks_another_approves_and_the_list_is_what_both_have_seen(
    box: Box, owner: FlaskClient, officer: FlaskClient
) -> None:
    study = due(box)
    said = post(owner, "/retention/requests", study=study, reason="yearly review")
    asked = newest(box)
    assert asked.study_ids == (study,)
    assert "You have asked for this yourself" in said
    assert "/approve" not in said
    assert "themselves" in approve(owner, asked)  # not even by hand
    seen = page(officer, f"/retention/requests/{asked.id}")
    assert asked.digest in seen
    assert "yearly review" in seen
    assert "Tick that you have looked" in approve(officer, asked, understood="")
    assert "not the list" in approve(officer, asked, digest="0")
    assert newest(box).state is State.OPEN
    assert "The destruction is approved" in approve(officer, asked)
    approved = newest(box)
    assert (approved.state, approved.approved_by) == (State.APPROVED, "officer")
    assert f'value="{study}"' not in page(owner, "/retention")  # in a request, so not to be asked for again


@pytest.mark.parametrize(
    ("language", "said"),
    [
        ("en", "Nothing of this request is destroyed for now"),
        ("fr", "Rien de cette demande n’est détruit pour l’instant"),
        ("es", "De momento no se destruye nada de esta solicitud"),
        ("zh", "此申请目前不会销毁任何内容"),
    ],
)
def test_a_request_that_waits_for_a_record_on_a_bad_sector_says_so(
    box: Box, owner: FlaskClient, officer: FlaskClient, language: str, said: str
) -> None:
    study = due(box)
    post(owner, "/retention/requests", study=str(study), reason="yearly review", method="destroy")
    asked = newest(box)
    address = f"/retention/requests/{asked.id}?lang={language}"
    approve(officer, asked)
    assert said not in page(owner, address)
    with box.catalog.transaction() as tx:
        kept_values.put(tx, unsettled.WAITING, [asked.id], datetime.now(UTC))
    assert said in page(owner, address)
    post(owner, f"/retention/requests/{asked.id}/withdraw", reason="another time")
    assert said not in page(owner, address), "it waits for nothing any more"
    page(owner, "/retention?lang=en")


def test_a_study_can_be_asked_to_be_made_anonymous_if_something_of_it_may_stay(
    box: Box, owner: FlaskClient, officer: FlaskClient
) -> None:
    study, photo = due(box), due(box, modality="XC")
    form = {"method": "anonymise", "reason": "teaching, analysis 2026-4"}
    assert "None of the study" in post(owner, "/retention/requests", study=[study, photo], **form)
    assert newest(box).method is Method.DESTROY, "nothing was asked"
    post(owner, "/retention/requests", study=study, **form)
    asked = newest(box)
    assert (asked.study_ids, asked.method) == ((study,), Method.ANONYMISE)
    seen = page(officer, f"/retention/requests/{asked.id}")
    assert "Anonymise" in seen
    assert "1 of 1" in seen
    approve(officer, asked)
    assert newest(box).state is State.APPROVED


def test_what_has_changed_is_shown_and_left_out(box: Box, owner: FlaskClient, officer: FlaskClient) -> None:
    stays, changes = due(box), due(box)
    post(owner, "/retention/requests", study=[stays, changes], reason="yearly review")
    asked = newest(box)
    post(owner, f"/studies/{changes}/holds", kind="access", on="patient", reason="asked to see it")
    seen = page(officer, f"/retention/requests/{asked.id}")
    assert "without the patient’s name" in seen, "beside why it is withdrawn"
    assert "1 study has changed since" in seen
    assert "It is on hold." in seen
    assert "1 study was left out" in approve(officer, asked)
    states = {each.study_id: each.state for each in newest(box).decisions}
    assert states == {stays: ItemState.STANDING, changes: ItemState.LEFT_OUT}
    assert "The request is withdrawn" in post(
        officer, f"/retention/requests/{asked.id}/withdraw", reason="the patient has called"
    )
    assert newest(box).state is State.WITHDRAWN
    assert "withdrawn" in page(owner, "/retention/requests")


def test_asking_for_nothing_or_for_what_must_be_kept_says_so(box: Box, owner: FlaskClient) -> None:
    young = due(box, at=datetime.now(UTC) - timedelta(days=30))
    assert "No study was chosen" in post(owner, "/retention/requests", reason="yearly review")
    assert f"Study {young} must still be kept" in post(
        owner, "/retention/requests", study=young, reason="yearly review"
    )


def test_a_study_says_until_when_it_is_kept_and_can_be_held(box: Box, owner: FlaskClient) -> None:
    study = due(box, at=datetime.now(UTC) - timedelta(days=30))
    assert "Must be kept until" in page(owner, f"/studies/{study}")
    said = post(owner, f"/studies/{study}/holds", kind="legal", on="study", reason="claim 2026-114")
    assert "claim 2026-114" in said
    assert "Held; the last day of the rules is" in said
    assert "A hold has a reason" in post(
        owner, f"/studies/{study}/holds", kind="legal", on="study", reason=""
    )
    with box.catalog.reading() as conn:
        hold = next(each for each in holds.listed(conn) if each.study == study)
    assert "claim 2026-114" in page(owner, "/retention/holds")
    said = post(owner, f"/retention/holds/{hold.id}/release", reason="judgment of 3 May")
    assert "The hold is released" in said
    assert "judgment of 3 May" in said


def test_a_study_says_whose_day_it_is_kept_by_and_what_speaks_against_it(
    box: Box, owner: FlaskClient
) -> None:
    """So that a number that a machine gives to all, or an image from the future, is seen by who can mend it."""
    now = datetime.now(UTC)
    alone = due(box, at=now)
    said = page(owner, f"/studies/{alone}")
    assert "Counted from" in said and "another study" not in said
    one = arrive(box.catalog, "1.2.77.1", at=OLD, patient_id="0", patient_name="ROY^Ana")
    other = arrive(
        box.catalog, "1.2.77.2", at=now, patient_id="0", patient_name="GAGNON^Luc", study_date="22061127"
    )
    said = page(owner, f"/studies/{one}")
    assert "the date of another study of the same patient is too long after its receipt" in said
    assert f'<a href="/studies/{other}">Open that study</a>' in said
    assert "under the same patient number" in said
    said = page(owner, f"/studies/{other}")
    assert "its date is too long after its receipt" in said and "Open that study" not in said
    assert str(now.year + 2) in said


def test_a_visit_that_somebody_enters_keeps_a_patient_and_whoever_approves_is_told(
    box: Box, owner: FlaskClient, officer: FlaskClient
) -> None:
    study = due(box)
    post(owner, "/retention/requests", study=study, reason="yearly review")
    asked = newest(box)
    seen = page(officer, f"/retention/requests/{asked.id}")
    assert f"last known here: {OLD:%b}" in seen
    assert "Check in the record that none of these patients has been seen since" in seen
    last_year = datetime.now(UTC).year - 1
    said = post(owner, f"/studies/{study}/visits", day=f"{last_year}-03-01")
    assert "The visit counts for all studies of the patient" in said
    assert "when the patient was last seen, as somebody has entered it" in said
    assert "Must be kept until" in said
    assert "A visit or a rule keeps it longer" in page(officer, f"/retention/requests/{asked.id}")
    assert "can&#39;t be entered" in post(owner, f"/studies/{study}/visits", day="2199-01-01")
    assert "not a date" in post(owner, f"/studies/{study}/visits", day="")
    with box.catalog.reading() as conn:
        (visit,) = visits.of_study(conn, study)
    said = post(owner, f"/retention/visits/{visit.id}/withdraw", reason="", **{"from": study})
    assert "withdrawn with a reason" in said
    said = post(owner, f"/retention/visits/{visit.id}/withdraw", reason="another patient", **{"from": study})
    assert "no longer counts" in said and "Due: no rule keeps it" in said


LATE = {
    "en": "Images that come long after they were made, such as old ones out of another system, count from the day they reached this box.",
    "fr": "Les images qui arrivent longtemps après avoir été faites, comme d’anciennes images d’un autre système, comptent à partir du jour où elles sont arrivées dans ce boîtier.",
}


@pytest.mark.parametrize("language", ["en", "fr"])
def test_it_is_said_that_old_images_count_from_the_day_they_came(owner: FlaskClient, language: str) -> None:
    for address in ("/retention", "/retention/rules"):
        assert LATE[language] in html.unescape(page(owner, f"{address}?lang={language}"))
    told = html.unescape(page(owner, f"/help/retention?lang={language}"))
    assert {"en": "A film of 1995", "fr": "Un cliché de 1995"}[language] in told


def test_where_the_clinics_own_period_decides_the_list_says_who_chose_it_and_why(
    box: Box, owner: FlaskClient
) -> None:
    study = due(box)
    post(owner, "/retention/rules", what="medical.last-entry", years="11", reason="our policy of 2026")
    bring_up_to_date(box.catalog)
    try:
        shown = html.unescape(page(owner, f"/studies/{study}"))
        assert re.search(
            r"11 years from the last entry · The clinic's own period, set by \w+ on [0-9-]+ UTC: our policy",
            shown,
        )
        french = html.unescape(page(owner, f"/studies/{study}?lang=fr"))
        assert re.search(r"· Délai de la clinique, fixé par \w+ le [0-9-]+ UTC\xa0: our policy", french)
        token = csrf_of(page(owner, "/help"))
        sheet = owner.post("/retention/list/csv", data={"csrf": token, "when": "today"})
        sources = {row["source"] for row in csv.DictReader(io.StringIO(sheet.get_data(as_text=True)))}
        assert any(each.endswith(" UTC: our policy of 2026") for each in sources)
        assert "" not in sources
    finally:
        post(owner, "/retention/rules", what="medical.last-entry", years="", reason="back to the law")
        bring_up_to_date(box.catalog)


def test_a_period_below_the_law_is_refused_with_its_source(box: Box, owner: FlaskClient) -> None:
    said = post(owner, "/retention/rules", what="medical.last-entry", years="9", reason="room on the disk")
    assert "at least 10 years: M-9, r. 20.3.1, s. 14" in said
    for years in ("ten", "-1", "99999"):
        assert "whole number" in post(
            owner, "/retention/rules", what="medical.last-entry", years=years, reason="a policy"
        )
    assert "no such kind" in post(owner, "/retention/rules", what="x.y", years="20", reason="a policy")
    said = post(owner, "/retention/rules", what="mammography.last-entry", years="20", reason="our policy")
    assert "The period was changed" in said
    assert "our policy" in said
    said = post(owner, "/retention/rules", what="mammography.last-entry", years="", reason="no policy")
    assert "taken back" in said
    assert "to be confirmed" in said
    bring_up_to_date(box.catalog)


@pytest.mark.parametrize(
    ("language", "short", "elsewhere", "unknown"),
    [
        ("en", "does not count in this province: at least 10 years", "Given for Québec.", "nothing due"),
        (
            "fr",
            "ne compte pas dans cette province\xa0: au moins 10 ans",
            "Donné pour\xa0: Québec.",
            "rien échu",
        ),
        ("es", "No cuenta en esta provincia: al menos 10 años", "Dado para Quebec.", "vencer nada"),
        ("zh", "在本省不计：至少 10 年", "为魁北克设定。", "不使任何检查到期"),
    ],
)
def test_a_period_that_another_province_measured_is_told_beside_it(
    box: Box, owner: FlaskClient, language: str, short: str, elsewhere: str, unknown: str
) -> None:
    address = f"/retention/rules?lang={language}"

    def choose(what: str, years: str) -> None:
        post(owner, "/retention/rules", what=what, years=years, reason="our policy of 2026")

    def move(province: str) -> None:
        with box.catalog.transaction() as tx:
            settings.change(
                tx, box.audit_key, {"clinic.province": province}, actor="x", now=datetime.now(UTC)
            )

    choose("dental.last-entry", "5")
    choose("medical.last-entry", "12")
    try:
        assert short not in html.unescape(page(owner, address))
        assert elsewhere not in page(owner, address)
        move("MB")
        shown = html.unescape(page(owner, address))
        assert short in shown
        assert elsewhere in shown
        move("QC")
        with box.catalog.transaction() as tx:
            kept_values.put(tx, retention_rules.GIVEN_FOR, {}, datetime.now(UTC))
        shown = html.unescape(page(owner, address))
        assert unknown in shown
        assert elsewhere not in shown
    finally:
        move("QC")
        choose("dental.last-entry", "")
        choose("medical.last-entry", "")
        page(owner, "/retention?lang=en")
        bring_up_to_date(box.catalog)


def test_while_the_clock_is_in_doubt_nothing_can_be_ticked_until_somebody_says_it_is_right(
    box: Box, owner: FlaskClient
) -> None:
    study = due(box)
    with box.catalog.transaction() as tx:
        retention.watch_clock(
            tx, datetime.now(UTC) - timedelta(days=3650), follows_time_server=True
        )  # set back, and now put right again
    shown = page(owner, "/retention")
    assert "in doubt" in shown
    assert f'value="{study}"' not in shown
    assert "clock" in post(owner, "/retention/requests", study=study, reason="yearly review")
    assert "The clock is believed again" in post(owner, "/retention/clock")
    assert f'value="{study}"' in page(owner, "/retention")


def test_after_a_restore_nothing_can_be_ticked_or_approved_until_somebody_has_looked_at_what_is_held(
    box: Box, owner: FlaskClient, officer: FlaskClient
) -> None:
    study, other = due(box), due(box)
    post(owner, "/retention/requests", study=other, reason="yearly review")
    asked = newest(box)
    now = datetime.now(UTC)
    with box.catalog.transaction() as tx:
        memory.note_restored(tx, now - timedelta(days=2), now)
    shown = page(owner, "/retention")
    assert "nothing is destroyed until somebody has looked at what is held" in shown
    assert f'value="{study}"' not in shown
    assert "after a restore nothing" in post(
        owner, "/retention/requests", study=study, reason="yearly review"
    ).replace("After", "after")
    refused = post(officer, f"/retention/requests/{asked.id}/approve", understood="yes", digest=asked.digest)
    assert "fter a restore nothing is destroyed" in refused
    assert "may be destroyed again" in post(owner, "/retention/look-again")
    assert f'value="{study}"' in page(owner, "/retention")
    with box.catalog.transaction() as tx:
        memory.note_restored(tx, None, now)
    assert "No settings came back" in page(owner, "/retention")
    assert "not known since the restore" in page(owner, "/retention/rules")
    assert "which province" in post(owner, "/retention/look-again")
    assert "may be destroyed again" in post(owner, "/retention/look-again", province="QC")
    assert "othing waits to be looked at" in post(owner, "/retention/look-again")
    assert "Approved" in post(
        officer, f"/retention/requests/{asked.id}/approve", understood="yes", digest=asked.digest
    )


@pytest.mark.parametrize("role", [Role.PRACTITIONER, Role.TECHNICIAN, Role.REFERRER, Role.VENDOR_SUPPORT])
def test_who_does_not_look_after_retention_sees_none_of_it(app: Flask, box: Box, role: Role) -> None:
    study = due(box)
    browser = browser_of(app, role)
    for address in ("/retention", "/retention/holds", "/retention/requests", "/retention/rules"):
        assert browser.get(address).status_code == 403
    token = csrf_of(page(browser, "/help"))
    held = browser.post(f"/studies/{study}/holds", data={"csrf": token, "reason": "a claim"})
    assert held.status_code == 403
    if role is Role.PRACTITIONER:
        assert "/holds" not in page(browser, f"/studies/{study}")


def test_the_pages_speak_french(box: Box, owner: FlaskClient) -> None:
    due(box)
    for address in ("/retention", "/retention/holds", "/retention/requests", "/retention/rules"):
        answer = owner.get(address, headers={"Accept-Language": "fr-CA"})
        shown = re.sub(r"<[^>]+>", " ", answer.get_data(as_text=True))
        assert "Conservation" in shown
        assert "retention." not in shown
