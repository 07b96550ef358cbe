"""An image leaves this disk only for an archive that has just shown it whole; cut anywhere, it is here or there."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

import pytest

from appliance import audit, duties
from appliance import settings as chosen
from appliance.backup import homecoming
from appliance.box import Box
from appliance.catalog import Transaction, destinations, evictions, settings
from appliance.catalog.columns import utc_text
from appliance.catalog.holds import HoldKind
from appliance.errors import OutOfResources
from appliance.lifecycle import eviction, freezing, holds, retention, returning
from appliance.lifecycle.acting import Act
from appliance.lifecycle.eviction import Around, Evicted
from appliance.lifecycle.tiers import Pin
from appliance.model import ObjectId
from appliance.replication import recall
from tests.backup.conftest import IMAGES, Clinic, as_sent, clinic, contents, disk  # noqa: F401 - fixtures
from tests.boxes import box_in, recorded
from tests.instances import Instance
from tests.lifecycle.evicting import (
    ANY,
    NOW,
    at_now,
    evict_all,
    grow_old,
    here,
    in_archive,
    only_at,
    reached,
    rows,
    study_ids,
    without_archive,
    without_receipt,
)

pytestmark = pytest.mark.slow


# --- leaving and coming back -----------------------------------------------------------------------------------------


def test_what_leaves_comes_back_byte_for_byte_when_it_is_opened(kept: Clinic) -> None:
    done = evict_all(kept.box)
    assert (done.studies, done.images, done.kept) == (4, 11, 0)
    assert here(kept.box) == 0 and rows(kept.box) == 11
    assert reached(kept.box) == as_sent(*IMAGES)
    assert here(kept.box) == 11 and rows(kept.box) == 0
    with kept.box.catalog.reading() as conn:
        left = [each for each in audit.export(conn) if each["action"] == "study:evict"]
    assert sorted(json.loads(str(each["details"]))["instances"] for each in left) == [1, 2, 4, 4]


def test_bringing_a_study_back_counts_as_a_use_of_it(kept: Clinic) -> None:
    evict_all(kept.box)
    study = study_ids(kept.box)[0]
    came = returning.bring_back(kept.box, NOW, study, actor="cli")
    assert came and here(kept.box) == came
    assert eviction.evict_study(kept.box, study, ANY, at_now) == Evicted(kept=1)
    assert eviction.evict_study(kept.box, study, replace(ANY, unused_days=0), at_now).images == came
    assert returning.bring_back(kept.box, NOW) == 11
    assert here(kept.box) == 11 and returning.bring_back(kept.box, NOW) == 0


def test_the_job_does_what_the_clinic_chose_and_nothing_by_itself(kept: Clinic) -> None:
    assert eviction.evict(kept.box, at_now) == Evicted()
    with kept.box.catalog.transaction() as tx:
        act = {"tiers.eviction": "by-age", "tiers.newest_studies": 0}
        chosen.change(tx, kept.box.audit_key, act, actor="marie", now=NOW)
    assert eviction.evict(kept.box, at_now) == Evicted(), (
        "a disk that can be carried home carries nothing alone"
    )
    assert here(kept.box) == 11


def test_what_is_wanted_and_has_no_room_keeps_no_room_from_being_made(
    kept: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def without_room(*_: object) -> int:
        done.append("bring")
        raise OutOfResources("there is no room for it", hint="free some")

    monkeypatch.setattr(returning, "bring_wanted", without_room)
    monkeypatch.setattr(eviction, "evict", lambda *_: done.append("evict"))
    with pytest.raises(OutOfResources):
        duties.MakingRoom()(kept.box, NOW, threading.Event())
    assert done == ["evict", "bring"]


class SlowLine:
    """A line over which each study takes half an hour; `studies` are those that were tried, and `stuck` what no archive gives."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *stuck: int) -> None:
        self.seconds = 0.0
        self.studies: list[int] = []
        self._evict = eviction._evict_study
        self.stuck = stuck
        monkeypatch.setattr(eviction, "_evict_study", self._one)

    def __call__(self) -> float:
        return self.seconds

    def _one(self, box: Box, study: int, *of: Any) -> Evicted:
        self.seconds += 1800
        self.studies.append(study)
        return Evicted(kept=1) if study in self.stuck else self._evict(box, study, *of)


