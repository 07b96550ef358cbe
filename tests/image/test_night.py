"""`tests.image.night` with a machine that is made up: one that keeps its hours, and some that don't."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import cast

import pytest

from appliance.updates.night import DAYS, NIGHT
from tests.image import night
from tests.image.machine import Machine, real_time_clock
from tests.image.updates import START_WHAT_WAITS, STARTED, TAKE

WANTED = "0.1.1"


class Pretended:
    """A box at `hour` in the clinic's zone; it starts again at `starts_at`, without waiting for that if it is `hasty`."""

    def __init__(self, hour: str = "04:12", starts_at: str = "04:37", *, hasty: bool = False) -> None:
        self.hour, self.starts_at, self.hasty = hour, starts_at, hasty
        self.starts, self.took = 1, False

    def inside(self, command: str, *, check: bool = True) -> str:
        running = WANTED if self.starts > 1 else "0.1.0"
        kernels = "appliance_0.1.0.efi " + (f"appliance_{WANTED}.efi" if self.starts > 1 else f"appliance_{WANTED}+3-0.efi")  # fmt: skip
        if command == TAKE:
            self.took = True
        if "update-restart.service" in command and command.startswith("systemctl") and self.hasty:
            self.starts += 1
        if command == START_WHAT_WAITS:
            raise AssertionError("not in the background: its end is waited for")
        status = {"waiting": WANTED if self.took else None, "window": NIGHT.hours, "days": list(DAYS)}
        told = {
            STARTED: running,
            "appliance update status --json": json.dumps(status),
            "appliance update may-restart; echo $?": "no version starts by itself at this hour\n80\n",
            "date +%s": self._seconds(self.hour),
            "sed -n 's/^btime //p' /proc/stat": self._seconds(self.starts_at),
        }
        if "EFI/Linux" in command:
            return kernels
        if command.startswith("journalctl"):
            return f"version {WANTED} waits for the hours in which it may start"
        return told.get(command, "running")

    def _seconds(self, hour: str) -> str:
        at = datetime(2026, 11, 28, int(hour[:2]), int(hour[3:]), tzinfo=night.ZONE)
        return f"{at.timestamp():.0f}\n"

    def boot(self) -> str:
        return str(self.starts)

    def wait_until(self, command: str, *_: float) -> None:
        if "boot_id" in command:
            self.starts += 1


def walk(machine: Pretended) -> None:
    night.wait_for_its_hours(cast(Machine, machine), WANTED)


def test_a_box_that_keeps_its_hours_keeps_every_promise(capsys: pytest.CaptureFixture[str]) -> None:
    walk(Pretended())
    told = capsys.readouterr().out
    assert "BROKEN" not in told
    assert "at 04:37 in the clinic's time" in told


@pytest.mark.parametrize(
    ("machine", "said"),
    [
        (Pretended(hasty=True), "BROKEN: and nothing has started again"),
        (Pretended(starts_at="12:37"), "BROKEN: at 12:37 in the clinic's time"),
        (Pretended(starts_at="04:25"), "BROKEN: at 04:25 in the clinic's time"),
    ],
)
def test_one_that_does_not_is_found_out(
    machine: Pretended, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        walk(machine)
    assert said in capsys.readouterr().out.splitlines()[-1]


def test_a_start_that_came_too_late_shows_nothing_and_says_so() -> None:
    with pytest.raises(SystemExit, match="04:31"):
        walk(Pretended(hour="04:31"))


@pytest.mark.parametrize(
    ("now", "at"),
    [
        (datetime(2026, 11, 27, 9, 0, tzinfo=UTC), datetime(2026, 11, 27, 9, 45, tzinfo=UTC)),
        (datetime(2026, 11, 27, 9, 45, tzinfo=UTC), datetime(2026, 11, 28, 9, 45, tzinfo=UTC)),
        (datetime(2026, 7, 1, 0, 0, tzinfo=UTC), datetime(2026, 7, 1, 9, 45, tzinfo=UTC)),
    ],
)
def test_it_is_switched_on_three_quarters_of_an_hour_before_they_begin(now: datetime, at: datetime) -> None:
    assert night.switched_on_at(now) == at
    assert real_time_clock(at) == ["-rtc", f"base={at:%Y-%m-%dT%H:%M:%S}"]


def test_in_the_machines_own_zone_those_hours_are_others() -> None:
    begins = night.switched_on_at(datetime(2026, 11, 27, tzinfo=UTC)) + night.LEAD
    assert NIGHT.is_open(begins.astimezone(night.ZONE))
    assert not NIGHT.is_open(begins), "the image's is UTC"
