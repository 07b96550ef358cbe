"""Work that nobody waits for rests while the box has no time to spare, in proportion to what it computed, and else goes on."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.pace import LONGEST_REST_SECONDS, LOOK_SECONDS, SHARE, SPARE, Load, Pace, rest_seconds
from tests.unrested import rested

PROCESSORS = 2
BUSY, IDLE = SPARE / 2, 2 * SPARE


@pytest.fixture(scope="module", autouse=True)
def as_on_a_box() -> Iterator[None]:
    with rested():
        yield


@dataclass
class Machine:
    """Processors of which a share lies idle, and a thread that works on them."""

    idle: float
    worked_seconds: float = 0.0
    passed_seconds: float = 0.0
    idle_seconds: float = 0.0
    rests: list[float] = field(default_factory=list)

    def pace(self) -> Pace:
        return Pace(
            lambda: Load(self.idle_seconds, self.passed_seconds),
            lambda: self.worked_seconds,
            self.rests.append,
            processors=PROCESSORS,
        )

    def work(self, seconds: float, passed: float | None = None) -> None:
        passed = seconds if passed is None else passed
        self.worked_seconds += seconds
        self.passed_seconds += passed
        self.idle_seconds += self.idle * passed


def test_what_works_on_a_busy_box_takes_its_share_and_no_more() -> None:
    machine = Machine(BUSY)
    pace = machine.pace()
    for _ in range(100):
        machine.work(LOOK_SECONDS / 4)
        pace.rest()
    all_of_it = (machine.worked_seconds + sum(machine.rests)) * PROCESSORS
    assert len(machine.rests) in range(20, 26)
    assert machine.worked_seconds / all_of_it == pytest.approx(SHARE, rel=0.1)


def test_while_processors_lie_idle_it_does_not_rest() -> None:
    machine = Machine(IDLE)
    pace = machine.pace()
    for _ in range(10):
        machine.work(LOOK_SECONDS)
        pace.rest()
    assert not machine.rests
    machine.idle = BUSY  # somebody comes
    machine.work(2 * LOOK_SECONDS)
    pace.rest()
    assert len(machine.rests) == 1


def test_waiting_for_a_disk_or_a_network_asks_for_no_rest() -> None:
    machine = Machine(BUSY)
    pace = machine.pace()
    for _ in range(10):
        machine.work(LOOK_SECONDS / 100, passed=60.0)
        pace.rest()
    assert not machine.rests


@given(st.floats(0, 1e4), st.floats(0, 1), st.integers(1, 256))
def test_a_rest_is_never_negative_nor_longer_than_a_stop_can_wait(
    worked: float, idle: float, processors: int
) -> None:
    rest = rest_seconds(worked, idle, processors)
    assert 0 <= rest <= LONGEST_REST_SECONDS
    assert rest == 0 or idle < SPARE


def test_two_processors_leave_most_of_one_to_others_and_many_need_no_rest() -> None:
    assert rest_seconds(0.1, 0.0, 2) == pytest.approx(1.5)
    assert rest_seconds(0.1, 0.0, 1) == LONGEST_REST_SECONDS
    assert rest_seconds(0.1, 0.0, 32) == 0


def test_the_kernel_says_what_the_processors_did() -> None:
    earlier = Load.now()
    assert 0 <= earlier.idle_seconds <= earlier.all_seconds
    assert earlier.idle_since(earlier) == 0
    assert Load(3.0, 10.0).idle_since(Load(1.0, 2.0)) == 0.25