@pytest.fixture
def by_age(kept: Clinic, monkeypatch: pytest.MonkeyPatch) -> Clinic:
    monkeypatch.setattr(eviction, "choices", lambda _: ANY)
    monkeypatch.setattr(duties, "datetime", StandingHour)
    return kept


class StandingHour(datetime):
    """At which the studies are old, as the box has noted."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> StandingHour:
        return cls.fromtimestamp(NOW.timestamp(), tz)


def test_a_long_eviction_ends_so_that_what_is_wanted_can_come(
    by_age: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The images have come up from deep archive, while everything that is old leaves over a slow line."""
    evicted = study_ids(by_age.box)[0]
    assert eviction.evict_study(by_age.box, evicted, ANY, at_now).studies == 1
    with by_age.box.catalog.transaction() as tx:
        returning.want(tx, evicted, NOW)
    line = SlowLine(monkeypatch)
    duties.MakingRoom(line)(by_age.box, NOW, threading.Event())
    assert len(line.studies) == 1, "one that is begun is done"
    with by_age.box.catalog.reading() as conn:
        assert evictions.away_of_study(conn, evicted) == 0
        assert evictions.away_of_study(conn, line.studies[0]) > 0


def test_what_stays_in_a_run_that_had_no_time_keeps_nothing_else_here(
    by_age: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, *others = study_ids(by_age.box)
    line = SlowLine(monkeypatch, first, second)
    job = duties.MakingRoom(line)
    for _ in range(len(others) + 2):
        job(by_age.box, NOW, threading.Event())
    assert line.studies == [first, second, *others]
    before = here(by_age.box)
    line.stuck = ()
    job(by_age.box, NOW, threading.Event())
    assert here(by_age.box) < before, "and they are tried again, when the others have left"


# --- what keeps it here ----------------------------------------------------------------------------------------------


def with_old_manifest(clinic: Clinic) -> None:  # noqa: F811
    with clinic.box.catalog.transaction() as tx:
        tx.exec_driver_sql("UPDATE manifests SET dirty_utc = written_utc")


def with_archive_of_rot(clinic: Clinic) -> None:  # noqa: F811
    for number in range(11):
        path = in_archive(clinic, number)
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)


def with_emptied_archive(clinic: Clinic) -> None:  # noqa: F811
    for number in range(11):
        in_archive(clinic, number).unlink()


def with_rot_here(clinic: Clinic) -> None:  # noqa: F811
    for row in recorded(clinic.box):
        path = clinic.box.objects.path(row.object_id)
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)


def with_other_objects_in_the_archive(clinic: Clinic) -> None:  # noqa: F811
    """Whole sealed objects, but not these: every one stands under the name of the next."""
    paths = [in_archive(clinic, number) for number in range(11)]
    blobs = [path.read_bytes() for path in paths]
    for path, blob in zip(paths, blobs[1:] + blobs[:1], strict=True):
        path.write_bytes(blob)


def held(clinic: Clinic) -> None:  # noqa: F811
    for study in study_ids(clinic.box):
        with clinic.box.catalog.transaction() as tx:
            holds.place(
                tx,
                Act("marie", NOW, clinic.box.audit_key),
                kind=HoldKind.LEGAL,
                study=study,
                whole_patient=False,
                reason="claim",
            )


def paused(clinic: Clinic) -> None:  # noqa: F811
    with clinic.box.catalog.transaction() as tx:
        destinations.pause(tx, clinic.place.name)


