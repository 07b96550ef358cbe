"""Whoever holds a list of images for minutes or hours meets studies that are destroyed meanwhile, on purpose: that is no loss."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance.backup import drill, homecoming
from appliance.box import Box
from appliance.catalog import settings
from appliance.catalog.instances import InstanceRow
from appliance.cli.studies import write_file
from appliance.errors import Corrupt, Transient, Unknown
from appliance.lifecycle import census, eviction, freezing, purging, returning, scrub, verification
from appliance.lifecycle.mass_loss import Count
from appliance.lifecycle.verification import Depth
from appliance.replication import recall
from tests.backup.conftest import IMAGES, Clinic, clinic, disk  # noqa: F401 - fixtures
from tests.backup.test_restoring import restore
from tests.boxes import box_in, recorded
from tests.instances import Instance
from tests.lifecycle.evicting import ANY, at_now, evict_all, grow_old
from tests.lifecycle.purge import GONE, LATER, approve, carry_out, owed, study_of
from tests.lifecycle.test_scrub import actions, finished, flip, problems

pytestmark = pytest.mark.slow

SMALL = GONE[:2]
NOW = datetime(2026, 11, 25, 20, tzinfo=UTC)


@pytest.fixture
def stored(clinic: Clinic) -> Clinic:  # noqa: F811
    """A box whose images are in the archive too."""
    clinic.receive(IMAGES[0], *SMALL, IMAGES[1])
    clinic.deliver()
    return clinic


@pytest.fixture
def kept(stored: Clinic) -> Clinic:
    """The same, when two people have decided to destroy a study of it."""
    approve(stored.box, study_of(stored.box, SMALL[0]).id)
    return stored


def row_of(box: Box, image: Instance) -> InstanceRow:
    return next(each for each in recorded(box) if each.sop_instance_uid == image.sop_instance_uid)


def once(act: Callable[[], object]) -> Callable[..., None]:
    """`act` at the first call."""
    left = [act]

    def called(*_: object) -> None:
        if left:
            left.pop()()

    return called


def destroys(box: Box) -> Callable[..., None]:
    """The destruction of what was decided, at the first call: by another process, as the jobs are to a command line."""

    def act() -> None:
        with box_in(box.config.data) as other:
            assert purging.carry_out(other, LATER) == 1

    return once(act)


@contextmanager
def before_the_second(box: Box, monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> Iterator[None]:
    """`act` once the first object has been opened and before the second is: whoever looks has its list by then."""
    opened, count = box.study_keys.key, [0]

    def key(*of: object) -> bytes:
        count[0] += 1
        if count[0] == 2:
            act()
        return opened(*of)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(box.study_keys, "key", key)
        yield


def told(box: Box) -> object:
    with box.catalog.reading() as conn:
        return settings.get(conn, scrub.VERIFICATION)


@pytest.mark.parametrize("depth", Depth)
@pytest.mark.parametrize("knows_the_key", [False, True], ids=["key gone", "file gone"])
def test_a_verification_says_nothing_of_what_is_destroyed_while_it_goes_on(
    kept: Clinic, depth: Depth, knows_the_key: bool
) -> None:
    if knows_the_key:  # then it is the file that is missed
        for row in recorded(kept.box):
            kept.box.open_object(row.object_id, row.key_id).close()
    found = verification.verify(kept.box, depth, actor="tests", tell=destroys(kept.box))
    assert (found.checked, found.away, found.findings) == (2, 0, ())
    assert "damaged" not in problems(kept)
    if depth is Depth.EVERY_BYTE:
        assert isinstance(about := told(kept.box), dict) and (about["checked"], about["damaged"]) == (2, 0)


def test_a_verification_finds_what_is_lost_beside_what_is_destroyed(kept: Clinic) -> None:
    victim = row_of(kept.box, IMAGES[0])
    kept.box.objects.path(victim.object_id).unlink()
    found = verification.verify(kept.box, Depth.OPENED, actor="tests", tell=destroys(kept.box))
    assert [each.object_id for each in found.findings] == [victim.object_id]


def test_a_verification_says_nothing_of_what_it_found_damaged_and_was_destroyed_before_its_end(
    kept: Clinic,
) -> None:
    dice = random.Random(9)
    for row in recorded(kept.box):
        flip(kept.box.objects.path(row.object_id), dice)
    destroy, seen = destroys(kept.box), len(recorded(kept.box))

    def tell(done: int, total: int) -> None:
        if done == total:
            destroy()

    found = verification.verify(kept.box, Depth.EVERY_BYTE, actor="tests", tell=tell)
    assert (seen, found.checked, len(found.findings)) == (4, 2, 2)
    assert isinstance(about := told(kept.box), dict) and (about["checked"], about["damaged"]) == (2, 2)


def test_a_verification_looks_again_for_what_has_come_since(
    stored: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was away when it was looked for, and is here and expected when that is judged."""
    grow_old(stored.box)
    study = study_of(stored.box, IMAGES[0]).id
    assert eviction.evict_study(stored.box, study, ANY, at_now).images == 2
    look = verification._finding
    back = once(lambda: returning.bring_back(stored.box, datetime.now(UTC), study))

    def late(*of: object) -> verification.Finding | None:
        found = look(*of)  # type: ignore[arg-type]
        back()
        return found

    monkeypatch.setattr(verification, "_finding", late)
    found = verification.verify(stored.box, Depth.OPENED, actor="tests")
    assert (found.checked, found.away, found.findings) == (4, 0, ())


