"""The time series for pages: by day, by hour, in all; read once a minute, however many look."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TypeVar, cast

from appliance import local_time
from appliance.catalog import Reading, samples
from appliance.catalog.samples import Grain
from appliance.figures import Figures
from appliance.health.trends import Point, by_day, by_hour, together

T = TypeVar("T")
EVERY = tuple(Grain)
"""All grains: each moment is in a record of one of them only."""


class Series:
    """Remembers what was last made of the series, until there is another record or another day."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: dict[tuple[str, int], tuple[object, object]] = {}

    def days(self, conn: Reading, now: datetime, count: int) -> tuple[Point, ...]:
        """The last `count` days."""
        today = local_time.here(now).date()

        def make() -> tuple[Point, ...]:
            return by_day(
                _records(conn, now - timedelta(days=count + 1), now), today, count, local_time.zone()
            )

        return self._once(("days", count), (samples.latest(conn), today, local_time.zone()), make)

    def hours(self, conn: Reading, now: datetime, count: int) -> tuple[Point, ...]:
        """The last `count` hours."""
        hour = local_time.here(now).replace(minute=0, second=0, microsecond=0)

        def make() -> tuple[Point, ...]:
            return by_hour(
                _records(conn, now - timedelta(hours=count + 1), now), now, count, local_time.zone()
            )

        return self._once(("hours", count), (samples.latest(conn), hour, local_time.zone()), make)

    def total(self, conn: Reading, now: datetime, since: datetime) -> Figures:
        """All since a moment, as one."""

        def make() -> Figures:
            return together(_records(conn, since - timedelta(seconds=1), now))

        return self._once(
            ("total", int((now - since).total_seconds()) // 3600), (samples.latest(conn), since), make
        )

    def _once(self, name: tuple[str, int], mark: object, make: Callable[[], T]) -> T:
        with self._lock:
            found = self._made.get(name)
            if found is None or found[0] != mark:
                found = self._made[name] = (mark, make())
            return cast(T, found[1])


def _records(conn: Reading, after: datetime, upto: datetime) -> list[tuple[datetime, Figures]]:
    return [(each.at_utc, each.figures) for each in samples.between(conn, after, upto, EVERY)]