def coming_home(clinic: Clinic) -> None:  # noqa: F811
    last = {"at_utc": NOW.isoformat(), "from": "usb", "cursor": 0, "missing": 0}
    with clinic.box.catalog.transaction() as tx:
        settings.put(tx, homecoming.LAST, last, NOW)


def frozen(clinic: Clinic) -> None:  # noqa: F811
    with clinic.box.catalog.transaction() as tx:
        freezing.freeze(tx, Act("marie", NOW, clinic.box.audit_key), reason="a strange message on a screen")


def with_a_clock_that_was_set(clinic: Clinic) -> None:  # noqa: F811
    with clinic.box.catalog.transaction() as tx:
        retention.watch_clock(tx, NOW - timedelta(days=400), follows_time_server=False)
        retention.watch_clock(tx, NOW, follows_time_server=False)


@pytest.mark.parametrize(
    "obstacle",
    [
        without_receipt,
        with_old_manifest,
        without_archive,
        with_archive_of_rot,
        with_emptied_archive,
        with_rot_here,
        with_other_objects_in_the_archive,
        held,
        paused,
        coming_home,
        frozen,
        with_a_clock_that_was_set,
    ],
    ids=lambda each: each.__name__,
)
def test_nothing_leaves_on_less_than_the_whole_proof(
    kept: Clinic, obstacle: Callable[[Clinic], None]
) -> None:
    obstacle(kept)
    assert evict_all(kept.box) == Evicted(kept=4)
    assert here(kept.box) == 11 and rows(kept.box) == 0


def test_two_copies_wanted_and_one_there_is_too_few(kept: Clinic) -> None:
    assert evict_all(kept.box, replace(ANY, copies=2)) == Evicted(kept=4)
    assert evict_all(kept.box, replace(ANY, always_there=frozenset({"s3"}))) == Evicted(kept=4)


def test_what_changes_between_proof_and_removal_is_seen(kept: Clinic) -> None:
    """A hold, an image more, an archive taken off: asked once more in the transaction that writes it down."""
    acts: list[Callable[[], None]] = [
        lambda: kept.receive(Instance(500, study=1, pixel_bytes=3_000)),
        lambda: with_old_manifest(kept),
        lambda: held(kept),
    ]
    for act in acts:
        study = study_ids(kept.box)[0]
        once = iter([act])

        def meanwhile(step: str, once: Iterator[Callable[[], None]] = once) -> None:
            if step == "proven":
                for each in once:
                    each()

        assert eviction.evict_study(kept.box, study, ANY, at_now, Around(reached=meanwhile)) == Evicted(
            kept=1
        )
    assert here(kept.box) == 12 and rows(kept.box) == 0


def test_an_archive_that_moves_between_proof_and_removal_carries_nothing(kept: Clinic) -> None:
    """Its number and its receipts stay; the new place is empty."""
    new = Path(str(kept.place.options["path"])).with_name("new")
    new.mkdir()

    def move() -> None:
        with kept.box.catalog.transaction() as tx:
            options = {**kept.place.options, "path": str(new), "mark": "another"}
            recall.let_move(tx, kept.place, options)
            destinations.change(tx, kept.place.name, options)

    study = study_ids(kept.box)[0]
    done = eviction.evict_study(kept.box, study, ANY, at_now, only_at("proven", move))
    assert done == Evicted(kept=1)
    assert here(kept.box) == 11 and rows(kept.box) == 0


def test_a_freeze_that_begins_after_the_decision_keeps_the_files(kept: Clinic) -> None:
    study = study_ids(kept.box)[0]
    around = only_at("written down", lambda: frozen(kept))
    assert eviction.evict_study(kept.box, study, ANY, at_now, around) == Evicted(kept=1)
    assert here(kept.box) == 11 and rows(kept.box) == 0
    with kept.box.catalog.reading() as conn:
        told = [each["outcome"] for each in audit.export(conn) if each["action"] == "study:evict"]
    assert told == ["done", "failed"]


