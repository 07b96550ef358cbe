"""What is held against archives in a world of random histories: which say that they are done with which keys, or have to be by now.

A box may burn in the middle of a destruction: whatever it had told any archive of it is carried to its end by the one that comes back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.catalog import study_keys, tombstones
from appliance.catalog.tombstones import PlaceState
from appliance.lifecycle import purging
from tests.campaigns.clinic_outage import note_backups
from tests.campaigns.clinic_places import SHELVES

if TYPE_CHECKING:
    from tests.campaigns.clinic_places import Remembered
    from tests.campaigns.clinic_world import World

LATEST = 16
"""After how many of its steps a destruction is cut, at the latest."""


class Fire(BaseException):
    """Nobody lives on after that."""


def destroy_until_fire(world: World, one: int, two: int) -> str:
    """A destruction is carried out until the box burns: between two runs, when the tombstones lie in the archives that are there, or after
    any step of a run. The disk that it is to come back from."""
    steps = iter(range(two // 2 % LATEST if two % 2 else 1 << 16))

    def reached(_: str) -> None:
        if next(steps, None) is None:
            raise Fire

    try:
        for _ in range(1 + two % 2):
            purging.carry_out(world.box, world.now, purging.Around(reached=reached))
            world.destroyed()
            world.take("deliver", -1, one, two)
    except Fire:
        world.notes["destruction cut by fire"] += 1
    world.destroyed()
    return SHELVES[one // 8 % 2]


def shredded(world: World) -> None:
    """Which archives say that they are done with which keys: from then on that is held against them for ever."""
    undone = [
        each
        for each in world.gone.values()
        if any(each.key_id not in shelf.done for shelf in world.shelves.values())
    ]
    with world.box.catalog.reading() as conn:
        for uid in {each.sent.study_instance_uid for each in undone}:
            if (known := tombstones.was_destroyed(conn, uid)) is None:
                continue
            certificate, _ = known
            of_it = {each.key_id for each in undone if each.sent.study_instance_uid == uid}
            for place in tombstones.places(conn, certificate.id):
                if place.state is PlaceState.DONE and place.name in world.shelves:
                    if of_it - world.shelves[place.name].done:
                        world.notes["archive done"] += 1
                    world.shelves[place.name].done |= of_it
    for name in world.shelves:
        note_backups(world, name)


def all_done(world: World) -> None:
    """Every certificate is complete: each disk has ended each destroyed key that the box knows, if it owed that."""
    with world.box.catalog.reading() as conn:
        known = study_keys.destroyed_among(conn, sorted(world.owing))
    for name, shelf in world.shelves.items():
        ended = {key for key in known if name in world.owing[key]}
        if ended - shelf.ended - shelf.done:
            world.notes["archive done after a fire"] += 1
        shelf.ended |= ended


def owe_after_fire(world: World, name: str, memory: Remembered | None) -> None:
    """Which disks owe the end of which keys to a box that came back from one, by its backup as `memory`, or by manifests alone.

    What its backup knew already, those that owed it then; what else that disk tells of, all of them that this box knows.
    """
    known = (memory.known if memory else frozenset()) | {name}
    learnt = world.ever_destroyed & world.shelves[name].buried
    kept = {key: names & known for key, names in memory.owing.items()} if memory else {}
    world.owing = dict.fromkeys(learnt, known) | kept
    for shelf in world.shelves.values():
        shelf.ended.clear()  # what another disk brings back is alive again, until that is destroyed
