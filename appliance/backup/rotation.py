"""Which snapshots have had their time. Pure.

Keeps everything *within* a time, never "one a week": whoever plants a snapshot, or makes many, cannot push a good one out.
The newest few stay whatever their age, so that a box that stood still for a year still has them. What bears a moment that is
still to come was made by a wrong clock, here or there, and stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from appliance.backup.snapshot import moment_of

LEAST = 3


def obsolete(names: Sequence[str], now: datetime, keep: timedelta, *, least: int = LEAST) -> list[str]:
    """Those of `names` (finished snapshots) that may be removed at `now`, the oldest first."""
    dated = sorted((moment, name) for name in names if (moment := moment_of(name)) is not None)
    past = [(moment, name) for moment, name in dated if moment <= now]
    newest = {name for _, name in past[-least:]} if least else set()
    return [name for moment, name in past if now - moment > keep and name not in newest]