def test_an_image_that_arrives_during_a_proof_does_not_make_the_clock_look_behind(kept: Clinic) -> None:
    hour = [NOW]

    def time_goes_by() -> None:
        hour[0] += timedelta(hours=2)
        with kept.box.catalog.transaction() as tx:
            tx.exec_driver_sql(
                "UPDATE studies SET last_received_utc = ? WHERE id = ?",
                (utc_text(NOW + timedelta(hours=1)), study_ids(kept.box)[-1]),
            )

    study = study_ids(kept.box)[0]
    around = only_at("image proven", time_goes_by)
    assert eviction.evict_study(kept.box, study, ANY, lambda: hour[0], around).studies == 1


def test_nothing_is_fetched_while_everything_stays_anyway(kept: Clinic) -> None:
    seen: list[str] = []
    with_a_clock_that_was_set(kept)
    assert evict_all(kept.box, around=Around(reached=seen.append)) == Evicted(kept=4)
    assert seen == []


def test_studies_that_are_pinned_for_ever_do_not_hide_those_behind_them(
    kept: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eviction, "AT_ONCE", 1)
    monkeypatch.setattr(eviction, "MOST", 2)
    first, second, *_ = study_ids(kept.box)
    for study in (first, second):
        with kept.box.catalog.transaction() as tx:
            act = Act("marie", NOW, kept.box.audit_key)
            holds.place(tx, act, kind=HoldKind.LEGAL, study=study, whole_patient=False, reason="claim")
    plan = eviction.planned(kept.box, NOW, ANY)
    assert [each.id for each in plan.leaving] == study_ids(kept.box)[2:4]
    assert plan.pinned[Pin.HELD] == 2


def test_the_run_ends_when_it_is_asked_to(kept: Clinic) -> None:
    asked = iter([True, True, False, False])
    around = Around(keep_going=lambda: next(asked, False))
    assert evict_all(kept.box, around=around).images <= 2
    assert reached(kept.box) == as_sent(*IMAGES)


# --- cut anywhere ----------------------------------------------------------------------------------------------------


class Cut(BaseException):
    """The process dies here."""


STEPS = ["image proven", "proven", "leaving", "written down", "files removed", "away"]


@pytest.mark.parametrize("step", STEPS)
def test_cut_at_any_step_every_image_is_here_or_in_the_archive(
    clinic: Clinic,  # noqa: F811
    tmp_path: Path,
    step: str,
) -> None:
    clinic.receive(*IMAGES)
    clinic.deliver()
    grow_old(clinic.box)
    seen: list[str] = []

    def cut(name: str) -> None:
        seen.append(name)
        if name == step:
            raise Cut

    with pytest.raises(Cut):
        evict_all(clinic.box, around=Around(reached=cut))
    assert seen[-1] == step
    for row in recorded(clinic.box):
        if not recall.is_here(clinic.box, row.object_id):
            with clinic.box.catalog.reading() as conn:
                assert evictions.is_away(conn, row.object_id), "gone without being written down"
    clinic.box.close()
    with box_in(tmp_path / "before") as again:
        eviction.settle(again, NOW)
        with again.catalog.reading() as conn:
            assert evictions.unsettled(conn) == []
            for row in recorded(again):
                assert evictions.is_away(conn, row.object_id) is not recall.is_here(again, row.object_id)
        assert reached(again) == as_sent(*IMAGES)
        assert rows(again) == 0


