"""The ransomware guard on a real box: what was sealed is encrypted or deleted in mass, and nothing remote is lost by it."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance import audit, health
from appliance.backup import homecoming, making
from appliance.box import Box, open_box
from appliance.catalog import Reading, deliveries, freezes, tombstones
from appliance.catalog.freezes import Why
from appliance.errors import Refused, Transient
from appliance.ingest.orphans import GRACE_SECONDS, OrphanSweep
from appliance.lifecycle import census, freezing, purging
from appliance.lifecycle.acting import Act
from appliance.lifecycle.shredding import shred_older
from appliance.model import ObjectId
from appliance.replication import recall
from appliance.replication.burial import Grave, lay_tombstone
from appliance.replication.delivery import State
from appliance.replication.destinations.archive import object_key
from tests.backup.conftest import (  # noqa: F401 - fixtures
    IMAGES,
    KEEP,
    Clinic,
    as_sent,
    clinic,
    contents,
    disk,
)
from tests.backup.test_restoring import bring_home, restore
from tests.boxes import box_in, recorded
from tests.instances import Instance
from tests.lifecycle.purge import GONE, LATER, approve, carry_out, study_of

NOW = datetime(2026, 11, 25, 20, tzinfo=UTC)
DICE = random.Random(8)

pytestmark = pytest.mark.slow


@pytest.fixture
def kept(clinic: Clinic) -> Clinic:  # noqa: F811
    """A box whose images are in the archive too, with a backup."""
    clinic.receive(*IMAGES)
    clinic.deliver()
    clinic.back_up(datetime.now(UTC) - timedelta(hours=1))
    return clinic


def files(box: Box) -> list[Path]:
    return [box.objects.path(row.object_id) for row in recorded(box)]


def encrypt(path: Path) -> None:
    """As an attacker would: every byte another, the length the same."""
    path.write_bytes(bytes(each ^ 0xA5 for each in path.read_bytes()))


def scramble(path: Path) -> None:
    """As a careful attacker would: what a sealed object looks like from outside stays."""
    data = path.read_bytes()
    path.write_bytes(data[:41] + bytes(each ^ 0xA5 for each in data[41:]))


def rename(path: Path) -> None:
    path.rename(path.with_suffix(".locked"))


def in_archive(root: Path) -> dict[str, str]:
    """Everything that lies in the archive, by its name."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file() and path.name != "connection-test"
    }


def frozen(box: Box) -> freezes.Freeze | None:
    with box.catalog.reading() as conn:
        return freezes.in_force(conn)


def act(box: Box, by: str = "marie") -> Act:
    return Act(by, NOW, box.audit_key)


def actions(box: Box) -> list[str]:
    with box.catalog.reading() as conn:
        return [row["action"] for row in audit.export(conn)]


def dirty(conn: Reading) -> int:
    return int(
        conn.exec_driver_sql("SELECT count(*) FROM manifests WHERE dirty_utc IS NOT NULL").scalar() or 0
    )


@pytest.mark.parametrize(
    ("attack", "why"),
    [
        (Path.unlink, Why.VANISHED),
        (rename, Why.VANISHED),
        (encrypt, Why.ALTERED),
        (scramble, Why.ALTERED),
        (lambda path: path.write_bytes(b""), Why.ALTERED),
    ],
    ids=["deleted", "renamed", "encrypted", "encrypted behind the header", "emptied"],
)
def test_a_mass_of_lost_objects_freezes_the_box_at_the_next_count(
    kept: Clinic, attack: Callable[[Path], None], why: Why
) -> None:
    assert census.take(kept.box, NOW, dice=DICE) is None
    for path in files(kept.box)[:6]:
        attack(path)
    begun = census.take(kept.box, NOW, dice=DICE)
    assert begun is not None
    assert begun.why is why
    assert begun.evidence["kept"] == len(IMAGES)
    assert census.take(kept.box, NOW, dice=DICE) is None, "one freeze at a time"
    assert actions(kept.box).count("guard:freeze") == 1
    found = {each.code: each for each in health.status(kept.box, NOW).problems}
    assert found["mass-loss"].severity is health.Severity.NOW


def test_an_ordinary_day_trips_nothing(kept: Clinic) -> None:
    box = kept.box
    for number in range(20):
        kept.receive(Instance(1000 + number, study=40 + number, pixel_bytes=500))
        assert census.take(box, NOW + timedelta(minutes=5 * number), dice=DICE) is None
    kept.deliver()
    lost = recorded(box)[0]
    box.objects.path(lost.object_id).unlink()
    assert census.take(box, NOW, dice=DICE) is None, "one is an accident"
    recall.recall(box, lost.object_id, lost.key_id, lost.sealed_bytes)
    assert census.take(box, NOW, dice=DICE) is None


