"""What is worked out from the catalog: facts of a patient under any spelling, rows that follow, a clock that is watched."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

import pytest

from appliance import audit, settings
from appliance.catalog import Catalog, erasure, retention_dates, retention_rules, studies
from appliance.catalog import settings as kept_values
from appliance.catalog.holds import HoldKind
from appliance.catalog.retention_dates import Kept
from appliance.errors import Refused
from appliance.lifecycle import destruction, due_list, holds, retention
from appliance.lifecycle.policy import FOR_EVER, Doubt, RecordType, Starts, Status
from appliance.lifecycle.request import Method
from tests.lifecycle.clinic import AUDIT_KEY, LONG_AGO, NOW, act, arrive, bring_up_to_date, watch

MEDICAL, ENTRY = RecordType.MEDICAL, Starts.LAST_ENTRY


def until(catalog: Catalog, study: int) -> date:
    """The last day, as worked out at this moment; the row says the same once it is up to date."""
    with catalog.reading() as conn:
        now = retention.decided(conn, [study], NOW)[study].decision.keep_until
    bring_up_to_date(catalog)
    with catalog.reading() as conn:
        row = retention_dates.kept(conn, study)
    assert row is not None
    assert row.keep_until == now
    return now


def due_on(catalog: Catalog, day: date, *, free_only: bool = False) -> list[int]:
    bring_up_to_date(catalog)
    with catalog.reading() as conn:
        return [each.study_id for each in retention_dates.due(conn, day, limit=100, free_only=free_only)]


def change(catalog: Catalog, key: str, value: object) -> None:
    with catalog.transaction() as tx:
        settings.change(tx, AUDIT_KEY, {key: value}, actor="marie", now=NOW)


def test_a_study_is_kept_from_its_last_entry_on(catalog: Catalog) -> None:
    study = arrive(catalog)
    assert until(catalog, study) == date(2020, 5, 4)
    arrive(catalog, at=datetime(2012, 1, 1, 23, 30, tzinfo=NOW.tzinfo), study_date="20100504")
    assert until(catalog, study) == date(2022, 1, 1)


@pytest.mark.parametrize(
    "again",
    [
        {},
        {"patient_name": "COTE^Helen"},
        {"patient_birth_date": "19690131"},
        {"issuer_of_patient_id": "CLINIC"},
    ],
    ids=["the same", "another spelling", "another birth date", "with an issuer"],
)
def test_a_visit_keeps_everything_of_the_patient_longer(catalog: Catalog, again: dict[str, str]) -> None:
    old, stranger = arrive(catalog), arrive(catalog, "1.2.9", patient_id="P-9", patient_name="TREMBLAY^Luc")
    bring_up_to_date(catalog)
    arrive(catalog, "1.2.4", at=NOW, **again)
    assert until(catalog, old) == date(2036, 11, 25)
    assert until(catalog, stranger) == date(2020, 5, 4)


def test_a_number_that_many_bear_joins_those_whom_its_issuers_may_join(catalog: Catalog) -> None:
    one = arrive(catalog, patient_id="0", issuer_of_patient_id="NORTH")
    other = arrive(
        catalog, "1.2.4", patient_id="0", issuer_of_patient_id="SOUTH", patient_name="TREMBLAY^Luc"
    )
    bring_up_to_date(catalog)
    arrive(catalog, "1.2.5", at=NOW, patient_id="0", issuer_of_patient_id="SOUTH", patient_name="ROY^Ana")
    assert (until(catalog, one), until(catalog, other)) == (date(2020, 5, 4), date(2036, 11, 25))
    arrive(catalog, "1.2.6", at=NOW, patient_id="0", patient_name="GAGNON^Zoé", study_date="20281101")
    assert until(catalog, one) == until(catalog, other) == date(2038, 11, 1)
    with catalog.reading() as conn:
        told = retention.decided(conn, [one, other], NOW)
    assert {each.decision.entry.study for each in told.values()} == {4}, "whose day it is"


def test_those_without_a_number_are_joined_with_nobody(catalog: Catalog) -> None:
    nameless = arrive(catalog, patient_id="")
    bring_up_to_date(catalog)
    arrive(catalog, "1.2.4", at=NOW, patient_id="", patient_name="TREMBLAY^Luc")
    assert until(catalog, nameless) == date(2020, 5, 4)


def test_the_clock_is_judged_without_reading_every_study(catalog: Catalog) -> None:
    arrive(catalog)
    with catalog.reading() as conn:
        plan = conn.exec_driver_sql("EXPLAIN QUERY PLAN SELECT max(last_received_utc) FROM studies").all()
    assert ["USING COVERING INDEX ix_studies_last_received" in row[3] for row in plan] == [True]


def test_an_image_under_the_study_of_another_is_a_visit_of_both(catalog: Catalog) -> None:
    hers = arrive(catalog)
    his = arrive(catalog, "1.2.9", patient_id="P-9", patient_name="TREMBLAY^Luc")
    bring_up_to_date(catalog)
    arrive(catalog, "1.2.9", at=NOW)  # hers, under his study
    assert until(catalog, hers) == date(2036, 11, 25)
    assert until(catalog, his) == date(2036, 11, 25)
    child = arrive(
        catalog, "1.2.9", patient_id="P-7", patient_name="GAGNON^Zoé", patient_birth_date="20250101"
    )
    assert child == his
    assert until(catalog, his) > date(2050, 1, 1)  # the youngest whom it names decides


CHILD: dict[str, Any] = {"patient_birth_date": "20080303"}
TYPED_WRONG: dict[str, Any] = {"patient_birth_date": "19800303"}
OF_THE_CHILD = date(2036, 3, 3)
"""Eighteen in 2026, and ten years more."""


@pytest.mark.parametrize(
    "again",
    [{}, {"patient_name": "COTE^Helen"}, {"issuer_of_patient_id": "CLINIC"}],
    ids=["the same", "another spelling", "with an issuer"],
)
@pytest.mark.parametrize("child_first", [False, True])
def test_a_birth_date_that_was_typed_wrong_makes_nothing_of_a_child_due(
    catalog: Catalog, again: dict[str, Any], child_first: bool
) -> None:
    """The same number with another birth date is another row: the latest that is given counts for all of them."""
    born = [CHILD, TYPED_WRONG] if child_first else [TYPED_WRONG, CHILD]
    first = arrive(catalog, **born[0])
    bring_up_to_date(catalog)
    second = arrive(catalog, "1.2.4", **born[1], **again)
    stranger = arrive(catalog, "1.2.9", patient_id="P-9", **TYPED_WRONG)
    assert until(catalog, first) == until(catalog, second) == OF_THE_CHILD
    assert until(catalog, stranger) == date(2020, 5, 4)


def test_of_two_who_have_one_number_from_two_issuers_each_has_a_birth_date(catalog: Catalog) -> None:
    north = {"issuer_of_patient_id": "NORTH"} | TYPED_WRONG
    one = arrive(catalog, **north)
    other = arrive(catalog, "1.2.4", issuer_of_patient_id="SOUTH", **CHILD)
    assert (until(catalog, one), until(catalog, other)) == (date(2020, 5, 4), OF_THE_CHILD)


def test_a_birth_date_of_an_image_under_anothers_study_counts_with_her_number(catalog: Catalog) -> None:
    hers = arrive(catalog, **TYPED_WRONG)
    arrive(catalog, "1.2.9", patient_id="P-9", patient_name="TREMBLAY^Luc")
    bring_up_to_date(catalog)
    arrive(catalog, "1.2.9", **CHILD)  # of her number, under his study
    assert until(catalog, hers) == OF_THE_CHILD


@pytest.mark.parametrize("given", ["", "unknown", "18000101"])
def test_a_study_that_gives_no_birth_date_says_nothing_against_the_others(
    catalog: Catalog, given: str
) -> None:
    """That study is kept as a newborn's itself."""
    adult = arrive(catalog)
    silent = arrive(catalog, "1.2.4", patient_birth_date=given)
    assert until(catalog, adult) == date(2020, 5, 4)
    assert until(catalog, silent) == date(2038, 5, 4)


