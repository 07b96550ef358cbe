"""What lies in an archive under a name that the backup knows comes home after a fire, though neither receipt nor manifest says that it is there."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance.backup import asking, homecoming
from appliance.backup.schedule import Schedule
from appliance.box import Box
from appliance.catalog import deliveries, destinations, receipts, rules, settings
from appliance.catalog.instances import InstanceRow
from appliance.errors import Unknown
from appliance.lifecycle import eviction, scrub
from appliance.model import DestinationSettings, Owed, Rule
from appliance.replication import recall
from appliance.replication.delivery import State
from appliance.replication.destinations import prepare
from appliance.replication.destinations.archive import object_key
from tests.backup.conftest import IMAGES, Clinic, as_sent, contents
from tests.backup.test_restoring import bring_home, restore
from tests.boxes import box_in, recorded
from tests.lifecycle.evicting import NOW, here
from tests.lifecycle.test_deep_archive import bring_home as bring_home_in_hours
from tests.lifecycle.test_deep_archive import sink_all
from tests.lifecycle.test_eviction_cloud import Remote, remote, the_cloud  # noqa: F401 - fixtures
from tests.replication.cloud import come_up

pytestmark = pytest.mark.slow

SIX = IMAGES[:6]


@pytest.fixture
def burnt(clinic: Clinic, tmp_path: Path) -> Clinic:
    """Six images that were received before the backup; four of them reached the archive after it, and none of its manifests did."""
    clinic.receive(*SIX)
    clinic.back_up()
    clinic.deliver()
    for path in (tmp_path / "usb" / "manifests").iterdir():
        path.unlink()
    for row in as_they_came(clinic.box)[4:]:
        (tmp_path / "usb" / object_key(row.object_id)).unlink()
    return clinic


def as_they_came(box: Box) -> list[InstanceRow]:
    return sorted(recorded(box), key=lambda each: each.id)


def home(box: Box) -> None:
    """What the job does, again and again."""
    for _ in range(6):
        Schedule().bring_home(box, datetime.now(UTC))


def missing(box: Box) -> int:
    with box.catalog.reading() as conn:
        return homecoming.missing(conn)


def test_what_the_archive_has_comes_home_and_what_it_has_not_is_missing(
    burnt: Clinic, tmp_path: Path
) -> None:
    restored = restore(tmp_path / "after", burnt.place, burnt.paper)
    assert (restored.instances, restored.rebuilt.instances) == (6, 0)
    with box_in(tmp_path / "after") as box:
        home(box)
        rows = as_they_came(box)
        assert [recall.is_here(box, row.object_id) for row in rows] == [True] * 4 + [False] * 2
        assert missing(box) == 2
        for row in rows[4:]:
            with pytest.raises(Unknown):
                recall.open_object(box, row.object_id, row.key_id, row.sealed_bytes)
            box.objects.path(row.object_id).write_bytes(
                burnt.box.objects.path(row.object_id).read_bytes()
            )  # so that all is owed and there
        assert contents(box) == as_sent(*SIX)
        with box.catalog.reading() as conn:
            assert len(receipts.of_object(conn, rows[0].object_id)) == 1
        Clinic(box, burnt.place, burnt.paper).deliver()
        assert any((tmp_path / "usb" / "manifests").iterdir()), "it is written again"


def test_what_is_not_what_was_written_gets_no_receipt(burnt: Clinic, tmp_path: Path) -> None:
    first, second, *_ = [tmp_path / "usb" / object_key(row.object_id) for row in as_they_came(burnt.box)]
    first.write_bytes(second.read_bytes())
    restore(tmp_path / "after", burnt.place, burnt.paper)
    with box_in(tmp_path / "after") as box:
        home(box)
        assert here(box) == 3 and missing(box) == 3
        with box.catalog.reading() as conn:
            assert recall.holders(conn, as_they_came(box)[0].object_id) == []


def test_a_disk_that_comes_later_is_asked_then_and_what_it_has_is_missing_no_longer(
    burnt: Clinic, tmp_path: Path
) -> None:
    restore(tmp_path / "after", burnt.place, burnt.paper)
    with box_in(tmp_path / "after") as box:
        (tmp_path / "usb" / "objects").rename(tmp_path / "objects")
        (tmp_path / "usb" / "objects").mkdir()
        home(box)
        assert (here(box), missing(box)) == (0, 6)
        (tmp_path / "zip").mkdir()
        zip_disk = prepare(DestinationSettings("zip", "vault", "ciphertext", {"path": str(tmp_path / "zip")}))
        (tmp_path / "zip" / "objects").rmdir() if (tmp_path / "zip" / "objects").exists() else None
        (tmp_path / "objects").rename(tmp_path / "zip" / "objects")
        with box.catalog.transaction() as tx:
            rules.add_rule(tx, Rule(destinations.add(tx, zip_disk), "zip", "ciphertext"))
        (tmp_path / "zip").rename(tmp_path / "pulled out")
        home(box)
        assert here(box) == 0
        (tmp_path / "pulled out").rename(tmp_path / "zip")
        home(box)
        assert (here(box), missing(box)) == (4, 2)
        asked: list[str] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(recall, "fetch", lambda *given: asked.append("again"))
            home(box)
        assert asked == [], "once it has been asked for all, nobody asks again"


def test_it_goes_on_where_it_was_and_asks_for_no_more_than_its_share(burnt: Clinic, tmp_path: Path) -> None:
    restore(tmp_path / "after", burnt.place, burnt.paper)
    with box_in(tmp_path / "after") as box:

        def asked(most: int, keep_going: Callable[[], bool] = lambda: True) -> int:
            return asking.ask(box, NOW, keep_going=keep_going, most=most)

        assert (asked(2), here(box)) == (0, 0), "the last recorded first"
        assert (asked(2), here(box)) == (2, 2)
        assert asked(2, lambda: False) == 0
        assert (asked(99), here(box)) == (2, 4)
        with box.catalog.reading() as conn:
            assert set(settings.get(conn, asking.ASKED)["below"].values()) == {1}
        bring_home(box)
        assert missing(box) == 2


def test_without_room_it_is_read_and_not_kept_and_the_homecoming_brings_it(
    burnt: Clinic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    restore(tmp_path / "after", burnt.place, burnt.paper)
    with box_in(tmp_path / "after") as box:
        with monkeypatch.context() as patch:
            patch.setattr(homecoming, "KEPT_PERCENT", 100)
            assert asking.ask(box, NOW, keep_going=lambda: True) == 4
        assert here(box) == 0
        bring_home(box)
        assert (here(box), missing(box)) == (4, 2)


def test_what_was_missing_is_found_when_it_is_here_and_not_when_it_is_known_to_be_there(
    burnt: Clinic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scrub brings it, once there is room: the homecoming is over."""
    restore(tmp_path / "after", burnt.place, burnt.paper)
    with box_in(tmp_path / "after") as box:
        (tmp_path / "usb").rename(tmp_path / "pulled out")
        bring_home(box)
        assert (here(box), missing(box)) == (0, 6)
        (tmp_path / "pulled out").rename(tmp_path / "usb")
        with monkeypatch.context() as patch:
            patch.setattr(homecoming, "KEPT_PERCENT", 100)
            assert asking.ask(box, NOW, keep_going=lambda: True) == 4
        assert (here(box), missing(box)) == (0, 6)
        scrub.scrub(box, NOW, rest=lambda: None)
        assert (here(box), missing(box)) == (4, 2)
        scrub.scrub(box, NOW, rest=lambda: None)
        assert missing(box) == 2, "what nobody has stays missing"


