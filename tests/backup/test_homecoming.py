"""After a restore: an image comes when it is wanted, the others by and by, and half of one is never taken for it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from appliance.backup import homecoming, making
from appliance.catalog import deliveries, destinations, settings
from appliance.cli import main
from appliance.errors import Refused, Transient
from appliance.lifecycle import scrub
from appliance.model import DestinationSettings
from appliance.replication import recall
from appliance.replication.destinations import build
from appliance.replication.destinations.archive import object_key
from appliance.replication.tombstone import lives
from tests.backup.conftest import IMAGES, KEEP, Clinic, as_sent, contents
from tests.backup.test_restoring import archive_of, bring_home, restore
from tests.boxes import box_in, recorded

pytestmark = pytest.mark.slow


def test_an_archive_out_of_reach_is_tried_again_and_nothing_is_lost(clinic: Clinic, tmp_path: Path) -> None:
    clinic.receive(*IMAGES[:3])
    clinic.deliver()
    restore(tmp_path / "after", clinic.place, clinic.paper)
    usb = tmp_path / "usb"
    usb.rename(tmp_path / "pulled out")
    with box_in(tmp_path / "after") as box:
        row = recorded(box)[0]
        with pytest.raises(Transient):
            recall.open_object(box, row.object_id, row.key_id, row.sealed_bytes)
        assert homecoming.bringing_home(box, datetime.now(UTC), keep_going=lambda: True) == 0
        (tmp_path / "pulled out").rename(usb)
        bring_home(box)
        assert contents(box) == as_sent(*IMAGES[:3])


def test_a_backup_that_is_made_meanwhile_keeps_how_often_the_box_came_back(
    clinic: Clinic, tmp_path: Path
) -> None:
    """It counts past what lies there, in the very document that says how far the images are home."""
    clinic.receive(*IMAGES[:3])
    clinic.deliver()
    now = datetime.now(UTC)
    restore(tmp_path / "second", clinic.place, clinic.paper)
    with box_in(tmp_path / "second") as box:
        making.back_up(box, clinic.place, now, actor="tests", keep=KEEP)
    (tmp_path / "usb" / "snapshots").rename(tmp_path / "unreadable")
    restore(tmp_path / "third", clinic.place, clinic.paper)
    (tmp_path / "unreadable").rename(tmp_path / "usb" / "snapshots")
    with box_in(tmp_path / "third") as box:

        def backing_up() -> bool:
            making.back_up(box, clinic.place, now, actor="tests", keep=KEEP)
            return True

        assert homecoming.bringing_home(box, now, keep_going=backing_up, most=1) == 1
        with box.catalog.reading() as conn:
            assert lives(conn) == 2


@pytest.mark.parametrize(
    ("row", "before", "after"),
    [
        (3, {"below": 4, "missing": 2}, 2),  # the homecoming has not come to it
        (4, {"below": 4, "missing": 2}, 1),
        (4, {"below": 4, "missing": 0}, 0),
        (4, {"below": 1, "missing": 2, "home": True}, 1),
        (3, {"below": 4, "passed": True, "missing": 2, "awaited": []}, 1),
        (4, {"below": 2, "missing": 2, "missing_rows": [5, 4]}, 1),
        (6, {"below": 2, "missing": 2, "missing_rows": [5, 4]}, 2),  # it has come, gone and come again
        (6, {"below": 2, "missing": 3, "missing_rows": [5, 4]}, 2),
        (5, {"below": 2, "missing": 2, "awaited": [[4, 6, 3]]}, 2),  # it was passed over
        (11, {"below": 4, "missing": 2}, 2),  # it came after the restore
        (11, {"below": 4, "missing": 3, "missing_rows": [5, 4], "missing_late": 1}, 2),
        (11, {"below": 4, "missing": 3, "missing_rows": [5, 4], "missing_late": 0}, 3),
        (6, {"below": 2, "missing": 3, "missing_rows": [5, 4], "missing_late": 1}, 3),
        (4, {"missing": 2}, 2),
    ],
)
def test_what_is_found_is_counted_where_it_was_counted_as_missing(
    clinic: Clinic, row: int, before: dict[str, Any], after: int
) -> None:
    clinic.receive(*IMAGES)
    now = datetime.now(UTC)
    object_id = next(each.object_id for each in recorded(clinic.box) if each.id == row)
    with clinic.box.catalog.transaction() as tx:
        homecoming.found(tx, object_id, now)
        assert settings.get(tx, homecoming.LAST) is None, "it never was restored"
        settings.put(
            tx, homecoming.LAST, {"at_utc": now.isoformat(), "from": "usb", "last": 10, **before}, now
        )
        homecoming.found(tx, object_id, now)
        told = settings.get(tx, homecoming.LAST)
    assert told["missing"] == after


def test_what_was_missing_and_is_opened_or_destroyed_is_missing_no_longer(
    clinic: Clinic, tmp_path: Path
) -> None:
    clinic.receive(*IMAGES[:6])
    clinic.deliver()
    restore(tmp_path / "after", clinic.place, clinic.paper)
    with box_in(tmp_path / "after") as box:
        rows = sorted(recorded(box), key=lambda each: each.id)
        (tmp_path / "found").mkdir()
        for row in rows[1:4]:
            there = tmp_path / "usb" / object_key(row.object_id)
            there.rename(tmp_path / "found" / there.name)
        bring_home(box)

        def missing() -> int:
            scrub.scrub(box, datetime.now(UTC), most=1, rest=lambda: None)
            with box.catalog.reading() as conn:
                return homecoming.missing(conn)

        assert missing() == 3
        opened = rows[3]
        there = tmp_path / "usb" / object_key(opened.object_id)
        (tmp_path / "found" / there.name).rename(there)
        recall.open_object(box, opened.object_id, opened.key_id, opened.sealed_bytes).close()
        assert [missing(), missing()] == [2, 2], "it is counted once"
        with box.catalog.transaction() as tx:
            told = settings.get(tx, homecoming.LAST)
            assert told["missing_rows"] == [rows[2].id, rows[1].id]
            destroyed = told | {"missing_rows": [rows[2].id, 999_999]}
            settings.put(tx, homecoming.LAST, destroyed, datetime.now(UTC))
        assert missing() == 1


def test_what_is_found_while_a_run_is_under_way_is_missing_no_longer(clinic: Clinic, tmp_path: Path) -> None:
    clinic.receive(*IMAGES[:6])
    clinic.deliver()
    restore(tmp_path / "after", clinic.place, clinic.paper)
    with box_in(tmp_path / "after") as box:
        first, *_, before_last, last = sorted(recorded(box), key=lambda each: each.id)
        for row in (first, before_last, last):
            (tmp_path / "usb" / object_key(row.object_id)).unlink()
        now = datetime.now(UTC)
        homecoming.bringing_home(box, now, keep_going=lambda: True, most=2)

        def finding() -> bool:
            if not found:
                found.append(last.object_id)
                with box.catalog.transaction() as tx:
                    homecoming.found(tx, last.object_id, now)
            return True

        found: list[str] = []
        homecoming.bringing_home(box, now, keep_going=finding, most=99)
        with box.catalog.reading() as conn:
            assert homecoming.missing(conn) == 2


def test_a_delivery_of_an_image_that_is_not_here_recalls_it_first(
    clinic: Clinic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    from appliance.catalog import rules
    from appliance.model import Rule
    from appliance.replication import courier
    from tests.backup.conftest import eventually

    folder = tmp_path / "hand-over"
    folder.mkdir()
    with clinic.box.catalog.transaction() as tx:
        place = DestinationSettings("there", "folder", "dicom", {"path": str(folder)})
        rules.add_rule(tx, Rule(destinations.add(tx, place), "there", "dicom"))
        destinations.pause(tx, "there")
    clinic.receive(*IMAGES[:3])

    def at_the_vault() -> bool:
        with clinic.box.catalog.reading() as conn:
            rows = deliveries.list_deliveries(conn, destination="usb", limit=10)
        return {row.state for row in rows} == {"CONFIRMED"}

    stop = threading.Event()
    working = threading.Thread(target=courier.run, args=(clinic.box, stop))
    working.start()
    eventually(at_the_vault)
    stop.set()
    working.join()
    clinic.back_up()
    restore(tmp_path / "after", clinic.place, clinic.paper)
    with box_in(tmp_path / "after") as box:
        with box.catalog.transaction() as tx:
            destinations.resume(tx, "there")
        stop = threading.Event()
        working = threading.Thread(target=courier.run, args=(box, stop))
        working.start()
        try:
            eventually(lambda: len(list(folder.rglob("*.dcm"))) == 3)
        finally:
            stop.set()
            working.join()
        with box.catalog.reading() as conn:
            assert {row.state for row in deliveries.list_deliveries(conn, limit=20)} == {"CONFIRMED"}


def test_a_recall_that_is_under_way_is_never_taken_for_the_object(clinic: Clinic, tmp_path: Path) -> None:
    """Whoever asks for an object's place gives finished parts their name: a half fetched one must not be among them."""
    clinic.receive(IMAGES[-1])
    clinic.deliver()
    restore(tmp_path / "after", clinic.place, clinic.paper)
    with box_in(tmp_path / "after") as box:
        (row,) = recorded(box)
        archive = archive_of(clinic.place)
        seen: list[bool] = []

        class Asking:
            """The archive, while others ask for the object at every block, and one of them recalls it too."""

            def __getattr__(self, name: str) -> Any:
                return getattr(archive, name)

            def blocks(self, key: str) -> Any:
                for number, block in enumerate(archive.blocks(key)):
                    seen.append(recall.is_here(box, row.object_id))
                    yield block
                    if number == 0:
                        recall._fetch(box, clinic.place, row.object_id, row.key_id, row.sealed_bytes)
                        box.objects.remove(row.object_id)

        with pytest.MonkeyPatch.context() as patched:
            first = [Asking()]
            patched.setattr("appliance.replication.recall.Archive", object)
            patched.setattr(
                "appliance.replication.recall.build", lambda *given: first.pop() if first else build(*given)
            )
            recall.recall(box, row.object_id, row.key_id, row.sealed_bytes)
        assert len(seen) > 1
        assert not any(seen)
        assert contents(box) == as_sent(IMAGES[-1])
        assert box.objects.forget_recalls() == 0