def test_a_birth_date_that_nobody_can_have_yet_is_a_doubt_about_all_of_that_number(
    catalog: Catalog,
) -> None:
    adult = arrive(catalog)
    arrive(catalog, "1.2.4", patient_birth_date="20991231")
    assert until(catalog, adult) == date(2038, 5, 4), "a doubt lengthens"


def test_nothing_joins_people_without_a_number(catalog: Catalog) -> None:
    old = arrive(catalog, patient_id="", patient_name="NOBODY")
    arrive(catalog, "1.2.4", at=NOW, patient_id="", patient_name="SOMEBODY")
    assert until(catalog, old) == date(2020, 5, 4)
    arrive(catalog, "1.2.5", at=NOW, patient_id="", patient_name="NOBODY")
    assert until(catalog, old) == date(2036, 11, 25)


def test_province_practice_and_the_clinics_own_figures_move_every_row(catalog: Catalog) -> None:
    study = arrive(catalog, modality="PX")
    assert until(catalog, study) == date(2020, 5, 4)
    change(catalog, "retention.practice", "dental")
    assert until(catalog, study) == date(2015, 5, 4)
    change(catalog, "clinic.province", "BC")
    assert until(catalog, study) == date(2029, 6, 1)
    change(catalog, "clinic.province", "MB")
    assert until(catalog, study) == FOR_EVER
    with catalog.transaction() as tx:
        retention.choose(tx, act(), RecordType.DENTAL, ENTRY, 12, reason="our policy of 2026")
    assert until(catalog, study) == date(2022, 5, 4)


