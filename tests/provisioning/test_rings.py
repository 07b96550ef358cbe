"""Rings of several boxes, by the fleet's own playbooks as they are delivered: with as many workers as Ansible has if nobody says more."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Lock

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from appliance.fleet.board import Folder
from tests.fleet.outposts import vendor
from tests.fleet.pretenders import Pretender, living
from tests.provisioning.fleets import Fleet

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

NEXT = "0.2.0"
COUNT = 10
LAST = range(4, COUNT)
"""Of ten boxes 1, 4 and 20 % are rings of one, one and two, and all that are left are the fourth."""
FOREVER = {"fleet_retries": 100_000, "fleet_delay_seconds": 1}


class Crowd:
    """Ten boxes that pretend, and the fleet that they are."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet, self.there = fleet, Folder(fleet.vendor.folder)
        self.boxes, self.turn = [Pretender() for _ in range(COUNT)], Lock()
        public = serialization.load_ssh_public_key(fleet.public.encode())
        assert isinstance(public, Ed25519PublicKey)
        self.public = public
        fleet.register(*((each.name, each.key) for each in self.boxes))
        for each in self.boxes:
            each.say(self.there, datetime.now(UTC))

    @contextmanager
    def alive(self) -> Iterator[None]:
        with living(self.boxes, self.there, self.public, self.turn):
            yield

    def fall_silent(self, *places: int) -> None:
        """Nothing fresh is heard of them any more."""
        with self.turn:
            for place in places:
                self.boxes[place].manner = "silent"
                old = Pretender(private=self.boxes[place].private)
                old.say(self.there, datetime.now(UTC) - timedelta(hours=2))


@pytest.fixture
def crowd(tmp_path: Path) -> Iterator[Crowd]:
    with vendor(tmp_path / "board") as there:
        yield Crowd(Fleet(tmp_path, there))


def failed(said: str) -> list[int]:
    """The clinics that the tasks name which have failed."""
    return sorted(int(each) for each in re.findall(r'"msg": "clinic (\d+) ', said))


def test_one_that_went_back_by_itself_halts_a_ring_in_which_others_are_silent_or_put_it_off(
    crowd: Crowd, eventually: Callable[..., object]
) -> None:
    crowd.boxes[8].manner = "leaves"
    for place in (5, 9):
        crowd.boxes[place].manner = "puts-off"
    crowd.boxes[0].manner = "puts-off"
    with crowd.alive(), crowd.fleet.playing("fleet-update.yml", fleet_software=NEXT, **FOREVER) as play:
        eventually(lambda: play.is_over or "clinic 0 has taken" in play.said, within_seconds=300)
        crowd.fall_silent(4, 6, 7)
        crowd.boxes[0].manner = "does"
        eventually(lambda: play.is_over, within_seconds=300)
        assert play.process.returncode not in (0, None), play.said
    assert failed(play.said) == [8], play.said
    assert f"clinic 8 tried version {NEXT}, which did not prove itself there" in play.said
    assert "-e fleet_mend=true" in play.said
    assert not crowd.fleet.wanted_of(crowd.boxes[4].name), "it is silent"


def test_five_silent_boxes_keep_nobody_of_their_ring_from_being_heard(
    crowd: Crowd, eventually: Callable[..., object]
) -> None:
    silent, heard = LAST[:5], LAST[5:]
    crowd.boxes[0].manner = "puts-off"
    with crowd.alive(), crowd.fleet.playing("fleet-update.yml", fleet_software=NEXT, **FOREVER) as play:
        eventually(lambda: play.is_over or "clinic 0 has taken" in play.said, within_seconds=300)
        crowd.fall_silent(*silent)
        crowd.boxes[0].manner = "does"
        done = [f"clinic {place} has what is wanted, and is well" for place in heard]
        eventually(lambda: play.is_over or all(each in play.said for each in done), within_seconds=300)
        assert not play.is_over, play.said
        assert not any(crowd.fleet.wanted_of(crowd.boxes[place].name) for place in silent)
        for place in silent:
            assert f"clinic {place} is not heard (stale)" in play.said
            crowd.boxes[place].manner = "does"
        eventually(lambda: play.is_over, within_seconds=300)
        assert play.process.returncode == 0, play.said
    assert {each.software for each in crowd.boxes} == {NEXT}
    again = crowd.fleet.play("fleet-update.yml", fleet_software=NEXT, **FOREVER)
    assert re.findall(r"changed=(\d+)", again.stdout) == ["0"] * (COUNT + 1), again.stdout


def test_a_rehearsal_says_who_would_be_told_tells_nobody_and_waits_for_nobody(crowd: Crowd) -> None:
    told = crowd.fleet.rehearse("fleet-update.yml", fleet_software=NEXT, **FOREVER)
    assert told.returncode == 0, told.stdout
    assert re.findall(r"changed=(\d+)", told.stdout) == ["1"] * COUNT + ["0"], told.stdout
    assert not any(crowd.fleet.wanted_of(each.name) for each in crowd.boxes)


def test_a_key_that_cannot_be_read_is_said_before_anybody_is_waited_for(crowd: Crowd) -> None:
    crowd.fleet.authority.unlink()
    told = crowd.fleet.play("fleet-update.yml", fleet_software=NEXT, **FOREVER)
    assert told.returncode != 0
    assert "the vendor's key cannot be read" in told.stdout
