"""What takes the room: every byte of the box is somebody's, and what is said to be free to go is in an archive."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance import health
from appliance.box import Box, open_box
from appliance.catalog import destinations, rules, totals
from appliance.cli.disk import WORDS, ways
from appliance.health import room
from appliance.ingest import Reception
from appliance.model import DestinationSettings, ObjectId, Rule
from tests.boxes import config_in, send
from tests.instances import Instance

NOW = datetime.now(UTC)


@pytest.fixture
def box(data_dir: Path) -> Iterator[Box]:
    opened = open_box(config_in(data_dir))
    yield opened
    opened.close()


def measured(box: Box) -> room.Room:
    return room.measure(box, health.gather(box, NOW))


def test_each_kind_of_file_is_counted_where_it_belongs(box: Box) -> None:
    reception = Reception(box, "worker")
    before = dict(measured(box).takes)
    (box.config.data / "backups").mkdir(exist_ok=True)
    (box.config.data / "backups" / "catalog-1.db").write_bytes(bytes(300_000))
    box.objects.path(ObjectId("ab" * 16)).write_bytes(bytes(500_000))
    after = dict(measured(box).takes)
    assert after["backups"] - before["backups"] >= 300_000
    assert after["images"] - before["images"] >= 500_000
    assert after["index"] > 0
    assert after["intake"] > 0
    assert set(after) == set(WORDS) == set(room.KINDS)
    reception.close()


def test_only_what_has_a_receipt_of_an_archive_may_leave(box: Box) -> None:
    with box.catalog.transaction() as tx:
        usb = destinations.add(tx, DestinationSettings("usb", "vault", "ciphertext", {"path": "/media/usb"}))
        pacs = destinations.add(tx, DestinationSettings("share", "folder", "dicom", {"path": "/srv/share"}))
        rules.add_rule(tx, Rule(usb, "usb", "ciphertext"))
        rules.add_rule(tx, Rule(pacs, "share", "dicom"))
    reception = Reception(box, "worker")
    send(reception, Instance(1))
    send(reception, Instance(2))
    reception.close()
    assert "none may leave" in " ".join(ways(measured(box)))
    with box.catalog.transaction() as tx:
        tx.exec_driver_sql("UPDATE deliveries SET state = 'CONFIRMED' WHERE destination = ?", (pacs,))
        assert totals.archived(tx).instances == 0, "what went out in clear is no archive"
        tx.exec_driver_sql(
            "UPDATE deliveries SET state = 'CONFIRMED' WHERE destination = ? AND instance = 1", (usb,)
        )
        assert totals.archived(tx).instances == 1
    assert "could leave this disk: 1 (" in " ".join(ways(measured(box)))


def test_the_levels_are_those_that_reception_and_the_alarm_go_by(box: Box) -> None:
    found = replace(measured(box), refuse_bytes=100, low_bytes=400)
    levels = [replace(found, free_bytes=free).level for free in (99, 100, 399, 400)]
    assert levels == ["refusing", "low", "low", "enough"]