DENTAL = RecordType.DENTAL


def practise(catalog: Catalog, province: str) -> None:
    change(catalog, "retention.practice", "dental")
    change(catalog, "clinic.province", province)


@pytest.mark.parametrize("province", ["AB", "MB"])
def test_what_was_chosen_before_the_province_was_another_makes_nothing_due_there(
    catalog: Catalog, province: str
) -> None:
    """Nor what two people have approved."""
    study = arrive(catalog)
    watch(catalog)
    practise(catalog, "QC")
    with catalog.transaction() as tx:
        retention.choose(tx, act(), DENTAL, ENTRY, 5, reason="what the law asks for")
        asked = destruction.ask(tx, act(), [study], method=Method.DESTROY, reason="yearly review")
        destruction.approve(tx, act("paul"), asked.id, digest=asked.digest)
    assert until(catalog, study) == date(2015, 5, 4)
    change(catalog, "clinic.province", province)
    assert until(catalog, study) == FOR_EVER
    assert due_on(catalog, date(2100, 1, 1)) == []
    with catalog.transaction() as tx:
        assert retention.decided(tx, [study], NOW)[study].decision.status is Status.NO_RULE
        with pytest.raises(Refused, match="not-due"):
            destruction.refuse_if_changed(tx, asked.id, study, NOW)
    change(catalog, "clinic.province", "QC")  # as undoing it does
    assert until(catalog, study) == date(2015, 5, 4)


def test_a_figure_is_given_again_where_somebody_has_looked_it_up(catalog: Catalog) -> None:
    study = arrive(catalog)
    practise(catalog, "QC")
    with catalog.transaction() as tx:
        retention.choose(tx, act(), DENTAL, ENTRY, 12, reason="our policy of 2026")
    change(catalog, "clinic.province", "MB")
    assert until(catalog, study) == FOR_EVER
    with catalog.transaction() as tx:
        retention.choose(tx, act(), DENTAL, ENTRY, 12, reason="our order asks for ten")
        with pytest.raises(Refused, match="already"):
            retention.choose(tx, act(), DENTAL, ENTRY, 12, reason="our order asks for ten")
    assert until(catalog, study) == date(2022, 5, 4)