def test_a_slice_that_reads_everything_again_says_nothing_of_what_is_destroyed_in_it(
    kept: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one process with it, which forgets the key then."""
    with before_the_second(kept.box, monkeypatch, once(lambda: purging.carry_out(kept.box, LATER))):
        standing = scrub.scrub(kept.box, NOW, most=20)
    assert (standing.lost, standing.to_mend) == ((), ())
    assert "instance:corrupt" not in actions(kept), "which the ransomware guard counts"
    assert "damaged" not in problems(kept)


def test_what_is_destroyed_while_it_is_to_be_mended_is_not_lost(
    kept: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    flip(kept.box.objects.path(row_of(kept.box, SMALL[0]).object_id), random.Random(1))
    destroy = destroys(kept.box)

    def bring(*_: object) -> None:
        destroy()
        raise Corrupt("no archive has the image whole")

    monkeypatch.setattr(recall, "recall", bring)
    standing = scrub.scrub(kept.box, NOW, most=20)
    assert (standing.lost, standing.to_mend) == ((), ())
    assert "instance:corrupt" not in actions(kept)


def test_what_was_lost_and_is_destroyed_then_is_damage_no_longer(kept: Clinic) -> None:
    row = row_of(kept.box, SMALL[0])
    for path in (kept.box.objects.path(row.object_id), *Path(kept.place.options["path"]).rglob("*")):  # type: ignore[arg-type]
        if row.object_id in path.name:
            flip(path, random.Random(1))
    assert row.object_id in scrub.scrub(kept.box, NOW, most=3).lost
    destroys(kept.box)()
    assert finished(kept)["lost"] == []


def test_the_guard_counts_neither_what_was_destroyed_nor_what_came_back(
    kept: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[int] = []
    judge = freezing.counted

    def noted(tx: object, act: object, count: Count, **more: object) -> object:
        counted.append(count.missing + count.altered + count.unreadable)
        return judge(tx, act, count, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(freezing, "counted", noted)
    destroy = destroys(kept.box)
    census.take(kept.box, NOW, keep_going=lambda: destroy() is None)
    first = recorded(kept.box)[0]
    whole = kept.box.objects.path(first.object_id).read_bytes()
    kept.box.objects.path(first.object_id).unlink()
    look = census._looks_whole

    def late(box: Box, object_id: object, *of: object) -> bool:
        try:
            return look(box, object_id, *of)  # type: ignore[arg-type]
        finally:
            kept.box.objects.path(first.object_id).write_bytes(whole)

    monkeypatch.setattr(census, "_looks_whole", late)
    census.take(kept.box, NOW)
    assert counted == [0, 0]


def test_a_homecoming_misses_nothing_that_was_destroyed_in_its_run(clinic: Clinic, tmp_path: Path) -> None:  # noqa: F811
    clinic.receive(IMAGES[0], *SMALL, IMAGES[1])
    clinic.deliver()
    restore(tmp_path / "after", clinic.place, clinic.paper)
    with box_in(tmp_path / "after") as box:
        approve(box, study_of(box, SMALL[0]).id)
        destroy = destroys(box)
        homecoming.bringing_home(box, LATER, keep_going=lambda: destroy() is None)
        assert len(recorded(box)) == 2
        with box.catalog.reading() as conn:
            assert homecoming.missing(conn) == 0
            assert homecoming.under_way(conn) is None


def test_bringing_everything_back_tells_no_loss_of_what_was_destroyed_meanwhile(stored: Clinic) -> None:
    grow_old(stored.box)
    assert evict_all(stored.box).images == 4
    approve(stored.box, study_of(stored.box, SMALL[0]).id)
    destroy = destroys(stored.box)
    assert returning.bring_back(stored.box, LATER, keep_going=lambda: destroy() is None) == 2
    assert "instance:corrupt" not in actions(stored)


def test_a_drill_of_a_backup_from_before_a_destruction_finds_nothing_wrong_with_it(kept: Clinic) -> None:
    index = kept.back_up()
    destroys(kept.box)()
    kept.deliver_until(lambda: not owed(kept))  # the tombstones lie there, and no newer backup yet
    found = drill.drill(kept.box, kept.place, NOW, actor="tests", dice=random.Random(1), name=index.name)
    assert (found.findings, found.sampled) == ((), 2)


def test_a_drill_of_which_every_image_was_destroyed_has_not_passed(clinic: Clinic) -> None:  # noqa: F811
    clinic.receive(*SMALL)
    clinic.deliver()
    approve(clinic.box, study_of(clinic.box, SMALL[0]).id)
    clinic.back_up()
    destroys(clinic.box)()
    clinic.deliver_until(lambda: not owed(clinic))
    with pytest.raises(Transient, match="destroyed since"):
        drill.drill(clinic.box, clinic.place, NOW, actor="tests", dice=random.Random(1))


def test_an_export_says_that_the_study_was_destroyed_and_not_that_the_disk_is_damaged(
    kept: Clinic, tmp_path: Path
) -> None:
    row = row_of(kept.box, SMALL[1])
    carry_out(kept)
    with pytest.raises(Unknown, match="has been destroyed"):
        write_file(kept.box, row, tmp_path / "0001.dcm")
    assert list(tmp_path.glob("*.dcm")) == []
