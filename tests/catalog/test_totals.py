"""Running counts say what counting would say, and cost the same however much is kept."""

from datetime import timedelta

from appliance.catalog import Catalog, deliveries, destinations, instances, totals
from appliance.model import DestinationSettings, InstanceId, Owed, Uid
from tests.catalog.arrivals import NOW, received

COUNTED = """
    SELECT count(*), sum(instances), sum(bytes), sum(duplicates), sum(patient_conflict) FROM studies
"""


def fill(catalog: Catalog) -> None:
    """Two studies; in one a duplicate and another patient, in three batches."""
    with catalog.transaction() as tx:
        twice = received(size_bytes=10)
        instances.record_many(tx, [(twice, 0), (received(size_bytes=20), 0)])
        other = received(size_bytes=30, sop_instance_uid=twice.header.sop_instance_uid)
        instances.record(tx, other, version=1)
    with catalog.transaction() as tx:
        elsewhere = received(study_instance_uid=Uid("9.9"), series_instance_uid=Uid("9.9.1"))
        instances.record_many(tx, [(elsewhere, 0), (received(patient_name="ROY^Léa"), 0)])


def test_running_counts_are_what_counting_says(catalog: Catalog) -> None:
    fill(catalog)
    with catalog.reading() as conn:
        counted = tuple(conn.exec_driver_sql(COUNTED).one())
        found = totals.totals(conn)
    assert (found.studies, found.instances, found.bytes, found.duplicates, found.patient_conflicts) == counted
    assert counted == (2, 5, 1060 + 1000, 1, 1)


def test_an_empty_catalog_holds_nothing(catalog: Catalog) -> None:
    with catalog.reading() as conn:
        assert totals.totals(conn) == totals.Totals(0, 0, 0, 0, 0)
        assert totals.confirmed(conn) == {}


def test_what_is_taken_back_is_not_counted(catalog: Catalog) -> None:
    fill(catalog)
    with catalog.reading() as conn:
        before = totals.totals(conn)
    try:
        with catalog.transaction() as tx:
            instances.record(tx, received(), version=0)
            raise LookupError
    except LookupError:
        pass
    with catalog.reading() as conn:
        assert totals.totals(conn) == before


def test_a_confirmation_is_counted_once_and_for_its_destination(catalog: Catalog) -> None:
    fill(catalog)
    with catalog.transaction() as tx:
        place = destinations.add(tx, DestinationSettings("hand-over", "folder", "dicom", {"path": "/srv"}))
        for number in (1, 2):
            deliveries.owe(tx, InstanceId(number), [Owed(place, 0)], NOW)
        for each in deliveries.claim(tx, place, now=NOW, lease_seconds=60, limit=1):
            assert deliveries.confirm(tx, each.id, {"status": "0000"}, NOW)
            assert not deliveries.confirm(tx, each.id, {"status": "0000"}, NOW + timedelta(hours=1))
    with catalog.reading() as conn:
        assert totals.confirmed(conn) == {place: 1}


def test_figures_read_counters_and_what_a_person_must_look_at_never_a_whole_table(catalog: Catalog) -> None:
    with catalog.reading() as conn:
        plan = [row[3] for row in conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {totals._CONFLICTS}")]
    assert plan == ["SCAN studies USING COVERING INDEX ix_studies_conflict"]
