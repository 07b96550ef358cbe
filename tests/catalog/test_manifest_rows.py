"""What a manifest is made of is found as fast in a large catalog as in a small one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

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


def steps(conn: Reading, ask: Callable[[], object]) -> int:
    """How many tens of steps SQLite's machine takes for an answer."""
    taken = 0

    def count() -> int:
        nonlocal taken
        taken += 1
        return 0

    driver = conn.connection.driver_connection
    assert driver is not None
    driver.set_progress_handler(count, 10)
    try:
        ask()
    finally:
        driver.set_progress_handler(None, 0)
    return taken


def rows(conn: Reading, place: DestinationId) -> None:
    found = manifests.rows_of(conn, place, 1)
    assert [each["study_instance_uid"] for each in found.studies] == ["1.2.3.0"]
    assert len(found.instances) == len(found.series) == len(found.study_keys) == 1


def objects(conn: Reading, place: DestinationId) -> None:
    (row,) = manifests.rows_of(conn, place, 1).instances
    assert manifests.objects_of(conn, place, 1) == frozenset({row["object_id"]})


@pytest.mark.parametrize("asked", [rows, objects])
def test_the_rows_of_a_manifest_take_no_longer_when_much_was_delivered(
    catalog: Catalog, asked: Callable[[Reading, DestinationId], None]
) -> None:
    with catalog.transaction() as tx:
        place = destinations.add(tx, PLACE)
    add(catalog, place, range(4))
    with catalog.transaction() as tx:
        manifests.mark(tx, place, [1], NOW)
        manifests.written(tx, place, manifests.OutOfDate(1, Uid("1.2.3.0"), NOW), NOW)
    with catalog.reading() as conn:
        before = steps(conn, lambda: asked(conn, place))
    add(catalog, place, range(4, STUDIES))
    with catalog.reading() as conn:
        assert 0 < steps(conn, lambda: asked(conn, place)) <= before + 5


def test_a_manifest_that_is_to_be_written_is_held_to_nothing(catalog: Catalog) -> None:
    with catalog.transaction() as tx:
        place = destinations.add(tx, PLACE)
    add(catalog, place, range(1))
    with catalog.transaction() as tx:
        assert manifests.objects_of(tx, place, 1) is None, "there is none"
        manifests.mark(tx, place, [1], NOW)
        assert manifests.objects_of(tx, place, 1) is None
