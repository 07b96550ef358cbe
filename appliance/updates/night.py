"""Whether the restart that starts the version which waits may take place now. Pure.

The image's timer looks every ten minutes, at any hour, and the hours are the clinic's (`Window`): a timer cannot read a setting, and its
root nobody writes to. Within them it is put off while the box is in use, or while its clock is in doubt: what it takes for half past
four may be noon. It is not put off for ever. A box that is busy every night gets no security update otherwise, and a restart loses
nothing: what is coming in may finish, and whoever sends or is sent to begins again with the rest.
But a box whose disk asks for a PIN, or may do so, waits for a person for as long as it takes: by itself it would start, and stand before
that question until morning.

Chose to count how often a version was put off; because a count of nights is read off the very clock that may be in doubt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
"""As `datetime.weekday` counts them."""

EVERY_MINUTES = 10
"""The image's `update-restart.timer`."""

LEAST_MINUTES = 30


class Hold(StrEnum):
    """What the restart waits for, the most pressing first."""

    PIN = "pin"
    """Somebody who is there to type it, however often it was put off."""
    RECEIVING = "receiving"
    DELIVERING = "delivering"
    CLOCK = "clock"


@dataclass(frozen=True, slots=True)
class Window:
    """When a version may start by itself: minutes of the day in the box's own time zone, the last of which is no longer within, and the
    days on which it begins. It may pass midnight.
    """

    begins: int
    ends: int
    days: tuple[str, ...] = DAYS

    @classmethod
    def of(cls, hours: str, days: Sequence[str]) -> Window:
        """As the settings say it (``04:30-06:00``)."""
        begins, ends = (60 * int(each[:2]) + int(each[3:]) for each in hours.split("-"))
        return cls(begins, ends, tuple(days))

    @property
    def hours(self) -> str:
        """As the setting says it."""
        return "-".join(f"{each // 60:02d}:{each % 60:02d}" for each in (self.begins, self.ends))

    def is_open(self, here: datetime) -> bool:
        """Whether it is open at `here`, which is in the box's own time zone."""
        minute = 60 * here.hour + here.minute
        if self.begins < self.ends:
            return self.begins <= minute < self.ends and self._on(here)
        return (minute >= self.begins and self._on(here)) or (
            minute < self.ends and self._on(here - timedelta(days=1))
        )

    @property
    def tries_a_week(self) -> int:
        """How often the timer looks within it in a week."""
        return len(self.days) * ((self.ends - self.begins) % (24 * 60) // EVERY_MINUTES)

    def _on(self, day: datetime) -> bool:
        return DAYS[day.weekday()] in self.days


NIGHT = Window.of("04:30-06:00", DAYS)
"""What a box is delivered with: after the last one has looked for a version, which it does from two to four in Eastern time, and so ends at
half past five in Newfoundland. The image's `update-restart-condition` knows it too, in Eastern time, and that it has two weeks of tries,
for a box whose appliance can't say anything any more."""


@dataclass(frozen=True, slots=True)
class Doing:
    """What the box does at this moment: associations that are open or images that have just come, deliveries under way, whether
    its clock is in doubt, and whether its disk asks for a PIN at a start, or may do so for all that is known."""

    receives: bool = False
    delivers: bool = False
    doubts_clock: bool = False
    asks_pin: bool = False

    @property
    def hold(self) -> Hold | None:
        """The most pressing reason to wait, if there is one."""
        if self.asks_pin:
            return Hold.PIN
        if self.receives:
            return Hold.RECEIVING
        if self.delivers:
            return Hold.DELIVERING
        return Hold.CLOCK if self.doubts_clock else None


def hold(doing: Doing, put_off: int, window: Window = NIGHT) -> Hold | None:
    """Why the restart waits once more, having been put off so often since a version started last; None if it may take place.

    For a week of tries anything holds it, for another only a machine that is sending, and then nothing does but a PIN.
    """
    found = doing.hold
    if found is Hold.PIN:
        return found
    if put_off >= 2 * window.tries_a_week:
        return None
    return found if put_off < window.tries_a_week or found is Hold.RECEIVING else None
