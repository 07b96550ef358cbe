"""What is kept of studies without whoever they are of, in a world of random histories: the pixels of each image, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from appliance.model import ANONYMISED
from tests.campaigns.clinic_checks import opened
from tests.campaigns.clinic_places import SIDE, Image, Kept
from tests.instances import Instance

if TYPE_CHECKING:
    from tests.campaigns.clinic_world import World

NUMBERED_FROM = 1_000_000
"""The number of the first study that is kept so; even ones only, so that none of them has the patient of another."""

_COPIES = (
    "SELECT t.study_instance_uid, i.sop_instance_uid, i.object_id, i.key_id FROM instances AS i"
    " JOIN series AS s ON s.id = i.series JOIN studies AS t ON t.id = s.study WHERE i.origin_name = ?"
)


@dataclass(frozen=True, slots=True)
class Dissolved:
    """A study that two people have decided to make anonymous, as it was: its images, and whether some of them are in limbo."""

    images: Sequence[Image]
    is_vague: bool


def dissolved(world: World, study: int) -> Dissolved:
    """As it is before its images are gone."""
    images = [each for each in world.here_by_account() if each.study == study]
    return Dissolved(images, any(each.object_id in world.limbo for each in images))


def take_up_copies(world: World, destroyed: Sequence[Dissolved], perhaps: Sequence[Dissolved]) -> None:
    """Take up the copies that are here since the images of these studies were `destroyed`: one new study in the place of each, and in
    the place of one that may have gone for another reason (`perhaps`) one or none."""
    found = _those_new(world)
    for study in (*destroyed, *perhaps):
        images = study.images
        # The same may have been sent again, where the first was away or had rotted; and a first that a fire had taken may have come
        # back from an older backup beside one that was sent in its place: of those one is the first by the box.
        before = {
            each.sent.pixels: each.sent.sop_instance_uid for each in images if isinstance(each.sent, Instance)
        }
        firsts = {each.sent.pixels for each in images if isinstance(each.sent, Instance) and each.first}
        of_it = [uid for uid, copies in found.items() if before.keys() & copies.keys()]
        if not of_it and study in perhaps:
            continue
        assert len(of_it) == 1, f"study {images[0].study} is gone, and {len(of_it)} are kept in its place"
        kept = found.pop(of_it[0])
        assert kept.keys() <= before.keys(), "a copy shows what the study did not"
        if not study.is_vague:
            may_stay = sorted({before[each] for each in firsts})
            assert kept.keys() <= firsts, "a copy shows a later version of an image"
            assert sorted(before[each] for each in kept) == may_stay, (
                f"{len(may_stay)} images could be kept, and {len(kept)} are"
            )
        for copy in kept.values():
            _names_nobody(copy, images)
            world.acknowledged(copy)
            world.notes["images kept anonymous"] += 1
    assert not found, "something is kept of a study of which nobody wanted it"


def _those_new(world: World) -> dict[str, dict[bytes, Image]]:
    """The copies that were never seen, by study and by what they show."""
    with world.box.catalog.reading() as conn:
        rows = conn.exec_driver_sql(_COPIES, (ANONYMISED.name,)).all()
    found: dict[str, dict[bytes, Image]] = {}
    numbers: dict[str, int] = {}
    for study_uid, image_uid, object_id, key_id in rows:
        if object_id in world.alive or object_id in world.limbo:
            continue
        if study_uid not in numbers:
            numbers[study_uid] = NUMBERED_FROM + 2 * world.studies_kept
            world.studies_kept += 1
        sent = Kept(numbers[study_uid], study_uid, image_uid, b"")
        blank = Image(object_id, key_id, sent)
        data_set = opened(world, world.box.objects.path(object_id).read_bytes(), blank)
        copy = Image(object_id, key_id, replace(sent, data_set=data_set), world.era, first=True)
        found.setdefault(study_uid, {})[data_set[-SIDE * SIDE :]] = copy
    return found


def _names_nobody(copy: Image, images: Sequence[Image]) -> None:
    markers = {b"Marqueur", *(f"{each.sent.study_instance_uid}.".encode() for each in images)}
    named = sorted(each.decode() for each in markers if each in copy.data_set)
    assert not named, f"a copy that is to name nobody says {named}"
