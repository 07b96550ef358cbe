"""An image leaves this disk only for an archive that has just shown it whole; cut anywhere, it is here or there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance import audit
from appliance import settings as chosen
from appliance.backup import homecoming
from appliance.box import Box
from appliance.catalog import Transaction, destinations, evictions, instances, settings, studies
from appliance.catalog.columns import utc_text
from appliance.catalog.holds import HoldKind
from appliance.catalog.rules import add_rule
from appliance.errors import Corrupt, Refused, Transient
from appliance.lifecycle import eviction, freezing, holds, retention
from appliance.lifecycle.acting import Act
from appliance.lifecycle.eviction import Around, Evicted
from appliance.lifecycle.tiers import Choices, Eviction, Pin
from appliance.model import DestinationSettings, ObjectId, Rule
from appliance.replication import recall
from appliance.replication.destinations import prepare
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


def at_now() -> datetime:
    """The clock of a run that takes no time."""
    return NOW


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
        total += eviction.evict_study(box, study, standing, at_now, around)
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
    assert eviction.evict_study(kept.box, study, ANY, at_now) == Evicted(kept=1)
    assert eviction.evict_study(kept.box, study, replace(ANY, unused_days=0), at_now).images == came
    assert eviction.bring_back(kept.box, NOW) == 11
    assert here(kept.box) == 11 and eviction.bring_back(kept.box, NOW) == 0


def test_the_job_does_what_the_clinic_chose_and_nothing_by_itself(kept: Clinic) -> None:
    assert eviction.evict(kept.box, at_now) == Evicted()
    with kept.box.catalog.transaction() as tx:
        act = {"tiers.eviction": "by-age", "tiers.newest_studies": 0}
        chosen.change(tx, kept.box.audit_key, act, actor="marie", now=NOW)
    assert eviction.evict(kept.box, at_now) == Evicted(), (
        "a disk that can be carried home carries nothing alone"
    )
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

        assert eviction.evict_study(kept.box, study, ANY, at_now, Around(reached=meanwhile)) == Evicted(
            kept=1
        )
    assert here(kept.box) == 12 and rows(kept.box) == 0


def only_at(wanted: str, act: Callable[[], None]) -> Around:
    """`act` happens once, at that step."""
    once = iter([act])

    def reached(step: str) -> None:
        if step == wanted:
            for each in once:
                each()

    return Around(reached=reached)


def test_an_archive_that_moves_between_proof_and_removal_carries_nothing(kept: Clinic) -> None:
    """Its number and its receipts stay; the new place is empty."""
    new = Path(str(kept.place.options["path"])).with_name("new")
    new.mkdir()

    def move() -> None:
        with kept.box.catalog.transaction() as tx:
            options = {**kept.place.options, "path": str(new)}
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
            lambda: eviction.bring_back(kept.box, NOW),
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
    assert eviction.bring_back(kept.box, NOW) == done.images


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
    eviction.bring_back(kept.box, NOW)
    assert inside and set(inside) == {1}


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
        eviction.bring_back(kept.box, NOW)
    assert here(kept.box) == 9 and rows(kept.box) == 0


def test_an_archive_that_has_what_is_not_here_can_neither_be_taken_off_nor_moved(kept: Clinic) -> None:
    evict_all(kept.box)
    with kept.box.catalog.transaction() as tx:
        place = destinations.destinations(tx)[0]
        with pytest.raises(Refused):
            homecoming.refuse_if_needed(tx, kept.box, place)
        with pytest.raises(Refused):
            recall.let_move(tx, place, {**place.options, "path": "/elsewhere"})
        recall.let_move(tx, place, dict(place.options))
    eviction.bring_back(kept.box, NOW)
    with kept.box.catalog.transaction() as tx:
        homecoming.refuse_if_needed(tx, kept.box, place)
        recall.let_move(tx, place, {**place.options, "path": "/elsewhere"})


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
            recall.let_move(tx, place, {**place.options, "path": "/elsewhere"})
        recall.let_move(tx, other, {**other.options, "path": "/elsewhere"})


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
        recall.let_move(tx, place, {**place.options, "path": "/elsewhere"})
    assert proven_in(kept.box) == {(other.id,)}
    with kept.box.catalog.transaction() as tx:
        with pytest.raises(Refused):
            recall.let_move(tx, other, {**other.options, "path": "/elsewhere"})
        with pytest.raises(Refused):
            homecoming.refuse_if_needed(tx, kept.box, other)
        homecoming.refuse_if_needed(tx, kept.box, place)


@pytest.mark.parametrize("name", ["address", "port", "folder", "user", "bucket", "endpoint_url", "path"])
def test_each_option_that_says_where_an_archive_is_makes_it_another_place(name: str) -> None:
    before = {"address": "nas", "port": 22, "folder": "/a", "user": "box", "bucket": "b", "host_key": "k"}
    assert not recall.is_same_place(before, {**before, name: "other"})
    assert recall.is_same_place(before, {**before, "host_key": "another"})


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
