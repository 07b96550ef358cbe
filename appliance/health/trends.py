"""The time series as people read it: by day or by hour of the clinic's own clock. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, tzinfo

from appliance.figures import Figures, merged


@dataclass(frozen=True, slots=True)
class Point:
    """What happened in an hour or on a day that begins at `at`, in the clinic's time; None when nobody counted."""

    at: datetime
    figures: Figures | None


def by_day(
    records: Iterable[tuple[datetime, Figures]], today: date, days: int, zone: tzinfo | None
) -> tuple[Point, ...]:
    """The last `days` days up to `today`. `zone` None is that of the box."""
    found: dict[date, Figures] = {}
    for at, figures in records:
        day = at.astimezone(zone).date()
        found[day] = merged(found.get(day, Figures()), figures)
    wanted = [today - timedelta(days=ago) for ago in range(days - 1, -1, -1)]
    return tuple(Point(datetime.combine(day, time()), found.get(day)) for day in wanted)


def by_hour(
    records: Iterable[tuple[datetime, Figures]], now: datetime, hours: int, zone: tzinfo | None
) -> tuple[Point, ...]:
    """The last `hours` hours up to that of `now`."""
    found: dict[datetime, Figures] = {}
    for at, figures in records:
        hour = _hour(at.astimezone(zone))
        found[hour] = merged(found.get(hour, Figures()), figures)
    this = _hour(now.astimezone(zone))
    wanted = [this - timedelta(hours=ago) for ago in range(hours - 1, -1, -1)]
    return tuple(Point(hour, found.get(hour)) for hour in wanted)


def together(records: Iterable[tuple[datetime, Figures]]) -> Figures:
    """All of it as one."""
    made = Figures()
    for _, figures in records:
        made = merged(made, figures)
    return made


def _hour(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0, tzinfo=None)
