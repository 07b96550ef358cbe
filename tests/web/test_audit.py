"""The audit as the privacy officer meets it: found by patient without naming one, reported, exported, itself audited."""

import csv
import io
import json
from datetime import UTC, datetime, timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient

from appliance import audit, duties
from appliance.audit.exports import verify_lines
from appliance.box import Box
from appliance.catalog import studies
from tests.web.conftest import browser_of, csrf_of
from tests.web.test_pages import actions, post, text_of


def _rows(box: Box) -> list[dict[str, object]]:
    with box.catalog.reading() as conn:
        return list(audit.export(conn))


def test_the_audit_is_there_in_both_languages_and_looking_is_audited(
    box: Box, signed_in: FlaskClient
) -> None:
    text_of(signed_in, "/studies/1")
    english, french = text_of(signed_in, "/audit"), text_of(signed_in, "/audit", "fr")
    assert "Opened a study" in english and 'href="/studies/1"' in english
    assert "Examen ouvert" in french
    assert actions(box, 2) == ["audit:view", "audit:view"]


@pytest.mark.parametrize("language", ["en", "fr"])
def test_every_word_of_the_vocabulary_has_its_sentence(app: Flask, language: str) -> None:
    words = app.extensions["console"].languages.words(language).sentences
    assert [word for word in audit.VOCABULARY if f"audit.said.{word}" not in words] == []
    known = {f"audit.said.{word}" for word in audit.VOCABULARY}
    assert [key for key in words if key.startswith("audit.said.") and key not in known] == []


def test_every_word_of_the_vocabulary_is_a_sentence_in_a_row(signed_in: FlaskClient, box: Box) -> None:
    entries = [audit.Entry(word, "x", "nobody-else") for word in audit.VOCABULARY]
    box.record(entries, datetime.now(UTC))
    found = post(signed_in, "/audit", actor="nobody-else").get_data(as_text=True)
    older = found
    while 'name="before" value="' in older:
        before = older.split('name="before" value="')[1].split('"')[0]
        older = post(signed_in, "/audit", actor="nobody-else", before=before).get_data(as_text=True)
        found += older
    for word in audit.VOCABULARY:
        assert f">{word}<" not in found
    assert found.count("<tr id=") == len(audit.VOCABULARY)


def test_a_patient_is_found_by_name_and_the_name_goes_nowhere(box: Box, signed_in: FlaskClient) -> None:
    with box.catalog.reading() as conn:
        helene = [row.id for row in studies.find(conn, "helene")]
        others = [row.id for row in studies.find(conn) if row.id not in helene]
    for number in (helene[0], others[0]):
        text_of(signed_in, f"/studies/{number}")
    found = post(signed_in, "/audit", patient="helene cote").get_data(as_text=True)
    assert f'href="/studies/{helene[0]}"' in found
    assert f'href="/studies/{others[0]}"' not in found
    assert "No row matches" in post(signed_in, "/audit", patient="nobody of that name").get_data(as_text=True)
    row = _rows(box)[-1]
    assert row["action"] == "audit:view"
    assert json.loads(str(row["details"])) == {"by": ["patient"], "rows": 0}


@pytest.mark.parametrize("since", ["yesterday", "2026-13-01", "0001-01-01"])
def test_a_date_that_is_none_is_said_and_nothing_is_shown(signed_in: FlaskClient, since: str) -> None:
    answer = post(signed_in, "/audit", since=since)
    assert answer.status_code == 200
    if since != "0001-01-01":
        assert "That is not a date" in answer.get_data(as_text=True)


def test_the_page_says_whether_the_log_holds(box: Box, signed_in: FlaskClient) -> None:
    assert "has not been verified yet" in text_of(signed_in, "/audit")
    duties.check_audit(box, datetime.now(UTC))
    assert "The log is whole: verified up to row" in text_of(signed_in, "/audit")


def test_an_export_is_exact_and_is_in_the_audit_itself(box: Box, signed_in: FlaskClient) -> None:
    token = csrf_of(signed_in.get("/help").get_data(as_text=True))
    answer = signed_in.post("/audit/export/jsonl", data={"csrf": token})
    lines = answer.get_data(as_text=True).splitlines()
    assert answer.headers["Content-Disposition"] == 'attachment; filename="audit.jsonl"'
    assert [json.loads(line)["id"] for line in lines] == [row["id"] for row in _rows(box)]
    assert list(verify_lines(box.audit_key, lines)) == []
    assert json.loads(lines[-1])["action"] == "audit:export"
    table = list(
        csv.DictReader(
            io.StringIO(post(signed_in, "/audit/export/csv", kind="access").get_data(as_text=True))
        )
    )
    assert table and {audit.VOCABULARY[row["action"]].kind for row in table} == {audit.Kind.ACCESS}


