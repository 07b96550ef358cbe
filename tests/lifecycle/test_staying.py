"""After a restore onto a smaller disk: what comes home, what stays away and by what proof, and that reception goes on."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from appliance import audit, health
from appliance import settings as operator_settings
from appliance.backup import homecoming
from appliance.box import Box
from appliance.catalog import evictions, manifests, settings, studies
from appliance.catalog.columns import utc_text
from appliance.catalog.freezes import Why
from appliance.catalog.instances import InstanceRow
from appliance.errors import ApplianceError, OperatorNeeded, Transient, Unreadable
from appliance.ingest import Reception
from appliance.lifecycle import census, eviction, freezing, retention, scrub
from appliance.lifecycle.acting import Act
from appliance.lifecycle.staying import Staying
from appliance.lifecycle.tiers import Eviction
from appliance.replication import recall
from appliance.replication.destinations.archive import object_key
from appliance.replication.destinations.vault import VaultDestination
from appliance.store.guard import DiskGuard, Space
from tests.backup.conftest import IMAGES, Clinic, as_sent, clinic, disk  # noqa: F401 - fixtures
from tests.backup.test_restoring import restore
from tests.boxes import box_in, recorded, send
from tests.instances import Instance
from tests.lifecycle.evicting import ANY, NOW, at_now, here, reached, rows
from tests.lifecycle.test_eviction_elsewhere import a_second_archive

pytestmark = pytest.mark.slow

TOTAL = 1_000_000
RESERVE = 50_000
LAST_MARK = RESERVE + TOTAL // 20
SMALL = IMAGES[:10]
NEW = [Instance(200 + number, study=60 + number, pixel_bytes=3_000) for number in range(3)]


class SmallDisk(DiskGuard):
    """A disk of `TOTAL` bytes, of which `others` are taken by something else."""

    others = 0

    def space(self) -> Space:
        used = sum(path.stat().st_size for path in (self._root / "objects").rglob("*.sealed"))
        return Space(TOTAL, TOTAL - self.others - used, 1 << 40)


@pytest.fixture
def a_clinic(clinic: Clinic) -> Clinic:  # noqa: F811
    clinic.receive(*SMALL)
    clinic.deliver()
    clinic.back_up()
    return clinic


@contextmanager
def on_a_disk_for(
    clinic: Clinic,  # noqa: F811
    tmp_path: Path,
    images: int,
    *,
    above: int,
    eviction_is: str = "off",
) -> Iterator[Box]:
    """The restored box on a disk with room for so many images `above` a mark in bytes; all studies have grown old but the latest."""
    restore(tmp_path / "after", clinic.place, clinic.paper)
    with box_in(tmp_path / "after") as plain:
        guard = SmallDisk(tmp_path / "after", RESERVE)
        box = replace(plain, guard=guard)
        size = max(row.sealed_bytes for row in recorded(box))
        guard.others = TOTAL - above - images * size - size // 2
        with box.catalog.transaction() as tx:
            operator_settings.change(
                tx, box.audit_key, {"tiers.eviction": eviction_is}, actor="tests", now=NOW
            )
            # A manifest in the archive is as the box knows it only once the courier has written it.
            tx.exec_driver_sql("UPDATE manifests SET dirty_utc = NULL")
            retention.watch_clock(tx, NOW, follows_time_server=True)
        yield box


def grow_old(box: Box, *but: int) -> None:
    """Four years go by for every study but those."""
    long_ago = utc_text(NOW - timedelta(days=1500))
    with box.catalog.transaction() as tx:
        for each in studies.find(tx):
            if each.id not in but:
                tx.exec_driver_sql(
                    "UPDATE studies SET last_received_utc = ?, first_received_utc = ? WHERE id = ?",
                    (long_ago, long_ago, each.id),
                )


def run(box: Box, times: int = 4, stay: Callable[..., int] | None = None, *, first: int = 0) -> int:
    return sum(
        homecoming.bringing_home(
            box,
            NOW + number * homecoming.AGAIN_AFTER,
            keep_going=lambda: True,
            most=4,
            **({} if stay is None else {"stay": stay}),
        )
        for number in range(first, first + times)
    )


def staying(box: Box) -> Staying:
    return Staying(box, at_now, replace(ANY, eviction=Eviction.WHEN_NEEDED))


def receive(box: Box, *images: Instance) -> None:
    reception = Reception(box, "worker")
    for each in images:
        send(reception, each)
    reception.close()


def state(box: Box) -> homecoming.Homecoming | None:
    with box.catalog.reading() as conn:
        return homecoming.under_way(conn)


def drawn(box: Box) -> list[int]:
    with box.catalog.reading() as conn:
        return [row[0] for row in census.drawn(conn, random.Random())]


def obstacle(box: Box) -> str:
    with box.catalog.reading() as conn:
        return eviction.obstacle(conn, NOW)


def codes(box: Box) -> set[str]:
    return {each.code for each in health.status(box, NOW).problems}


def test_where_nothing_may_leave_the_newest_come_and_reception_has_room(
    a_clinic: Clinic, tmp_path: Path
) -> None:
    with on_a_disk_for(a_clinic, tmp_path, 4, above=LAST_MARK) as box:
        receive(box, NEW[0])
        assert run(box) == 3, "and the one that was received meanwhile"
        assert {row.sop_instance_uid for row in recorded(box) if recall.is_here(box, row.object_id)} == {
            each.sop_instance_uid for each in [*SMALL[-3:], NEW[0]]
        }
        box.guard.admit(TOTAL // 20)
        receive(box, *NEW[1:])
        found = state(box)
        assert found is not None
        assert (found.is_stopped, found.missing) == (True, 0)
        assert obstacle(box) == ""
        assert "disk-too-small" in codes(box)
        assert census.take(box, NOW) is None, "what has not come home is not gone"
        assert rows(box) == 0, "nothing is away on purpose that nobody has proven"
        assert reached(box) == as_sent(*SMALL, *NEW), "each comes when it is opened"


def test_on_a_larger_disk_the_rest_comes(a_clinic: Clinic, tmp_path: Path) -> None:
    with on_a_disk_for(a_clinic, tmp_path, 4, above=LAST_MARK) as box:
        run(box)
        assert isinstance(box.guard, SmallDisk)
        box.guard.others = 0
        run(box)
        assert (state(box), here(box)) == (None, len(SMALL))
        assert "disk-too-small" not in codes(box)


def test_where_images_may_leave_the_older_stay_away_by_proof(a_clinic: Clinic, tmp_path: Path) -> None:
    with on_a_disk_for(a_clinic, tmp_path, 4, above=TOTAL * 30 // 100, eviction_is="when-needed") as box:
        grow_old(box)
        assert run(box, stay=staying(box)) == 4
        assert state(box) is None, "it has come to its end"
        assert (here(box), rows(box)) == (4, len(SMALL) - 4)
        assert obstacle(box) == ""
        assert not {"disk-too-small", "mass-loss"} & codes(box)
        receive(box, *NEW)
        with box.catalog.reading() as conn:
            assert evictions.unsettled(conn) == []
            told = homecoming.of_late(conn, NOW - timedelta(days=30))
        assert told is not None
        assert (told.stayed, told.is_over) == (len(SMALL) - 4, True)
        assert reached(box) == as_sent(*SMALL, *NEW)


def test_an_image_that_stays_away_is_known_when_it_is_sent_again(a_clinic: Clinic, tmp_path: Path) -> None:
    with on_a_disk_for(a_clinic, tmp_path, 0, above=TOTAL * 30 // 100, eviction_is="when-needed") as box:
        grow_old(box)
        run(box, stay=staying(box))
        assert rows(box) == len(SMALL)
        receive(box, SMALL[0])
        assert len(recorded(box)) == len(SMALL), "the same bytes are no other version"


def test_what_is_pinned_comes_below_the_clinics_mark_and_the_rest_stays(
    a_clinic: Clinic, tmp_path: Path
) -> None:
    with on_a_disk_for(a_clinic, tmp_path, 0, above=TOTAL * 30 // 100, eviction_is="when-needed") as box:
        recent = recorded(box)[0].study_id
        grow_old(box, recent)
        run(box, stay=staying(box))
        assert state(box) is None
        assert {row.study_id for row in recorded(box) if recall.is_here(box, row.object_id)} == {recent}


def test_what_is_pinned_and_has_no_room_is_looked_at_again(a_clinic: Clinic, tmp_path: Path) -> None:
    with on_a_disk_for(a_clinic, tmp_path, 1, above=LAST_MARK, eviction_is="when-needed") as box:
        recent = {row.study_id for row in recorded(box)[:6]}
        grow_old(box, *recent)
        run(box, 12, stay=staying(box))
        found = state(box)
        assert found is not None
        assert found.is_stopped
        assert obstacle(box) == "", "what may leave may go"
        assert "disk-too-small" in codes(box)
        assert here(box) == 1
        box.guard.admit(TOTAL // 20)
        assert census.take(box, NOW) is None
        away = rows(box)
        assert away == sum(row.study_id not in recent for row in recorded(box))
        assert isinstance(box.guard, SmallDisk)
        box.guard.others = 0
        run(box, 12, stay=staying(box))
        assert (state(box), here(box), rows(box)) == (None, len(SMALL) - away, away)


def test_what_an_archive_has_not_whole_does_not_stay_there(a_clinic: Clinic, tmp_path: Path) -> None:
    with on_a_disk_for(a_clinic, tmp_path, 0, above=TOTAL * 30 // 100, eviction_is="when-needed") as box:
        grow_old(box)
        row = recorded(box)[0]
        path = Path(str(a_clinic.place.options["path"])) / object_key(row.object_id)
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(bytes(data))
        run(box, stay=staying(box))
        with box.catalog.reading() as conn:
            assert not evictions.is_away(conn, row.object_id)
            assert homecoming.missing(conn) == 1
        assert rows(box) == sum(each.study_id != row.study_id for each in recorded(box))


def test_one_that_somebody_opens_meanwhile_counts_as_here(
    a_clinic: Clinic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with on_a_disk_for(a_clinic, tmp_path, 0, above=TOTAL * 30 // 100, eviction_is="when-needed") as box:
        grow_old(box)
        row = recorded(box)[-1]
        before = evictions.leave

        def leaving(*given: object) -> None:
            before(*given)  # type: ignore[arg-type]
            recall._fetch(box, a_clinic.place, row.object_id, row.key_id, row.sealed_bytes)

        monkeypatch.setattr(evictions, "leave", leaving)
        assert staying(box)(row.object_id) > 0
        with box.catalog.reading() as conn:
            assert not evictions.is_away(conn, row.object_id)
            assert evictions.unsettled(conn) == []


@contextmanager
def away(folder: Path) -> Iterator[None]:
    """A disk that is in the safe."""
    folder.rename(folder.with_name("in the safe"))
    try:
        yield
    finally:
        folder.with_name("in the safe").rename(folder)


def test_an_archive_that_is_away_counts_for_nothing_and_holds_up_nobody(
    a_clinic: Clinic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = a_second_archive(a_clinic)
    with a_clinic.box.catalog.transaction() as tx:  # as the courier does with each receipt
        manifests.mark(tx, other.id, [each.id for each in studies.find(tx)], NOW)
    a_clinic.deliver()
    a_clinic.back_up(NOW)
    with on_a_disk_for(a_clinic, tmp_path, 0, above=TOTAL * 30 // 100, eviction_is="when-needed") as box:
        grow_old(box)
        with away(Path(str(other.options["path"]))):
            asked: list[object] = []
            plain = VaultDestination.blocks

            def blocks(place: VaultDestination, key: str) -> Iterator[bytes]:
                asked.extend([key] if place._path(key).is_relative_to(str(other.options["path"])) else [])
                return plain(place, key)

            with monkeypatch.context() as patch:
                patch.setattr(VaultDestination, "blocks", blocks)
                run(box, stay=staying(box))
            assert len(asked) == 1, "who does not answer is left alone for the run"
            assert state(box) is None
            assert (rows(box), here(box)) == (len(SMALL), 0), "one archive shows them, which is enough"


@contextmanager
def a_box_with_its_newest_image_in_the_safe(
    a_clinic: Clinic, tmp_path: Path
) -> Iterator[tuple[Box, InstanceRow]]:
    """The restored box after some passes, while the only archive that has the image recorded last is away; and that image."""
    other = a_second_archive(a_clinic)
    usb, usb2 = (Path(str(each.options["path"])) for each in (a_clinic.place, other))
    shutil.copytree(usb / "objects", usb2 / "objects")
    a_clinic.deliver()
    a_clinic.back_up(NOW)
    with on_a_disk_for(a_clinic, tmp_path, len(SMALL), above=LAST_MARK) as box:
        only_there = max(recorded(box), key=lambda each: each.id)  # the first that is brought home
        with box.catalog.transaction() as tx:
            tx.exec_driver_sql(
                "UPDATE deliveries SET state = 'PENDING', receipt = NULL WHERE destination = ? AND instance = ?",
                (a_clinic.place.id, only_there.id),
            )
        with away(usb2):
            run(box)
            yield box, only_there
        run(box, 8, first=20)
        assert (state(box), here(box)) == (None, len(SMALL))


def test_what_is_in_an_archive_that_is_away_waits_and_the_rest_comes(
    a_clinic: Clinic, tmp_path: Path
) -> None:
    with a_box_with_its_newest_image_in_the_safe(a_clinic, tmp_path) as (box, only_there):
        assert here(box) == len(SMALL) - 1
        found = state(box)
        assert found is not None and (found.has_passed, found.missing) == (True, 0)
        assert (found.home, found.instances, found.awaited.count) == (len(SMALL) - 1, len(SMALL), 1)
        assert obstacle(box) == "", "what that archive holds back may be away for months"
        assert sorted(drawn(box)) == sorted(row.id for row in recorded(box) if row.id != only_there.id)
        assert census.take(box, NOW) is None
        assert "disk-too-small" not in codes(box)
        run(box, 3, first=8)
        found = state(box)
        assert found is not None and found.home == len(SMALL) - 1, "another pass does not begin anew"


def test_what_came_home_is_missed_though_something_else_waits_for_months(
    a_clinic: Clinic, tmp_path: Path
) -> None:
    with a_box_with_its_newest_image_in_the_safe(a_clinic, tmp_path) as (box, only_there):
        gone = [row for row in recorded(box) if row.id != only_there.id][:8]
        for row in gone:
            box.objects.path(row.object_id).unlink()
        assert run(box, 2, first=8) == 0, "it would come without a word in the audit"
        assert scrub.scrub(box, NOW, rest=lambda: None).repaired == len(gone)
        with box.catalog.reading() as conn:
            told = [each["action"] for each in audit.export(conn)]
        assert told.count("instance:mend") == len(gone)
        begun = census.take(box, NOW)
        assert begun is not None and begun.why is Why.REPORTED
        with box.catalog.transaction() as tx:
            freezing.release(tx, Act("marie", NOW, box.audit_key), reason="somebody has tried it out")
        for row in gone:
            box.objects.path(row.object_id).unlink()
        begun = census.take(box, NOW)
        assert begun is not None and begun.why is Why.VANISHED
        for _ in range(3):  # whichever pass it is in
            scrub.scrub(box, NOW, rest=lambda: None)


def test_a_homecoming_that_the_software_before_has_begun_misses_nothing_too_early(
    a_clinic: Clinic, tmp_path: Path
) -> None:
    """It knew only below which row something was passed over, and counted again from there what was missing."""
    with a_box_with_its_newest_image_in_the_safe(a_clinic, tmp_path) as (box, only_there):
        with box.catalog.transaction() as tx:
            told = settings.get(tx, homecoming.LAST)
            del told["awaited"], told["missing_rows"]
            before = {"below": only_there.id - 1, "again_below": only_there.id + 1}
            told |= before | {"missing": 3, "missing_then": 0, "looked_utc": None}
            settings.put(tx, homecoming.LAST, told, NOW)
        assert drawn(box) == []
        run(box, 4, first=8)
        found = state(box)
        assert found is not None and (found.awaited.count, found.missing) == (1, 0)
        assert len(drawn(box)) == len(SMALL) - 1


def test_a_large_box_that_waits_for_something_is_sampled_all_over(
    a_clinic: Clinic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(census, "SAMPLE", 4)
    monkeypatch.setattr(census, "RUN", 2)
    with a_box_with_its_newest_image_in_the_safe(a_clinic, tmp_path) as (box, only_there):
        row = recorded(box)[4].id
        with box.catalog.transaction() as tx:
            told = settings.get(tx, homecoming.LAST)
            settings.put(tx, homecoming.LAST, told | {"awaited": [[row, row, 1], *told["awaited"]]}, NOW)
        seen: set[int] = set()
        for _ in range(200):
            found = drawn(box)
            assert 1 <= len(found) <= 4
            seen.update(found)
        assert seen == {each.id for each in recorded(box)} - {row, only_there.id}


@contextmanager
def a_box_with_all_its_images_on_the_second_disk(
    a_clinic: Clinic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: ApplianceError, *bad: int
) -> Iterator[tuple[Box, list[str]]]:
    """The restored box, and what it has asked that disk for, which gives none of them back; of the others the first has all."""
    other = a_second_archive(a_clinic)
    shutil.copytree(Path(str(a_clinic.place.options["path"])) / "objects", tmp_path / "usb2" / "objects")
    a_clinic.deliver()
    a_clinic.back_up(NOW)
    with on_a_disk_for(a_clinic, tmp_path, len(SMALL), above=LAST_MARK) as box:
        only_there = [recorded(box)[number] for number in bad]
        with box.catalog.transaction() as tx:
            for row in only_there:
                tx.exec_driver_sql(
                    "UPDATE deliveries SET state = 'PENDING', receipt = NULL WHERE destination = ? AND instance = ?",
                    (a_clinic.place.id, row.id),
                )
        asked: list[str] = []
        plain = VaultDestination.blocks

        def blocks(place: VaultDestination, key: str) -> Iterator[bytes]:
            if not place._path(key).is_relative_to(str(other.options["path"])):
                return plain(place, key)
            asked.append(key)
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(VaultDestination, "blocks", blocks)
            yield box, asked


@pytest.mark.parametrize(
    "error", [Transient("timed out"), OperatorNeeded("the password is wrong", hint="give another")]
)
def test_an_archive_that_does_not_answer_is_asked_once_in_a_run(
    a_clinic: Clinic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: ApplianceError
) -> None:
    with a_box_with_all_its_images_on_the_second_disk(a_clinic, tmp_path, monkeypatch, error, 0, 3, 5, 8) as (
        box,
        asked,
    ):
        homecoming.bringing_home(box, NOW, keep_going=lambda: True)
        assert len(asked) == 1
        found = state(box)
        assert found is not None and (found.awaited.count, found.missing, here(box)) == (4, 0, 6)
        homecoming.bringing_home(box, NOW + homecoming.AGAIN_AFTER, keep_going=lambda: True)
        assert len(asked) == 2, "and once in the next"


def test_a_disk_that_does_not_give_back_several_is_left_alone_for_the_run(
    a_clinic: Clinic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with a_box_with_all_its_images_on_the_second_disk(
        a_clinic, tmp_path, monkeypatch, Unreadable("bad"), *range(7)
    ) as (box, asked):
        homecoming.bringing_home(box, NOW, keep_going=lambda: True)
        assert len(set(asked)) == len(asked) == homecoming.UNREAD_AT_ONCE + 1
        found = state(box)
        assert found is not None and (found.awaited.count, found.missing) == (4, 3)
        assert here(box) == len(SMALL) - 7
        for number in (1, 2):
            later = NOW + number * homecoming.AGAIN_AFTER
            homecoming.bringing_home(box, later, keep_going=lambda: True)
        with box.catalog.reading() as conn:
            assert (homecoming.under_way(conn), homecoming.missing(conn)) == (None, 7), "the scrub's now"
