"""In which class of storage an object lies, and whether it can be read at once or has to be fetched first. Pure.

A bucket's life cycle moves objects from class to class; the box is told by the answer to a HEAD request, and by the refusal
of a GET. What lies deep is neither lost nor damaged: it is asked for, and a copy of it can be read for some days, hours later.

The hours are the longest that Amazon names for the standard way of fetching (S3 User Guide, *Archive retrieval options*).
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


class Rest(StrEnum):
    """Whether an object can be read."""

    READY = "ready"
    RESTING = "resting"  # nobody has asked for it
    WAKING = "waking"  # asked for, and not there yet


@dataclass(frozen=True, slots=True)
class StorageClass:
    """A class by S3's name: `wait_hours` is 0 where objects are read at once; `least_days` are paid for in any case."""

    name: str
    tier: Tier
    wait_hours: int
    least_days: int


STANDARD: Final = StorageClass("STANDARD", Tier.HOT, 0, 0)
WARM: Final = StorageClass("STANDARD_IA", Tier.WARM, 0, 30)
COLD: Final = StorageClass("GLACIER_IR", Tier.COLD, 0, 90)
FLEXIBLE: Final = StorageClass("GLACIER", Tier.DEEP, 5, 90)
DEEP: Final = StorageClass("DEEP_ARCHIVE", Tier.DEEP, 12, 180)
CLASSES: Final = {each.name: each for each in (STANDARD, WARM, COLD, FLEXIBLE, DEEP)}


MINIMUM_WARM_DAYS: Final = 30
"""S3 moves nothing to the warm class sooner, nor from there on to the cold one."""


@dataclass(frozen=True, slots=True)
class Ages:
    """After how many days in the bucket an image moves to the warm and to the cold class; 0 is never.

    There is no age for deep archive: a rule of a bucket knows ages only, and not what is held, or opened every week.
    """

    warm_days: int = 0
    cold_days: int = 0

    @property
    def steps(self) -> tuple[tuple[int, StorageClass], ...]:
        """The moves, the earliest first."""
        return tuple((days, to) for days, to in ((self.warm_days, WARM), (self.cold_days, COLD)) if days)

    def trouble(self) -> str:
        """Which of the two can't be, and is to be corrected: ``warm``, ``cold``, or empty."""
        if self.warm_days and self.warm_days < MINIMUM_WARM_DAYS:
            return "warm"
        if self.cold_days and self.cold_days < self.warm_days + (MINIMUM_WARM_DAYS if self.warm_days else 1):
            return "cold"
        return ""


def class_of(name: str) -> StorageClass:
    """The class by the name that a store gives, which names none for its ordinary one. One of its own counts as hot."""
    return CLASSES.get(name) or StorageClass(name or STANDARD.name, Tier.HOT, 0, 0)


def rest_of(name: str, restore: str) -> Rest:
    """Whether an object of that class can be read, by the ``x-amz-restore`` of a HEAD request (empty: nobody has asked)."""
    if not class_of(name).wait_hours:
        return Rest.READY
    asked = re.search(r'ongoing-request\s*=\s*"(true|false)"', restore)
    if asked is None:
        return Rest.RESTING
    return Rest.WAKING if asked[1] == "true" else Rest.READY