def test_of_a_figure_from_an_index_of_earlier_software_nobody_knows_for_which_province(
    catalog: Catalog,
) -> None:
    study = arrive(catalog)
    practise(catalog, "MB")
    with catalog.transaction() as tx:
        retention.choose(tx, act(), DENTAL, ENTRY, 12, reason="our policy of 2026")
        kept_values.put(tx, retention_rules.GIVEN_FOR, {}, NOW)
    assert until(catalog, study) == FOR_EVER
    change(catalog, "clinic.province", "QC")
    assert until(catalog, study) == date(2022, 5, 4), "it lengthens"


def test_what_earlier_software_has_worked_out_is_worked_out_anew(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = arrive(catalog)
    with monkeypatch.context() as earlier:
        earlier.setattr(retention, "WORKED_OUT", 2)
        bring_up_to_date(catalog)
    with catalog.transaction() as tx:
        retention_dates.write(tx, [Kept(study, date(2011, 1, 1), "clinic-dental-last-entry")])
        assert not retention.is_current(tx)
    assert until(catalog, study) == date(2020, 5, 4)


OWN = "the clinic's own period, set by marie on 2026-11-25 UTC: our policy of 2026"


def test_where_the_clinics_own_figure_decides_its_source_is_told(catalog: Catalog) -> None:
    study = arrive(catalog)
    with catalog.transaction() as tx:
        retention.choose(tx, act(), MEDICAL, ENTRY, 12, reason="our  policy of 2026")
    bring_up_to_date(catalog)
    with catalog.reading() as conn:
        told = retention.as_json(retention.decided(conn, [study], NOW)[study].decision)
        due = due_list.every(conn, NOW.date())
        (line,) = due_list.lines(conn, due, studies.study_by_id)
    assert [(rule["rule"], rule["source"][:3]) for rule in told["rules"]] == [
        ("clinic-medical-last-entry", "the"),
        ("qc-medical", "M-9"),
        ("qc-dental", "D-3"),
    ]
    assert told["rules"][0]["source"] == line.source == OWN
    assert OWN in "".join(due_list.csv_lines([line]))


def test_what_two_people_decided_holds_if_only_the_reason_of_a_figure_is_another(catalog: Catalog) -> None:
    """An update that words a source otherwise takes no study out of a request either."""
    study = arrive(catalog)

    def digest() -> str:
        with catalog.reading() as conn:
            return retention.decided(conn, [study], NOW)[study].digest

    def choose(years: int | None, reason: str, by: str = "marie") -> None:
        with catalog.transaction() as tx:
            retention.choose(tx, act(by), MEDICAL, ENTRY, years, reason=reason)

    law = digest()
    choose(12, "our policy of 2026")
    first = digest()
    choose(None, "back to the law")
    assert digest() == law != first
    choose(12, "our policy of 2027", "paul")
    assert digest() == first
    choose(13, "our policy of 2027", "paul")
    assert digest() != first


def test_figures_are_kept_with_their_history_and_never_below_the_law(catalog: Catalog) -> None:
    with catalog.transaction() as tx:
        retention.choose(tx, act(), MEDICAL, ENTRY, 15, reason="advice of our insurer")
        retention.choose(tx, act("paul"), MEDICAL, ENTRY, 12, reason="that was too much")
        with pytest.raises(Refused, match="M-9"):
            retention.choose(tx, act(), MEDICAL, ENTRY, 9, reason="room on the disk")
        with pytest.raises(Refused, match="already"):
            retention.choose(tx, act(), MEDICAL, ENTRY, 12, reason="the same again")
        with pytest.raises(Refused, match="reason"):
            retention.choose(tx, act(), MEDICAL, ENTRY, 20, reason=" ")
        retention.choose(tx, act(), MEDICAL, ENTRY, None, reason="back to the law")
        assert retention_rules.own(tx) == ()
        changes = retention_rules.history(tx)
        rows = [row for row in audit.export(tx) if row["action"] == "retention:change"]
    assert [(each.years, each.by, each.reason) for each in changes] == [
        (None, "marie", "back to the law"),
        (12, "paul", "that was too much"),
        (15, "marie", "advice of our insurer"),
    ]
    assert [row["actor"] for row in rows] == ["marie", "paul", "marie"]
    assert "insurer" not in str(rows)


def test_the_list_is_in_order_a_page_at_a_time_and_counts_what_is_held(catalog: Catalog) -> None:
    numbers = [
        arrive(catalog, f"1.2.{n}", at=LONG_AGO + timedelta(days=9 - n), patient_id=f"P-{n}")
        for n in range(6)
    ]
    with catalog.transaction() as tx:
        holds.place(
            tx, act(), kind=HoldKind.LEGAL, study=numbers[2], whole_patient=False, reason="claim 2026-114"
        )
    bring_up_to_date(catalog)
    day = date(2026, 1, 1)
    with catalog.reading() as conn:
        pages: list[Kept] = []
        while page := retention_dates.due(conn, day, limit=2, after=pages[-1] if pages else None):
            pages += page
        tally = retention_dates.tally(conn, day)
        nothing = retention_dates.tally(conn, date(2020, 5, 8))
    assert [each.study_id for each in pages] == numbers[::-1]
    assert due_on(catalog, day, free_only=True) == [n for n in numbers[::-1] if n != numbers[2]]
    assert (tally.studies, tally.held, tally.asked, tally.free) == (6, 1, 0, 5)
    assert dict(tally.by_rule) == {"qc-medical": 6}
    assert nothing.studies == 0  # the first is kept on its last day, too
    assert due_on(catalog, date(2020, 5, 9)) == [numbers[5]]


def test_rows_follow_whatever_happens_in_parts_of_any_size(catalog: Catalog) -> None:
    dice = random.Random(20261125)
    numbers: set[int] = set()
    for step in range(40):
        at = LONG_AGO + timedelta(days=dice.randrange(5000))
        born = dice.choice(["19700131", "", "20080229", "19000101"])
        patient = dice.randrange(6)
        numbers.add(
            arrive(
                catalog,
                f"1.2.{dice.randrange(25)}",
                at=at,
                patient_id=f"P-{patient}",
                patient_birth_date=born,
            )
        )
        if step % 7 == 3:
            bring_up_to_date(catalog, most=dice.choice([1, 2, 500]))
        if step == 20:
            change(catalog, "clinic.province", "ON")
    bring_up_to_date(catalog, most=3)
    with catalog.reading() as conn:
        for number, found in retention.decided(conn, numbers, NOW).items():
            row = retention_dates.kept(conn, number)
            assert row is not None
            assert row.keep_until == found.decision.keep_until
            assert row.rule == found.decision.reasons[0].rule.id


def test_what_arrives_while_everything_is_worked_out_is_not_passed_over(catalog: Catalog) -> None:
    first = arrive(catalog)
    for number in range(4, 9):
        arrive(catalog, f"1.2.{number}", patient_id=f"P-{number}")
    with catalog.transaction() as tx:
        retention.advance(tx, NOW, most=2)
    arrive(catalog, at=NOW)  # behind the walk
    assert until(catalog, first) == date(2036, 11, 25)


def test_a_part_is_written_only_where_nobody_has_got_further_and_of_what_is_still_here(
    catalog: Catalog,
) -> None:
    """It is worked out on a reading, for which no image waits: what changes meanwhile must not be written over."""
    arrive(catalog)
    gone = arrive(catalog, "1.2.4", patient_id="P-4")
    with catalog.reading() as conn:
        part = retention.work_out(conn)
    assert gone in {each.study_id for each in part.dates}
    with catalog.transaction() as tx:
        erasure.erase(tx, gone, NOW)
        part.write(tx, NOW)
    with catalog.reading() as conn:
        written = kept_values.get(conn, retention.PROGRESS)
        assert retention_dates.kept(conn, gone) is None
    assert written == part.after
    late = replace(part, after={"basis": "an older one"})
    with catalog.transaction() as tx:
        late.write(tx, NOW)
    with catalog.reading() as conn:
        assert kept_values.get(conn, retention.PROGRESS) == written


# --- the clock -------------------------------------------------------------------------------------------------------


def status(catalog: Catalog, study: int, now: datetime) -> tuple[Status, Doubt | None]:
    with catalog.reading() as conn:
        found = retention.decided(conn, [study], now)[study].decision
    return found.status, found.doubt


def test_a_clock_that_was_never_watched_makes_nothing_due(catalog: Catalog) -> None:
    study = arrive(catalog)
    assert status(catalog, study, NOW) == (Status.CLOCK, Doubt.UNWATCHED)
    watch(catalog)
    assert status(catalog, study, NOW + timedelta(minutes=10)) == (Status.DUE, None)


@pytest.mark.parametrize("years", [-10, 10])
@pytest.mark.parametrize("boots", [0, 1, 5])
def test_a_jump_is_doubted_until_a_person_has_looked(catalog: Catalog, years: int, boots: int) -> None:
    study = arrive(catalog, at=LONG_AGO - timedelta(days=365 * 20))
    watch(catalog)
    moved = NOW + timedelta(days=365 * years)
    for minutes in range(boots):  # the box lives on under the wrong clock
        with catalog.transaction() as tx:
            retention.watch_clock(tx, moved + timedelta(minutes=minutes), follows_time_server=False)
    later = moved + timedelta(hours=1)
    assert status(catalog, study, later)[0] is Status.CLOCK
    with catalog.transaction() as tx:  # put right again
        retention.watch_clock(tx, NOW + timedelta(hours=1), follows_time_server=False)
    if boots:
        assert status(catalog, study, NOW + timedelta(hours=2)) == (Status.CLOCK, Doubt.SET)
    with catalog.transaction() as tx:
        retention.trust_clock(tx, act(now=NOW + timedelta(hours=2)))
    assert status(catalog, study, NOW + timedelta(hours=3)) == (Status.DUE, None)


def test_an_image_from_the_future_makes_nothing_due_even_for_a_trusted_clock(catalog: Catalog) -> None:
    study = arrive(catalog)
    watch(catalog)
    arrive(catalog, "1.2.8", at=NOW + timedelta(days=3650), patient_id="P-8", patient_name="X")
    assert status(catalog, study, NOW) == (Status.CLOCK, Doubt.BEHIND)


def test_an_image_that_came_while_the_clock_was_ahead_keeps_it_in_doubt_until_a_person_has_looked(
    catalog: Catalog,
) -> None:
    """Not for the ten years until the hour that it bears; and a later one counts against the clock again."""
    study = arrive(catalog)
    watch(catalog)
    ahead = NOW + timedelta(days=3650)
    late = arrive(catalog, "1.2.8", at=ahead, patient_id="P-8", patient_name="X")
    with catalog.transaction() as tx:
        retention.trust_clock(tx, act(now=NOW))
    assert status(catalog, study, NOW) == (Status.DUE, None)
    assert status(catalog, late, NOW)[0] is Status.KEEP, "it is kept by the hour that it bears"
    arrive(catalog, "1.2.9", at=ahead + timedelta(days=1), patient_id="P-9", patient_name="Y")
    assert status(catalog, study, NOW) == (Status.CLOCK, Doubt.BEHIND)


def test_a_box_that_was_off_believes_its_time_server(catalog: Catalog) -> None:
    study = arrive(catalog)
    watch(catalog)
    summer = NOW + timedelta(days=40)
    assert status(catalog, study, summer) == (Status.CLOCK, Doubt.UNWATCHED)
    watch(catalog, summer)
    assert status(catalog, study, summer) == (Status.DUE, None)
