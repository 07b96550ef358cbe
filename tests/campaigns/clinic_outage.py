"""Disks that are not there, and that are pulled out in the middle, in a world of random histories: what was promised holds all the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.backup import making, standing
from appliance.errors import OperatorNeeded, Transient
from appliance.replication.destinations import Archive
from appliance.store.recovery import RecoveryKey
from tests.campaigns.clinic_checks import archive_there, opens_with
from tests.campaigns.clinic_places import KEEP, SHELVES

if TYPE_CHECKING:
    from tests.campaigns.clinic_world import World

LATEST = {"deliver": 40, "carry_out": 16, "back_up": 6}
"""Before which of the product's own steps a disk may go, at the latest."""


def outage(world: World, one: int, two: int) -> bool:
    """A disk is pulled out in the middle of a delivery, a destruction or a backup; it stays away until somebody brings it back."""
    name = SHELVES[one % 2]
    if name not in world.known or not all(each.plugged for each in world.shelves.values()):
        return False
    what = [*LATEST][two % 3]
    world.pulling = (name, one // 2 % LATEST[what])
    if what == "back_up":
        back_up(world, name)
    else:
        getattr(world, f"_{what}")(-1, one, two)
    if world.pulling is not None:
        world.pulling = None
        world.pull(name)
        return True
    world.notes[f"pulled out: {what}"] += 1
    return True


def back_up(world: World, name: str) -> bool:
    """A backup to a disk: it is made, or the disk is away or may be another box's, and that is said."""
    if name not in world.known:
        return False
    shelf = world.shelves[name]

    def keep_going() -> bool:
        world.reached("a piece of a backup")
        return True

    try:
        made = making.back_up(
            world.box,
            world.settings_of(name),
            world.now,
            actor="tests",
            keep=KEEP,
            keep_going=keep_going,
        )
    except (Transient, OperatorNeeded) as error:
        assert not shelf.plugged or shelf.apart, f"{name} is there, and no backup is made: {error}"
        note_backups(world, name)
        return True
    note_backups(world, name)
    assert made.name in shelf.backups, "a backup is said to be made, and is not there"
    if shelf.plugged:
        assert opens_with(world.archive(name), world.paper), f"{name} has our backup, and not our paper"
        shelf.papers.add(
            world.papers.index(world.paper)
        )  # beside the backup: elsewhere there the one before may lie
    return True


def note_backups(world: World, name: str) -> None:
    """Which backups lie on a disk, wherever it is; one that is new remembers what is here now."""
    shelf = world.shelves[name]
    there = standing.look(archive_there(world, name)).names
    for old in set(shelf.backups) - set(there):
        del shelf.backups[old]
    for new in set(there) - set(shelf.backups):
        world.remember(name, new)


def paper_of(world: World, name: str, archive: Archive) -> RecoveryKey:
    """Of the papers that may open a disk, as `archive` shows it, the one printed last that does; where none does, the one printed last.

    A slot gives way to that of the box in service, which may be of an earlier paper: the box has come back with that from a disk that was
    away when a later one was issued.
    """
    may = [world.papers[each] for each in sorted(world.shelves[name].papers, reverse=True)]
    return next((each for each in may if opens_with(archive, each)), may[0])
