"""`appliance VERB` under a clock that is not the machine's: the program that the tests of a wrong clock start.

libfaketime, loaded before the C library, answers whoever asks for the hour; so all that a process does by the clock is done by the
false one: its own code, OpenSSL, SQLite. It knows nothing of the kernel's word on whether the clock follows a time server, nor
may it change how long a wait takes; so this program, beside loading it:

- lets ``time.sleep`` wait by the monotonic clock in another way: the release of Debian 12 (0.9.10) takes the false clock's distance off the
  moment until which Python sleeps, though it was told to leave the monotonic clock alone, and the kernel refuses what is left;
- says that no time server is followed, whatever holds for the machine of the tests;
- lets the duties of the jobs process come `HURRY` times as often, and writes down each that has run, in the file that
  ``DUTIES_RUN`` names: what is due, and no sooner, is by the clock all the same.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import SupportsIndex

PROGRAM = "tests.system.wrong_clock"
HURRY = 100
DUTIES_RUN = "TESTS_DUTIES_RUN"


def library() -> Path:
    """Debian's libfaketime for programs with threads."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    assert found, "libfaketime is not installed: apt-get install libfaketime, or run make setup"
    return found[0]


@dataclass(frozen=True)
class FalseClock:
    """What the processes take for the hour: the machine's, and so many seconds more or less, as a file says."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """What whoever is to go by this clock is started with."""
        return {
            "LD_PRELOAD": str(library()),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
            "PYTHONPATH": str(Path(__file__).parents[2]),
            DUTIES_RUN: str(self.duties_run),
        }

    @property
    def _file(self) -> Path:
        return self.folder / "clock"

    @property
    def duties_run(self) -> Path:
        """A line for each duty that has come to its end."""
        return self.folder / "duties"

    def set_right(self) -> None:
        """From now on it is what the machine's clock says."""
        self._set(0)

    def set_to(self, moment: datetime) -> None:
        """From now on it is `moment`, and the clock goes on from there."""
        self._set(round((moment - datetime.now(UTC)).total_seconds()))

    def _set(self, seconds: int) -> None:
        fresh = self._file.with_suffix(".new")
        fresh.write_text(f"{seconds:+d}\n", "ascii")
        fresh.rename(self._file)
        time.sleep(1.5)  # until every process has read it

    def says(self) -> datetime:
        """What a process is told."""
        asked = subprocess.run(
            ["date", "+%s"], env=os.environ | self.environment, capture_output=True, check=True
        )
        return datetime.fromtimestamp(int(asked.stdout), UTC)

    def runs(self) -> list[str]:
        """The duties that have run, in their order."""
        return self.duties_run.read_text("ascii").split() if self.duties_run.exists() else []


def sleep(seconds: float | SupportsIndex, /) -> None:
    """As `time.sleep`, by a wait whose length nobody changes."""
    length = float(seconds)
    if length < 0:
        raise ValueError("sleep length must be non-negative")
    select.select([], [], [], length)


def _hurry() -> None:
    from appliance import duties
    from appliance.box import Box

    plain = duties.duties

    def hurried(box: Box, wake: Callable[[], None] = lambda: None) -> tuple[duties.Job, ...]:
        return tuple(
            replace(
                job,
                act=_noted(job.name, job.act),
                every_seconds=min(15, max(5, job.every_seconds // HURRY)),
                first_seconds=job.first_seconds // HURRY,
            )
            for job in plain(box, wake)
        )

    duties.duties = hurried


def _noted(name: str, act: Callable[..., None]) -> Callable[..., None]:
    def noted(*given: object) -> None:
        act(*given)
        with open(os.environ[DUTIES_RUN], "a", encoding="ascii") as file:
            file.write(f"{name}\n")

    return noted


def main() -> int:
    """Do what the command line says, by the false clock."""
    time.sleep = sleep
    from appliance.cli import main as appliance
    from appliance.health import kernel_clock
    from appliance.health.facts import Discipline

    kernel_clock.discipline = lambda: Discipline.FREE
    if sys.argv[1:2] == ["jobs"]:
        _hurry()
    return appliance(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
