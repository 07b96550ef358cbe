"""Images that leave the box of a world of random histories for its archives, and come back: what may, by the model."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from appliance.errors import Corrupt, OperatorNeeded, Transient, Unknown
from appliance.lifecycle import eviction, returning
from appliance.lifecycle.tiers import Choices, Eviction
from appliance.model import ObjectId
from appliance.replication import recall

if TYPE_CHECKING:
    from tests.campaigns.clinic_world import World

AT_ONCE: Final = Choices(
    eviction=Eviction.BY_AGE,
    keep_days=0,
    unused_days=0,
    newest_studies=0,
    copies=1,
    low_percent=20,
    enough_percent=30,
    always_there=frozenset({"vault"}),
)
"""A clinic that keeps nothing here that it need not: time pins nothing, so that all the other reasons are what is tested."""


def evict(world: World, study: int, *, copies: int) -> bool:
    """Let a study leave, if the product lets it; whether it left."""
    if (row := world.row_of(study)) is None:
        return False
    images = [each.object_id for each in world.alive.values() if each.study == study]
    before = {each for each in images if recall.is_here(world.box, each)}
    standing = replace(AT_ONCE, copies=copies)
    told = eviction.evict_study(world.box, row, standing, lambda: world.now)
    left = {each for each in before if not recall.is_here(world.box, each)}
    assert bool(left) <= bool(told.studies), "images are gone, and it says that they stay"
    if not told.studies:
        return False
    assert left == before, f"study {study} has left in part"
    assert not world.is_held(study), f"study {study} is held, and left"
    assert not world.is_asked_for(study), f"the destruction of study {study} is decided, and it left"
    uids = [world.alive[each].sent.sop_instance_uid for each in images]
    assert len(uids) == len(set(uids)), f"an image of study {study} came with other bytes, and left"
    for object_id in left:
        assert object_id not in world.rotten, f"{object_id} was rotten here, and left"
        whole = holding(world, object_id)
        assert len(whole) >= copies, f"{object_id} left, and only {whole} has it whole"
        for name in world.known:
            owed = object_id in world.owed[name] and object_id not in world.receipts[name]
            assert not owed, f"{object_id} left, and is still owed to {name}"
    world.away |= left
    world.notes["images left"] += len(left)
    return True


def recall_study(world: World, study: int) -> bool:
    """Bring a study back; whether anything was away."""
    row = world.row_of(study)
    away = [each for each in sorted(world.away & set(world.alive)) if world.alive[each].study == study]
    if row is None or not away:
        return False
    trouble: Exception | None = None
    try:
        returning.bring_back(world.box, world.now, row)
    except (Transient, OperatorNeeded, Unknown, Corrupt) as error:
        trouble = error
    for object_id in away:
        if recall.is_here(world.box, object_id):
            world.away.discard(object_id)
            world.notes["images came back"] += 1
    nowhere = [each for each in away if not holding(world, each)]
    assert trouble is None or nowhere, f"every image of study {study} can come back, and: {trouble}"
    assert trouble or not world.away & set(away), f"study {study} came back in part, and nothing was said"
    return True


def holding(world: World, object_id: ObjectId) -> list[str]:
    """The disks that are there and have an image whole, with a receipt that the box knows of."""
    return [
        name
        for name in sorted(world.known)
        if world.shelves[name].plugged
        and object_id in world.shelves[name].whole
        and object_id in world.receipts[name]
    ]
