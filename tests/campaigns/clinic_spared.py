"""What an archive holds under a destroyed key and nobody had decided about, in a world of random histories: it comes back from there."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from appliance.catalog import manifests, study_keys
from appliance.model import KeyId, ObjectId
from tests.campaigns.clinic_checks import opened
from tests.campaigns.clinic_places import Image

if TYPE_CHECKING:
    from tests.campaigns.clinic_world import World

_NEW = "SELECT object_id, key_id FROM instances ORDER BY id"


def take_up_spared(world: World, name: str) -> None:
    """Take up the images that are here again since tombstones were laid on a disk.

    Each is one that the box had lost, and was in a study that was destroyed; and of those that the disk named and had whole, none is
    missing. They have another name and another key from now on.
    """
    here = world.here_by_account()
    known = {each.object_id for each in here}
    with world.box.catalog.reading() as conn:
        rows = [(ObjectId(row[0]), KeyId(row[1])) for row in conn.exec_driver_sql(_NEW)]
    found = {row[0] for row in rows}
    lost = {**world.burnt, **{each: world.limbo[each] for each in world.limbo if each not in found}}
    for object_id, key_id in rows:
        if object_id in known:
            continue
        path = world.box.objects.path(object_id)
        data_set = opened(world, path.read_bytes(), Image(object_id, key_id, next(iter(lost.values())).sent))
        was = [each for each in lost.values() if each.data_set == data_set]
        assert was, f"{object_id} has come back, and was never lost"
        assert key_id not in {each.key_id for each in was}, f"{object_id} is under a key that is destroyed"
        first = all(each.sent.sop_instance_uid != was[0].sent.sop_instance_uid for each in here)
        world.acknowledged(Image(object_id, key_id, was[0].sent, min(each.era for each in was), first))
        world.notes["spared in an archive"] += 1
    shelf = world.shelves[name]
    if not shelf.plugged or shelf.apart:
        return
    there = {each: world.burnt[each] for each in shelf.whole & shelf.named & set(world.burnt)}
    with world.box.catalog.reading() as conn:
        keys = study_keys.destroyed_among(
            conn, sorted({each.key_id for each in there.values()} - shelf.spared)
        )
    shelf.spared |= keys
    shown = {each.data_set for each in world.here_by_account()} if keys else set()
    for object_id, image in there.items():
        if image.key_id in keys:
            assert image.data_set in shown, (
                f"{object_id} of study {image.study} lay whole on {name} under a destroyed key, nobody had decided about it,"
                " and it did not come back"
            )


def owes_manifests(world: World, name: str) -> bool:
    """Whether a disk has yet to get a manifest; a tombstone that waits there for what it spares keeps none back."""
    late = world.now + timedelta(days=1)
    with world.box.catalog.reading() as conn:
        number = world.settings_of(name).id
        return bool(manifests.out_of_date(conn, number, quiet_since=late, written_before=late, limit=1))
