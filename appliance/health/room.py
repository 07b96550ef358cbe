"""What takes the room on the data disk, where its water marks are, and what can be freed without losing anything.

Sizes of files are what the file system gives them. Nothing is freed here: each way to make room names who does it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from appliance.box import Box
from appliance.catalog import totals
from appliance.health.checks.disk import LOW_SPACE_RESERVES
from appliance.health.facts import Facts
from appliance.health.forecast import Forecast

KINDS = ("images", "index", "intake", "backups", "restoring", "others")
"""What is told apart: sealed objects, the catalog, intake logs, backups on their way, a restore, and all that isn't the box's."""


@dataclass(frozen=True, slots=True)
class Room:
    """The data disk. Sizes in bytes; `low_bytes` and `refuse_bytes` are the free space from which on it is low, and refused.

    `archived` and `archived_bytes`: images that an archive has a receipt for, so that their files could leave this disk.
    """

    total_bytes: int
    free_bytes: int
    low_bytes: int
    refuse_bytes: int
    takes: tuple[tuple[str, int], ...]
    archived: int
    archived_bytes: int
    forecast: Forecast

    @property
    def level(self) -> str:
        """``refusing``, ``low`` or ``enough``."""
        if self.free_bytes < self.refuse_bytes:
            return "refusing"
        return "low" if self.free_bytes < self.low_bytes else "enough"


def measure(box: Box, facts: Facts) -> Room:
    """The room on the disk of `box`, whose `facts` were just gathered. Looks at every file: for a person who asks."""
    space, data = box.guard.space(), box.config.data.absolute()
    own = {
        "images": _size(data / "objects"),
        "index": sum(_size(each) for each in data.glob("catalog.db*")),
        "intake": _size(data / "intake"),
        "backups": _size(data / "backups"),
        "restoring": _size(data / "arriving"),
    }
    with box.catalog.reading() as conn:
        archived = totals.archived(conn)
    used = space.total_bytes - space.free_bytes
    own["others"] = max(0, used - sum(own.values()))
    return Room(
        total_bytes=space.total_bytes,
        free_bytes=space.free_bytes,
        low_bytes=LOW_SPACE_RESERVES * box.guard.reserve_bytes,
        refuse_bytes=box.guard.reserve_bytes,
        takes=tuple((kind, own[kind]) for kind in KINDS),
        archived=archived.instances,
        archived_bytes=archived.bytes,
        forecast=facts.forecast,
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
