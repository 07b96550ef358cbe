"""A ring of several boxes: each is heard in each round whatever the others do, one that has failed ends it, and its time is one for all."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from appliance.fleet import board, wanted
from appliance.fleet.board import Folder
from appliance.fleet.ring import HOLDS, RENEWED, How, Ring, Standing, Wish, has
from appliance.fleet.wanted import LONGEST, Wanted
from tests.fleet.pretenders import Manner, Pretender

NOW = datetime(2026, 11, 26, 9, 30, tzinfo=UTC)
ROUND = timedelta(hours=6)
LONG = timedelta(days=23)
NEXT = "0.2.0"
VENDOR = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


class World:
    """Boxes, where they and their vendor leave documents, and a clock that moves only where somebody waits."""

    def __init__(self, folder: Path, boxes: Iterable[Pretender]) -> None:
        (folder / "boxes").mkdir()
        self.there, self.now, self.boxes = Folder(folder), NOW, list(boxes)
        self.rounds, self.said = 0, list[tuple[str, str]]()
        for each in self.boxes:
            each.beat(self.there, VENDOR.public_key(), self.now)

    def ring(self, wish: Wish, *, rehearses: bool = False) -> Ring:
        return Ring({each.name: each.key for each in self.boxes}, wish, VENDOR, rehearses=rehearses)

    def wait(self, ring: Ring, longest: timedelta = LONG) -> None:
        ring.wait(self.open, longest, ROUND, say=self.hear, now=lambda: self.now, pause=self.pause)

    def played(self, wish: Wish) -> dict[str, Standing]:
        """How far each is when its ring is over."""
        ring = self.ring(wish)
        self.wait(ring)
        assert ring.is_over
        return ring.standings

    def open(self) -> Folder:
        self.rounds += 1
        return self.there

    def hear(self, at: datetime, box: str, standing: Standing) -> None:
        self.said.append((box, standing.why))

    def pause(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        for each in self.boxes:
            each.beat(self.there, VENDOR.public_key(), self.now)

    def order(self, box: Pretender) -> Wanted | None:
        """What is wanted of a box."""
        data = self.there.read(f"{board.WANTED}{box.name}{board.SUFFIX}")
        return wanted.opened(data, VENDOR.public_key()) if data else None


def boxes(count: int, manner: Manner = "does") -> list[Pretender]:
    return [Pretender(manner) for _ in range(count)]


@pytest.mark.parametrize("count", [1, 4, 20, 75])
def test_a_ring_is_over_when_each_box_has_the_version_and_a_second_run_changes_nothing(
    tmp_path: Path, count: int
) -> None:
    world = World(tmp_path, boxes(count))
    done = world.played(Wish(NEXT))
    assert {each.how for each in done.values()} == {How.DONE}
    assert all(each.is_changed for each in done.values())
    assert {each.software for each in world.boxes} == {NEXT}
    rounds, orders = world.rounds, list(map(world.order, world.boxes))
    again = world.played(Wish(NEXT))
    assert not any(each.is_changed for each in again.values())
    assert world.rounds == rounds + 1, "nobody is waited for"
    assert list(map(world.order, world.boxes)) == orders


@pytest.mark.parametrize("count", [4, 20, 75])
def test_one_that_went_back_by_itself_ends_the_wait_for_all_others_and_is_named(
    tmp_path: Path, count: int
) -> None:
    leaves = Pretender("leaves")
    world = World(tmp_path, [*boxes(count // 2, "puts-off"), leaves, *boxes(count // 2 - 1, "silent")])
    done = world.played(Wish(NEXT))
    assert [box for box, each in done.items() if each.how is How.FAILED] == [leaves.name]
    assert (
        "tried version 0.2.0, which did not prove itself there, and has gone back to 0.1.0"
        in done[leaves.name].why
    )
    assert "-e fleet_mend=true" in done[leaves.name].why
    assert world.rounds <= 4, "it is told, takes it, says so"


def test_all_that_have_failed_in_a_round_are_named(tmp_path: Path) -> None:
    world = World(tmp_path, [Pretender("leaves"), *boxes(5, "puts-off"), Pretender("leaves")])
    done = world.played(Wish(NEXT))
    assert [each.how is How.FAILED for each in done.values()] == [True, *[False] * 5, True]


def test_silent_boxes_hold_up_nobody_who_is_heard(tmp_path: Path) -> None:
    late = [Pretender("silent") for _ in range(70)]
    heard = boxes(5)
    world = World(tmp_path, [*late, *heard])
    ring = world.ring(Wish(NEXT))
    world.wait(ring, ROUND * 3)
    for each in heard:
        assert ring.standings[each.name].how is How.DONE
        assert each.software == NEXT
    for each in late:
        assert ring.standings[each.name].how is How.FAILED
        assert ring.standings[each.name].why.startswith(
            "is not heard (silent), and the time of its ring is over"
        )
        assert world.order(each) is None
        each.manner = "does"
    world.pause(1)
    assert {each.how for each in world.played(Wish(NEXT)).values()} == {How.DONE}


def test_one_that_comes_late_is_told_when_it_comes(tmp_path: Path) -> None:
    late = Pretender("silent")
    world = World(tmp_path, [late, *boxes(5)])

    def pause(seconds: float) -> None:
        if world.now > NOW + timedelta(days=5):
            late.manner = "does"
        world.pause(seconds)

    ring = world.ring(Wish(NEXT))
    ring.wait(world.open, LONG, ROUND, say=world.hear, now=lambda: world.now, pause=pause)
    assert {each.how for each in ring.standings.values()} == {How.DONE}
    assert timedelta(days=5) < world.now - NOW <= timedelta(days=6)
    assert (late.name, "is not heard (silent)") in world.said


def test_what_is_wanted_holds_to_the_end_of_the_time_which_is_one_for_all_boxes_of_a_ring(
    tmp_path: Path,
) -> None:
    late = Pretender("silent")
    world = World(tmp_path, [*boxes(11, "puts-off"), late])
    done = world.played(Wish(NEXT))
    assert world.now - NOW == LONG
    for each in world.boxes[:-1]:
        order = world.order(each)
        assert order is not None
        assert order.until_utc > world.now
    assert {each.how for each in done.values()} == {How.FAILED}
    for each in world.boxes[:-1]:
        assert done[each.name].why.startswith("has taken what is wanted, and runs 0.1.0 still, and the time")
    assert LONG < RENEWED < HOLDS <= LONGEST


def test_what_is_left_of_the_time_is_waited_for_and_no_longer(tmp_path: Path) -> None:
    world = World(tmp_path, boxes(6, "silent"))
    world.wait(world.ring(Wish(NEXT)), timedelta(hours=15))
    assert (world.now - NOW, world.rounds) == (timedelta(hours=15), 4)


def test_one_that_is_not_well_as_the_ring_begins_ends_it_before_anybody_is_told_but_for_a_version_that_mends_it(
    tmp_path: Path,
) -> None:
    ill = Pretender(is_ill=True)
    world = World(tmp_path, [*boxes(5), Pretender("silent"), ill])
    done = world.played(Wish(NEXT))
    assert done[ill.name].how is How.FAILED
    assert done[ill.name].why.startswith("is not ready: ")
    assert "fleet_mend" in done[ill.name].why
    assert world.rounds == 1, "whoever is silent is not waited for"
    assert not any(map(world.order, world.boxes))
    limits = world.played(Wish(settings={"health.disk_days": 40}, mends=True))
    assert limits[ill.name].how is How.FAILED, "limits mend nothing"

    ring = world.ring(Wish(NEXT, mends=True))
    ring.look(world.there, world.now)
    assert ring.standings[ill.name].how is How.WAITS
    assert world.order(ill) is not None


def test_one_that_falls_ill_with_a_version_is_waited_for_and_named_by_what(tmp_path: Path) -> None:
    world = World(tmp_path, boxes(6))
    ring = world.ring(Wish(NEXT))
    ring.look(world.there, world.now)
    world.boxes[3].is_ill = True
    world.wait(ring, ROUND * 5)
    assert [each.how for each in ring.standings.values()] == [How.DONE] * 3 + [How.FAILED] + [How.DONE] * 2
    assert ring.standings[world.boxes[3].name].why.startswith("is not ready: ")


def test_a_version_that_one_has_left_behind_is_named_to_nobody_of_its_ring(tmp_path: Path) -> None:
    ahead = Pretender(software="0.3.0")
    world = World(tmp_path, [*boxes(5), ahead])
    done = world.played(Wish(NEXT))
    assert done[ahead.name].why.startswith("runs 0.3.0 already, and never goes back to 0.2.0")
    assert not any(map(world.order, world.boxes))


def test_a_refusal_of_what_came_before_ends_nothing_and_one_of_this_does(tmp_path: Path) -> None:
    before, refuses = Pretender(taken=(3, "refused")), Pretender("refuses")
    world = World(tmp_path, [before, *boxes(4)])
    assert {each.how for each in world.played(Wish(NEXT)).values()} == {How.DONE}
    assert before.taken == (4, "taken")

    world.boxes.append(refuses)
    world.pause(1)
    done = world.played(Wish(settings={"health.unheard_of": 1}))
    assert [box for box, each in done.items() if each.how is How.FAILED] == [refuses.name]
    assert "refused what is wanted: its log says why" in done[refuses.name].why


def test_one_whose_place_cannot_be_read_holds_up_nobody_either(tmp_path: Path) -> None:
    world = World(tmp_path, boxes(6))
    broken = tmp_path / "boxes" / f"{world.boxes[0].name}.json"
    broken.unlink()
    broken.mkdir()
    world.boxes[0].manner = "silent"
    ring = world.ring(Wish(NEXT))
    world.wait(ring, ROUND * 3)
    assert [each.how for each in ring.standings.values()] == [How.FAILED] + [How.DONE] * 5
    assert "cannot be used" in ring.standings[world.boxes[0].name].why


@pytest.mark.parametrize("rehearses", [False, True])
def test_what_may_be_wanted_of_no_box_is_laid_for_none(tmp_path: Path, rehearses: bool) -> None:
    world = World(tmp_path, boxes(6))
    ring = world.ring(Wish(settings={"retention.years": 1}), rehearses=rehearses)
    world.wait(ring)
    assert [each.how for each in ring.standings.values()] == [How.FAILED] + [How.WAITS] * 5
    assert not any(map(world.order, world.boxes))


def test_a_rehearsal_lays_nothing_and_waits_for_nobody_whom_it_would_tell(tmp_path: Path) -> None:
    world = World(tmp_path, boxes(6))
    ring = world.ring(Wish(NEXT), rehearses=True)
    world.wait(ring, timedelta(0))
    assert {(each.how, each.is_changed) for each in ring.standings.values()} == {(How.DONE, True)}
    assert not any(map(world.order, world.boxes))


def test_who_goes_on_is_said_once_and_not_in_each_round(tmp_path: Path) -> None:
    world = World(tmp_path, [Pretender("silent"), Pretender("puts-off")])
    world.played(Wish(NEXT))
    silent, slow = world.boxes
    assert next(why for box, why in world.said if box == silent.name) == "is not heard (silent)"
    assert len([why for box, why in world.said if box == silent.name]) == 2
    assert [why.split(",")[0] for box, why in world.said if box == slow.name] == [
        "is told what is wanted (number 1)",
        "has not taken yet what is wanted",
        "has taken what is wanted",
        "has taken what is wanted",
    ]


@pytest.mark.parametrize(
    ("running", "named", "has_it"),
    [
        ("0.2.0", "0.2.0", True),
        ("0.2.1", "0.2.0", True),
        ("0.10.0", "0.9.0", True),
        ("0.1.0", "0.2.0", False),
        ("0.2.0rc1", "0.2.0", False),
        ("0.2rc1", "0.2.0", False),
        ("0.3.0rc1", "0.2.0", True),
        ("unknown", "0.2.0", False),
    ],
)
def test_a_box_has_a_version_by_its_numbers(running: str, named: str, has_it: bool) -> None:
    assert has(running, named) == has_it


@pytest.mark.parametrize(
    ("running", "left", "how"),
    [
        ("0.1.0", ("0.2.0",), How.FAILED),
        ("0.1.0", ("0.1.9",), How.WAITS),
        ("0.2.1", ("0.2.0",), How.DONE),
    ],
)
def test_a_box_has_left_a_version_unless_it_is_beyond_it(
    tmp_path: Path, running: str, left: tuple[str, ...], how: How
) -> None:
    world = World(tmp_path, [Pretender("puts-off")])
    ring = world.ring(Wish(NEXT))
    ring.look(world.there, world.now)
    world.pause(1)
    world.boxes[0].software, world.boxes[0].left = running, left
    world.pause(1)
    ring.look(world.there, world.now)
    assert ring.standings[world.boxes[0].name].how is how