@pytest.mark.parametrize("removed", [0, 1, 3])
def test_cut_between_two_files(clinic: Clinic, removed: int, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    clinic.receive(*IMAGES[:4])
    clinic.deliver()
    grow_old(clinic.box)
    plain, count = clinic.box.objects.disk.remove, [0]

    def remove(path: Path) -> None:
        if count[0] == removed:
            raise Cut
        count[0] += 1
        plain(path)

    with monkeypatch.context() as patch:
        patch.setattr(clinic.box.objects.disk, "remove", remove)
        with pytest.raises(Cut):
            evict_all(clinic.box)
    assert here(clinic.box) == len(recorded(clinic.box)) - removed
    assert eviction.settle(clinic.box, NOW) > 0
    assert rows(clinic.box) == removed
    assert reached(clinic.box) == as_sent(*IMAGES[:4])


def test_a_recall_that_was_cut_is_settled_too(kept: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    evict_all(kept.box)
    row = recorded(kept.box)[0]

    def die(*_: object) -> None:
        raise Cut

    with monkeypatch.context() as patch:
        patch.setattr(evictions, "recalled", die)
        with pytest.raises(Cut):
            recall.recall(kept.box, row.object_id, row.key_id, row.sealed_bytes)
    assert recall.is_here(kept.box, row.object_id) and rows(kept.box) == 11
    assert eviction.settle(kept.box, NOW) == 1
    assert rows(kept.box) == 10


# --- two at once -----------------------------------------------------------------------------------------------------


def test_two_processes_do_not_move_images_at_once(kept: Clinic) -> None:
    """Whoever settles while another is about to remove would take the files for ones that stay."""
    told: list[type[Exception]] = []

    def another() -> None:
        acts: list[Callable[[], object]] = [
            lambda: eviction.settle(kept.box, NOW),
            lambda: returning.bring_back(kept.box, NOW),
            lambda: eviction.evict(kept.box, at_now),
        ]
        for act in acts:
            with pytest.raises(eviction.Taken) as refused:
                act()
            told.append(refused.type)

    study = study_ids(kept.box)[0]
    done = eviction.evict_study(kept.box, study, ANY, at_now, only_at("written down", another))
    assert len(told) == 3 and done.images and rows(kept.box) == done.images
    assert here(kept.box) == 11 - done.images
    assert returning.bring_back(kept.box, NOW) == done.images


@pytest.mark.parametrize("step", ["written down", "files removed"])
def test_an_image_that_somebody_recalls_while_it_leaves_has_a_row_only_if_it_is_away(
    kept: Clinic, step: str
) -> None:
    study = study_ids(kept.box)[0]
    with kept.box.catalog.reading() as conn:
        first = evictions.local_images(conn, study)[0]

    def fetch() -> None:
        recall.recall(kept.box, first.object_id, first.key_id, first.sealed_bytes)
        with kept.box.catalog.reading() as conn:
            assert evictions.is_away(conn, first.object_id), "it may still be removed"

    eviction.evict_study(kept.box, study, ANY, at_now, only_at(step, fetch))
    with kept.box.catalog.reading() as conn:
        for row in recorded(kept.box):
            assert evictions.is_away(conn, row.object_id) is not recall.is_here(kept.box, row.object_id)
    assert recall.is_here(kept.box, first.object_id) is (step == "files removed")


def test_where_a_file_is_is_asked_in_the_transaction_that_ends_its_row(
    kept: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    evict_all(kept.box)
    with kept.box.catalog.transaction() as tx:
        tx.exec_driver_sql("UPDATE evictions SET whereabouts = 'coming'")
    inside: list[int] = []
    plain, begin = recall.is_here, kept.box.catalog.transaction
    depth = [0]

    @contextmanager
    def counted() -> Iterator[Transaction]:
        with begin() as tx:
            depth[0] += 1
            try:
                yield tx
            finally:
                depth[0] -= 1

    def looked(box: Box, object_id: ObjectId) -> bool:
        inside.append(depth[0])
        return plain(box, object_id)

    monkeypatch.setattr(kept.box.catalog, "transaction", counted)
    monkeypatch.setattr(recall, "is_here", looked)
    eviction.settle(kept.box, NOW)
    returning.bring_back(kept.box, NOW)
    assert inside and set(inside) == {1}