def test_what_readers_report_is_heard_too(kept: Clinic) -> None:
    entries = [
        audit.Entry("instance:corrupt", f"instance:{row.object_id}", "jobs", {"reason": "it does not open"})
        for row in recorded(kept.box)[:3]
    ]
    kept.box.record(entries[:2] * 3, NOW)
    assert census.take(kept.box, NOW, dice=DICE) is None, "the same two again and again are two"
    kept.box.record(entries, NOW)
    begun = census.take(kept.box, NOW, dice=DICE)
    assert begun is not None
    assert begun.why is Why.REPORTED


def test_nothing_remote_is_overwritten_or_removed_and_a_restore_brings_everything_back(
    kept: Clinic, tmp_path: Path
) -> None:
    """The whole story, with the courier at work: attack, freeze, more images, every way that removes, and a blank box."""
    box, usb = kept.box, tmp_path / "usb"
    for days in (100, 99, 98, 97, 96):
        making.make(box, making.archive_at(box, kept.place), NOW - timedelta(days=days))
    before = in_archive(usb)
    for path in files(box):
        encrypt(path)
    assert census.take(box, NOW, dice=DICE) is not None

    # Reception goes on, and new images still leave: of a new study with its manifest, of an old one without.
    late = [Instance(500, study=70, pixel_bytes=900), Instance(501, study=1, pixel_bytes=900)]
    kept.receive(*late)
    kept.deliver_until(lambda: len(in_archive(usb)) == len(before) + 3)
    with box.catalog.reading() as conn:
        assert dirty(conn) == 1, "the manifest of the study that was there waits"

    # A backup is made, because it only adds; no older one goes, though they have had their time.
    with pytest.raises(Transient, match="ransomware guard"):
        shred_older(box, kept.place, NOW, keep=KEEP, keep_going=lambda: True, reached=lambda _: None)
    made = kept.back_up(datetime.now(UTC))
    assert made.contents.instances == len(IMAGES) + 2
    assert purging.carry_out(box, NOW) == 0
    after = in_archive(usb)
    assert {name: after.get(name) for name in before} == before

    # A blank box, the paper and the disk: all of it, and it still waits for a person's word.
    restore(tmp_path / "blank", kept.place, kept.paper)
    with box_in(tmp_path / "blank") as blank:
        bring_home(blank)
        assert contents(blank) == as_sent(*IMAGES, *late)
        assert frozen(blank) is not None


def test_what_two_people_approved_waits_until_the_guard_is_released(kept: Clinic, tmp_path: Path) -> None:
    kept.receive(*GONE)
    kept.deliver()
    study = study_of(kept.box, GONE[0]).id
    approve(kept.box, study)
    with kept.box.catalog.transaction() as tx:
        freezing.freeze(tx, act(kept.box), reason="a strange message on a screen")
    before = in_archive(tmp_path / "usb")
    assert purging.carry_out(kept.box, LATER) == 0
    assert contents(kept.box) == as_sent(*IMAGES, *GONE)
    assert in_archive(tmp_path / "usb") == before
    with kept.box.catalog.transaction() as tx:
        freezing.release(tx, act(kept.box), reason="a false alarm")
    carry_out(kept)
    assert contents(kept.box) == as_sent(*IMAGES)
    assert {"guard:freeze", "guard:release", "study:destroy"} <= set(actions(kept.box))


def test_a_freeze_that_comes_between_two_steps_stops_the_next(kept: Clinic, tmp_path: Path) -> None:
    """Half way through a destruction: the tombstone is not laid, no backup is made unreadable."""
    kept.receive(*GONE)
    kept.deliver()
    approve(kept.box, study_of(kept.box, GONE[0]).id)

    def strike(step: str) -> None:
        if step == "destroyed":
            with kept.box.catalog.transaction() as tx:
                freezing.freeze(tx, act(kept.box), reason="a strange message on a screen")

    objects = [kept.box.objects.path(row.object_id) for row in recorded(kept.box)]
    before = in_archive(tmp_path / "usb")
    with pytest.raises(Transient, match="ransomware guard"):
        purging.carry_out(kept.box, LATER, purging.Around(reached=strike))
    assert all(path.exists() for path in objects), "the sealed objects lie there still"
    kept.receive(Instance(600, study=80, pixel_bytes=500))
    kept.deliver_until(lambda: len(in_archive(tmp_path / "usb")) == len(before) + 2)
    assert {name: in_archive(tmp_path / "usb").get(name) for name in before} == before
    with kept.box.catalog.reading() as conn:
        assert tombstones.owed(conn, kept.place.id, 10), "what is owed is owed still"
        owed = tombstones.owed(conn, kept.place.id, 1)[0]
    with pytest.raises(Transient, match="ransomware guard"):
        lay_tombstone(Grave(kept.box, kept.place, making.archive_at(kept.box, kept.place), LATER), owed)