def test_what_another_archive_was_refused_meanwhile_is_sent_once_it_is_here(
    burnt: Clinic, tmp_path: Path
) -> None:
    restore(tmp_path / "after", burnt.place, burnt.paper)
    with box_in(tmp_path / "after") as box:
        (tmp_path / "zip").mkdir()
        place = prepare(DestinationSettings("zip", "vault", "ciphertext", {"path": str(tmp_path / "zip")}))
        row = as_they_came(box)[0]
        with box.catalog.transaction() as tx:
            number = destinations.add(tx, place)
            deliveries.owe(tx, row.id, [Owed(number, 0)], NOW)
            (claimed,) = deliveries.claim(tx, number, now=NOW, lease_seconds=60, limit=1)
            deliveries.fail(tx, claimed.id, claimed.attempts, reason="nobody has it", now=NOW)
        home(box)
        with box.catalog.reading() as conn:
            (found,) = deliveries.list_deliveries(conn, destination="zip")
        assert found.state is State.PENDING


def test_what_lies_deep_is_known_to_be_there_and_comes_when_it_has_come_up(
    remote: Remote,  # noqa: F811
    tmp_path: Path,
) -> None:
    deep = sink_all(remote, range(2, 5))
    remote.clinic.back_up()
    restore(tmp_path / "after", remote.clinic.place, remote.clinic.paper)
    with box_in(tmp_path / "after") as box:
        with box.catalog.transaction() as tx:
            tx.exec_driver_sql("DELETE FROM delivery_events")
            tx.exec_driver_sql("DELETE FROM deliveries")  # as of a backup from before they were sent
        assert asking.ask(box, NOW, keep_going=lambda: True) == 11
        assert here(box) == 8
        bring_home_in_hours(box, 3)
        come_up(remote.bucket, *deep)
        bring_home_in_hours(box, 6)
        assert (here(box), missing(box)) == (11, 0)
        eviction.settle(box, NOW)
        assert contents(box) == as_sent(*IMAGES)
