"""An image leaves this disk only for an archive that has just shown it whole; cut anywhere, it is here or there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance import audit
from appliance import settings as chosen
from appliance.backup import homecoming
from appliance.box import Box
from appliance.catalog import destinations, evictions, instances, settings, studies
from appliance.catalog.columns import utc_text
from appliance.catalog.holds import HoldKind
from appliance.errors import Refused, Transient
from appliance.lifecycle import eviction, freezing, holds, retention
from appliance.lifecycle.acting import Act
from appliance.lifecycle.eviction import Around, Evicted
from appliance.lifecycle.tiers import Choices, Eviction
from appliance.replication import recall
from appliance.replication.destinations.archive import object_key
from appliance.replication.destinations.vault import VaultDestination
from tests.backup.conftest import IMAGES, Clinic, as_sent, clinic, contents, disk  # noqa: F401 - fixtures
from tests.backup.test_restoring import restore
from tests.boxes import box_in, recorded
from tests.instances import Instance

NOW = datetime.now(UTC) + timedelta(hours=12)
ANY = Choices(
    eviction=Eviction.BY_AGE,
    keep_days=730,
    unused_days=180,
    newest_studies=0,
    copies=1,
    low_percent=20,
    enough_percent=30,
    always_there=frozenset({"vault"}),
)
"""As the clinic chose it, but that a disk counts as always there."""

UNCUT = Around()

pytestmark = pytest.mark.slow


@pytest.fixture
def kept(clinic: Clinic) -> Clinic:  # noqa: F811
    """A box whose images are in the archive too."""
    clinic.receive(*IMAGES)
    clinic.deliver()
    grow_old(clinic.box)
    return clinic


def grow_old(box: Box) -> None:
    """Four years go by for every study, and none for the clock."""
    with box.catalog.transaction() as tx:
        retention.watch_clock(tx, NOW, follows_time_server=True)
        tx.exec_driver_sql(
            "UPDATE studies SET last_received_utc = ?, first_received_utc = ?",
            (utc_text(NOW - timedelta(days=1500)), utc_text(NOW - timedelta(days=1500))),
        )


def study_ids(box: Box) -> list[int]:
    with box.catalog.reading() as conn:
        return sorted(each.id for each in studies.find(conn))


def evict_all(box: Box, standing: Choices = ANY, around: Around = UNCUT) -> Evicted:
    eviction.settle(box, NOW)
    total = Evicted()
    for study in study_ids(box):
        total += eviction.evict_study(box, study, standing, NOW, around)
    return total


def here(box: Box) -> int:
    return sum(recall.is_here(box, row.object_id) for row in recorded(box))


def reached(box: Box) -> dict[str, bytes]:
    """Every image by its UID, wherever it is."""
    for row in recorded(box):
        recall.open_object(box, row.object_id, row.key_id, row.sealed_bytes).close()
    return contents(box)


def in_archive(clinic: Clinic, number: int = 0) -> Path:  # noqa: F811
    row = recorded(clinic.box)[number]
    return Path(clinic.place.options["path"]) / object_key(row.object_id)  # type: ignore[arg-type]


def rows(box: Box) -> int:
    with box.catalog.reading() as conn:
        return int(conn.exec_driver_sql("SELECT count(*) FROM evictions").scalar() or 0)


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
    came = eviction.bring_back(kept.box, NOW, study, actor="cli")
    assert came and here(kept.box) == came
    assert eviction.evict_study(kept.box, study, ANY, NOW) == Evicted(kept=1)
    assert eviction.evict_study(kept.box, study, replace(ANY, unused_days=0), NOW).images == came
    assert eviction.bring_back(kept.box, NOW) == 11
    assert here(kept.box) == 11 and eviction.bring_back(kept.box, NOW) == 0


def test_the_job_does_what_the_clinic_chose_and_nothing_by_itself(kept: Clinic) -> None:
    assert eviction.evict(kept.box, NOW) == Evicted()
    with kept.box.catalog.transaction() as tx:
        act = {"tiers.eviction": "by-age", "tiers.newest_studies": 0}
        chosen.change(tx, kept.box.audit_key, act, actor="marie", now=NOW)
    assert eviction.evict(kept.box, NOW) == Evicted(), "a disk that can be carried home carries nothing alone"
    assert here(kept.box) == 11


# --- what keeps it here ----------------------------------------------------------------------------------------------


def without_receipt(clinic: Clinic) -> None:  # noqa: F811
    with clinic.box.catalog.transaction() as tx:
        tx.exec_driver_sql("UPDATE deliveries SET state = 'PENDING', receipt = NULL")


def with_old_manifest(clinic: Clinic) -> None:  # noqa: F811
    with clinic.box.catalog.transaction() as tx:
        tx.exec_driver_sql("UPDATE manifests SET dirty_utc = written_utc")


def without_archive(clinic: Clinic) -> None:  # noqa: F811
    path = Path(str(clinic.place.options["path"]))
    path.rename(path.with_name("at home"))


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

        assert eviction.evict_study(kept.box, study, ANY, NOW, Around(reached=meanwhile)) == Evicted(kept=1)
    assert here(kept.box) == 12 and rows(kept.box) == 0


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
        patch.setattr(evictions, "here", die)
        with pytest.raises(Cut):
            recall.recall(kept.box, row.object_id, row.key_id, row.sealed_bytes)
    assert recall.is_here(kept.box, row.object_id) and rows(kept.box) == 11
    assert eviction.settle(kept.box, NOW) == 1
    assert rows(kept.box) == 10


# --- the others ------------------------------------------------------------------------------------------------------


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


def test_an_archive_that_has_what_is_not_here_can_neither_be_taken_off_nor_moved(kept: Clinic) -> None:
    evict_all(kept.box)
    with kept.box.catalog.reading() as conn:
        place = destinations.destinations(conn)[0]
        with pytest.raises(Refused):
            homecoming.refuse_if_needed(conn, kept.box, place)
        with pytest.raises(Refused):
            recall.refuse_to_move(conn, place, {**place.options, "path": "/elsewhere"})
        recall.refuse_to_move(conn, place, dict(place.options))
    eviction.bring_back(kept.box, NOW)
    with kept.box.catalog.reading() as conn:
        homecoming.refuse_if_needed(conn, kept.box, place)
        recall.refuse_to_move(conn, place, {**place.options, "path": "/elsewhere"})


def test_a_restored_box_leaves_away_what_was_away(kept: Clinic, tmp_path: Path) -> None:
    study = study_ids(kept.box)[0]
    away = eviction.evict_study(kept.box, study, ANY, NOW).images
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
