"""A hold keeps what it falls on, whoever the images call the patient, until somebody lets go with a reason."""

from __future__ import annotations

from typing import Any

import pytest

from appliance import audit
from appliance.catalog import Catalog, instances, studies
from appliance.catalog import holds as hold_rows
from appliance.catalog.holds import Hold, HoldKind
from appliance.errors import Refused, Unknown
from appliance.lifecycle import holds
from appliance.lifecycle.acting import Act
from appliance.model import Uid
from tests.catalog.arrivals import NOW, received

ACT = Act(by="marie", now=NOW, audit_key=b"k" * 32, address="10.0.0.9")


def arrive(catalog: Catalog, study: str = "1.2.3", **header: Any) -> int:
    """Record an image; the row id of its study."""
    with catalog.transaction() as tx:
        uid = Uid(study)
        one = received(study_instance_uid=uid, series_instance_uid=Uid(f"{study}.1"), **header)
        return instances.record(tx, one, version=0).study_id


def place(catalog: Catalog, study: int, *, whole_patient: bool = False) -> Hold:
    with catalog.transaction() as tx:
        return holds.place(
            tx,
            ACT,
            kind=HoldKind.LEGAL,
            study=study,
            whole_patient=whole_patient,
            reason="claim 2026-114",
        )


def is_held(catalog: Catalog, study: int) -> bool:
    with catalog.reading() as conn:
        listed = study in set(conn.execute(hold_rows.held_studies()).scalars())
        shown = any(each.is_in_force for each in hold_rows.of_study(conn, study))
        try:
            holds.refuse_if_held(conn, [study])
            refused = False
        except Refused:
            refused = True
    assert listed == refused == shown  # the list, the page and the guard say the same
    return refused


def test_a_hold_on_a_study_falls_on_that_study_only(catalog: Catalog) -> None:
    held, other = arrive(catalog), arrive(catalog, "1.2.4")
    place(catalog, held)
    assert is_held(catalog, held)
    assert not is_held(catalog, other)


def test_a_hold_on_a_patient_falls_on_everything_and_on_what_is_yet_to_come(catalog: Catalog) -> None:
    first, second = arrive(catalog), arrive(catalog, "1.2.4")
    stranger = arrive(catalog, "1.2.9", patient_id="P-9", patient_name="TREMBLAY^Luc")
    place(catalog, first, whole_patient=True)
    later = arrive(catalog, "1.2.5")
    assert [is_held(catalog, each) for each in (first, second, later, stranger)] == [True, True, True, False]


def test_the_same_number_under_another_spelling_or_birth_date_is_held_too(catalog: Catalog) -> None:
    place(catalog, arrive(catalog), whole_patient=True)
    assert is_held(catalog, arrive(catalog, "1.2.6", patient_name="COTE LEVESQUE^Helen"))
    assert is_held(catalog, arrive(catalog, "1.2.7", patient_birth_date="19700130"))
    assert is_held(catalog, arrive(catalog, "1.2.8", issuer_of_patient_id="CLINIC"))


def test_issuers_that_differ_and_numbers_that_are_missing_do_not_join_people(catalog: Catalog) -> None:
    place(catalog, arrive(catalog, issuer_of_patient_id="ONE"), whole_patient=True)
    assert not is_held(catalog, arrive(catalog, "1.2.6", issuer_of_patient_id="TWO", patient_name="X"))
    place(catalog, arrive(catalog, "1.2.7", patient_id="", patient_name="NOBODY"), whole_patient=True)
    assert not is_held(catalog, arrive(catalog, "1.2.8", patient_id="", patient_name="SOMEBODY"))


def test_a_study_that_names_a_held_patient_anywhere_is_held(catalog: Catalog) -> None:
    place(catalog, arrive(catalog), whole_patient=True)
    mixed = arrive(catalog, "1.2.9", patient_id="P-9", patient_name="TREMBLAY^Luc")
    assert not is_held(catalog, mixed)
    assert arrive(catalog, "1.2.9") == mixed  # an image of Hélène's under the study of Luc
    assert is_held(catalog, mixed)


def test_a_release_frees_what_no_other_hold_falls_on(catalog: Catalog) -> None:
    study = arrive(catalog)
    first, second = place(catalog, study), place(catalog, study, whole_patient=True)
    for hold, still in ((first, True), (second, False)):
        with catalog.transaction() as tx:
            ended = holds.release(tx, ACT, hold.id, reason="judgment of 3 May")
        assert (ended.released_by, ended.released_utc, ended.is_in_force) == ("marie", NOW, False)
        assert is_held(catalog, study) is still
    with catalog.reading() as conn:
        assert hold_rows.listed(conn) == []
        assert {each.id for each in hold_rows.listed(conn, released=True)} == {first.id, second.id}


def test_a_hold_is_released_once_and_both_take_a_reason(catalog: Catalog) -> None:
    study = arrive(catalog)
    hold = place(catalog, study)
    with catalog.transaction() as tx:
        holds.release(tx, ACT, hold.id, reason="over and done")
        with pytest.raises(Refused, match="already"):
            holds.release(tx, ACT, hold.id, reason="over and done")
        with pytest.raises(Refused, match="reason"):
            holds.release(tx, ACT, hold.id, reason="  x ")
        with pytest.raises(Refused, match="reason"):
            holds.place(tx, ACT, kind=HoldKind.ACCESS, study=study, whole_patient=False, reason="")
        with pytest.raises(Unknown):
            holds.release(tx, ACT, hold.id + 1, reason="which one?")
        with pytest.raises(Unknown):
            holds.place(tx, ACT, kind=HoldKind.ACCESS, study=999, whole_patient=False, reason="asked to see")


def test_the_audit_says_who_held_what_and_not_why(catalog: Catalog) -> None:
    study = arrive(catalog)
    hold = place(catalog, study)
    with catalog.transaction() as tx:
        holds.release(tx, ACT, hold.id, reason="Me Tremblay wrote")
    with catalog.reading() as conn:
        rows = [row for row in audit.export(conn) if row["action"].startswith("hold:")]
        uid = studies.study_by_id(conn, study)
    assert [(row["action"], row["actor"], row["address"]) for row in rows] == [
        ("hold:add", "marie", "10.0.0.9"),
        ("hold:release", "marie", "10.0.0.9"),
    ]
    assert uid is not None
    assert {row["study"] for row in rows} == {uid.study_instance_uid}
    assert not any("Tremblay" in str(row) or "2026-114" in str(row) for row in rows)


def test_the_guard_names_nobody_and_says_what_to_do(catalog: Catalog) -> None:
    studies_held = [arrive(catalog, f"1.2.{number}") for number in range(3, 6)]
    place(catalog, studies_held[1])
    with catalog.reading() as conn:
        with pytest.raises(Refused) as refusal:
            holds.refuse_if_held(conn, studies_held)
        holds.refuse_if_held(conn, [studies_held[0], studies_held[2]])
        holds.refuse_if_held(conn, [])
    assert str(studies_held[1]) in refusal.value.message
    assert "Lévesque" not in str(refusal.value)
    assert refusal.value.hint
