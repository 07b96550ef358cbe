"""What an archive did not give when its turn came was not read: it is tried again, and said once it is long ago."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from appliance import health
from appliance.catalog import destinations, known_clock, settings
from appliance.health.gathering import SCRUB_ARCHIVES
from appliance.lifecycle import read_through, retention, scrub
from appliance.model import DestinationSettings, ObjectId
from appliance.replication.destinations import prepare
from appliance.replication.destinations.archive import object_key
from tests.backup.conftest import IMAGES, Clinic
from tests.backup.conftest import clinic as _clinic
from tests.backup.conftest import disk as _disk
from tests.lifecycle.test_scrub import NOW, finished, flip
from tests.lifecycle.test_scrub import kept as _kept

pytestmark = pytest.mark.slow

clinic, disk, kept = _clinic, _disk, _kept

DAY, TEN_DAYS = timedelta(days=1), timedelta(days=10)


@pytest.fixture
def usb(kept: Clinic) -> Path:
    return Path(str(kept.place.options["path"]))


def a_pass(clinic: Clinic, at: datetime = NOW) -> None:
    """Read on until a pass ends."""
    for _ in range(3):
        scrub.scrub(clinic.box, at, most=20)
        with clinic.box.catalog.reading() as conn:
            if settings.get(conn, scrub.STANDING)["cursor"] == 0:
                return
    raise AssertionError("the pass does not end")


def standing(clinic: Clinic) -> dict[str, Any]:
    """What is kept of the disk."""
    with clinic.box.catalog.reading() as conn:
        told = settings.get(conn, read_through.ARCHIVES)[str(clinic.place.id)]
    assert isinstance(told, dict)
    return told


def late(clinic: Clinic, at: datetime) -> list[str]:
    """Which archives were not read to their end for too long, where everything else was."""
    with clinic.box.catalog.transaction() as tx:
        done = {**(settings.get(tx, scrub.FINISHED) or {}), "finished_utc": at.isoformat()}
        settings.put(tx, scrub.FINISHED, done, NOW)
    found = health.status(clinic.box, at).problems
    return [each.subject for each in found if each.code == "read-again-late"]


def test_a_manifest_that_its_archive_did_not_give_was_not_read(kept: Clinic, usb: Path) -> None:
    usb.rename(usb.with_name("away"))
    assert finished(kept)["manifests"] == 0


def test_one_of_a_paused_archive_was_not_read_either(kept: Clinic) -> None:
    with kept.box.catalog.transaction() as tx:
        destinations.pause(tx, kept.place.name)
    assert finished(kept)["manifests"] == 0


def test_a_damaged_one_was_not_read_and_is_written_again(kept: Clinic, usb: Path) -> None:
    flip(next((usb / "manifests").iterdir()), random.Random(2))
    found = finished(kept)
    assert (found["manifests"], found["rewritten"]) == (3, 1)


def test_an_archive_that_was_there_all_the_time_is_read_through(kept: Clinic) -> None:
    a_pass(kept)
    assert standing(kept)["since_utc"] == NOW.isoformat()
    a_pass(kept, NOW + TEN_DAYS)
    assert standing(kept)["since_utc"] == (NOW + TEN_DAYS).isoformat()
    assert late(kept, NOW + TEN_DAYS + timedelta(days=33)) == []
    assert read_through.ARCHIVES == SCRUB_ARCHIVES


def test_one_that_is_away_whenever_its_turn_comes_is_said_by_its_name_until_it_was_read(
    kept: Clinic, usb: Path
) -> None:
    a_pass(kept)
    away = usb.rename(usb.with_name("away"))
    for number in range(1, 4):
        a_pass(kept, NOW + number * TEN_DAYS)
    assert late(kept, NOW + timedelta(days=33)) == []
    assert late(kept, NOW + timedelta(days=34)) == ["usb"]
    away.rename(usb)
    a_pass(kept, NOW + 4 * TEN_DAYS)
    assert late(kept, NOW + 4 * TEN_DAYS) == []


def test_one_that_is_new_counts_from_when_it_came(kept: Clinic, usb: Path, tmp_path: Path) -> None:
    """And a pass that was under way then is none of it."""
    usb.rename(usb.with_name("away"))
    scrub.scrub(kept.box, NOW, most=4)
    (tmp_path / "second").mkdir()
    second = prepare(DestinationSettings("second", "vault", "ciphertext", {"path": str(tmp_path / "second")}))
    with kept.box.catalog.transaction() as tx:
        destinations.add(tx, second)
    later = NOW + timedelta(days=5)
    a_pass(kept, later)
    assert late(kept, NOW + timedelta(days=34)) == ["usb"]
    assert late(kept, NOW + timedelta(days=39)) == ["second", "usb"]


def test_one_that_is_removed_is_said_no_longer(kept: Clinic, usb: Path) -> None:
    usb.rename(usb.with_name("away"))
    a_pass(kept)
    assert late(kept, NOW + timedelta(days=34)) == ["usb"]
    with kept.box.catalog.transaction() as tx:
        destinations.remove(tx, kept.place.name, NOW)
    assert late(kept, NOW + timedelta(days=34)) == []


def test_one_that_goes_to_another_place_counts_anew(kept: Clinic, usb: Path, tmp_path: Path) -> None:
    usb.rename(usb.with_name("away"))
    a_pass(kept)
    (tmp_path / "second").mkdir()
    moved = prepare(replace(kept.place, options={"path": str(tmp_path / "second")}))
    with kept.box.catalog.transaction() as tx:
        destinations.change(tx, moved.name, moved.options)
    a_pass(kept, NOW + timedelta(days=30))
    assert late(kept, NOW + timedelta(days=34)) == []


def test_what_it_did_not_give_in_one_slice_is_read_in_the_next_ones(kept: Clinic, usb: Path) -> None:
    """As a server does that starts anew, or a line that is down for ten minutes."""
    away = usb.rename(usb.with_name("away"))
    first = scrub.scrub(kept.box, NOW, most=4)
    assert (first.manifests, first.copies) == (0, 0)
    assert (len(standing(kept)["copies"]), len(standing(kept)["manifests"])) == (4, 4)
    away.rename(usb)
    hurt = usb / object_key(ObjectId(standing(kept)["copies"][0]))
    whole = hurt.read_bytes()
    flip(hurt, random.Random(3))
    second = scrub.scrub(kept.box, NOW + timedelta(minutes=10), most=4)
    assert (second.manifests, second.copies) == (4, 1)
    assert hurt.read_bytes() == whole
    assert (standing(kept)["copies"], standing(kept)["manifests"]) == ([], [])
    a_pass(kept, NOW + timedelta(minutes=20))
    assert standing(kept)["since_utc"] == (NOW + timedelta(minutes=20)).isoformat()


def test_with_too_much_of_it_passed_over_it_waits_for_the_next_pass(
    kept: Clinic, usb: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_through, "MOST", 3)
    away = usb.rename(usb.with_name("away"))
    scrub.scrub(kept.box, NOW, most=4)
    assert standing(kept)["copies"] == []
    away.rename(usb)
    later = NOW + timedelta(days=1)
    a_pass(kept, later)
    assert standing(kept)["since_utc"] == NOW.isoformat(), "that pass was not whole"
    a_pass(kept, later)
    assert standing(kept)["since_utc"] == later.isoformat()


def test_one_that_comes_back_in_the_middle_of_a_pass_waits_for_one_pass_and_not_for_two(
    kept: Clinic, usb: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read on from where it was lost, as the page promises: ten days."""
    monkeypatch.setattr(read_through, "MOST", 2)
    away = usb.rename(usb.with_name("away"))
    scrub.scrub(kept.box, NOW, most=4)
    back = NOW + timedelta(days=34)
    assert late(kept, back) == ["usb"]
    away.rename(usb)
    for number in range(2):
        scrub.scrub(kept.box, back + number * DAY, most=4)
        assert late(kept, back + number * DAY) == ["usb"], (
            "also where the pass ends: its beginning was not read"
        )
    scrub.scrub(kept.box, back + 2 * DAY, most=4)
    assert standing(kept)["since_utc"] == (back + 2 * DAY).isoformat()
    assert late(kept, back + 2 * DAY) == []
    a_pass(kept, back + 3 * DAY)
    assert standing(kept)["since_utc"] == (back + 3 * DAY).isoformat(), "it goes with the others again"


