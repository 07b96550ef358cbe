"""Room on the data disk: is there any above the reserve, and for how long."""

from __future__ import annotations

from collections.abc import Iterator

from appliance.health.facts import Facts
from appliance.health.forecast import Outlook
from appliance.health.problem import Problem, Severity

CODES = ("disk-full", "disk-low", "disk-filling", "disk-too-small")
LOW_SPACE_RESERVES = 4
"""Space is low when less than this many times the reserve is free."""
VERY_SOON_DAYS = 7


def check(facts: Facts) -> Iterator[Problem]:
    """Full: images are refused. Low: they will be. Filling: at the pace of the last weeks, they will be before long."""
    disk = facts.disk
    if facts.too_small_for:
        yield Problem(
            "disk-too-small",
            f"the data disk is too small for all images: the older ones stay in {facts.too_small_for} and come when they are opened",
            "put in a larger disk, or choose in the settings that old images may leave this disk",
            Severity.SOON,
        )
    if disk is None:
        return
    if disk.refusal is not None:
        fix = disk.refusal.hint or "make space"
        yield Problem("disk-full", disk.refusal.message, fix, Severity.BLOCKS)
    elif disk.free_bytes < LOW_SPACE_RESERVES * disk.reserve_bytes:
        yield Problem(
            "disk-low",
            "the data disk is nearly full",
            "make space, or add a disk, before it refuses images",
            Severity.NOW,
        )
    elif facts.forecast.outlook is Outlook.FILLING and facts.forecast.days_left <= facts.limits.disk_days:
        yield Problem(
            "disk-filling",
            f"days until the data disk is full, as it fills now: {facts.forecast.days_left}",
            "make space, or add a disk, before it refuses images",
            Severity.NOW if facts.forecast.days_left <= VERY_SOON_DAYS else Severity.SOON,
        )
