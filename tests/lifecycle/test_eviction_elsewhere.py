"""What is away, for everybody else: who sends it again, takes an archive off or moves it, restores, or destroys."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance import audit
from appliance.backup import homecoming
from appliance.box import Box
from appliance.catalog import destinations, evictions, instances
from appliance.catalog.rules import add_rule
from appliance.errors import Corrupt, Refused, Transient
from appliance.lifecycle import eviction, returning
from appliance.model import DestinationSettings, Rule
from appliance.replication import recall
from appliance.replication.destinations import prepare
from appliance.replication.destinations.archive import object_key
from appliance.replication.destinations.vault import VaultDestination
from tests.backup.conftest import IMAGES, Clinic, as_sent, clinic, contents, disk  # noqa: F401 - fixtures
from tests.backup.test_restoring import restore
from tests.boxes import box_in, recorded
from tests.instances import Instance
from tests.lifecycle.evicting import (
    ANY,
    NOW,
    at_now,
    evict_all,
    here,
    in_archive,
    reached,
    rows,
    study_ids,
    without_archive,
    without_receipt,
)

pytestmark = pytest.mark.slow


def test_an_image_sent_again_while_it_is_away_is_recognised_and_another_is_kept(kept: Clinic) -> None:
    evict_all(kept.box)
    kept.receive(IMAGES[0], IMAGES[10])
    assert len(recorded(kept.box)) == 11 and here(kept.box) == 0
    other = Instance(0, study=1, pixel_bytes=3_001)
    assert (other.sop_instance_uid, other.data_set) != (IMAGES[0].sop_instance_uid, IMAGES[0].data_set)
    kept.receive(other)
    assert [row.version for row in recorded(kept.box) if row.sop_instance_uid == other.sop_instance_uid] == [
        0,
        1,
    ]


def test_an_image_sent_again_is_kept_when_no_archive_has_a_receipt_any_more(kept: Clinic) -> None:
    evict_all(kept.box)
    without_receipt(kept)
    kept.receive(IMAGES[0])
    assert len(recorded(kept.box)) == 12


def test_an_image_that_no_archive_has_any_more_is_missed_and_kept_when_it_is_sent_again(kept: Clinic) -> None:
    evict_all(kept.box)
    lost = next(row for row in recorded(kept.box) if row.sop_instance_uid == IMAGES[0].sop_instance_uid)
    (Path(str(kept.place.options["path"])) / object_key(lost.object_id)).unlink()
    with pytest.raises(Corrupt):
        recall.open_object(kept.box, lost.object_id, lost.key_id, lost.sealed_bytes)
    assert rows(kept.box) == 10
    with kept.box.catalog.reading() as conn:
        assert instances.expected_among(conn, [lost.object_id]) == {lost.object_id}, "the census looks for it"
        told = [each["subject"] for each in audit.export(conn) if each["action"] == "instance:corrupt"]
    assert told == [f"instance:{lost.object_id}"]
    kept.receive(IMAGES[0])
    again = [row for row in recorded(kept.box) if row.sop_instance_uid == lost.sop_instance_uid]
    assert len(again) == 2 and recall.is_here(kept.box, again[-1].object_id)


def test_an_image_whose_archive_cannot_be_asked_is_not_given_up(kept: Clinic) -> None:
    evict_all(kept.box)
    row = recorded(kept.box)[0]
    without_archive(kept)
    with pytest.raises(Transient):
        recall.recall(kept.box, row.object_id, row.key_id, row.sealed_bytes)
    assert rows(kept.box) == 11


def test_an_image_sent_again_is_kept_when_its_receipt_is_of_an_archive_that_never_showed_it(
    kept: Clinic,
) -> None:
    evict_all(kept.box)
    other = a_second_archive(kept)
    with kept.box.catalog.transaction() as tx:
        tx.exec_driver_sql("UPDATE evictions SET places = ?", (json.dumps([other.id]),))
        tx.exec_driver_sql(
            "UPDATE deliveries SET state = 'PENDING', receipt = NULL WHERE destination = ?", (other.id,)
        )
    kept.receive(IMAGES[0])
    assert len(recorded(kept.box)) == 12


def test_what_no_archive_has_does_not_keep_the_rest_from_coming_back(kept: Clinic) -> None:
    evict_all(kept.box)
    in_archive(kept).unlink()
    damaged = in_archive(kept, 5)
    damaged.write_bytes(damaged.read_bytes()[:-1])
    with pytest.raises(Corrupt):
        returning.bring_back(kept.box, NOW)
    assert here(kept.box) == 9 and rows(kept.box) == 0


def test_an_archive_that_has_what_is_not_here_can_neither_be_taken_off_nor_moved(kept: Clinic) -> None:
    evict_all(kept.box)
    with kept.box.catalog.transaction() as tx:
        place = destinations.destinations(tx)[0]
        with pytest.raises(Refused):
            homecoming.refuse_if_needed(tx, kept.box, place)
        with pytest.raises(Refused):
            recall.let_move(tx, place, {**place.options, "path": "/elsewhere", "mark": "another"})
        recall.let_move(tx, place, dict(place.options))
    returning.bring_back(kept.box, NOW)
    with kept.box.catalog.transaction() as tx:
        homecoming.refuse_if_needed(tx, kept.box, place)
        recall.let_move(tx, place, {**place.options, "path": "/elsewhere", "mark": "another"})


def a_second_archive(clinic: Clinic) -> DestinationSettings:  # noqa: F811
    """One more disk, with a receipt for everything that the first has one for; none of it was read back there."""
    path = Path(str(clinic.place.options["path"])).with_name("usb2")
    path.mkdir()
    with clinic.box.catalog.transaction() as tx:
        other = prepare(DestinationSettings("usb2", "vault", "ciphertext", {"path": str(path)}))
        other = replace(other, id=destinations.add(tx, other))
        add_rule(tx, Rule(other.id, other.name, other.takes))
        for row in recorded(clinic.box):
            tx.exec_driver_sql(
                "INSERT INTO deliveries (instance, destination, priority, state, attempts, reason, created_utc,"
                " changed_utc, receipt)"
                " SELECT d.instance, ?, d.priority, d.state, d.attempts, d.reason, d.created_utc, d.changed_utc, d.receipt"
                " FROM deliveries AS d JOIN instances AS i ON i.id = d.instance"
                " WHERE d.destination = ? AND i.object_id = ?",
                (other.id, clinic.place.id, row.object_id),
            )
    return other


def proven_in(box: Box) -> set[tuple[int, ...]]:
    with box.catalog.reading() as conn:
        return {
            tuple(json.loads(row[0])) for row in conn.exec_driver_sql("SELECT places FROM evictions").all()
        }


def test_a_receipt_that_was_never_read_back_lets_no_proven_archive_go(kept: Clinic) -> None:
    evict_all(kept.box)
    other = a_second_archive(kept)
    with kept.box.catalog.transaction() as tx:
        place = next(each for each in destinations.destinations(tx) if each.id == kept.place.id)
        with pytest.raises(Refused):
            homecoming.refuse_if_needed(tx, kept.box, place)
        with pytest.raises(Refused):
            recall.let_move(tx, place, {**place.options, "path": "/elsewhere", "mark": "another"})
        recall.let_move(tx, other, {**other.options, "path": "/elsewhere", "mark": "another"})


def test_of_two_proven_archives_one_may_move_and_carries_nothing_then(kept: Clinic) -> None:
    evict_all(kept.box)
    other = a_second_archive(kept)
    with kept.box.catalog.transaction() as tx:
        places = json.dumps([kept.place.id, other.id])
        tx.exec_driver_sql("UPDATE evictions SET places = ?", (places,))
        place = next(each for each in destinations.destinations(tx) if each.id == kept.place.id)
        recall.let_move(tx, place, dict(place.options))
    assert proven_in(kept.box) == {(kept.place.id, other.id)}
    with kept.box.catalog.transaction() as tx:
        recall.let_move(tx, place, {**place.options, "path": "/elsewhere", "mark": "another"})
    assert proven_in(kept.box) == {(other.id,)}
    with kept.box.catalog.transaction() as tx:
        with pytest.raises(Refused):
            recall.let_move(tx, other, {**other.options, "path": "/elsewhere", "mark": "another"})
        with pytest.raises(Refused):
            homecoming.refuse_if_needed(tx, kept.box, other)
        homecoming.refuse_if_needed(tx, kept.box, place)


def test_a_restored_box_leaves_away_what_was_away(kept: Clinic, tmp_path: Path) -> None:
    study = study_ids(kept.box)[0]
    away = eviction.evict_study(kept.box, study, ANY, at_now).images
    assert away
    kept.back_up()
    restore(tmp_path / "after", kept.place, kept.paper)
    with box_in(tmp_path / "after") as box:
        now = datetime.now(UTC)
        for _ in range(20):
            homecoming.bringing_home(box, now, keep_going=lambda: True)
        with box.catalog.reading() as conn:
            assert homecoming.under_way(conn) is None
        assert here(box) == 11 - away
        assert reached(box) == as_sent(*IMAGES)


def test_what_is_destroyed_leaves_no_row_behind(kept: Clinic) -> None:
    from appliance.catalog import erasure

    evict_all(kept.box)
    study = study_ids(kept.box)[0]
    with kept.box.catalog.transaction() as tx:
        erasure.erase(tx, study, NOW)
        assert evictions.away_of_study(tx, study) == 0


def test_an_archive_that_is_away_says_so_and_the_image_comes_when_it_is_back(kept: Clinic) -> None:
    evict_all(kept.box)
    row = recorded(kept.box)[0]
    without_archive(kept)
    with pytest.raises(Transient):
        recall.open_object(kept.box, row.object_id, row.key_id, row.sealed_bytes)
    path = Path(str(kept.place.options["path"]))
    path.with_name("at home").rename(path)
    recall.open_object(kept.box, row.object_id, row.key_id, row.sealed_bytes).close()
    assert isinstance(VaultDestination.from_settings(kept.place), VaultDestination)
    with kept.box.catalog.reading() as conn:
        assert instances.with_object(conn, row.object_id) is not None
