"""Bits that flip in a world of random histories, on the box and on its disks, and the scrub that mends them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.catalog import settings
from appliance.lifecycle import scrub
from appliance.replication import recall
from appliance.replication.destinations.archive import object_key
from tests.campaigns.clinic_places import SHELVES, flip

if TYPE_CHECKING:
    from tests.campaigns.clinic_world import World


def rot(world: World, study: int, one: int, two: int) -> bool:
    """A bit flips in an image of a study on the box that an archive has whole."""
    found = [
        object_id
        for object_id, image in sorted(world.alive.items())
        if image.study == study
        and object_id not in world.rotten
        and recall.is_here(world.box, object_id)
        and any(
            object_id in world.shelves[name].whole and object_id in world.receipts[name]
            for name in world.known
        )
    ]
    if not found:
        return False
    chosen = found[one % len(found)]
    flip(world.box.objects.path(chosen), two)
    world.rotten.add(chosen)
    return True


def rot_archive(world: World, study: int, one: int, two: int) -> bool:
    """A bit flips in an image of a study on a disk, whose box or other disk has it whole."""
    name = SHELVES[one % 2]
    shelf = world.shelves[name]
    if not shelf.plugged or name not in world.known:
        return False
    found = [
        object_id
        for object_id in sorted(shelf.whole & set(world.alive) & world.receipts[name] - world.rotten)
        if world.alive[object_id].study == study
        and (
            recall.is_here(world.box, object_id)
            or any(
                object_id in world.shelves[other].whole and object_id in world.receipts[other]
                for other in world.known - {name}
            )
        )
    ]
    if not found:
        return False
    chosen = found[two % len(found)]
    flip(world.here / name / object_key(chosen), one)
    shelf.whole.discard(chosen)
    return True


def scrub_all(world: World) -> None:
    """Look through everything from the first object on: what is whole anywhere is whole everywhere that is there."""
    with world.box.catalog.transaction() as tx:
        if isinstance(told := settings.get(tx, scrub.STANDING), dict):
            settings.put(tx, scrub.STANDING, {**told, "cursor": 0, "manifest_cursor": 0}, world.now)
    scrub.scrub(world.box, world.now, most=10_000)
    # What mends a copy fetches the image first, if it is away.
    world.away = {each for each in world.away if not recall.is_here(world.box, each)}
    for object_id in sorted(world.rotten):
        whole = [
            name
            for name in world.known
            if object_id in world.shelves[name].whole and object_id in world.receipts[name]
        ]
        if any(world.shelves[name].plugged for name in whole):
            world.rotten.discard(object_id)
    for name in world.known:
        shelf = world.shelves[name]
        if not shelf.plugged:
            continue
        mine = world.receipts[name] & set(world.alive)
        shelf.whole |= {each for each in mine if each not in world.rotten and recall.is_here(world.box, each)}
        for object_id in mine & shelf.whole:
            assert world.is_whole(name, world.alive[object_id]), (
                f"{object_id} is not whole on {name}, and the scrub has left it so"
            )
