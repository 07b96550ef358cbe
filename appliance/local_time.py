"""The time zone in which the box shows hours and counts days: the clinic's choice, else the machine's.

The machine's is the image's, and one image goes to clinics from St. John's to Vancouver; nobody can log in there to change it. So the
clinic chooses, as a setting (``clinic.time_zone``), and each process follows that: the console at every request, the upkeep at every
beat, the command line when it opens the box. What is recorded is in UTC and does not change with it.

Chose a variable of the process over the environment's TZ: that one is read by other threads while it is written.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import cache
from typing import Final
from zoneinfo import ZoneInfo

SETTING: Final = "clinic.time_zone"
MACHINE: Final = "machine"
"""The choice that leaves it to the machine."""
ZONES: Final = (
    "America/St_Johns", "America/Halifax", "America/Toronto", "America/Winnipeg", "America/Regina", "America/Edmonton",
    "America/Vancouver", "America/Whitehorse",
)  # fmt: skip

_followed: tzinfo | None = None


def follow(chosen: str) -> None:
    """Count by the zone `chosen` from now on, in this process. A name that this machine does not know leaves it to the machine."""
    global _followed
    _followed = _zone(chosen)


def zone() -> tzinfo | None:
    """The zone that was chosen; None for the machine's own, as `datetime.astimezone` takes it."""
    return _followed


def here(moment: datetime) -> datetime:
    """A moment by the clock on the clinic's wall."""
    return moment.astimezone(_followed)


def midnight(day: date) -> datetime:
    """The moment at which `day` begins by the clock on the clinic's wall."""
    wall = datetime.combine(day, time())
    return wall.astimezone() if _followed is None else wall.replace(tzinfo=_followed)


def moment_of(text: str) -> datetime:
    """The moment that a person has typed: ISO 8601, by the clock on the clinic's wall where it names no zone; a day alone is its end.

    Raises `ValueError` for what is none, and for one at either end of the calendar, which some zone's clock can't show.
    """
    try:
        moment = _moment_of(text)
        for day in (timedelta(days=-1), timedelta(days=1)):
            moment.astimezone(UTC) + day
    except OverflowError as error:
        raise ValueError("beyond the calendar") from error
    return moment


def _moment_of(text: str) -> datetime:
    try:
        return midnight(date.fromisoformat(text) + timedelta(days=1)) - timedelta(seconds=1)
    except ValueError:
        typed = datetime.fromisoformat(text)
    if typed.tzinfo is not None:
        return typed
    return typed.astimezone() if _followed is None else typed.replace(tzinfo=_followed)


@cache
def _zone(chosen: str) -> tzinfo | None:
    if chosen == MACHINE:
        return None
    try:
        return ZoneInfo(chosen)
    except (ValueError, KeyError, OSError):
        return None
