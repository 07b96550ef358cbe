"""A fire in the middle of a delivery in a world of random histories: what a disk has whole by then, and anybody knows of, comes back.

The courier is cut after any of its steps, in its own order of things: some images are sent, some have a receipt, some manifests are
written. The model looks for itself at what lies on the disk, and asks for all of it that the restored catalog has a row for.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from appliance.backup import asking, homecoming
from appliance.errors import Corrupt, OperatorNeeded
from appliance.model import ObjectId
from appliance.replication import lane, manifest, recall
from appliance.replication.batch import Counts, Errand, Held, Surroundings
from appliance.replication.destinations.archive import MANIFESTS
from tests.campaigns.clinic_fire import burn
from tests.campaigns.clinic_others import look_through
from tests.campaigns.clinic_outage import back_up
from tests.campaigns.clinic_places import SHELVES, Image

if TYPE_CHECKING:
    from tests.campaigns.clinic_world import World

LATEST = 300
"""After how many of its steps the courier is cut, at the latest."""

UNNAMED = 1
"""So many studies may lie on a disk without a manifest where a minute is over at once: the one that is being sent."""

RECEIPTS = (
    "SELECT i.object_id FROM deliveries AS d JOIN instances AS i ON i.id = d.instance"
    " JOIN destinations AS p ON p.id = d.destination WHERE p.name = ? AND NOT p.removed AND d.state = 'CONFIRMED'"
)


class Fire(BaseException):
    """Nobody lives on after that."""


def burn_midway(world: World, one: int, two: int) -> bool:
    """The box burns while it delivers to a disk, and is made again from there, with its backups or without."""
    name = SHELVES[one % 2]
    shelf = world.shelves[name]
    if name not in world.known or not shelf.plugged or shelf.apart:
        return False
    if one // 16 % 2:  # which knows what is not delivered yet
        back_up(world, name)
    before, none = set(shelf.whole), bool(one // 2 % 2)
    _deliver_until_fire(world, name, left=two % LATEST, none=none)
    lying = _look(world, name)
    if none:
        fresh = {each.study for each in lying.values() if each.object_id not in before}
        named = {each.study for each in lying.values() if each.object_id in shelf.named}
        unnamed = sorted(fresh - named)
        assert len(unnamed) <= UNNAMED, f"{name} has got studies {unnamed}, and no manifest names them"
    shelf.papers.add(world.papers.index(world.paper))  # it may have got its slot
    if not burn(world, name, backups=bool(one // 4 % 4)):
        return True
    shelf.papers = {world.papers.index(world.paper)}
    home(world)
    with world.box.catalog.reading() as conn:
        known = set(conn.exec_driver_sql("SELECT object_id FROM instances").scalars())
    for object_id in sorted(lying.keys() & known - world.away):
        image = lying[object_id]
        if object_id in world.gone or image.key_id in shelf.buried:
            continue
        # The homecoming may wait at an earlier image for a disk that is away; whoever opens this one has it.
        assert recall.is_here(world.box, object_id) or object_id in world.receipts[name], (
            f"{object_id} lay whole on {name}, and is known, and nobody asks for it"
        )
        if world.limbo.pop(object_id, None) is not None:
            world.notes["found without a receipt"] += 1
        world.alive[object_id] = image
    world.notes["burnt midway"] += 1
    return True


def _deliver_until_fire(world: World, name: str, *, left: int, none: bool) -> None:
    """With `none`, a minute of the courier is over with every object: it writes its documents between any two."""
    steps = iter(range(left))

    def reached(_: str) -> None:
        if none:
            documents = mine.documents
            assert documents is not None
            documents._kept = documents._buried = -1e9
        if next(steps, None) is None:
            raise Fire

    later = timedelta(minutes=5)
    around = Surroundings(lambda: world.now + later, lambda: 0.5, reached=reached, settle_seconds=0)
    mine = lane.Lane(Errand(world.box, world.settings_of(name), around, Held(), Counts()))
    try:
        while mine.one_batch():
            pass
        mine.keep_documents()
    except Fire:
        world.notes["cut by fire"] += 1


def _look(world: World, name: str) -> dict[ObjectId, Image]:
    """Which images lie whole on a disk, by its bytes; its receipts and what its manifests name are noted by our account."""
    shelf = world.shelves[name]
    lying = {each: image for each, image in world.alive.items() if world.is_whole(name, image)}
    with world.box.catalog.reading() as conn:
        told = set(conn.exec_driver_sql(RECEIPTS, (name,)).scalars()) & lying.keys()
    world.receipts[name] |= told
    shelf.whole |= lying.keys()
    archive = world.archive(name)
    for document in archive.documents(MANIFESTS):
        try:
            found = manifest.unseal(world.box.root, document.key, archive.document(document.key))
        except (Corrupt, OperatorNeeded):
            shelf.vague |= told - shelf.named
            continue
        shelf.named |= {each["object_id"] for each in found["instances"]} & lying.keys()
        shelf.buried |= {key for each in manifest.tombstones(found) for key in each.keys}
    shelf.vague -= shelf.named
    return lying


def home(world: World) -> None:
    """What the job does after a restore: the archives are asked for what has no receipt, and the images come.

    A receipt that our account did not have to expect may be of before, from a manifest that may or may not have been written.
    """
    before = {name: _told(world, name) for name in world.known}
    asking.ask(world.box, world.now, keep_going=lambda: True, most=10_000)
    homecoming.bringing_home(world.box, world.now, keep_going=lambda: True, most=10_000)
    asking.ask(world.box, world.now, keep_going=lambda: True, most=10_000)  # for what that found spoilt
    look_through(world)
    asking.ask(
        world.box, world.now, keep_going=lambda: True, most=10_000
    )  # for what was named there and spoilt
    here = {each.object_id: each for each in world.here_by_account()}
    for name in world.known:
        shelf, told = world.shelves[name], _told(world, name)
        assert shelf.plugged or told <= before[name], f"{name} is away, and has given a receipt"
        for object_id in (told & here.keys()) - world.receipts[name]:
            assert world.is_whole(name, here[object_id]), (
                f"{name} has a receipt for {object_id}, and has it not whole"
            )
            world.receipts[name].add(object_id)
            shelf.whole.add(object_id)
            world.late.discard((name, object_id))


def _told(world: World, name: str) -> set[ObjectId]:
    """For which objects there is a receipt of a disk."""
    with world.box.catalog.reading() as conn:
        return set(conn.exec_driver_sql(RECEIPTS, (name,)).scalars())
