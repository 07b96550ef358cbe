"""Room on the data disk: is there any above the reserve, and for how long."""

from __future__ import annotations

from collections.abc import Iterator

from appliance.health.facts import Facts
from appliance.health.forecast import Outlook
from appliance.health.problem import Act, Problem, Severity, Verb

CODES = ("disk-full", "disk-low", "disk-filling", "disk-too-small")
LOW_SPACE_RESERVES = 4
"""Space is low when less than this many times the reserve is free."""
VERY_SOON_DAYS = 7

# What is named in the settings and on that page stands there under these words.
ROOM_NOW = (
    "add a disk, or choose in the settings, Room on this disk, that images may leave this one: those that an archive in the cloud has can, "
    "and the page Storage tiers makes room at once; reception resumes by itself"
)
ROOM_SOON = (
    "before it refuses images, add a disk, or choose in the settings, Room on this disk, that images may leave this one: those that an archive "
    "in the cloud has can, and the page Storage tiers shows which would"
)
# Where that is chosen already, more can only leave by what the page names.
STAYS_NOW = (
    "add a disk: images may leave this one already, and the page Storage tiers says what keeps the rest here, and makes room at once; "
    "reception resumes by itself"
)
STAYS_SOON = "before it refuses images, add a disk: images may leave this one already, and the page Storage tiers says what keeps the rest here"


def check(facts: Facts) -> Iterator[Problem]:
    """Full: images are refused. Low: they will be. Filling: at the pace of the last weeks, they will be before long."""
    disk = facts.disk
    if facts.too_small_for:
        yield Problem(
            "disk-too-small",
            f"the data disk is too small for all images: the older ones stay in {facts.too_small_for} and come when they are opened",
            "put in a larger disk, or choose in the settings that old images may leave this disk",
            Severity.SOON,
            acts=(Act(Verb.SEE_TIERS),),
        )
    if disk is None:
        return
    soon = STAYS_SOON if facts.lets_leave else ROOM_SOON
    if disk.refusal is not None:
        # Its own hint is for whoever sends: here is more that can be done.
        fix = STAYS_NOW if facts.lets_leave else ROOM_NOW
        yield _filling("disk-full", disk.refusal.message, fix, Severity.BLOCKS)
    elif disk.free_bytes < LOW_SPACE_RESERVES * disk.reserve_bytes:
        yield _filling("disk-low", "the data disk is nearly full", soon, Severity.NOW)
    elif facts.forecast.outlook is Outlook.FILLING and facts.forecast.days_left <= facts.limits.disk_days:
        words = f"days until the data disk is full, as it fills now: {facts.forecast.days_left}"
        severity = Severity.NOW if facts.forecast.days_left <= VERY_SOON_DAYS else Severity.SOON
        yield _filling("disk-filling", words, soon, severity)


def _filling(code: str, words: str, fix: str, severity: Severity) -> Problem:
    return Problem(code, words, fix, severity, acts=(Act(Verb.SEE_TIERS),))
