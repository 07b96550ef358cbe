"""Rows are found by whatever is asked, page by page, and a million of them are no reason to wait."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance import audit
from appliance.audit import Entry, Outcome, reports
from appliance.audit.exports import csv_lines, json_document, json_lines, verify_lines
from appliance.catalog import Catalog, Reading, audit_log, audit_search
from appliance.catalog.audit_log import AuditRow
from appliance.catalog.audit_search import LISTS, Wanted
from appliance.catalog.columns import utc_text
from appliance.errors import Refused

KEY = bytes(range(32))
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
WORDS = ("study:view", "instance:receive", "user:login", "user:login-fail", "delivery:confirm", "study:list")
ACTORS = ("marie", "dicom:CT1", "courier")
STUDIES = ("1.2.1", "1.2.2", "1.2.3")
ADDRESSES = ("", "10.0.0.7", "10.0.0.8")


def _entry(number: int) -> Entry:
    word = WORDS[number % len(WORDS)]
    return Entry(
        word,
        f"subject:{number}",
        ACTORS[number % len(ACTORS)],
        {"to": "cloud"}
        if word.startswith("delivery")
        else {"studies": [number % 4, 7]}
        if word in LISTS
        else {},
        study=STUDIES[number % 7 % 3] if not word.startswith("user") and word not in LISTS else "",
        address=ADDRESSES[number % 11 % 3],
    )


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalog]:
    """300 rows, a minute apart; the clock was set back in the middle."""
    opened = Catalog.open(tmp_path_factory.mktemp("audit") / "catalog.db", KEY)
    with opened.transaction() as tx:
        for number in range(300):
            at = NOON + timedelta(minutes=number if number < 150 else number - 60)
            audit.append(tx, KEY, [_entry(number)], at)
    yield opened
    opened.close()


def _names_one_of(row: AuditRow, listed: tuple[int, ...]) -> bool:
    try:
        return bool(set(json.loads(row.details)["studies"]) & set(listed))
    except ValueError:
        return False


def _matches(row: AuditRow, wanted: Wanted) -> bool:
    """The same, said plainly."""
    return bool(
        (not wanted.actor or row.actor == wanted.actor)
        and (not wanted.actions or row.action in wanted.actions)
        and (
            wanted.studies is None
            or bool(row.study and row.study in wanted.studies)
            or (row.action in LISTS and _names_one_of(row, wanted.listed))
        )
        and (not wanted.address or row.address == wanted.address)
        and (not wanted.outcome or row.outcome == wanted.outcome)
        and (wanted.since_utc is None or row.at_utc >= utc_text(wanted.since_utc))
        and (wanted.until_utc is None or row.at_utc < utc_text(wanted.until_utc))
    )


_moments = st.none() | st.integers(-10, 400).map(lambda minutes: NOON + timedelta(minutes=minutes))
_wishes = st.builds(
    Wanted,
    actor=st.sampled_from(("", *ACTORS, "nobody")),
    actions=st.lists(st.sampled_from((*WORDS, "door:knock")), unique=True, max_size=3).map(tuple),
    studies=st.none() | st.lists(st.sampled_from((*STUDIES, "9.9")), unique=True, max_size=3).map(tuple),
    listed=st.lists(st.integers(0, 8), unique=True, max_size=3).map(tuple),
    address=st.sampled_from(("", "10.0.0.7", "10.0.0.9")),
    outcome=st.sampled_from(("", *Outcome)),
    since_utc=_moments,
    until_utc=_moments,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(_wishes, st.integers(1, 40))
def test_every_search_finds_what_it_asks_and_nothing_else(
    catalog: Catalog, wanted: Wanted, size: int
) -> None:
    with catalog.reading() as reading:
        everything = [row for row in audit_log.rows(reading) if _matches(row, wanted)]
        assert list(audit_search.oldest_first(reading, wanted)) == everything
        pages: list[AuditRow] = []
        while page := audit_search.find(reading, wanted, limit=size, before=pages[-1].id if pages else None):
            assert len(page) <= size
            pages += page
        assert pages == everything[::-1]
        assert sum(each.count for each in audit_search.tallies(reading, wanted)) == len(everything)


def test_everybody_who_acted_is_known(catalog: Catalog) -> None:
    with catalog.reading() as reading:
        assert audit_search.actors(reading) == sorted(ACTORS)


def _plan(reading: Reading, wanted: Wanted) -> str:
    (condition, values), *_ = audit_search._walks(wanted)
    query = f"EXPLAIN QUERY PLAN SELECT id FROM audit WHERE id BETWEEN ? AND ?{condition} ORDER BY id DESC LIMIT ?"
    return " ".join(str(row[3]) for row in reading.exec_driver_sql(query, (0, 1 << 62, *values, 50)))


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (Wanted(actor="marie"), "ix_audit_actor"),
        (Wanted(actions=("user:login",)), "ix_audit_action"),
        (Wanted(studies=("1.2.1",)), "ix_audit_study"),
        (Wanted(studies=("1.2.1",), listed=(3,)), "ix_audit_action"),
        (Wanted(address="10.0.0.7"), "ix_audit_address"),
        (Wanted(outcome="refused"), "ix_audit_outcome"),
    ],
)
def test_every_filter_is_walked_in_its_own_index_without_sorting(
    catalog: Catalog, wanted: Wanted, index: str
) -> None:
    with catalog.reading() as reading:
        plan = _plan(reading, wanted)
    assert index in plan
    assert "TEMP B-TREE" not in plan


# --- reports ---------------------------------------------------------------------------------------------------------


def test_a_report_counts_what_the_rows_say(catalog: Catalog) -> None:
    with catalog.reading() as reading:
        rows = list(audit_log.rows(reading))
        year = reports.of_year(reading, Wanted(), NOON)
        of_marie = reports.of_actor(reading, "marie", Wanted(), NOON)
        of_patient = reports.of_study(reading, ("1.2.1", "1.2.3"), (), Wanted(), NOON)
    assert year.all_rows == len(rows) == sum(year.kinds.values())
    assert year.kinds[audit.Kind.COMMUNICATION] == sum(row.action == "delivery:confirm" for row in rows)
    assert year.recipients == [("delivery:confirm", "cloud", year.kinds[audit.Kind.COMMUNICATION])]
    assert year.refusals == sum(row.outcome == "refused" for row in rows) > 0
    assert {row.action for row in year.rows} == {"user:login-fail"}
    assert of_marie.all_rows == sum(row.actor == "marie" for row in rows)
    assert {row.actor for row in of_marie.rows} == {"marie"}
    assert {row.study for row in of_patient.rows} == {"1.2.1", "1.2.3"}
    assert reports.as_document(year)["rows"] == len(rows)


# --- exports ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [json_lines, json_document])
def test_an_export_can_be_verified_and_shows_every_change(catalog: Catalog, form) -> None:
    with catalog.reading() as reading:
        lines = "".join(form(audit_search.oldest_first(reading, Wanted()))).splitlines()
    assert list(verify_lines(KEY, lines)) == []
    body = [place for place, line in enumerate(lines) if len(line) > 10]
    for place in body[5:9]:
        for old, new in (
            ("subject:", "subject:9"),
            ("2026-", "2025-"),
            ('"done"', '"failed"'),
            ("10.0.0.7", "10.0.0.8"),
        ):
            if old in lines[place]:
                edited = [*lines[:place], lines[place].replace(old, new, 1), *lines[place + 1 :]]
                assert list(verify_lines(KEY, edited)), (place, old)
    assert list(verify_lines(KEY, [*lines[: body[5]], *lines[body[6] :]]))
    assert list(verify_lines(bytes(32), lines))
    with pytest.raises(Refused):
        list(verify_lines(KEY, ["not an export"]))


@given(st.text(alphabet="=+-@\t\r\n \"',;abc", max_size=8))
def test_no_text_of_an_export_is_a_formula(text: str) -> None:
    row = replace(Entry("study:view", text, text).row(1, "2026"), chain=bytes(32))
    import csv
    import io

    header, *rows = csv.reader(io.StringIO("".join(csv_lines([row])), newline=""))
    assert len(header) == len(rows[0])
    for cell in rows[0]:
        assert not cell.strip(" ").startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
