"""The alarm: what is wrong with the box, and who is at its door, judged again and again, and people told.

It stands between the health of the box, which says what is wrong and remembers nothing, and `appliance.notify`, which
remembers and tells. The threads that send are woken at once by what was told: the time from a judgement to the first
attempt is that of one transaction and one turn of a lock, whatever else the box is busy with.

A process that doesn't run can't tell of itself, so the process that delivers watches this one: when the jobs process has not
judged for `appliance.watch.SILENT_SECONDS`, because it was ended, hangs, or can't, it judges in its place.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from appliance.box import Box
from appliance.catalog import devices, notices
from appliance.health import status
from appliance.notify import judging
from appliance.notify.alerts import Condition

JUDGED_EVERY_SECONDS = 5
REMEMBERED = timedelta(days=400)
"""How long a notice that is over is kept: more than a year, for the report of a year."""

MOST_VISITORS = 20
"""How many unknown callers are told of at once: a scanner on the network is one trouble, not a thousand."""

log = logging.getLogger(__name__)


class Alarm:
    """Judges the box, tells, and wakes whoever sends."""

    def __init__(self, wake: Callable[[], None] = lambda: None) -> None:
        self._wake = wake

    def __call__(self, box: Box, now: datetime, besides: tuple[Condition, ...] = ()) -> None:
        """Judge once; `besides` is what the caller knows to be wrong, and is left out where the box's health says it too."""
        found = conditions(box, now)
        known = {each.key for each in found}
        found += tuple(each for each in besides if each.key not in known)
        outcome = judging.apply(box.catalog, found, now)
        if outcome.said_anything:
            log.info(
                "told: %d new, %d again, %d over, %d escalated",
                outcome.raised,
                outcome.again,
                outcome.over,
                outcome.escalated,
            )
            self._wake()


class Digests:
    """Writes the letters of the day that are due, and wakes whoever sends."""

    def __init__(self, wake: Callable[[], None] = lambda: None) -> None:
        self._wake = wake

    def __call__(self, box: Box, now: datetime) -> None:
        """Look once."""
        if judging.send_digests(box.catalog, now):
            self._wake()


def conditions(box: Box, now: datetime) -> tuple[Condition, ...]:
    """Everything that is wrong at `now`, and those who knock without being known."""
    found = [Condition(each.code, each.words, each.fix, each.subject) for each in status(box, now).problems]
    if any(each.code in ("catalog", "box") for each in found):
        return tuple(found)
    with box.catalog.reading() as conn:
        visitors = devices.visitors(conn)[:MOST_VISITORS]
    found += [
        Condition(
            "unknown-device",
            "a machine that is not known has called and was refused",
            "if it is yours, admit it under Devices",
            f"{each.ae_title}@{each.address}",
        )
        for each in visitors
    ]
    return tuple(found)


def forget_old(box: Box, now: datetime) -> None:
    """Forget notices that were over long ago."""
    with box.catalog.transaction() as tx:
        notices.forget(tx, now - REMEMBERED)
