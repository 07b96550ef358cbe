"""What takes the room on the data disk, where its water marks are, and what can be freed without losing anything.

Sizes of files are what the file system gives them. Nothing is freed here: each way to make room names who does it.

What could leave is what the tiers would let go, whether or not the clinic has chosen that it may: a receipt of an archive is not enough.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from appliance.box import Box
from appliance.health.checks.disk import LOW_SPACE_RESERVES
from appliance.health.facts import Facts
from appliance.health.forecast import Forecast
from appliance.lifecycle import eviction
from appliance.lifecycle.tiers import Eviction

KINDS = ("images", "index", "intake", "backups", "restoring", "others")
"""What is told apart: sealed objects, the catalog, intake logs, backups on their way, a restore, and all that isn't the box's."""


@dataclass(frozen=True, slots=True)
class Leaving:
    """The images here that nothing keeps here, and their size in bytes, sealed; `is_all` unless the looking was cut short.

    `choice` is when the clinic lets them leave, `keep_days` how long every new one stays, `low_percent` the share of the disk below which room is
    short, `obstacle` why none may leave at this moment, in words, or empty.
    """

    images: int
    bytes: int
    is_all: bool
    choice: Eviction
    keep_days: int
    low_percent: int
    obstacle: str


@dataclass(frozen=True, slots=True)
class Room:
    """The data disk. Sizes in bytes; `low_bytes` and `refuse_bytes` are the free space from which on it is low, and refused."""

    total_bytes: int
    free_bytes: int
    low_bytes: int
    refuse_bytes: int
    takes: tuple[tuple[str, int], ...]
    leaving: Leaving
    forecast: Forecast

    @property
    def level(self) -> str:
        """``refusing``, ``low`` or ``enough``."""
        if self.free_bytes < self.refuse_bytes:
            return "refusing"
        return "low" if self.free_bytes < self.low_bytes else "enough"


def measure(box: Box, facts: Facts, now: datetime, keep_going: Callable[[], bool] = lambda: True) -> Room:
    """The room on the disk of `box`, whose `facts` were just gathered. Looks at every file: for a person who asks.

    What could leave takes a look at every study that came long ago, as long as `keep_going` says so.
    """
    leaving = _leaving(box, now, keep_going)
    space, data = box.guard.space(), box.config.data.absolute()
    own = {
        "images": _size(data / "objects"),
        "index": sum(_size(each) for each in data.glob("catalog.db*")),
        "intake": _size(data / "intake"),
        "backups": _size(data / "backups"),
        "restoring": _size(data / "arriving"),
    }
    used = space.total_bytes - space.free_bytes
    own["others"] = max(0, used - sum(own.values()))
    return Room(
        total_bytes=space.total_bytes,
        free_bytes=space.free_bytes,
        low_bytes=LOW_SPACE_RESERVES * box.guard.reserve_bytes,
        refuse_bytes=box.guard.reserve_bytes,
        takes=tuple((kind, own[kind]) for kind in KINDS),
        leaving=leaving,
        forecast=facts.forecast,
    )


def _leaving(box: Box, now: datetime, keep_going: Callable[[], bool]) -> Leaving:
    """What the tiers would let go if the clinic let leave whatever nothing keeps here."""
    is_all = True

    def goes_on() -> bool:
        nonlocal is_all
        is_all = keep_going()
        return is_all

    with box.catalog.reading() as reading:
        chosen, obstacle = eviction.choices(reading), eviction.obstacle(reading, now)
    plan = eviction.planned(box, now, replace(chosen, eviction=Eviction.BY_AGE), goes_on)
    return Leaving(
        images=sum(each.here for each in plan.leaving),
        bytes=plan.leaving_bytes,
        is_all=is_all and len(plan.leaving) < eviction.MOST,
        choice=chosen.eviction,
        keep_days=chosen.keep_days,
        low_percent=chosen.low_percent,
        obstacle=obstacle,
    )


def _size(path: Path) -> int:
    """What a file, or all files below a folder, take on the disk; 0 for what isn't there."""
    return sum(_blocks(path))


def _blocks(path: Path) -> Iterator[int]:
    try:
        told = path.lstat()
        yield told.st_blocks * 512
        if path.is_dir() and not path.is_symlink():
            with os.scandir(path) as entries:
                names = [each.path for each in entries]
            for name in names:
                yield from _blocks(Path(name))
    except FileNotFoundError:
        return  # it went away meanwhile
