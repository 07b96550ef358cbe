"""Studies are found as people type, the latest first, and every change is reported once."""

from pathlib import Path

import pytest

from appliance.catalog import Catalog, instances, studies
from appliance.catalog.studies import StudyRow
from appliance.errors import Refused
from appliance.model import Received, Uid
from tests.catalog.arrivals import received


def _record(catalog: Catalog, *batch: Received) -> None:
    with catalog.transaction() as tx:
        instances.record_many(tx, [(each, 0) for each in batch])


@pytest.fixture
def clinic(catalog: Catalog) -> Catalog:
    """Four studies of three people."""
    _record(
        catalog,
        received(study_instance_uid="1.1", study_date="20261120"),
        received(
            study_instance_uid="1.2", study_date="20261122", study_description="CBCT 100%", modality="CT"
        ),
        received(study_instance_uid="1.2", study_date="20261122", modality="SR"),
        received(
            study_instance_uid="1.3",
            patient_name="TREMBLAY^Zoé",
            patient_id="AB_12",
            accession_number="X9",
            study_date="20261121",
            study_time="080000",
            modality="PX",
        ),
        received(
            study_instance_uid="1.4",
            patient_name="Lebœuf^Jean",
            patient_id="777",
            accession_number="Y9",
            study_date="20261121",
            study_time="090000",
            modality="IO",
        ),
    )
    return catalog


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", ["1.2", "1.4", "1.3", "1.1"]),
        ("cote levesque", ["1.2", "1.1"]),
        ("HELENE", ["1.2", "1.1"]),
        ("Hélène côté", ["1.2", "1.1"]),
        ("LEVESQUE^HELENE", ["1.2", "1.1"]),
        ("leboeuf", ["1.4"]),
        ("zoe tremb", ["1.3"]),
        ("ab_12", ["1.3"]),
        ("777", ["1.4"]),
        ("y9", ["1.4"]),
        ("cbct helene", ["1.2"]),
        ("100%", ["1.2"]),
        ("%", ["1.2", "1.4", "1.3", "1.1"]),
        ("tremblay jean", []),
        ("nobody", []),
    ],
)
def test_every_word_counts_and_accents_do_not(clinic: Catalog, text: str, found: list[str]) -> None:
    with clinic.reading() as reading:
        assert [each.study_instance_uid for each in studies.find(reading, text)] == found


@pytest.mark.parametrize(
    ("limits", "found"),
    [
        ({"modality": "SR"}, ["1.2"]),
        ({"modality": "CT"}, ["1.2", "1.1"]),
        ({"modality": "C"}, []),
        ({"modality": "C%"}, []),
        ({"date_from": "20261121"}, ["1.2", "1.4", "1.3"]),
        ({"date_to": "20261121"}, ["1.4", "1.3", "1.1"]),
        ({"date_from": "20261121", "date_to": "20261121"}, ["1.4", "1.3"]),
    ],
)
def test_modality_and_dates_narrow_it_down(clinic: Catalog, limits: dict[str, str], found: list[str]) -> None:
    with clinic.reading() as reading:
        assert [each.study_instance_uid for each in studies.find(reading, **limits)] == found  # type: ignore[arg-type]


def test_pages_follow_each_other(clinic: Catalog) -> None:
    with clinic.reading() as reading:
        pages = [studies.find(reading, limit=3, offset=offset) for offset in (0, 3, 6)]
    assert [[each.study_instance_uid for each in page] for page in pages] == [
        ["1.2", "1.4", "1.3"],
        ["1.1"],
        [],
    ]


def test_search_walks_the_index_made_for_it(clinic: Catalog) -> None:
    with clinic.reading() as reading:
        reading.exec_driver_sql("ANALYZE")
        plan = reading.exec_driver_sql(
            "EXPLAIN QUERY PLAN SELECT id FROM studies WHERE search_folded LIKE ? AND study_date >= ?"
            " AND '\\' || modalities || '\\' LIKE '%\\CT\\%'"
            " ORDER BY study_date DESC, study_time DESC, id DESC LIMIT 50",
            ("%zoe%", "20200101"),
        ).fetchall()
    told = " ".join(row[3] for row in plan)
    assert "COVERING INDEX ix_studies_search" in told
    assert "TEMP B-TREE" not in told


def test_each_change_is_reported_once_and_in_order(catalog: Catalog) -> None:
    def changed(since: int) -> tuple[list[str], int]:
        with catalog.reading() as reading:
            rows = studies.changes_since(reading, since)
            return [each.study_instance_uid for each in rows], studies.latest_change(reading)

    assert changed(0) == ([], 0)
    _record(catalog, received(study_instance_uid="1.1"), received(study_instance_uid="1.2"))
    names, latest = changed(0)
    assert names == ["1.1", "1.2"]
    _record(catalog, received(study_instance_uid="1.1"))
    names, newer = changed(latest)
    assert names == ["1.1"]
    assert newer > latest
    with catalog.transaction() as tx:
        second = studies.study(tx, Uid("1.2"))
        assert second is not None
        studies.touch(tx, [second.id, second.id])
    assert changed(newer)[0] == ["1.2"]


def test_a_study_is_found_by_uid_and_by_row_id(clinic: Catalog) -> None:
    with clinic.reading() as reading:
        row = studies.study(reading, Uid("1.3"))
        assert isinstance(row, StudyRow)
        assert studies.study_by_id(reading, row.id) == row
        assert studies.study(reading, Uid("1.99")) is None
        assert studies.study_by_id(reading, 99) is None
        assert [each.modality for each in studies.series_of_study(reading, Uid("1.3"))] == ["PX"]


def test_the_demand_on_the_folder_is_one_file_and_its_log(clinic: Catalog, tmp_path: Path) -> None:
    names = {each.name for each in tmp_path.iterdir()}
    assert names == {
        "catalog.db",
        "catalog.db-wal",
        "catalog.db-shm",
        "catalog.db.first",
        "catalog.db.lock",
        "catalog.db.next",
        "catalog.db.now",
    }


def test_a_search_of_any_length_is_answered_or_refused(clinic: Catalog) -> None:
    with clinic.reading() as reading:
        longest = " ".join(chr(0x4E00 + number) for number in range(128))
        assert studies.find(reading, longest) == []
        for text in (longest + " a b", "x" * 100_000):
            with pytest.raises(Refused):
                studies.find(reading, text)