def test_one_that_is_lost_again_on_the_way_goes_on_from_there(
    kept: Clinic, usb: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six slices a pass: it is lost in the third of the first, and in the second of the next."""
    monkeypatch.setattr(read_through, "MOST", 1)
    for number in range(14):
        assert number == 0 or standing(kept)["since_utc"] == NOW.isoformat()
        if is_away := number in (2, 7):
            usb.rename(usb.with_name("away"))
        scrub.scrub(kept.box, NOW + number * DAY, most=2)
        if is_away:
            usb.with_name("away").rename(usb)
    assert standing(kept)["since_utc"] == (NOW + 13 * DAY).isoformat(), "in the second slice of the third"


def test_one_that_was_lost_by_earlier_software_waits_for_a_whole_pass(kept: Clinic) -> None:
    """That has not written down where."""
    scrub.scrub(kept.box, NOW, most=4)
    with kept.box.catalog.transaction() as tx:
        told = settings.get(tx, read_through.ARCHIVES)
        begun = settings.get(tx, scrub.STANDING)["begun_utc"]
        mine = {"place": told[str(kept.place.id)]["place"], "since_utc": NOW.isoformat(), "part_of": begun}
        settings.put(tx, read_through.ARCHIVES, {str(kept.place.id): mine}, NOW)
    a_pass(kept, NOW + DAY)
    scrub.scrub(kept.box, NOW + 2 * DAY, most=8)
    assert standing(kept)["since_utc"] == NOW.isoformat()
    a_pass(kept, NOW + 3 * DAY)
    assert standing(kept)["since_utc"] == (NOW + 3 * DAY).isoformat()


def test_what_is_destroyed_meanwhile_keeps_no_archive_from_being_read_through(
    kept: Clinic, usb: Path
) -> None:
    away = usb.rename(usb.with_name("away"))
    scrub.scrub(kept.box, NOW, most=4)
    with kept.box.catalog.transaction() as tx:
        names = standing(kept)["copies"]
        told = settings.get(tx, read_through.ARCHIVES)
        told[str(kept.place.id)] |= {"copies": [*names, "f" * 32], "manifests": [999]}
        settings.put(tx, read_through.ARCHIVES, told, NOW)
    away.rename(usb)
    a_pass(kept, NOW + TEN_DAYS)
    assert standing(kept)["since_utc"] == (NOW + TEN_DAYS).isoformat()


def test_a_slice_that_is_stopped_counts_no_manifest_twice(kept: Clinic) -> None:
    """It goes on behind the last study that it has read."""
    left = iter([True] * (len(IMAGES) + 2))
    first = scrub.scrub(kept.box, NOW, keep_going=lambda: next(left, False), most=20)
    assert first.manifests == 2
    assert finished(kept)["manifests"] == 4


DEAD = datetime(2016, 1, 1, tzinfo=UTC)
"""What a clock without a battery says until a time server is reached."""


@pytest.fixture
def known(kept: Clinic) -> datetime:
    """The moment that it is at the earliest, by a time server, after the images came."""
    now = datetime.now(UTC) + timedelta(hours=1)
    with kept.box.catalog.transaction() as tx:
        retention.watch_clock(tx, now, follows_time_server=True)
    return now


def test_a_clock_that_stands_in_the_past_for_a_slice_makes_nothing_years_old(
    kept: Clinic, known: datetime
) -> None:
    a_pass(kept, known)
    scrub.scrub(kept.box, DEAD, most=4)
    assert standing(kept)["since_utc"] == known.isoformat()
    assert late(kept, known + timedelta(minutes=10)) == []


def test_a_pass_that_ends_by_such_a_clock_ended_no_earlier_than_is_known(
    kept: Clinic, known: datetime
) -> None:
    a_pass(kept, DEAD)
    assert standing(kept)["since_utc"] == known.isoformat()


def test_a_moment_that_is_still_to_come_counts_as_now(kept: Clinic) -> None:
    a_pass(kept, NOW + timedelta(days=4000))
    scrub.scrub(kept.box, NOW, most=4)
    assert standing(kept)["since_utc"] == NOW.isoformat()


def test_what_is_kept_of_the_clock_and_cannot_be_read_holds_nothing_up(kept: Clinic) -> None:
    with kept.box.catalog.transaction() as tx:
        settings.put(tx, known_clock.KEY, "no clock", NOW)
    a_pass(kept)
    assert standing(kept)["since_utc"] == NOW.isoformat()
