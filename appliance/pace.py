"""How fast work may go that nobody waits for: at full speed while processors lie idle, else at a small share of them.

Whoever works through something long calls `Pace.rest` between two pieces. The rest is in proportion to what the thread has
computed since the last one, not to the time that has passed: who waited for a disk or a network has taken nothing from anybody.

Chose rests over a low priority of the kernel's (*nice*). A thread of low priority that is put aside in the middle of a piece
keeps what it holds, of SQLite's memory or of Python's interpreter, from the other threads of its process; and if one of these
has the turn to write to the catalog, all of reception waits. Whoever rests holds nothing. Besides, between the services
of a box the kernel looks at the weights of their groups and not at *nice*, and without systemd there are no groups.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import psutil

SPARE: Final = 0.25
"""Of all processors: while so much lies idle, nobody is kept from anything. Reception at its fastest leaves less of two."""
SHARE: Final = 1 / 32
"""Of all processors, while there is no time to spare."""
LOOK_SECONDS: Final = 0.1
"""Of work, between two looks: the kernel counts in hundredths, and what takes less than this needs no rest."""
LONGEST_REST_SECONDS: Final = 2.0
"""So that whoever is asked to stop does."""


@dataclass(frozen=True, slots=True)
class Load:
    """What the processors have done since they run, in seconds of all together. Who waits for a disk is not idle."""

    idle_seconds: float
    all_seconds: float

    @classmethod
    def now(cls) -> Load:
        """As the kernel counts it."""
        times = psutil.cpu_times()._asdict()
        counted_twice = times.get("guest", 0.0) + times.get("guest_nice", 0.0)
        return cls(times["idle"], sum(times.values()) - counted_twice)

    def idle_since(self, earlier: Load) -> float:
        """The share of the time since `earlier` that nobody used, 0 to 1; 0 if none has passed."""
        passed = self.all_seconds - earlier.all_seconds
        return (self.idle_seconds - earlier.idle_seconds) / passed if passed > 0 else 0.0


def rest_seconds(worked_seconds: float, idle: float, processors: int) -> float:
    """How long to rest after so much work of one thread, when the share `idle` of all processors has lain idle."""
    if idle >= SPARE:
        return 0.0
    return min(worked_seconds * max(1 / (SHARE * processors) - 1, 0.0), LONGEST_REST_SECONDS)


@dataclass
class Pace:
    """The pace of one piece of work in one thread, from its beginning on."""

    load: Callable[[], Load] = Load.now
    worked_seconds: Callable[[], float] = time.thread_time
    sleep: Callable[[float], object] = time.sleep
    processors: int = field(default_factory=lambda: os.cpu_count() or 1)
    _worked: float = field(init=False)
    _load: Load = field(init=False)

    def __post_init__(self) -> None:
        self._worked, self._load = self.worked_seconds(), self.load()

    def rest(self) -> None:
        """Between two pieces, with nothing in hand that others wait for: let them go on, if they want to."""
        worked = self.worked_seconds() - self._worked
        if worked < LOOK_SECONDS:
            return
        load = self.load()
        pause = rest_seconds(worked, load.idle_since(self._load), self.processors)
        if pause:
            self.sleep(pause)
        self._worked, self._load = self.worked_seconds(), load
