"""Refuse before the disk is full: what is kept back lets the catalog, the audit and the console go on working.

Chose to ask the file system at every opening and every 16 MiB of an instance (statvfs takes about a microsecond)
because a figure remembered is a figure that another process has made wrong. There is no state to reset: when space
returns, the next question finds it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from appliance.errors import OutOfResources

RESERVE_INODES = 1024


@dataclass(frozen=True, slots=True)
class Space:
    """Bytes and inodes on the data disk, as an unprivileged process may use them."""

    total_bytes: int
    free_bytes: int
    free_inodes: int


class DiskGuard:
    """Says whether there is room above the reserve on the disk that holds `root`."""

    def __init__(self, root: Path, reserve_bytes: int) -> None:
        self._root = root
        self.reserve_bytes = reserve_bytes

    def space(self) -> Space:
        """What the file system says now."""
        told = os.statvfs(self._root)
        inodes = told.f_favail if told.f_files else 1 << 62  # btrfs and tmpfs may not count inodes
        return Space(told.f_blocks * told.f_frsize, told.f_bavail * told.f_frsize, inodes)

    def admit(self, size_bytes: int = 0, *, own: bool = False) -> None:
        """Return if `size_bytes` more can be taken without touching the reserve; else raise `OutOfResources`.

        What is the box's `own`, and removed at once, may come out of half of the reserve: with a full disk too it must be possible to
        try whether a new version works, or none would ever be kept.
        """
        space, part = self.space(), 2 if own else 1
        if space.free_bytes - size_bytes < self.reserve_bytes // part:
            raise OutOfResources(
                "the data disk is full up to its reserve",
                hint="make space or add a disk; reception resumes by itself",
            )
        if space.free_inodes < RESERVE_INODES // part:
            raise OutOfResources(
                "the data disk has no room for more files",
                hint="make space or add a disk; reception resumes by itself",
            )
