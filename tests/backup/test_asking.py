"""What lies in an archive under a name that the backup knows comes home after a fire, though neither receipt nor manifest says that it is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance import health
from appliance.backup import asking, homecoming
from appliance.backup.schedule import Schedule
from appliance.box import Box
from appliance.catalog import (
    alterations,
    deliveries,
    destinations,
    receipts,
    rules,
    settings,
    unreceipted,
)
from appliance.catalog.instances import InstanceRow
from appliance.errors import ApplianceError, Unknown, Unreadable
from appliance.health import gathering
from appliance.lifecycle import eviction, scrub
from appliance.lifecycle.scrub import VERIFICATION
from appliance.model import DestinationSettings, Owed, Rule
from appliance.replication import recall
from appliance.replication.delivery import State
from appliance.replication.destinations import prepare
from appliance.replication.destinations.archive import object_key
from appliance.replication.destinations.vault import VaultDestination
from tests.backup.conftest import IMAGES, Clinic, as_sent, contents
from tests.backup.test_restoring import bring_home, restore
from tests.boxes import box_in, data_set_of, recorded
from tests.lifecycle.evicting import NOW, here
from tests.lifecycle.test_deep_archive import bring_home as bring_home_in_hours
from tests.lifecycle.test_deep_archive import sink_all
from tests.lifecycle.test_eviction_cloud import Remote, remote, the_cloud  # noqa: F401 - fixtures
from tests.replication.cloud import Fault, come_up, sink_version

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


def test_an_archive_whose_place_was_mistyped_is_asked_again_at_the_right_one(
    burnt: Clinic, tmp_path: Path
) -> None:
    restore(tmp_path / "after", burnt.place, burnt.paper)
    (tmp_path / "empty").mkdir()
    right = dict(burnt.place.options)
    wrong = prepare(DestinationSettings("usb", "vault", "ciphertext", {"path": str(tmp_path / "empty")}))
    with box_in(tmp_path / "after") as box:
        for options in (dict(wrong.options), right):
            with box.catalog.transaction() as tx:
                before = destinations.destinations(tx)[0]
                recall.let_move(tx, before, options)
                destinations.change(tx, before.name, options)
            home(box)
            assert here(box) == (4 if options == right else 0)


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


def hurt(patch: pytest.MonkeyPatch, of: Callable[[str], ApplianceError | bytes | None]) -> list[str]:
    """A disk that gives this instead of an object, by its key; the keys that were read."""
    plain = VaultDestination.blocks
    asked: list[str] = []

    def blocks(self: VaultDestination, key: str) -> Iterator[bytes]:
        asked.append(key)
        found = of(key)
        if isinstance(found, ApplianceError):
            raise found
        return iter([found]) if found is not None else plain(self, key)

    patch.setattr(VaultDestination, "blocks", blocks)
    return asked


def test_what_was_spoilt_on_the_way_is_read_once_more(
    burnt: Clinic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    restore(tmp_path / "after", burnt.place, burnt.paper)
    seen: set[str] = set()

    def spoilt(key: str) -> bytes | None:
        if key in seen or not key.startswith("objects/"):
            return None
        seen.add(key)
        return b"half of it"

    with box_in(tmp_path / "after") as box:
        asked = hurt(monkeypatch, spoilt)
        assert asking.ask(box, NOW, keep_going=lambda: True) == 4
        assert here(box) == 4
        assert len(asked) == 6 + 6, "and no more than once: the disk lacks two of them"


def hurt_problems(box: Box) -> list[tuple[str, str]]:
    return [
        (each.subject, each.words)
        for each in health.status(box, NOW).problems
        if each.code == "disk-unreadable"
    ]


def test_what_a_disk_does_not_give_back_is_told_and_asked_for_again_the_next_day(
    burnt: Clinic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    restore(tmp_path / "after", burnt.place, burnt.paper)
    with box_in(tmp_path / "after") as box:
        first, *_ = as_they_came(box)
        with monkeypatch.context() as patch:
            bad = Unreadable("a file cannot be read (input/output error)")
            asked = hurt(patch, lambda key: bad if key == object_key(first.object_id) else None)
            home(box)
            assert (here(box), missing(box)) == (3, 3)
            assert "look at that disk and its cable" in caplog.text
            assert hurt_problems(box) == [
                (
                    "usb",
                    "images that usb holds and does not give back: 1; no other archive has given them back",
                )
            ]
            with box.catalog.transaction() as tx:
                last = settings.get(tx, homecoming.LAST)
                settings.put(tx, homecoming.LAST, {**last, "at_utc": NOW.isoformat()}, NOW)
            assert hurt_problems(box) == [], "of an earlier restore, in the index that came back"
            with box.catalog.transaction() as tx:
                settings.put(tx, homecoming.LAST, last, NOW)
            asked.clear()
            home(box)
            assert not asked, "a disk that is failing is not read over and over"
            day = datetime.now(UTC) + timedelta(days=1)
            assert asking.ask(box, day, keep_going=lambda: True) == 0
            assert asked == [object_key(first.object_id)]
        assert asking.ask(box, day + timedelta(hours=23), keep_going=lambda: True) == 0
        assert asking.ask(box, day + timedelta(days=1), keep_going=lambda: True) == 1
        assert (here(box), missing(box), hurt_problems(box)) == (4, 2, [])
        asked = hurt(monkeypatch, lambda _: None)
        assert asking.ask(box, day + timedelta(days=9), keep_going=lambda: True) == 0
        assert not asked
        assert gathering.RESTORE_ASKED == asking.ASKED


def test_a_disk_that_gives_nothing_back_is_left_alone_after_a_few_and_nothing_is_concluded(
    burnt: Clinic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    restore(tmp_path / "after", burnt.place, burnt.paper)
    with box_in(tmp_path / "after") as box:
        monkeypatch.setattr(asking, "MOST_UNREAD", 4)
        with monkeypatch.context() as patch:
            asked = hurt(patch, lambda key: Unreadable("bad") if key.startswith("objects/") else None)
            for reads in (
                homecoming.UNREAD_AT_ONCE,
                2 * homecoming.UNREAD_AT_ONCE,
                2 * homecoming.UNREAD_AT_ONCE,
            ):
                asking.ask(box, NOW, keep_going=lambda: True)
                assert len(asked) == reads
            asking.ask(box, NOW + timedelta(days=1), keep_going=lambda: True)
            again = asked[2 * homecoming.UNREAD_AT_ONCE :]
            assert again == asked[: homecoming.UNREAD_AT_ONCE]
            asking.ask(box, NOW + timedelta(days=2), keep_going=lambda: True)
            assert asked[-3:] == asked[3:6], "those that were not tried come first"
        for _ in range(6):  # it goes on with the next run, however few it asks for in one
            asking.ask(box, NOW + timedelta(days=3), keep_going=lambda: True, most=1)
        assert (here(box), hurt_problems(box)) == (4, [])


def test_an_image_that_a_disk_does_not_give_back_keeps_no_other_from_coming_home(
    clinic: Clinic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clinic.receive(*IMAGES)
    clinic.deliver()
    restore(tmp_path / "after", clinic.place, clinic.paper)
    with box_in(tmp_path / "after") as box:
        bad = {object_key(row.object_id) for row in as_they_came(box)[3:8]}
        with monkeypatch.context() as patch:
            asked = hurt(patch, lambda key: Unreadable("bad") if key in bad else None)
            homecoming.bringing_home(box, NOW, keep_going=lambda: True)
            assert len(bad & set(asked)) == homecoming.UNREAD_AT_ONCE + 1, "and no more in a run"
            bring_home(box)
            assert (here(box), missing(box)) == (6, 5)
            scrub.scrub(box, NOW, rest=lambda: None)
            assert missing(box) == 5
            with box.catalog.reading() as conn:
                assert settings.get(conn, VERIFICATION)["damaged"] == 5, "which health tells"
        scrub.scrub(box, NOW + timedelta(days=1), rest=lambda: None)
        assert (here(box), missing(box)) == (11, 0)
        assert contents(box) == as_sent(*IMAGES)


def test_an_archive_that_does_not_answer_costs_no_look_at_the_catalog(
    burnt: Clinic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    restore(tmp_path / "after", burnt.place, burnt.paper)
    with box_in(tmp_path / "after") as box:
        (tmp_path / "usb").rename(tmp_path / "pulled out")
        looked: list[object] = []

        def between(*given: object) -> list[object]:
            looked.append(given)
            return []

        monkeypatch.setattr(unreceipted, "between", between)
        assert asking.ask(box, NOW, keep_going=lambda: True) == 0
        assert not looked
        (tmp_path / "pulled out").rename(tmp_path / "usb")
        asking.ask(box, NOW, keep_going=lambda: True)
        assert len(looked) == 1


@pytest.fixture
def forgetful(remote: Remote) -> Remote:  # noqa: F811
    """A bucket whose backup is of before eleven images were sent, and which holds no manifest of them."""
    client = remote.cloud.client()
    with remote.clinic.box.catalog.transaction() as tx:
        tx.exec_driver_sql("DELETE FROM delivery_events")
        tx.exec_driver_sql("DELETE FROM deliveries")
    remote.clinic.back_up()
    for key in remote.cloud.keys(remote.bucket, "manifests/"):
        client.delete_object(Bucket=remote.bucket, Key=key)
    return remote


def alter(remote: Remote) -> None:  # noqa: F811
    """Somebody writes over an image, over another as long as it was, twice, and removes one; and one is gone for good."""
    client = remote.cloud.client()
    remote.damage(1)
    client.put_object(Bucket=remote.bucket, Key=remote.key(2), Body=b"encrypted by a thief")
    client.delete_object(Bucket=remote.bucket, Key=remote.key(3))
    for thief in (b"a", b"b"):
        length = client.head_object(Bucket=remote.bucket, Key=remote.key(4))["ContentLength"]
        client.put_object(Bucket=remote.bucket, Key=remote.key(4), Body=thief * length)
    client.delete_object(Bucket=remote.bucket, Key=remote.key(5))
    remote.forget_earlier_versions(5)


@pytest.mark.parametrize("has_room", [True, False])
def test_what_was_written_over_in_a_bucket_is_taken_from_its_earlier_version(
    forgetful: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, has_room: bool
) -> None:
    alter(forgetful)
    clinic = forgetful.clinic
    assert restore(tmp_path / "after", clinic.place, clinic.paper).rebuilt.manifests == 0
    with box_in(tmp_path / "after") as box:
        with monkeypatch.context() as patch:
            patch.setattr(homecoming, "KEPT_PERCENT", homecoming.KEPT_PERCENT if has_room else 100)
            assert asking.ask(box, NOW, keep_going=lambda: True) == 10
        assert here(box) == (10 if has_room else 0)
        bring_home(box)
        assert (here(box), missing(box)) == (10, 1)
        with box.catalog.reading() as conn:
            (place,) = destinations.destinations(conn)
            found = alterations.of(conn, [place.id], NOW)[place.id]
        assert found.count == 4, "that somebody has the key of that storage is told"
        told = set(as_sent(*IMAGES).items()) - set(contents_here(box).items())
        assert len(told) == 1


def contents_here(box: Box) -> dict[str, bytes]:
    return {
        str(row.sop_instance_uid): data_set_of(box, row)
        for row in recorded(box)
        if recall.is_here(box, row.object_id)
    }


def test_an_earlier_version_that_lies_deep_is_known_to_be_there_and_comes_when_it_has_come_up(
    forgetful: Remote, tmp_path: Path
) -> None:
    client, key = forgetful.cloud.client(), forgetful.key(3)
    version = client.head_object(Bucket=forgetful.bucket, Key=key)["VersionId"]
    sink_version(forgetful.bucket, key, version)
    client.delete_object(Bucket=forgetful.bucket, Key=key)
    restore(tmp_path / "after", forgetful.clinic.place, forgetful.clinic.paper)
    with box_in(tmp_path / "after") as box:
        assert asking.ask(box, NOW, keep_going=lambda: True) == 11
        assert here(box) == 10
        bring_home_in_hours(box, 3)
        come_up(forgetful.bucket, key, version_id=version)
        bring_home_in_hours(box, 6)
        assert (here(box), missing(box)) == (11, 0)
        eviction.settle(box, NOW)
        assert contents(box) == as_sent(*IMAGES)


def test_a_bucket_that_tells_of_no_versions_is_asked_for_the_rest_all_the_same(
    forgetful: Remote, tmp_path: Path
) -> None:
    alter(forgetful)
    restore(tmp_path / "after", forgetful.clinic.place, forgetful.clinic.paper)
    with box_in(tmp_path / "after") as box:
        forgetful.line.fault = lambda asked: Fault.FORBIDDEN if "versions" in asked.query else None
        assert asking.ask(box, NOW, keep_going=lambda: True) == 6
        assert here(box) == 6


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
