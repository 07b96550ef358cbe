"""How often what has failed is tried again: a request a moment later, a whole backup or drill ever later.

Of a hundred requests over a clinic's line a few may fail, and a backup is some hundred of them: begun anew for each, it would never come to its
end, and lay new pieces each time where nothing can be removed. So each request is tried again, a few times, after growing pauses.
What fails for longer rests, ever longer.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final, TypeVar

from appliance.errors import OutOfResources, Transient
from appliance.replication.destinations import Archive
from appliance.replication.destinations.archive import Distant

PAUSES_SECONDS: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0)
"""Before each further try: a quarter of a minute in all, so that whoever waits behind a dead line is not held up for long."""

_LOOK_SECONDS: Final = 0.25
RESTS_AT_FIRST: Final = timedelta(minutes=15)

Found = TypeVar("Found")


def patiently(archive: Archive, act: Callable[[], Found], go_on: Callable[[], None]) -> Found:
    """Do `act`, which may be repeated, at an `archive`; again where that says that it may work later. `go_on` raises to stop.

    A disk is not waited for: one that does not answer is away, and comes back when somebody plugs it in. Nor is one that is full. Raises
    what `act` raises at last.
    """
    for pause in PAUSES_SECONDS if isinstance(archive, Distant) else ():
        try:
            return act()
        except OutOfResources:
            raise
        except Transient:
            _wait(pause, go_on)
    return act()


def _wait(seconds: float, go_on: Callable[[], None]) -> None:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        go_on()
        time.sleep(min(left, _LOOK_SECONDS))
    go_on()


def rest_after(failures: int, at_most: timedelta) -> timedelta:
    """How long something rests that has failed so often (≥ 1) in a row: the first time not at all, then from a quarter of an hour on, doubling."""
    return timedelta(0) if failures < 2 else min(RESTS_AT_FIRST * 2 ** min(failures - 2, 10), at_most)


def is_past(moment: str, now: datetime, span: timedelta) -> bool:
    """Whether `span` has gone by since `moment`, or the clock was put back before it by as much."""
    age = now - datetime.fromisoformat(moment)
    return age >= span or age < -span