def test_nothing_in_an_archive_is_replaced_by_a_delivery_while_the_guard_holds(
    kept: Clinic, tmp_path: Path
) -> None:
    """Somebody else's bytes under the name of an object that is yet to be delivered: they stay, and only it waits."""
    with kept.box.catalog.transaction() as tx:
        freezing.freeze(tx, act(kept.box), reason="a strange message on a screen")
    kept.receive(Instance(700, study=90, pixel_bytes=500), Instance(701, study=90, pixel_bytes=500))
    first, second = [row for row in recorded(kept.box) if row.sop_instance_uid.endswith(("700", "701"))]
    there = tmp_path / "usb" / object_key(first.object_id)
    there.parent.mkdir(exist_ok=True)
    there.write_bytes(b"not ours")
    kept.deliver_until((tmp_path / "usb" / object_key(second.object_id)).exists)
    assert there.read_bytes() == b"not ours"
    with kept.box.catalog.transaction() as tx:
        freezing.release(tx, act(kept.box), reason="a false alarm")
        waiting = deliveries.list_deliveries(tx, limit=100)
        deliveries.wake(tx, kept.place.id, now=datetime.now(UTC) + timedelta(hours=1), jitter=lambda: 0.0)
    assert [each.state for each in waiting].count(State.CONFIRMED) == len(IMAGES) + 1


def test_orphans_stay_while_the_guard_holds(kept: Clinic) -> None:
    """A catalog that was put back to last week makes orphans of this week's images."""
    stray = kept.box.objects.path(ObjectId("ab" * 16))
    stray.write_bytes(b"sealed last week")
    sweep = OrphanSweep(kept.box)
    sweep.sweep(0.0)
    with kept.box.catalog.transaction() as tx:
        freezing.freeze(tx, act(kept.box), reason="a strange message on a screen")
    assert sweep.sweep(2 * GRACE_SECONDS) == 0
    assert stray.exists()
    with kept.box.catalog.transaction() as tx:
        freezing.release(tx, act(kept.box), reason="a false alarm")
    assert sweep.sweep(3 * GRACE_SECONDS) == 0, "the hour begins anew"
    assert sweep.sweep(5 * GRACE_SECONDS) == 1


def test_a_freeze_outlives_every_process_and_ends_only_with_a_reason(kept: Clinic) -> None:
    for path in files(kept.box):
        encrypt(path)
    census.take(kept.box, NOW, dice=DICE)
    kept.box.close()
    again = open_box(kept.box.config)
    try:
        assert frozen(again) is not None
        with pytest.raises(Refused, match="reason"), again.catalog.transaction() as tx:
            freezing.release(tx, act(again), reason=" ")
        with again.catalog.transaction() as tx:
            freezing.release(tx, act(again), reason="the disk was put back")
            assert freezes.latest(tx)[0].release_reason == "the disk was put back"
        assert census.take(again, NOW, dice=DICE) is None, "what a person has seen is no news"
        with pytest.raises(Refused, match="holds nothing"), again.catalog.transaction() as tx:
            freezing.release(tx, act(again), reason="again")
    finally:
        again.close()


def test_after_a_restore_images_that_are_not_home_yet_are_not_missing(kept: Clinic, tmp_path: Path) -> None:
    restore(tmp_path / "blank", kept.place, kept.paper)
    with box_in(tmp_path / "blank") as blank:
        assert census.take(blank, NOW, dice=DICE) is None
        homecoming.bringing_home(blank, NOW, keep_going=lambda: True, most=6)
        assert census.take(blank, NOW, dice=DICE) is None
        home = [path for path in files(blank) if path.exists()]
        assert len(home) == 6
        for path in home:
            path.unlink()
        assert census.take(blank, NOW, dice=DICE) is not None, (
            "what had come home and is gone again is missing"
        )


def test_a_large_box_is_sampled_all_over(monkeypatch: pytest.MonkeyPatch, kept: Clinic) -> None:
    monkeypatch.setattr(census, "SAMPLE", 4)
    monkeypatch.setattr(census, "RUN", 1)
    seen: set[int] = set()
    for _ in range(200):
        with kept.box.catalog.reading() as conn:
            drawn = census.drawn(conn, DICE)
        assert 1 <= len(drawn) <= 4
        seen.update(row[0] for row in drawn)
    assert len(seen) == len(IMAGES)
