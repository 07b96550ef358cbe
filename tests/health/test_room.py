"""What takes the room: every byte of the box is somebody's, and what is said to be free to go is what the tiers let go."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance import health, settings
from appliance.box import Box, open_box
from appliance.catalog import destinations, evictions, manifests, rules
from appliance.catalog.columns import utc_text
from appliance.catalog.evictions import Proven
from appliance.catalog.holds import HoldKind
from appliance.cli.disk import WORDS, ways
from appliance.health import judge, room
from appliance.health.facts import Facts
from appliance.ingest import Reception
from appliance.lifecycle import eviction, freezing, holds, retention
from appliance.lifecycle.acting import Act
from appliance.model import DestinationId, DestinationSettings, ObjectId, Rule
from appliance.web.console import web_ui
from appliance.web.language import Languages
from tests.boxes import config_in, send
from tests.health.test_checks import FULL, GB, disk, lasts
from tests.instances import Instance

NOW = datetime.now(UTC)
USB = DestinationSettings("usb", "vault", "ciphertext", {"path": "/media/usb"})
CLOUD = DestinationSettings("cloud", "s3", "ciphertext", {"bucket": "clinic"})
SHARE = DestinationSettings("share", "folder", "dicom", {"path": "/srv/share"})


@pytest.fixture
def box(data_dir: Path) -> Iterator[Box]:
    opened = open_box(config_in(data_dir))
    yield opened
    opened.close()


def measured(box: Box) -> room.Room:
    return room.measure(box, health.gather(box, NOW), NOW)


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


def receive(box: Box, *places: DestinationSettings) -> None:
    """Two studies of two images come, are owed to these places, and four years go by."""
    with box.catalog.transaction() as tx:
        for place in places:
            rules.add_rule(tx, Rule(destinations.add(tx, place), place.name, place.takes))
        settings.change(tx, box.audit_key, {"tiers.newest_studies": 0}, actor="tests", now=NOW)
    reception = Reception(box, "worker")
    for number in range(4):
        send(reception, Instance(number, study=1 + number // 2))
    reception.close()
    with box.catalog.transaction() as tx:
        retention.watch_clock(tx, NOW, follows_time_server=True)
        then = utc_text(NOW - timedelta(days=1500))
        tx.exec_driver_sql("UPDATE studies SET last_received_utc = ?, first_received_utc = ?", (then, then))


def confirm(box: Box) -> None:
    """Everything has arrived where it is owed, with the manifest of its study."""
    with box.catalog.transaction() as tx:
        tx.exec_driver_sql("UPDATE deliveries SET state = 'CONFIRMED'")
        for each in destinations.destinations(tx):
            if each.takes == "ciphertext":
                manifests.mark(tx, each.id, [1, 2], NOW)
        tx.exec_driver_sql("UPDATE manifests SET written_utc = dirty_utc, dirty_utc = NULL")


def choose(box: Box, **wanted: object) -> None:
    with box.catalog.transaction() as tx:
        values = {f"tiers.{key}": value for key, value in wanted.items()}
        settings.change(tx, box.audit_key, values, actor="tests", now=NOW)


def said(box: Box) -> str:
    return " ".join(ways(measured(box)))


def test_what_only_a_disk_and_a_share_have_may_not_leave(box: Box) -> None:
    """A disk is carried home, and what went out in clear is no archive."""
    receive(box, USB, SHARE)
    confirm(box)
    assert "no image may leave this disk" in said(box)
    assert "could leave" not in said(box)


def test_what_a_cloud_has_could_leave_as_far_as_nothing_keeps_it_here(box: Box) -> None:
    receive(box, USB, CLOUD, SHARE)
    assert "no image may leave this disk" in said(box), "nothing has arrived anywhere"
    confirm(box)
    assert "could leave this disk: 4 (" in said(box)
    with box.catalog.transaction() as tx:
        place = Act("marie", NOW, box.audit_key)
        held = holds.place(tx, place, kind=HoldKind.LEGAL, study=1, whole_patient=False, reason="claim")
    assert "could leave this disk: 2 (" in said(box)
    with box.catalog.transaction() as tx:
        holds.release(tx, place, held.id, reason="settled")
    assert "could leave this disk: 4 (" in said(box)
    choose(box, keep_days=1600)
    assert "it has to be here for 1600 days" in said(box)


def test_what_has_left_could_not_leave_again(box: Box) -> None:
    receive(box, CLOUD)
    confirm(box)
    with box.catalog.transaction() as tx:
        left = [
            Proven(each.instance, each.object_id, "00", "00", (DestinationId(1),))
            for each in evictions.local_images(tx, 1)
        ]
        evictions.gone(tx, 1, left, NOW)
    assert "could leave this disk: 2 (" in said(box)


def test_it_says_what_lets_them_leave_and_what_does_not(box: Box) -> None:
    receive(box, CLOUD)
    confirm(box)
    assert "appliance setting set tiers.eviction when-needed" in said(box)
    choose(box, eviction="when-needed", low_percent=25)
    assert "where less than 25% of the disk is free" in said(box)
    choose(box, eviction="by-age")
    assert "by and by" in said(box)
    with box.catalog.transaction() as tx:
        freezing.freeze(tx, Act("marie", NOW, box.audit_key), reason="a strange message on a screen")
    assert "could leave this disk: 4 (" in said(box)
    assert "none may now: so much was lost at once" in said(box)


def test_the_look_at_the_studies_may_be_cut_short_and_says_so(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive(box, CLOUD)
    confirm(box)
    monkeypatch.setattr(eviction, "AT_ONCE", 1)
    for looks, words in ((0, "of the studies that were looked at no image may leave"), (1, "at least 2 (")):
        asked = iter([True] * looks + [False])
        facts = health.gather(box, NOW)
        found = room.measure(box, facts, NOW, keep_going=lambda asked=asked: next(asked))  # type: ignore[misc]
        assert words in " ".join(ways(found))


def test_the_levels_are_those_that_reception_and_the_alarm_go_by(box: Box) -> None:
    found = replace(measured(box), refuse_bytes=100, low_bytes=400)
    levels = [replace(found, free_bytes=free).level for free in (99, 100, 399, 400)]
    assert levels == ["refusing", "low", "low", "enough"]


@pytest.mark.parametrize("filling", [disk(0, FULL), disk(GB), lasts(7)])
def test_a_disk_that_fills_sends_nobody_to_choose_what_is_chosen(filling: Facts) -> None:
    (before,), (after,) = judge(filling), judge(replace(filling, lets_leave=True))
    assert "choose in the settings" in before.fix
    assert "choose" not in after.fix
    assert "add a disk" in after.fix
    assert "Storage tiers says what keeps the rest" in after.fix
    assert after == replace(before, fix=after.fix)
    for code in ("fr", "es", "zh"):
        assert Languages(web_ui() / "languages").words(code).cause(after.fix).lower() != after.fix.lower()
