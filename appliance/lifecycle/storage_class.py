"""In which class of storage an object lies, and whether it can be read at once or has to be fetched first. Pure.

A bucket's life cycle moves objects from class to class; the box is told by the answer to a HEAD request, and by the refusal
of a GET. What lies deep is neither lost nor damaged: it is asked for, and a copy of it can be read for some days, hours later.

The hours are the longest that Amazon names for each way of fetching (S3 User Guide, *Archive retrieval options*). The third way, in
minutes, is not offered: there is none from the deepest class, and it costs a hundred times as much.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Tier(StrEnum):
    """How far away the objects of a class are, in the clinic's words."""

    HOT = "hot"
    WARM = "warm"  # read at once, and a little dearer to read
    COLD = "cold"  # read at once, and much dearer to read
    DEEP = "deep"  # fetched first, which takes hours


class Retrieval(StrEnum):
    """How what lies deep is fetched, as the clinic chooses: setting ``tiers.retrieval``."""

    STANDARD = "standard"
    BULK = "bulk"  # the cheapest, and the slowest


class Rest(StrEnum):
    """Whether an object can be read."""

    READY = "ready"
    RESTING = "resting"  # nobody has asked for it
    WAKING = "waking"  # asked for, and not there yet


@dataclass(frozen=True, slots=True)
class StorageClass:
    """A class by S3's name: `wait_hours` is 0 where objects are read at once, and `bulk_hours` how long the cheapest way takes;
    `least_days` are paid for in any case.
    """

    name: str
    tier: Tier
    wait_hours: int
    least_days: int
    bulk_hours: int = 0


STANDARD: Final = StorageClass("STANDARD", Tier.HOT, 0, 0)
WARM: Final = StorageClass("STANDARD_IA", Tier.WARM, 0, 30)
COLD: Final = StorageClass("GLACIER_IR", Tier.COLD, 0, 90)
FLEXIBLE: Final = StorageClass("GLACIER", Tier.DEEP, 5, 90, 12)
DEEP: Final = StorageClass("DEEP_ARCHIVE", Tier.DEEP, 12, 180, 48)
CLASSES: Final = {each.name: each for each in (STANDARD, WARM, COLD, FLEXIBLE, DEEP)}


OF_TIER: Final = {Tier.HOT: STANDARD, Tier.WARM: WARM, Tier.COLD: COLD, Tier.DEEP: DEEP}
"""The class that images of a tier lie in. S3 moves an object down only."""
DOWNWARDS: Final = (Tier.HOT, Tier.WARM, Tier.COLD, Tier.DEEP)
EARLIEST_DAYS: Final = {Tier.WARM: 30, Tier.COLD: 1, Tier.DEEP: 180}
"""S3 moves nothing to the warm class sooner; and what was opened in the last half year is opened again, which takes hours from there."""


@dataclass(frozen=True, slots=True)
class Ages:
    """After how many days in which nobody opened its study an image goes to which tier in the cloud; 0 is never."""

    warm_days: int = 0
    cold_days: int = 0
    deep_days: int = 0

    @property
    def steps(self) -> tuple[tuple[int, Tier], ...]:
        """The moves, the earliest first."""
        days = ((self.warm_days, Tier.WARM), (self.cold_days, Tier.COLD), (self.deep_days, Tier.DEEP))
        return tuple((after, tier) for after, tier in days if after)

    @property
    def tiers(self) -> frozenset[Tier]:
        """The tiers below hot that images go to."""
        return frozenset(tier for _, tier in self.steps)

    def trouble(self) -> Tier | None:
        """Which of them comes too soon, and is to be corrected; None if all can be.

        None comes before the least days of the class above it are over, which are paid for in any case.
        """
        earliest = 0
        for days, tier in self.steps:
            if days < max(earliest, EARLIEST_DAYS[tier]):
                return tier
            earliest = days + OF_TIER[tier].least_days
        return None


def deepest(one: Tier, other: Tier) -> Tier:
    """The one of two that is further away."""
    return max(one, other, key=DOWNWARDS.index)


def class_of(name: str) -> StorageClass:
    """The class by the name that a store gives, which names none for its ordinary one. One of its own counts as hot."""
    return CLASSES.get(name) or StorageClass(name or STANDARD.name, Tier.HOT, 0, 0)


INTELLIGENT: Final = "INTELLIGENT_TIERING"
"""The class in which S3 itself moves what nobody reads, into tiers of its own that have to be fetched from, too."""
_ARCHIVE_HOURS: Final = {
    "ARCHIVE_ACCESS": FLEXIBLE.wait_hours,
    "DEEP_ARCHIVE_ACCESS": DEEP.wait_hours,
}


def hours_of(name: str, archive: str) -> int:
    """How long an object of that class is waited for; `archive` is the tier within `INTELLIGENT`, as ``x-amz-archive-status`` or the
    refusal of a GET has it, or empty. 0 where it is read at once.
    """
    return _ARCHIVE_HOURS.get(archive, 0) if name == INTELLIGENT else class_of(name).wait_hours


def hours_by(retrieval: Retrieval, wait_hours: int) -> int:
    """How long that way of fetching takes at the latest what comes within `wait_hours` by the standard one."""
    slower = {each.wait_hours: each.bulk_hours for each in (FLEXIBLE, DEEP)}
    return slower.get(wait_hours, wait_hours) if retrieval is Retrieval.BULK else wait_hours


def rest_of(name: str, restore: str, archive: str = "") -> Rest:
    """Whether an object of that class can be read, by the ``x-amz-restore`` of a HEAD request (empty: nobody has asked).

    What came up in `INTELLIGENT` has left its archive tier: `archive` is empty again, and there is nothing to be fetched.
    """
    if not hours_of(name, archive):
        return Rest.READY
    asked = re.search(r'ongoing-request\s*=\s*"(true|false)"', restore)
    if asked is None:
        return Rest.RESTING
    return Rest.WAKING if asked[1] == "true" else Rest.READY
