"""A time server that is wrong is believed no further than the box can have lived, and the doubt ends by itself once it is right."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance.box import Box
from appliance.catalog.known_clock import KnownClock, Running, known_clock
from appliance.health import kernel_clock
from appliance.lifecycle import retention
from appliance.lifecycle.acting import Act
from appliance.lifecycle.policy import OFF_AT_MOST, UNWATCHED, Doubt
from tests.boxes import box_in
from tests.lifecycle.clinic import arrive

NOW = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)
DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
YEARS = 3653 * DAY
DEAD = datetime(2015, 1, 1, tzinfo=UTC)


class Machine:
    """A box with a kernel of its own: `true` is the time, `says` what its clock is ahead of it."""

    def __init__(self, box: Box) -> None:
        self.box = box
        self.true, self.begun = NOW, NOW - DAY
        self.boot, self.ahead, self.follows = 1, timedelta(), True
        self.arrived = 0

    @property
    def says(self) -> datetime:
        return self.true + self.ahead

    def look(self) -> Doubt | None:
        running = Running(f"boot {self.boot}", self.true - self.begun)
        with self.box.catalog.transaction() as tx:
            retention.watch_clock(tx, self.says, follows_time_server=self.follows, running=running)
        return self.doubt()

    def doubt(self) -> Doubt | None:
        with self.box.catalog.reading() as conn:
            return retention.clock_of(conn, self.says).doubt

    def live(self, how_long: timedelta = 10 * MINUTE) -> Doubt | None:
        self.true += how_long
        return self.look()

    def off(
        self, how_long: timedelta, *, ahead: timedelta = timedelta(), follows: bool = True
    ) -> Doubt | None:
        self.true += how_long
        self.begun, self.boot = self.true - MINUTE, self.boot + 1
        self.ahead, self.follows = ahead, follows
        return self.look()

    def receive(self) -> None:
        self.arrived += 1
        arrive(self.box.catalog, f"1.2.{self.arrived}", at=self.says)

    def known(self) -> KnownClock:
        with self.box.catalog.reading() as conn:
            return known_clock(conn)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """One that runs, has an image, and follows a server that is right."""
    with box_in(tmp_path) as box:
        made = Machine(box)
        made.look()
        made.receive()
        assert made.live() is None
        yield made


def test_ten_years_ahead_while_it_runs_is_doubted_and_ends_by_itself(machine: Machine) -> None:
    machine.ahead = YEARS
    assert machine.live() is Doubt.SET
    machine.receive()
    for _ in range(20):
        assert machine.live(DAY) is Doubt.SET, "however long it goes on"
    assert machine.known().reckoned(DEAD) <= machine.true, "what is known is not years ahead"
    machine.ahead = timedelta()
    assert machine.live() is None, "whatever came meanwhile"
    assert machine.live(DAY) is None
    assert machine.known().known_utc == machine.true


def test_in_small_steps_it_gets_no_further(machine: Machine) -> None:
    found = []
    for _ in range(5):
        machine.ahead += 40 * HOUR
        found.append(machine.live())
    assert found == [None, *[Doubt.SET] * 4]
    for ahead in (UNWATCHED - HOUR, YEARS, UNWATCHED - HOUR, UNWATCHED + 40 * HOUR):
        machine.ahead = ahead
        assert machine.live() is (None if ahead < UNWATCHED else Doubt.SET), ahead
    machine.ahead = timedelta()
    machine.live()
    assert machine.live() is None


@pytest.mark.parametrize("ahead", [OFF_AT_MOST + DAY, YEARS])
def test_ahead_at_a_start_is_doubted_through_all_that_follow(machine: Machine, ahead: timedelta) -> None:
    assert machine.off(HOUR, ahead=ahead) is Doubt.SET
    machine.receive()
    assert machine.off(HOUR, ahead=ahead) is Doubt.SET
    assert machine.off(HOUR, ahead=ahead, follows=False) is Doubt.SET
    machine.follows = True
    assert machine.live(DAY) is Doubt.SET
    machine.ahead = timedelta()
    assert machine.live() is None
    assert machine.off(HOUR) is None


def test_what_was_seen_to_be_wrong_is_not_taken_for_a_time_off_at_the_next_start(machine: Machine) -> None:
    machine.ahead = 100 * DAY
    assert machine.live() is Doubt.SET
    for _ in range(3):
        assert machine.off(HOUR, ahead=100 * DAY) is Doubt.SET
    assert machine.off(HOUR, ahead=100 * DAY, follows=False) is Doubt.SET
    machine.follows, machine.ahead = True, timedelta()
    assert machine.live() is None


def test_a_server_that_was_years_behind_ends_its_doubt_too(machine: Machine) -> None:
    before = machine.true
    machine.ahead = -YEARS
    assert machine.live() in {Doubt.BEHIND, Doubt.SET}
    assert before <= machine.known().reckoned(machine.says) <= machine.true
    machine.ahead = -2 * YEARS
    machine.live()
    machine.ahead = timedelta()
    assert machine.live() is None


@pytest.mark.parametrize("follows", [True, False])
def test_a_person_ends_it_whatever_was_known(machine: Machine, follows: bool) -> None:
    machine.ahead = YEARS
    machine.live()
    machine.ahead, machine.follows = timedelta(), follows
    with machine.box.catalog.transaction() as tx:
        retention.trust_clock(tx, Act(by="marie", now=machine.says, audit_key=machine.box.audit_key))
    assert machine.live() is None
    machine.ahead = YEARS
    assert machine.live() is Doubt.SET


def test_only_a_server_ends_it_by_itself(machine: Machine) -> None:
    machine.follows, machine.ahead = False, YEARS
    assert machine.live() is Doubt.SET
    machine.ahead = timedelta()
    assert machine.live() is Doubt.SET, "nobody says that it is right again"
    machine.follows = True
    assert machine.live() is None


# --- and no false alarm ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("began", [datetime(1970, 1, 1, tzinfo=UTC), DEAD, NOW - 700 * DAY, NOW + YEARS])
def test_a_box_from_its_carton_believes_its_first_server(tmp_path: Path, began: datetime) -> None:
    with box_in(tmp_path) as box:
        machine = Machine(box)
        machine.follows, machine.ahead = False, began - NOW
        machine.look()
        machine.live()
        machine.follows, machine.ahead = True, timedelta()
        assert machine.live() is None
        machine.receive()
        assert machine.live() is None


def test_a_box_that_was_tried_out_and_stored_for_two_years_asks_nobody(tmp_path: Path) -> None:
    with box_in(tmp_path) as box:
        machine = Machine(box)
        assert machine.look() is None
        assert machine.off(730 * DAY) is None


@pytest.mark.parametrize("battery", ["good", "dead", "it begins where it ended"])
def test_a_box_that_was_unplugged_for_months_asks_nobody(machine: Machine, battery: str) -> None:
    was = machine.true
    off = 180 * DAY
    if battery == "dead":
        machine.off(off, ahead=DEAD - was - off, follows=False)
    elif battery == "good":
        machine.off(off, follows=False)
    else:
        assert machine.off(off, ahead=-off, follows=False) is None
        assert machine.live(HOUR) is None
    machine.ahead, machine.follows = timedelta(), True
    assert machine.live() is None
    assert machine.known().known_utc == machine.true


@pytest.mark.parametrize("follows", [True, False])
def test_what_the_machine_slept_is_counted(machine: Machine, follows: bool) -> None:
    machine.follows = follows
    assert machine.live(300 * DAY) is None
    machine.ahead = YEARS
    assert machine.live(300 * DAY) is Doubt.SET


def test_years_of_running_and_of_starts_are_well(machine: Machine) -> None:
    for day in range(800):
        machine.follows = day % 3 != 0
        found = machine.off(14 * HOUR) if day % 5 == 0 else machine.live(14 * HOUR)
        assert found is None, day


def test_an_index_that_came_to_another_machine_goes_by_what_its_server_says(machine: Machine) -> None:
    """Restored there: it runs for less, or for longer, than the one before ever did."""
    machine.boot, machine.begun = 77, NOW - YEARS
    assert machine.live(30 * DAY) is None


def test_the_kernel_is_asked() -> None:
    one, two = kernel_clock.running(), kernel_clock.running()
    assert one is not None and two is not None
    assert one.boot == two.boot and one.lasted <= two.lasted
