"""When a duty that comes every so often comes next: one step beyond the present, however far the clock has been set.

APScheduler asks a trigger for every time that was missed, and folds them into one run afterwards. By its own trigger a clock that is set
ten years ahead lets it count sixty-three million of them for a duty of every five seconds, and keep each: for many minutes none runs and
gigabytes are taken, at the very moment when somebody should be told. So this trigger knows of two times only: the one that is due, and the
next after the present.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from apscheduler.triggers.base import BaseTrigger


class Every(BaseTrigger):  # type: ignore[misc] # the library ships no types
    """Every so many `seconds`, in step with the time before as long as nothing was missed."""

    __slots__ = ("_every",)

    def __init__(self, seconds: int) -> None:
        self._every = timedelta(seconds=seconds)

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
        """The first time after `now`; after the time before if that is yet to come."""
        if previous_fire_time is None:
            return now + self._every
        missed = max(0, (now - previous_fire_time) // self._every)
        return previous_fire_time + (missed + 1) * self._every
