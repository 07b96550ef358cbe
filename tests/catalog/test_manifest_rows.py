"""What a manifest is made of is found as fast in a large catalog as in a small one."""

from __future__ import annotations

from dataclasses import replace

from appliance.catalog import Catalog, Reading, deliveries, destinations, instances, manifests
from appliance.model import DestinationId, DestinationSettings, KeyId, Received, Uid
from tests.catalog.arrivals import NOW, received

PLACE = DestinationSettings("usb", "vault", "ciphertext", {"path": "/nowhere"})
STUDIES = 400


def of_study(number: int) -> Received:
    each = received(study_instance_uid=Uid(f"1.2.3.{number}"), series_instance_uid=Uid(f"1.2.3.{number}.1"))
    return replace(each, stored=replace(each.stored, key_id=KeyId(f"{number:032x}")))


def add(catalog: Catalog, place: DestinationId, numbers: range) -> None:
    with catalog.transaction() as tx:
        for row in instances.record_many(tx, [(of_study(number), 0) for number in numbers]):
            deliveries.hold(tx, place, row.instance_id, {}, NOW)


def steps(conn: Reading, place: DestinationId) -> int:
    """How many tens of steps SQLite's machine takes for the rows of the first study."""
    taken = 0

    def count() -> int:
        nonlocal taken
        taken += 1
        return 0

    driver = conn.connection.driver_connection
    assert driver is not None
    driver.set_progress_handler(count, 10)
    try:
        rows = manifests.rows_of(conn, place, 1)
    finally:
        driver.set_progress_handler(None, 0)
    assert [each["study_instance_uid"] for each in rows.studies] == ["1.2.3.0"]
    assert len(rows.instances) == len(rows.series) == len(rows.study_keys) == 1
    return taken


def test_the_rows_of_a_manifest_take_no_longer_when_much_was_delivered(catalog: Catalog) -> None:
    with catalog.transaction() as tx:
        place = destinations.add(tx, PLACE)
    add(catalog, place, range(4))
    with catalog.reading() as conn:
        before = steps(conn, place)
    add(catalog, place, range(4, STUDIES))
    with catalog.reading() as conn:
        assert 0 < steps(conn, place) <= before + 5
