"""What a person knows to be damaged holds the ransomware guard no second time, and what is new does."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from appliance import audit
from appliance.box import Box
from appliance.catalog import freezes, settings
from appliance.ingest import set_aside
from appliance.lifecycle import census, freezing, passes, scrub, verification
from appliance.lifecycle.acting import Act
from appliance.lifecycle.verification import Depth
from appliance.model import ObjectId
from tests.backup.conftest import IMAGES, Clinic
from tests.backup.conftest import clinic as _clinic
from tests.backup.conftest import disk as _disk
from tests.lifecycle.test_aside import held
from tests.lifecycle.test_aside import record as _record
from tests.lifecycle.test_bad_sectors import BadSectors
from tests.lifecycle.test_bad_sectors import sectors as _sectors
from tests.lifecycle.test_scrub import NOW, actions, objects

pytestmark = pytest.mark.slow

clinic, disk, record, sectors = _clinic, _disk, _record, _sectors

DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)


@pytest.fixture
def alone(clinic: Clinic) -> Clinic:
    """A box whose images nobody else has."""
    clinic.receive(*IMAGES)
    return clinic


@pytest.fixture(autouse=True)
def _what_the_count_does_not_see(monkeypatch: pytest.MonkeyPatch) -> None:
    """As damage is that lies behind the first megabyte: the guard's own count looks no further."""
    monkeypatch.setattr(census, "OPENED", 0)


def rot(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def a_pass(box: Box, at: datetime) -> freezes.Freeze | None:
    """Read everything again, in two slices; the freeze that the guard begins after it."""
    for _ in range(2):
        scrub.scrub(box, at, most=50)
    return census.take(box, at + MINUTE, dice=random.Random(1))


def release(box: Box, at: datetime) -> None:
    with box.catalog.transaction() as tx:
        freezing.release(tx, Act("marie", at, box.audit_key), reason="we know of these three")


def said(clinic: Clinic) -> int:
    return actions(clinic).count("instance:corrupt")


def test_what_lasts_freezes_nothing_after_a_person_has_released_the_guard(alone: Clinic) -> None:
    for path in objects(alone)[:3]:
        rot(path)
    begun = a_pass(alone.box, NOW)
    assert begun is not None and begun.why is freezes.Why.REPORTED
    release(alone.box, NOW + HOUR)
    for number in range(1, 4):
        assert a_pass(alone.box, NOW + number * DAY) is None, "a person knows of it"
    assert said(alone) == 3
    for path in objects(alone)[5:8]:
        rot(path)
    again = a_pass(alone.box, NOW + 5 * DAY)
    assert again is not None and again.evidence["reported"] == 3, "that is another loss"


def test_what_is_set_aside_and_lost_freezes_nothing_after_that_either(clinic: Clinic, record: Path) -> None:
    box = clinic.box
    received = set_aside.read(box, record)
    held(box, record).unlink()
    for number in range(2):
        other = ObjectId(f"{number}" * len(received.stored.object_id))
        set_aside.put(box, replace(received, stored=replace(received.stored, object_id=other)))
    assert a_pass(box, NOW) is not None
    release(box, NOW + HOUR)
    for number in range(1, 3):
        assert a_pass(box, NOW + number * DAY) is None


def test_one_that_was_mended_and_is_damaged_again_is_another_loss(alone: Clinic) -> None:
    hurt = objects(alone)[:3]
    whole = [path.read_bytes() for path in hurt]
    for path in hurt:
        rot(path)
    assert a_pass(alone.box, NOW) is not None
    release(alone.box, NOW + HOUR)
    for path, data in zip(hurt, whole, strict=True):
        path.write_bytes(data)
    assert a_pass(alone.box, NOW + DAY) is None
    for path in hurt:
        rot(path)
    assert a_pass(alone.box, NOW + 2 * DAY) is not None


def test_more_than_are_known_by_name_are_known_all_the_same(
    alone: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passes, "MOST_LOST", 2)
    for path in objects(alone)[:6]:
        rot(path)
    assert a_pass(alone.box, NOW) is not None
    release(alone.box, NOW + HOUR)
    for number in range(1, 4):
        assert a_pass(alone.box, NOW + number * DAY) is None


def test_a_small_loss_that_grows_counts_together_and_is_not_written_down_all_day(alone: Clinic) -> None:
    """A box that is read in an hour says it twice a day: what is lost bit by bit is a mass in the end."""
    for path in objects(alone)[:2]:
        rot(path)
    for number in range(24):
        assert a_pass(alone.box, NOW + number * HOUR) is None
    assert said(alone) == 4
    rot(objects(alone)[4])
    begun = a_pass(alone.box, NOW + DAY + HOUR)
    assert begun is not None and begun.evidence["reported"] == 3


def test_what_a_person_found_who_read_everything_is_reported_once(alone: Clinic) -> None:
    for path in objects(alone)[:3]:
        rot(path)
    verification.verify(alone.box, Depth.EVERY_BYTE, actor="marie")
    assert a_pass(alone.box, NOW) is not None
    assert said(alone) == 3


def test_that_a_sector_is_bad_says_nothing_of_what_is_altered_later(
    alone: Clinic, sectors: BadSectors
) -> None:
    hurt = objects(alone)[:3]
    for path in hurt:
        sectors.hurt(path)
    assert a_pass(alone.box, NOW) is None
    sectors.mend()
    for path in hurt:
        rot(path)
    assert a_pass(alone.box, NOW + HOUR) is not None


_HARMS: dict[str, Callable[[Path], None]] = {"gone": Path.unlink, "rotten": rot}


@pytest.mark.parametrize("harm", _HARMS.values(), ids=_HARMS)
def test_health_says_what_is_damaged_as_long_as_it_lasts(alone: Clinic, harm: Callable[[Path], None]) -> None:
    harm(objects(alone)[0])
    for number in range(3):
        a_pass(alone.box, NOW + number * HOUR)
        with alone.box.catalog.reading() as conn:
            assert settings.get(conn, scrub.VERIFICATION)["damaged"] == 1


@pytest.mark.parametrize("what", ["mended", "an archive's copy"])
def test_what_was_reported_of_another_damage_says_nothing_of_this_one(alone: Clinic, what: str) -> None:
    """Once it was mended, or it was a copy elsewhere: the guard was released in between for whatever reason."""
    box, subject = alone.box, f"instance:{'ab' * 16}"
    details = {"on": "cloud"} if what == "an archive's copy" else {"reason": "rot"}
    box.record([audit.Entry("instance:corrupt", subject, "jobs", details)], NOW)
    if what == "mended":
        box.record([audit.Entry("instance:mend", subject, "jobs", {})], NOW + HOUR)
    with box.catalog.transaction() as tx:
        freezing.freeze(tx, Act("marie", NOW + DAY, box.audit_key), reason="an exercise")
    release(box, NOW + DAY)
    with box.catalog.reading() as tx:
        said = freezing.need_not_be_said(tx, ObjectId("ab" * 16), NOW + 30 * DAY, is_unread=False)
    assert not said
