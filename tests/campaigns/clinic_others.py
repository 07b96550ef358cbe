"""What only the disk knows that a box was not restored from, in a world of random histories: it comes once that disk is looked through."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from appliance.backup import other_archives
from appliance.catalog import study_keys

if TYPE_CHECKING:
    from appliance.model import ObjectId
    from tests.campaigns.clinic_world import World


def look_through(world: World) -> None:
    """The job reads what it has not read of the disks that are there; nothing that lies whole there and is named stays away.

    What is apart opens with a paper that nobody has typed; and what is destroyed here does not come under its old key
    (`clinic_spared` sees to the rest).
    """
    while other_archives.look_through(world.box, world.now, keep_going=lambda: True, most=10_000):
        pass  # so many images come in one run
    _take_up(world)
    with world.box.catalog.reading() as conn:
        destroyed = study_keys.destroyed_among(conn, sorted({each.key_id for each in world.burnt.values()}))
    for name in sorted(world.known):
        shelf = world.shelves[name]
        if not shelf.plugged or shelf.apart:
            continue
        for object_id in sorted(shelf.named & shelf.whole & set(world.burnt)):
            key_id = world.burnt[object_id].key_id
            assert key_id in destroyed | shelf.buried, (
                f"{object_id} of study {world.burnt[object_id].study} lies whole on {name}, which names it, and does not come"
            )


def _take_up(world: World) -> None:
    """Images that are here now and were lost in a fire."""
    with world.box.catalog.reading() as conn:
        rows = conn.exec_driver_sql("SELECT object_id FROM instances ORDER BY id").scalars().all()
    for object_id in rows:
        if object_id in world.gone:
            _came_back(world, object_id)
            continue
        if (image := world.burnt.pop(object_id, None)) is None:
            continue
        world.notes["known to another disk alone"] += 1
        if not any(world.is_whole(name, image) for name in world.known):
            world.limbo[object_id] = image  # a manifest told of it, and nothing else is left
            continue
        # It is the version that it was, unless another came in its place as the first.
        uids = {each.sent.sop_instance_uid for each in world.here_by_account() if each.first}
        world.acknowledged(replace(image, first=image.first and image.sent.sop_instance_uid not in uids))


def _came_back(world: World, object_id: ObjectId) -> None:
    """What was destroyed in a life that a fire has ended comes from a disk that had not heard of it; the box in service knows nothing of it."""
    image = world.gone.pop(object_id)
    knew = [
        name
        for name in world.known
        if world.shelves[name].plugged and image.key_id in world.shelves[name].buried
    ]
    assert object_id not in world.gone_by_account, (
        f"{object_id} was destroyed, as this box knows, and comes back"
    )
    assert not knew, f"{object_id} was destroyed, as {knew} tell, and comes back"
    world.limbo[object_id] = image
    world.notes["came back from an archive that was away"] += 1
