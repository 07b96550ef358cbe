"""A visit that somebody has entered counts for the patient as an image would, until it is withdrawn."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from appliance import audit
from appliance.catalog import Catalog, erasure, retention_dates
from appliance.catalog import visits as rows
from appliance.catalog.visits import Visit
from appliance.errors import Refused, Unknown
from appliance.lifecycle import destruction, memory, retention, visits
from appliance.lifecycle.destruction import Because
from appliance.lifecycle.policy import Entry, Told
from appliance.lifecycle.request import Method
from tests.lifecycle.clinic import LONG_AGO, NOW, act, arrive, bring_up_to_date, watch

LAST = date(2026, 3, 1)
BY_IMAGES, BY_VISIT = date(2020, 5, 4), date(2036, 3, 1)


def enter(catalog: Catalog, study: int, day: date = LAST) -> Visit:
    with catalog.transaction() as tx:
        return visits.enter(tx, act(), study=study, day=day)


def until(catalog: Catalog, study: int) -> date:
    """As the row says, once it is up to date, and as it is worked out anew."""
    bring_up_to_date(catalog)
    with catalog.reading() as conn:
        row = retention_dates.kept(conn, study)
        found = retention.decided(conn, [study], NOW)[study].decision
    assert row is not None and row.keep_until == found.keep_until
    return found.keep_until


def test_a_visit_keeps_every_study_of_the_patient_until_it_is_withdrawn(catalog: Catalog) -> None:
    one, other = arrive(catalog, patient_id="P"), arrive(catalog, "1.2.4", patient_id="P", patient_name="X")
    stranger = arrive(catalog, "1.2.5", patient_id="Q")
    assert until(catalog, one) == BY_IMAGES
    entered = enter(catalog, one)
    assert (until(catalog, one), until(catalog, other), until(catalog, stranger)) == (
        BY_VISIT,
        BY_VISIT,
        BY_IMAGES,
    )
    with catalog.reading() as conn:
        assert retention.decided(conn, [other], NOW)[other].decision.entry == Entry(LAST, Told.SEEN)
        assert [each.id for each in rows.of_study(conn, other)] == [entered.id]
        assert rows.of_study(conn, stranger) == []
    with catalog.transaction() as tx:
        visits.withdraw(tx, act(by="paul"), entered.id, reason="another  patient")
    assert {until(catalog, each) for each in (one, other)} == {BY_IMAGES}
    with catalog.reading() as conn:
        (kept,) = rows.of_study(conn, one)
        told = [(row["action"], row["actor"], row["subject"]) for row in audit.export(conn)]
    assert (kept.withdrawn_by, kept.withdraw_reason, kept.counts) == ("paul", "another patient", False)
    assert told == [
        ("visit:add", "marie", f"visit:{entered.id}"),
        ("visit:withdraw", "paul", f"visit:{entered.id}"),
    ]


def test_what_was_entered_and_withdrawn_is_in_a_backup_soon(catalog: Catalog) -> None:
    """As what is held is: a box that burns forgets what is in no backup."""

    def decisions() -> int:
        with catalog.reading() as conn:
            return memory.decisions(conn)

    before = decisions()
    entered = enter(catalog, arrive(catalog))
    assert decisions() == before + 1
    with catalog.transaction() as tx:
        visits.withdraw(tx, act(), entered.id, reason="another patient")
    assert decisions() == before + 2


def test_the_audit_names_a_study_of_the_very_patient_whose_visit_is_withdrawn(catalog: Catalog) -> None:
    """Another with the same number, whose study came later, has a report of accesses of their own."""
    one = arrive(catalog, patient_id="P")
    arrive(catalog, "1.2.4", patient_id="P", patient_name="X")
    entered = enter(catalog, one)
    with catalog.transaction() as tx:
        visits.withdraw(tx, act(), entered.id, reason="another patient")
    with catalog.reading() as conn:
        named = [row["study"] for row in audit.export(conn) if row["action"].startswith("visit:")]
    assert len(named) == 2
    assert named[0] == named[1] != ""


@pytest.mark.parametrize(
    ("entered", "asked", "counts"), [("N", "N", True), ("N", "S", False), ("", "S", True)]
)
def test_a_number_that_another_gave_is_another_patient(
    catalog: Catalog, entered: str, asked: str, counts: bool
) -> None:
    one = arrive(catalog, patient_id="7", issuer_of_patient_id=entered)
    other = arrive(catalog, "1.2.4", patient_id="7", issuer_of_patient_id=asked, patient_name="X")
    enter(catalog, one)
    assert until(catalog, other) == (BY_VISIT if counts else BY_IMAGES)


def test_without_a_number_it_is_of_that_patient_alone(catalog: Catalog) -> None:
    one = arrive(catalog, patient_id="", patient_name="A")
    other = arrive(catalog, "1.2.4", patient_id="", patient_name="B")
    enter(catalog, one)
    assert (until(catalog, one), until(catalog, other)) == (BY_VISIT, BY_IMAGES)


def test_an_earlier_visit_shortens_nothing(catalog: Catalog) -> None:
    study = arrive(catalog)
    enter(catalog, study, date(1999, 1, 1))
    assert until(catalog, study) == BY_IMAGES


def test_what_cannot_be_is_refused(catalog: Catalog) -> None:
    study = arrive(catalog)
    enter(catalog, study)
    for day in (LAST, NOW.date() + timedelta(days=1), date(1899, 12, 31)):
        with pytest.raises(Refused):
            enter(catalog, study, day)
    enter(catalog, study, NOW.date())
    with pytest.raises(Unknown):
        enter(catalog, 99)
    for reason in ("", " x "):
        with pytest.raises(Refused), catalog.transaction() as tx:
            visits.withdraw(tx, act(), 1, reason=reason)
    with pytest.raises(Unknown), catalog.transaction() as tx:
        visits.withdraw(tx, act(), 99, reason="no such one")


def test_a_clock_that_is_behind_lets_today_be_entered(catalog: Catalog) -> None:
    study = arrive(catalog)
    watch(catalog)
    with catalog.transaction() as tx:
        visits.enter(tx, act(now=datetime(2015, 1, 1, tzinfo=UTC)), study=study, day=NOW.date())


def test_the_command_line_is_asked_who_gave_the_number(catalog: Catalog) -> None:
    arrive(catalog, patient_id="7", issuer_of_patient_id="NORTH")
    south = arrive(catalog, "1.2.4", patient_id="7", issuer_of_patient_id="SOUTH", patient_name="X")
    with catalog.reading() as conn:
        with pytest.raises(Refused, match="several"):
            visits.a_study_of(conn, "7", None)
        assert visits.a_study_of(conn, "7", "SOUTH") == south
        for nobody in (("8", None), ("", None), ("7", "WEST")):
            with pytest.raises(Unknown):
                visits.a_study_of(conn, *nobody)


def test_a_study_that_was_asked_for_is_left_out_once_a_visit_is_entered(catalog: Catalog) -> None:
    study = arrive(catalog)
    watch(catalog)
    with catalog.transaction() as tx:
        asked = destruction.ask(tx, act(), [study], method=Method.DESTROY, reason="yearly review")
    (item,) = asked.decisions
    last: Any = item.decision["last_entry"]
    assert last == {"day": LONG_AGO.date().isoformat(), "told": "made", "study": None}
    enter(catalog, study)
    with catalog.reading() as conn:
        (changed,) = destruction.changed_since(conn, asked, NOW)
    assert changed.because is Because.NOT_DUE


def test_visits_go_with_the_last_that_is_kept_of_a_patient(catalog: Catalog) -> None:
    one = arrive(catalog, patient_id="P")
    other = arrive(catalog, "1.2.4", patient_id="P", patient_name="X")
    alone = arrive(catalog, "1.2.5", patient_id="", patient_name="Y")
    for each in (one, alone):
        enter(catalog, each)
    with catalog.transaction() as tx:
        erasure.erase(tx, one, NOW)
        erasure.erase(tx, alone, NOW)
    assert until(catalog, other) == BY_VISIT, "the same number, under another spelling"
    with catalog.transaction() as tx:
        erasure.erase(tx, other, NOW)
        assert tx.exec_driver_sql("SELECT count(*) FROM visits").scalar() == 0
