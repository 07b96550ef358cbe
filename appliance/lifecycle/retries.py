"""What is tried again when everything is read again: which of it in a slice, so that a disk that dies is not read over and over.

What waits for an archive that is away costs one attempt, and that archive is left alone then (`appliance.replication.silence`). What a disk that is
there does not give back costs a minute of what is left of it: that is tried once a day, and no more than a few in a slice; those that were tried last come last.
So it is with the disk of this box, too. What that did not give back is asked for in an archive meanwhile, in every slice, and mended when one answers.
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

HERE: Final = "scrub.unread-here"
"""Likewise those that the disk of this box has not given back, and that wait for an archive."""

AGAIN: Final = timedelta(days=1)


class Retries:
    """For one slice."""

    def __init__(self, reading: Reading, now: datetime) -> None:
        self._before = {key: _kept(reading, key) for key in (TRIED, HERE)}
        self._tried, self._here = dict(self._before[TRIED]), dict(self._before[HERE])
        self._now = now
        self._unread = 0
        self.silence = Silence()

    def is_due(self, object_id: str) -> bool:
        """Whether an object may be tried now."""
        return self._is_over(self._tried.get(object_id))

    def spares(self, object_id: str) -> bool:
        """Whether this disk is not to be read now for an object that it did not give back."""
        return object_id in self._here and (self.are_enough or not self._is_over(self._here[object_id]))

    @property
    def are_enough(self) -> bool:
        """Whether so many were not given back that the rest waits for another slice."""
        return self._unread >= MOST_UNREAD

    def not_given_back(self, object_id: ObjectId) -> None:
        """Take note of an object that the disk of an archive did not give back."""
        self._tried[object_id] = self._now.isoformat()
        self._unread += 1

    def not_given_back_here(self, object_id: ObjectId) -> None:
        """Take note of an object that the disk of this box did not give back."""
        self._here[object_id] = self._now.isoformat()
        self._unread += 1

    def note(self, tx: Transaction, waiting: Sequence[str], now: datetime) -> None:
        """Write down when those were tried that still wait."""
        for key, tried in ((TRIED, self._tried), (HERE, self._here)):
            known = {each: tried[each] for each in waiting if each in tried}
            if known != self._before[key]:
                settings.put(tx, key, known, now)

    def _is_over(self, tried: str | None) -> bool:
        return tried is None or abs(self._now - datetime.fromisoformat(tried)) >= AGAIN


def _kept(reading: Reading, key: str) -> dict[str, str]:
    told = settings.get(reading, key)
    return told if isinstance(told, dict) else {}
