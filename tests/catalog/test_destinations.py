"""Destinations as rows, their breakers, and the manifests that are out of date."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance.box import Box
from appliance.catalog import deliveries, destinations, manifests, tombstones
from appliance.errors import Refused, Unknown
from appliance.model import DestinationId, DestinationSettings, Owed
from appliance.replication.delivery import CLOSED, Breaker
from tests.boxes import box_in, recorded
from tests.instances import Instance
from tests.replication.parcels import take_in

NAS = DestinationSettings(
    "nas",
    "sftp",
    "ciphertext",
    {"user": "clinic", "login": "password", "host_key": "ssh-ed25519 SHA256:a"},
    "s3cret",
)
NOW = datetime(2026, 11, 22, 9, tzinfo=UTC)
CLOUD = DestinationSettings(
    "cloud",
    "s3",
    "ciphertext",
    {"bucket": "b", "region": "ca-central-1", "canadian": True, "port": 3},
    "s3cret",
)


@pytest.fixture
def box(data_dir: Path) -> Iterator[Box]:
    with box_in(data_dir) as box:
        yield box


def add(box: Box, settings: DestinationSettings = CLOUD) -> DestinationId:
    with box.catalog.transaction() as tx:
        return destinations.add(tx, settings)


def test_a_destination_comes_back_as_it_was_added(box: Box) -> None:
    number = add(box)
    with box.catalog.reading() as conn:
        found = destinations.destination(conn, "cloud")
    assert found is not None
    assert (found.id, found.options, found.secret, found.takes) == (
        number,
        dict(CLOUD.options),
        "s3cret",
        "ciphertext",
    )
    assert "s3cret" not in repr(found)


def test_a_name_is_given_once(box: Box) -> None:
    add(box)
    with pytest.raises(Refused, match="already"):
        add(box)


def test_a_removed_destination_frees_its_name_and_forgets_its_secret(box: Box) -> None:
    first = add(box)
    with box.catalog.transaction() as tx:
        destinations.remove(tx, "cloud", NOW)
        assert destinations.destinations(tx) == []
        (gone,) = destinations.destinations(tx, include_removed=True)
    assert (gone.id, gone.secret) == (first, "")
    assert add(box) != first


def test_a_destination_can_be_removed_again_after_its_name_was_used_again(box: Box) -> None:
    for _ in range(3):
        add(box)
        with box.catalog.transaction() as tx:
            destinations.remove(tx, "cloud", NOW)
    with box.catalog.reading() as conn:
        assert len(destinations.destinations(conn, include_removed=True)) == 3


@pytest.mark.parametrize(
    "act", [destinations.pause, destinations.resume, lambda tx, name: destinations.remove(tx, name, NOW)]
)
def test_an_unknown_name_says_so(box: Box, act) -> None:
    with pytest.raises(Unknown), box.catalog.transaction() as tx:
        act(tx, "nowhere")


def test_resuming_forgets_the_failures(box: Box) -> None:
    number = add(box)
    with box.catalog.transaction() as tx:
        destinations.set_breaker(tx, number, Breaker(4, NOW, "no answer"))
        destinations.pause(tx, "cloud")
        assert destinations.health(tx)[0].paused
        destinations.resume(tx, "cloud")
        assert destinations.breaker(tx, number) == CLOSED


def test_a_breaker_and_the_last_success_survive(box: Box) -> None:
    number = add(box)
    state = Breaker(3, NOW + timedelta(seconds=60), "no answer")
    with box.catalog.transaction() as tx:
        destinations.set_breaker(tx, number, state)
        destinations.succeeded(tx, number, NOW)
    with box.catalog.reading() as conn:
        (health,) = destinations.health(conn)
        assert destinations.breaker(conn, number) == state
    assert (health.breaker, health.last_success_utc, health.name) == (state, NOW, "cloud")


def test_a_breaker_of_nothing_says_so(box: Box) -> None:
    with box.catalog.reading() as conn, pytest.raises(Unknown):
        destinations.breaker(conn, DestinationId(4711))


# --- Manifests -------------------------------------------------------------------------------------------------------


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def out_of_date(box: Box, number: DestinationId, now: datetime) -> list[manifests.OutOfDate]:
    with box.catalog.reading() as conn:
        return manifests.out_of_date(
            conn,
            number,
            quiet_since=now - timedelta(seconds=2),
            written_before=now - timedelta(seconds=60),
            limit=9,
        )


def mark(box: Box, number: DestinationId, study: int, now: datetime) -> None:
    with box.catalog.transaction() as tx:
        manifests.mark(tx, number, [study], now)


def write(box: Box, number: DestinationId, due: manifests.OutOfDate, now: datetime) -> None:
    with box.catalog.transaction() as tx:
        manifests.written(tx, number, due, now)


def test_a_manifest_is_written_at_once_then_when_the_study_is_quiet(box: Box) -> None:
    number = add(box)
    take_in(box, [Instance(1)])
    (row,) = recorded(box)
    assert out_of_date(box, number, NOW) == []
    mark(box, number, row.study_id, NOW)
    (due,) = out_of_date(box, number, NOW)
    write(box, number, due, later(0.5))
    assert out_of_date(box, number, later(1)) == []
    mark(box, number, row.study_id, later(1))
    assert out_of_date(box, number, later(2)) == []
    assert len(out_of_date(box, number, later(3))) == 1


def test_a_study_that_is_never_quiet_is_written_once_a_minute(box: Box) -> None:
    number = add(box)
    take_in(box, [Instance(1)])
    (row,) = recorded(box)
    written = 0
    for second in range(300):
        mark(box, number, row.study_id, later(second))
        for due in out_of_date(box, number, later(second)):
            write(box, number, due, later(second))
            written += 1
    assert 5 <= written <= 6


def test_what_arrives_while_a_manifest_is_written_is_not_forgotten(box: Box) -> None:
    number = add(box)
    take_in(box, [Instance(1)])
    (row,) = recorded(box)
    mark(box, number, row.study_id, NOW)
    (due,) = out_of_date(box, number, NOW)
    mark(box, number, row.study_id, later(0.1))
    write(box, number, due, later(0.2))
    assert len(out_of_date(box, number, later(5))) == 1


def test_a_clock_that_was_put_back_does_not_hold_a_manifest_back(box: Box) -> None:
    number = add(box)
    take_in(box, [Instance(1)])
    (row,) = recorded(box)
    mark(box, number, row.study_id, NOW)
    (due,) = out_of_date(box, number, NOW)
    write(box, number, due, NOW)
    mark(box, number, row.study_id, NOW)
    assert len(out_of_date(box, number, NOW.replace(year=2016))) == 1


def test_a_manifest_names_only_what_the_bucket_holds(box: Box) -> None:
    number = add(box)
    take_in(box, [Instance(1), Instance(2), Instance(1, study=2)])
    first, second, _ = recorded(box)
    with box.catalog.transaction() as tx:
        for row in (first, second):
            deliveries.owe(tx, row.id, [Owed(number, 0)], NOW)
        (claimed, _) = deliveries.claim(tx, number, now=NOW, lease_seconds=60, limit=9)
        deliveries.confirm(tx, claimed.id, {}, NOW)
        rows = manifests.rows_of(tx, number, claimed.study)
    assert [row["object_id"] for row in rows.instances] == [claimed.object_id]
    assert [row["id"] for row in rows.study_keys] == [claimed.key_id]
    assert [row["study_instance_uid"] for row in rows.studies] == [claimed.study_instance_uid]
    assert len(rows.series) == 1
    assert [row["name"] for row in rows.patients] == ["Marqueur^Éloïse"]


def test_a_password_is_not_kept_for_another_server(box: Box) -> None:
    add(box, NAS)
    with box.catalog.transaction() as tx:
        same = destinations.pin(tx, "nas", "ssh-ed25519 SHA256:a")
        assert (same.secret, same.paused) == ("s3cret", False)
        after = destinations.pin(tx, "nas", "ssh-ed25519 SHA256:b")
        assert destinations.destination(tx, "nas") == after
    assert (after.secret, after.paused) == ("", True)
    assert after.options == {**NAS.options, "host_key": "ssh-ed25519 SHA256:b"}


@pytest.mark.parametrize(
    "options",
    [{"login": "password"}, {"login": "key", "host_key": "ssh-ed25519 SHA256:a"}],
    ids=["first-key", "key-of-our-own"],
)
def test_a_secret_that_is_sent_to_nobody_else_is_kept(box: Box, options: dict[str, str]) -> None:
    add(box, replace(NAS, options=options))
    with box.catalog.transaction() as tx:
        after = destinations.pin(tx, "nas", "ssh-ed25519 SHA256:b")
    assert (after.secret, after.paused) == ("s3cret", False)


def test_another_place_is_looked_through_for_what_is_destroyed_and_the_same_one_is_not(box: Box) -> None:
    number = add(box)
    take_in(box, [Instance(1)])
    with box.catalog.transaction() as tx:
        tx.exec_driver_sql(
            "INSERT INTO destroyed_keys (key_id, manifest, certificate, destroyed_utc)"
            " SELECT id, 'manifests/a.sealed', 'D-2026-0001', created_utc FROM study_keys"
        )
        upto, found = tombstones.unlooked(tx, number, 0, 9)
        assert found == ["manifests/a.sealed"]
        tombstones.looked(tx, number, 0, upto, NOW)
        destinations.change(tx, "cloud", CLOUD.options, "another secret")
        assert tombstones.unlooked(tx, number, 0, 9) == (upto, []), "it is where it was"
        destinations.change(tx, "cloud", {**CLOUD.options, "bucket": "another"})
        assert tombstones.unlooked(tx, number, 0, 9) == (upto, found)
        tombstones.looked(tx, number, 0, upto, NOW)
        destinations.pin(tx, "cloud", "ssh-ed25519 SHA256:b")
        assert tombstones.unlooked(tx, number, 0, 9) == (upto, found), "another server answers there"
