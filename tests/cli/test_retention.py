"""Retention and holds at the command line: lists, the clinic's own periods, and what the law forbids."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance.box import open_box
from appliance.catalog import studies
from appliance.cli.command import main
from appliance.config import Config
from appliance.dicom.part10 import file_head
from appliance.lifecycle import memory, retention
from appliance.lifecycle.policy import Entry, Told
from tests.instances import EXPLICIT_LITTLE_ENDIAN, Instance
from tests.lifecycle.clinic import LONG_AGO, arrive, bring_up_to_date, watch

Say = Callable[..., str]


@pytest.fixture
def say(data_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    """What a command prints; it must succeed unless `fails`."""
    monkeypatch.setenv("APPLIANCE_DATA", str(data_dir))

    def said(*words: str, fails: bool = False) -> str:
        code = main(list(words))
        out = capsys.readouterr()
        assert (code != 0) == fails, out
        return out.err if fails else out.out

    return said


@pytest.fixture
def study(data_dir: Path) -> int:
    box = open_box(Config(data=data_dir))
    number = arrive(box.catalog, patient_name="=cmd|Côté^Hélène")
    arrive(box.catalog, "1.2.9", at=datetime.now(UTC), patient_id="P-9", patient_name="N9")
    watch(box.catalog, datetime.now(UTC))
    bring_up_to_date(box.catalog)
    box.close()
    return number


def test_what_is_due_is_listed_as_table_json_and_csv(say: Say, study: int) -> None:
    (row,) = json.loads(say("retention", "simulate", "--json"))
    assert (row["study"], row["keep_until"], row["due_since"]) == (study, "2020-05-04", "2020-05-05")
    assert (row["rule"], row["years"], row["state"]) == ("qc-medical", 10, "")
    assert row["source"].startswith("M-9")
    assert "2020-05-05" in say("retention", "simulate")
    rows = list(csv.DictReader(io.StringIO(say("retention", "simulate", "--csv"))))
    assert rows[0]["patient_name"].startswith("'=cmd")  # no spreadsheet takes it for a formula
    assert say("retention", "simulate", "--at", "2020-05-04") == "Nothing is due on that day.\n"
    assert len(json.loads(say("retention", "simulate", "--at", "2050-01-01", "--json"))) == 2


def test_a_visit_is_entered_for_a_patient_and_withdrawn(say: Say, study: int, data_dir: Path) -> None:
    """The images are of 2010; who came last year is not due, and is again once that was a mistake."""
    box = open_box(Config(data=data_dir))
    with box.catalog.reading() as conn:
        row = studies.study_by_id(conn, study)
    box.close()
    assert row is not None
    last_year = str(datetime.now(UTC).year - 1)
    whose = ["--patient", row.patient_id]
    said = say("retention", "visit", *whose, "--date", f"{last_year}-03-01")
    number = said.split()[1].strip(":")
    bring(data_dir)
    assert json.loads(say("retention", "simulate", "--json")) == []
    assert "entered already" in say("retention", "visit", *whose, "--date", f"{last_year}-03-01", fails=True)
    assert "can't be entered" in say("retention", "visit", *whose, "--date", "2199-01-01", fails=True)
    assert "not a day" in say("retention", "visit", *whose, "--date", "yesterday", fails=True)
    assert "nothing of that patient" in say(
        "retention", "visit", "--patient", "?", "--date", f"{last_year}-03-01", fails=True
    )
    (listed,) = json.loads(say("retention", "visits", *whose, "--json"))
    assert (listed["day"], listed["withdrawn_utc"]) == (f"{last_year}-03-01", None)
    assert f"{last_year}-03-01" in say("retention", "visits", *whose)
    say("retention", "withdraw-visit", number, "--reason", "another patient")
    assert "already" in say("retention", "withdraw-visit", number, "--reason", "again", fails=True)
    bring(data_dir)
    assert len(json.loads(say("retention", "simulate", "--json"))) == 1


def bring(data_dir: Path) -> None:
    """Let the jobs work out until when everything is kept."""
    box = open_box(Config(data=data_dir))
    bring_up_to_date(box.catalog)
    box.close()


def test_a_held_study_is_listed_as_held_until_it_is_released(say: Say, study: int) -> None:
    assert "Hold 1" in say(
        "hold", "add", "1.2.3", "--patient", "--kind", "access", "--reason", "asked to see it"
    )
    (hold,) = json.loads(say("hold", "list", "--json"))
    assert (hold["kind"], hold["study"], hold["reason"]) == ("access", None, "asked to see it")
    (row,) = json.loads(say("retention", "simulate", "--json"))
    assert (row["study"], row["state"]) == (study, "held")
    say("hold", "release", "1", "--reason", "it was seen")
    assert "Nothing is held" in say("hold", "list")
    assert "it was seen" not in say("hold", "list", "--all")
    assert json.loads(say("hold", "list", "--all", "--json"))[0]["release_reason"] == "it was seen"
    assert json.loads(say("retention", "simulate", "--json"))[0]["state"] == ""


def test_the_clinic_keeps_longer_and_never_shorter(say: Say, study: int, data_dir: Path) -> None:
    refusal = say(
        "retention", "set", "medical", "last-entry", "9", "--reason", "room on the disk", fails=True
    )
    assert "M-9, r. 20.3.1, s. 14" in refusal
    say("retention", "set", "medical", "last-entry", "25", "--reason", "our policy of 2026")
    rules = json.loads(say("retention", "rules", "--json"))
    assert {"rule": "clinic-medical-last-entry", "years": 25}.items() <= rules[-1].items()
    assert rules[-1]["source"].startswith("the clinic's own period, set by ")
    assert rules[-1]["source"].endswith(" UTC: our policy of 2026")
    assert "to be confirmed" in say("retention", "rules")
    box = open_box(Config(data=data_dir))
    with box.catalog.reading() as conn:
        until = retention.decided(conn, [study], datetime.now(UTC))[study].decision.keep_until
    box.close()
    assert until.year == LONG_AGO.year + 25
    say("retention", "unset", "medical", "last-entry", "--reason", "back to the law")
    assert [each["years"] for each in json.loads(say("retention", "history", "--json"))] == [None, 25]
    assert "our policy of 2026" in say("retention", "history")


def test_a_period_that_was_given_for_another_province_is_named_beside_the_rules(
    say: Say, study: int, capsys: pytest.CaptureFixture[str]
) -> None:
    say("retention", "set", "dental", "last-entry", "5", "--reason", "what the law asks for")
    say("retention", "set", "medical", "last-entry", "12", "--reason", "our policy of 2026")
    say("setting", "set", "clinic.province", "AB")

    def told() -> tuple[list[str], str]:
        assert main(["retention", "rules", "--json"]) == 0
        out = capsys.readouterr()
        return [each["rule"] for each in json.loads(out.out)], out.err

    rules, notes = told()
    assert "clinic-dental-last-entry" not in rules
    assert "clinic-medical-last-entry" in rules
    assert "5 years for dental records from last-entry do not count in AB: at least 10 years." in notes
    assert "12 years for medical records from last-entry were given for QC: they only lengthen" in notes
    say("retention", "set", "medical", "last-entry", "12", "--reason", "looked up in Alberta")
    assert "12 years" not in told()[1]


def test_a_film_of_1995_that_is_imported_counts_from_the_day_it_came(
    say: Say, data_dir: Path, tmp_path: Path
) -> None:
    film, file = Instance(1), tmp_path / "film.dcm"
    head = file_head(
        sop_class_uid=film.sop_class_uid,
        sop_instance_uid=film.sop_instance_uid,
        transfer_syntax_uid=EXPLICIT_LITTLE_ENDIAN,
        source_ae_title="ELSEWHERE",
    )
    file.write_bytes(head + film.data_set.replace(b"20261122", b"19950601"))
    say("setting", "set", "clinic.province", "BC")
    say("setting", "set", "retention.practice", "dental")
    say("import", str(file))
    box = open_box(Config(data=data_dir))
    with box.catalog.reading() as conn:
        row = studies.study(conn, film.study_instance_uid)
        assert row is not None
        decision = retention.decided(conn, [row.id], datetime.now(UTC))[row.id].decision
    box.close()
    assert row.study_date == "19950601"
    assert decision.entry == Entry(row.first_received_utc.date(), Told.RECEIVED)
    assert [each.rule.id for each in decision.reasons] == ["bc-dental-minor", "bc-dental"]


def test_a_clock_is_believed_again_once_somebody_has_looked(say: Say, data_dir: Path, study: int) -> None:
    del study
    box = open_box(Config(data=data_dir))
    with box.catalog.transaction() as tx:
        retention.watch_clock(tx, datetime.now(UTC).replace(year=2040), follows_time_server=False)
    box.close()
    assert say("retention", "trust-clock") == "The clock is believed.\n"
    assert say("retention", "requests") == "Nobody has asked for anything to be destroyed.\n"


def test_after_a_restore_somebody_says_that_they_have_looked(
    say: Say, data_dir: Path, study: int, capsys: pytest.CaptureFixture[str]
) -> None:
    del study
    box = open_box(Config(data=data_dir))
    with box.catalog.transaction() as tx:
        memory.note_restored(tx, LONG_AGO, datetime.now(UTC))
    box.close()
    assert main(["retention", "simulate"]) == 0
    assert "retention look-again" in capsys.readouterr().err
    assert "may be destroyed again" in say("retention", "look-again")
    assert "nothing waits" in say("retention", "look-again", fails=True)
    box = open_box(Config(data=data_dir))
    with box.catalog.transaction() as tx:
        memory.note_restored(tx, None, datetime.now(UTC))
    box.close()
    assert "not known in which province" in say("retention", "rules")
    assert "not known in which province" in say("retention", "look-again", fails=True)
    say("retention", "look-again", "--province", "BC")
    assert "bc-medical" in say("retention", "rules")
