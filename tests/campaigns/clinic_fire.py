"""A fire in a world of random histories, and what it leaves by the model: of a box that was made again from one archive."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from appliance.backup import restoring
from appliance.backup.restoring import Restored
from appliance.box import open_box
from appliance.catalog import rules
from appliance.errors import OperatorNeeded, Refused, Transient
from appliance.lifecycle.acting import Act
from appliance.lifecycle.memory import lacks_a_province, look_again
from appliance.model import ObjectId, Rule
from appliance.replication.destinations import Archive
from appliance.replication.destinations.archive import KEYS
from appliance.store.recovery import RecoveryKey
from appliance.store.root_key import newest_generation
from tests.campaigns.clinic_checks import archive_there, check_chain
from tests.campaigns.clinic_outage import paper_of
from tests.campaigns.clinic_places import SHELVES, WithoutBackups, add_shelf, config_of, copied, place_of
from tests.campaigns.clinic_shredded import owe_after_fire

if TYPE_CHECKING:
    from tests.campaigns.clinic_world import World


def burn(world: World, name: str, *, backups: bool) -> bool:
    """The box is gone; a blank one is made the same again from one archive, with the newest paper that opens it.

    Where there is nothing to come back from, that must be said, and the fire is put out.
    """
    shelf = world.shelves[name]
    folder = world.here / f"box-{world.boxes + 1}"
    paper = paper_of(world, name, _as_found(archive_there(world, name), backups=backups))
    try:
        archive = _as_found(world.archive(name), backups=backups)
        told = _restored(world, name, archive, folder, paper)
    except (OperatorNeeded, Refused, Transient) as error:
        held = shelf.plugged and (shelf.named or (backups and shelf.backups))
        assert not held, f"there is something to restore from, and it is refused: {error}"
        shutil.rmtree(folder, ignore_errors=True)
        return False
    assert shelf.plugged, f"a box is restored from {name}, which is away"
    check_chain(world)
    world.box.close()
    shutil.rmtree(world.here / f"box-{world.boxes}")
    world.boxes += 1
    world.paper = paper
    world.box = open_box(config_of(folder))
    with world.box.catalog.transaction() as tx:
        # Somebody looks at what is held by now, which is what the account says, and says in which province the clinic is.
        province = "QC" if lacks_a_province(tx) else ""
        look_again(tx, Act(by="marie", now=world.now, audit_key=world.box.audit_key), province)
    survivors(world, name, told.snapshot.name if told.snapshot else "", backups=backups)
    return True


def _as_found(archive: Archive, *, backups: bool) -> Archive:
    """A disk, or one of which nobody finds the backups."""
    return archive if backups else cast("Archive", WithoutBackups(archive))


def _restored(world: World, name: str, archive: Archive, folder: Path, paper: RecoveryKey) -> Restored:
    """As a person restores it, who names the newest backup where they are asked whether the box had been emptied before that."""
    put_back = partial(
        restoring.restore,
        config_of(folder),
        archive,
        place_of(world.here, name),
        paper,
        tell=lambda *_: None,
        actor="tests",
        now=world.now,
    )
    try:
        return put_back()
    except OperatorNeeded as error:
        if "may have been emptied" not in error.message:
            raise
        shelf = world.shelves[name]
        held = {each: len(memory.images) for each, memory in shelf.backups.items()}
        newest = next(reversed(held))
        assert held[newest] < max(held.values()), f"none of its backups holds more than the newest: {error}"
        world.notes["named the newest backup"] += 1
        return put_back(backup=newest)


def survivors(world: World, name: str, taken: str, *, backups: bool) -> None:
    """What a fire leaves by our own account: `taken` is the backup that the new box came from, none by manifests alone."""
    shelf = world.shelves[name]
    if backups:
        newest = next(reversed(shelf.backups), "")  # as they came: two may bear the same second
        assert taken == newest, f"restored from {taken or 'manifests'} where {newest or 'none'} is the newest"
    memory = shelf.backups.get(taken) if backups else None
    receipts: dict[str, set[ObjectId]] = {each: set() for each in SHELVES}
    if memory is not None:
        receipts |= copied(memory.receipts)
    receipts[name] |= shelf.named
    rows = (set(memory.images) if memory else set()) | shelf.named | shelf.vague
    unsure = shelf.vague - shelf.named - (set(memory.images) if memory else set())
    known = set(memory.known) if memory else set()
    everything = {**world.burnt, **world.alive, **world.limbo, **world.gone}
    world.alive = {}  # what was in limbo stays there: it may have been delivered, or not
    for object_id in rows:
        image = everything[object_id]
        if object_id in world.limbo:
            continue
        if object_id in unsure:
            if object_id not in world.gone:
                world.limbo[object_id] = image
            continue
        if memory is not None and object_id in memory.gone:
            continue  # the backup knows that it was destroyed, whatever a manifest still says
        is_remembered = memory is not None and object_id in memory.images
        if image.key_id in shelf.buried and not (is_remembered and object_id in world.gone):
            if object_id not in world.gone:
                world.limbo[object_id] = image
            continue
        if object_id in world.gone:  # its manifest is gone there, or not yet; its backup is still to be
            world.limbo[object_id] = world.gone.pop(object_id)
            world.notes["came back from an archive that was away"] += 1
        elif any(
            object_id in receipts[each] and object_id in world.shelves[each].whole for each in known | {name}
        ):
            world.alive[object_id] = image
        else:
            world.limbo[object_id] = image
    world.burnt = {
        object_id: image
        for object_id, image in everything.items()
        if object_id not in world.alive and object_id not in world.limbo and object_id not in world.gone
    }
    world.notes["images lost in a fire"] += len(world.burnt)
    world.receipts = {each: objects & rows for each, objects in receipts.items()}
    # What a manifest alone tells of is owed by the rules of the backup; those that are made anew hold for what comes.
    by_manifest = rows - set(memory.images) if memory else set()
    world.owed = {
        each: (memory.owed[each] | by_manifest if memory and each in memory.known else set())
        for each in SHELVES
    }
    world.holds = dict(memory.holds) if memory else {}
    # Of what was destroyed since its backup the new box knows what it finds in that archive, and what it makes from now on tells no more.
    world.gone_by_account = set(memory.gone) if memory else set()
    world.gone_by_account |= {each for each, image in world.gone.items() if image.key_id in shelf.buried}
    owe_after_fire(world, name, memory)
    world.away = set(memory.away) & rows if memory else set()
    world.late = {(each, object_id) for each in SHELVES for object_id in rows}
    shelf.vague = set()
    world.requests, world.rotten, world.last_sent = {}, set(), {}
    world.known = known | {name}
    for each in SHELVES:
        if each not in world.known and world.shelves[each].plugged:
            add_shelf(world.box, world.here, each)
            world.known.add(each)
    for other in (world.shelves[each] for each in SHELVES if each != name):
        other.apart |= shelf.apart
    shelf.apart = False
    for each in SHELVES:
        world.shelves[each].apart |= _newest_generation(world, each) > world.box.root.generation
    if memory is None:
        place = world.settings_of(name)
        with world.box.catalog.transaction() as tx:
            rules.add_rule(tx, Rule(place.id, name, place.takes))


def _newest_generation(world: World, name: str) -> int:
    """Of the root keys that lie wrapped on a disk, wherever it is."""
    archive = archive_there(world, name)
    return max((newest_generation(archive.document(each.key)) for each in archive.documents(KEYS)), default=0)
