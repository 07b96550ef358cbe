"""What is tried again when everything is read again: which of it in a slice, so that a disk that dies is not read over and over.

What waits for an archive that is away costs one attempt, and that archive is left alone then (`appliance.replication.silence`). What a disk that is
there does not give back costs a minute of what is left of it: that is tried once a day, and no more than a few in a slice; those that were tried last come last.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from appliance.catalog import Reading, Transaction, settings
from appliance.model import ObjectId
from appliance.replication.silence import MOST_UNREAD, Silence

TRIED: Final = "scrub.unread-tried"
"""In `appliance.catalog.settings`: the objects that no archive's disk has given back, each with when that was tried."""

AGAIN: Final = timedelta(days=1)


class Retries:
    """For one slice."""

    def __init__(self, reading: Reading, now: datetime) -> None:
        told = settings.get(reading, TRIED)
        self._before = dict(told) if isinstance(told, dict) else {}
        self._tried = dict(self._before)
        self._now = now
        self._unread = 0
        self.silence = Silence()

    def is_due(self, object_id: str) -> bool:
        """Whether an object may be tried now."""
        tried = self._tried.get(object_id)
        return tried is None or abs(self._now - datetime.fromisoformat(tried)) >= AGAIN

    @property
    def are_enough(self) -> bool:
        """Whether so many were not given back that the rest waits for another slice."""
        return self._unread >= MOST_UNREAD

    def not_given_back(self, object_id: ObjectId) -> None:
        """Take note of an object that the disk of an archive did not give back."""
        self._tried[object_id] = self._now.isoformat()
        self._unread += 1

    def note(self, tx: Transaction, waiting: Sequence[str], now: datetime) -> None:
        """Write down when those were tried that still wait."""
        known = {each: self._tried[each] for each in waiting if each in self._tried}
        if known != self._before:
            settings.put(tx, TRIED, known, now)