def test_what_a_recall_that_died_has_left_is_swept_and_one_that_lives_is_not(
    clinic: Clinic, tmp_path: Path
) -> None:
    clinic.receive(IMAGES[0])
    (row,) = recorded(clinic.box)
    died, lives = clinic.box.objects.recall(row.object_id), clinic.box.objects.recall(row.object_id)
    died.write([b"half"])
    died.close()
    assert clinic.box.objects.forget_recalls() == 1
    lives.abandon()
    assert clinic.box.objects.forget_recalls() == 0


def test_how_far_the_images_are_is_known_until_all_are_home(clinic: Clinic, tmp_path: Path) -> None:
    clinic.receive(*IMAGES[:6])
    clinic.deliver()
    with clinic.box.catalog.reading() as conn:
        assert homecoming.under_way(conn) is None, "this box was never restored"
    restore(tmp_path / "after", clinic.place, clinic.paper)
    with box_in(tmp_path / "after") as box:
        told = []
        for _ in range(3):
            with box.catalog.reading() as conn:
                told.append(homecoming.under_way(conn))
            homecoming.bringing_home(box, datetime.now(UTC), keep_going=lambda: True, most=4)
        assert [None if each is None else (each.done, each.instances) for each in told] == [
            (0, 6),
            (4, 6),
            None,
        ]


def test_an_archive_that_has_the_only_copy_stays_until_it_has_come_home(
    clinic: Clinic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clinic.receive(*IMAGES[:3])
    clinic.deliver()
    restore(tmp_path / "after", clinic.place, clinic.paper)
    monkeypatch.setenv("APPLIANCE_DATA", str(tmp_path / "after"))
    assert main(["verify"]) == 0
    assert "0 objects opened: all are whole. 3 more are in an archive" in capsys.readouterr().out
    assert main(["destination", "remove", clinic.place.name]) == Refused.exit_code
    assert "nowhere else have not come home yet" in capsys.readouterr().err
    with box_in(tmp_path / "after") as box:
        assert len(recorded(box)) == 3
        bring_home(box)
        assert contents(box) == as_sent(*IMAGES[:3])
    assert main(["verify", "--all"]) == 0
    assert "3 objects read in full: all are whole.\n" in capsys.readouterr().out
    assert main(["destination", "remove", clinic.place.name]) == 0
