"""For how long the disk will last. Pure.

Chose the Theil-Sen slope (the median of the slopes between all pairs of days) because one day on which somebody
imported ten years of films, or freed half the disk, must not move it; up to 29 % of the days may lie. Rejected: least
squares, which one such day turns round, and the last week alone, which a holiday empties.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from statistics import median

FEWEST_DAYS = 7
MOST_DAYS = 90
"""Days that count: older habits say little, and pairs grow with the square."""
MOST_LEFT_DAYS = 3650


class Outlook(StrEnum):
    """What can be said."""

    UNKNOWN = "unknown"
    """Not enough history."""
    STEADY = "steady"
    """No less space than before, or enough for ten years."""
    FILLING = "filling"


@dataclass(frozen=True, slots=True)
class Forecast:
    """When the disk reaches its reserve. `days_left` and `daily_bytes` are 0 unless it is `FILLING`."""

    outlook: Outlook
    days_left: int = 0
    daily_bytes: int = 0


def forecast(free_by_day: Mapping[date, int], today: date, free_bytes: int, reserve_bytes: int) -> Forecast:
    """The forecast from the free bytes at the end of each day, and of now. Days that lie ahead are not looked at."""
    points = sorted((day, free) for day, free in free_by_day.items() if day <= today)[-MOST_DAYS:]
    if len(points) < FEWEST_DAYS:
        return Forecast(Outlook.UNKNOWN)
    lost_daily = -slope([(day.toordinal(), free) for day, free in points])
    if lost_daily <= 0:
        return Forecast(Outlook.STEADY)
    days_left = int(max(0, free_bytes - reserve_bytes) / lost_daily)
    if days_left > MOST_LEFT_DAYS:
        return Forecast(Outlook.STEADY)
    return Forecast(Outlook.FILLING, days_left, round(lost_daily))


def remembered(free_by_day: Mapping[date, int], today: date, free_bytes: int) -> dict[date, int]:
    """`free_by_day` with today's figure. The newest `MOST_DAYS` on either side of today stay: days that lie ahead are
    those of a clock that was wrong, or of one that is wrong now."""
    kept = {**free_by_day, today: free_bytes}
    past = sorted(day for day in kept if day <= today)[-MOST_DAYS:]
    ahead = sorted(day for day in kept if day > today)[-MOST_DAYS:]
    return {day: kept[day] for day in (*past, *ahead)}


def slope(points: Sequence[tuple[int, int]]) -> float:
    """The median slope between pairs of points, whose places differ; at least two of them."""
    return median(
        (later - earlier) / (there - here)
        for number, (here, earlier) in enumerate(points)
        for there, later in points[number + 1 :]
    )