def test_a_report_of_a_patient_names_whom_it_is_about_and_every_access(
    box: Box, signed_in: FlaskClient
) -> None:
    with box.catalog.reading() as conn:
        (row, *_) = studies.find(conn, "gagne")
    text_of(signed_in, f"/studies/{row.id}")
    found = post(signed_in, "/audit/reports", about="patient", patient="gagne").get_data(as_text=True)
    assert "Gagné, François-Xavier" in found
    assert "Opened a study" in found
    made = _rows(box)[-1]
    assert (made["action"], made["subject"], made["study"]) == (
        "audit:report",
        f"study:{row.id}",
        row.study_instance_uid,
    )


def test_a_report_of_a_patient_says_in_which_lists_the_name_was_seen(
    box: Box, app: Flask, signed_in: FlaskClient
) -> None:
    with box.catalog.reading() as conn:
        (row, *_) = studies.find(conn, "gagne")
        other = next(each for each in studies.find(conn) if each.patient_id != row.patient_id)
    browser_of(app, "assistant", "looked-at-all").get("/studies")
    browser_of(app, "assistant", "looked-for-another").post(
        "/studies/search", data={"csrf": csrf_of(text_of(signed_in, "/help")), "text": other.patient_id}
    )
    found = post(signed_in, "/audit/reports", about="patient", patient="gagne").get_data(as_text=True)
    assert "Saw a list of studies" in found
    assert "looked-at-all" in found
    assert "looked-for-another" not in found
    assert "looked-at-all" in post(signed_in, "/audit", patient="gagne").get_data(as_text=True)


@pytest.mark.parametrize(
    "about", [{"about": "person", "actor": "mtremblay"}, {"about": "patient", "patient": "gagne"}]
)
def test_a_report_is_of_the_days_that_were_asked_for(signed_in: FlaskClient, about: dict[str, str]) -> None:
    text_of(signed_in, "/studies")
    today = datetime.now(UTC).astimezone().date()
    of_today = post(signed_in, "/audit/reports", **about, since=str(today), until=str(today)).get_data(
        as_text=True
    )
    assert "Saw a list of studies" in of_today
    assert f'name="since" value="{today}"' in of_today, "the PDF is of the same days"
    before = post(signed_in, "/audit/reports", **about, until=str(today - timedelta(days=1))).get_data(
        as_text=True
    )
    assert "Saw a list of studies" not in before
    for wrong in ({"since": "yesterday"}, {"since": str(today), "until": str(today - timedelta(days=1))}):
        refused = post(signed_in, "/audit/reports", **about, **wrong).get_data(as_text=True)
        assert refused.count('aria-invalid="true"') == 1


def test_several_patients_are_a_choice_and_not_a_mixture(signed_in: FlaskClient) -> None:
    found = post(signed_in, "/audit/reports", about="patient", patient="e").get_data(as_text=True)
    assert "Several patients match" in found
    assert "Opened a study" not in found
    assert "No patient matches" in post(signed_in, "/audit/reports", about="patient", patient="zzz").get_data(
        as_text=True
    )


@pytest.mark.parametrize("language", ["en", "fr"])
@pytest.mark.parametrize(
    "data", [{"about": "year", "year": "2026"}, {"about": "person", "actor": "mtremblay"}]
)
def test_a_report_is_a_page_a_pdf_a_table_and_a_document(
    signed_in: FlaskClient, language: str, data: dict[str, str]
) -> None:
    token = csrf_of(signed_in.get("/help").get_data(as_text=True))

    def ask(way: str):
        headers = {"Accept-Language": language}
        return signed_in.post("/audit/reports", data={"csrf": token, "as": way, **data}, headers=headers)

    assert ask("page").status_code == 200
    assert ask("pdf").get_data().startswith(b"%PDF-")
    assert ask("csv").get_data(as_text=True).startswith("id,at_utc,actor,actor_kind,address,action")
    document = ask("json").get_json()
    assert document["rows"] == sum(document["by_kind"].values()) > 0
    assert ask("poem").status_code == 404
