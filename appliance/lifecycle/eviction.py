"""Removing the files of images from this disk that an archive has, proven whole a moment ago. The order is everything.

::

    studies nothing pins (lifecycle.tiers)                         reading
      └──▶ each image opened here from end to end, and read back     nothing has changed
           from every archive that counts: the same bytes
             └──▶ looked at again, and written down: LEAVING         one transaction, with the audit
                    └──▶ files removed, folders synced               may be cut anywhere
                           └──▶ written down: AWAY                   one transaction

Cut between any two steps, an image is here, or proven in an archive and known to be there; usually both. What a cut has left
unsettled is settled by looking at the disk: what is here counts as here, and is proven anew before it may leave another time.
No proof outlives the run that made it.

What keeps everything here, whatever the clinic chose: a clock that is doubted, a freeze of the guard, images still coming home after a restore, an
archive that cannot be read at this moment, a single bit that differs. A file that doesn't open is left for the scrub to mend.

Chose to read every object back over trusting check sums that a store recorded, because after this it is the only copy that
a clinic can reach at once; it costs the download of what leaves, once. An object in deep archive can't be read back, so it
stays here. Rejected: a state beside each instance row, which the hot insert of every image would carry.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from appliance import audit
from appliance import settings as chosen
from appliance.backup import homecoming
from appliance.box import Box
from appliance.catalog import Reading, destinations, evictions, freezes, studies
from appliance.catalog.evictions import Local, Proven
from appliance.errors import ApplianceError, Corrupt, OperatorNeeded, Refused, Transient, Unknown
from appliance.ingest.duplicates import data_set_digest
from appliance.lifecycle import retention, tiers
from appliance.lifecycle.tiers import Choices, Eviction, Plan, Space, StudyFacts
from appliance.model import DestinationId, DestinationSettings
from appliance.replication import recall
from appliance.replication.destinations import Archive, build

log = logging.getLogger(__name__)

ACTOR: Final = "jobs"
EVERY_SECONDS: Final = 1800
LOOKED_AT: Final = 2000
"""How many studies one run looks at, the oldest first: more than an hour's line can read back."""

AT_ONCE: Final = 200
_BLOCK_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Around:
    """What a run is given: whether to go on, and a word for each step that a test may cut it at."""

    keep_going: Callable[[], bool] = lambda: True
    reached: Callable[[str], None] = field(default=lambda _: None)
    actor: str = ACTOR


@dataclass(frozen=True, slots=True)
class Evicted:
    """What left: studies, images and bytes of ciphertext; `kept` are the studies of the plan that stayed after all."""

    studies: int = 0
    images: int = 0
    bytes: int = 0
    kept: int = 0

    def __add__(self, other: Evicted) -> Evicted:
        return Evicted(
            self.studies + other.studies,
            self.images + other.images,
            self.bytes + other.bytes,
            self.kept + other.kept,
        )


class _Stays(Exception):
    """A study stays on this box; why, for the log."""


def choices(reading: Reading) -> Choices:
    """What the clinic has chosen."""
    return Choices(
        eviction=Eviction(chosen.get(reading, "tiers.eviction")),
        keep_days=int(chosen.get(reading, "tiers.keep_days")),
        unused_days=int(chosen.get(reading, "tiers.unused_days")),
        newest_studies=int(chosen.get(reading, "tiers.newest_studies")),
        copies=int(chosen.get(reading, "tiers.copies")),
        low_percent=int(chosen.get(reading, "tiers.low_percent")),
        enough_percent=int(chosen.get(reading, "tiers.enough_percent")),
    )


def obstacle(reading: Reading, now: datetime) -> str:
    """What keeps everything here for now, in words; empty when nothing does."""
    if retention.clock_of(reading, now).doubt is not None:
        return "the clock of the box is doubted"
    if freezes.in_force(reading) is not None:
        return "so much was lost at once that nothing is removed until a person has looked"
    if homecoming.under_way(reading) is not None:
        return "images are still coming home after a restore"
    return ""


def planned(box: Box, now: datetime, wanted: Choices | None = None) -> Plan:
    """What would leave now, by the clinic's choice or by `wanted`; nothing is changed."""
    space = box.guard.space()
    with box.catalog.reading() as reading:
        standing = wanted or choices(reading)
        facts: list[StudyFacts] = []
        after, before = ("", 0), now - timedelta(days=standing.keep_days)
        while len(facts) < LOOKED_AT:
            rows = evictions.oldest(reading, before, after, min(200, LOOKED_AT))
            if not rows:
                break
            facts += evictions.facts_of(reading, [number for _, number in rows])
            after = rows[-1]
    return tiers.plan(facts, standing, Space(space.total_bytes, space.free_bytes), now)


def evict(box: Box, now: datetime, around: Around = Around()) -> Evicted:
    """Settle what was cut, then let leave what the clinic's choice says; what left. Raises what the catalog raises."""
    settle(box, now)
    with box.catalog.reading() as reading:
        standing, why = choices(reading), obstacle(reading, now)
    if standing.eviction is Eviction.OFF or why:
        return Evicted()
    total = Evicted()
    plan = planned(box, now, standing)
    for study in plan.leaving:
        if not around.keep_going():
            break
        if standing.eviction is Eviction.WHEN_NEEDED and total.bytes >= plan.wanted_bytes:
            break
        total += evict_study(box, study.id, standing, now, around)
    if total.studies:
        log.info("images left this disk: studies=%d images=%d", total.studies, total.images)
    return total


def evict_study(box: Box, study: int, standing: Choices, now: datetime, around: Around = Around()) -> Evicted:
    """Let the images of one study leave, if nothing pins it and archives have them whole; what left.

    Raises what the catalog and this disk raise; what an archive raises keeps the study here.
    """
    with box.catalog.reading() as reading:
        images = evictions.local_images(reading, study)
    try:
        proven = _prove(box, study, images, standing, now, around)
        around.reached("proven")
        with box.catalog.transaction() as tx:
            _look_again(tx, study, images, proven, standing, now)
            evictions.leave(tx, study, proven, now)
            found = studies.study_by_id(tx, study)
            details = {"instances": len(proven), "bytes": sum(each.sealed_bytes for each in images)}
            entry = audit.Entry(
                "study:evict",
                f"study:{study}",
                around.actor,
                details,
                study=found.study_instance_uid if found else "",
            )
            audit.append(tx, box.audit_key, [entry], now)
            around.reached("leaving")
    except _Stays as why:
        log.info("study %d stays on this disk: %s", study, why)
        return Evicted(kept=1)
    around.reached("written down")
    box.objects.evict([each.object_id for each in proven])
    around.reached("files removed")
    with box.catalog.transaction() as tx:
        evictions.gone(tx, study, proven, now)
    around.reached("away")
    return Evicted(1, len(proven), sum(each.sealed_bytes for each in images))


def settle(box: Box, now: datetime) -> int:
    """Write down where the files are whose removal or return was cut; how many were unsettled.

    One that is being recalled at this very moment counts as away until it has come, which is written down then.
    """
    with box.catalog.reading() as reading:
        waiting = evictions.unsettled(reading)
    if not waiting:
        return 0
    here = [each for each in waiting if recall.is_here(box, each)]
    away = sorted(set(waiting) - set(here))
    box.objects.sync(away)  # a removal that was cut may not be durable yet
    with box.catalog.transaction() as tx:
        evictions.here(tx, here)
        evictions.away(tx, away, now)
    return len(waiting)


def bring_back(
    box: Box,
    now: datetime,
    study: int | None = None,
    *,
    actor: str = ACTOR,
    keep_going: Callable[[], bool] = lambda: True,
) -> int:
    """Recall every image of a study that is away, or with None of all studies; how many came.

    Whoever brings a study back wants it here: that counts as a use. Raises what `recall.recall` raises; what came until then
    stays.
    """
    came = 0
    marked: set[int] = set()
    while keep_going():
        with box.catalog.reading() as reading:
            waiting = evictions.away_images(reading, study, AT_ONCE)
        if not waiting:
            break
        for number, object_id, key_id, sealed_bytes in waiting:
            if not keep_going():
                return came
            if number not in marked:
                _record_recall(box, number, now, actor)
                marked.add(number)
            if recall.is_here(box, object_id):
                with box.catalog.transaction() as tx:
                    evictions.here(tx, [object_id])
            else:
                recall.recall(box, object_id, key_id, sealed_bytes)
            came += 1
    return came


def _record_recall(box: Box, study: int, now: datetime, actor: str) -> None:
    with box.catalog.transaction() as tx:
        found = studies.study_by_id(tx, study)
        uid = found.study_instance_uid if found else ""
        details = {"instances": evictions.away_of_study(tx, study)}
        audit.append(
            tx, box.audit_key, [audit.Entry("study:recall", f"study:{study}", actor, details, study=uid)], now
        )


# --- the proof -------------------------------------------------------------------------------------------------------


def _prove(
    box: Box, study: int, images: Sequence[Local], standing: Choices, now: datetime, around: Around
) -> list[Proven]:
    """Read every image here and in as many archives as count; raises `_Stays` at the first thing that isn't right."""
    with box.catalog.reading() as reading:
        _refuse_pinned(reading, study, standing, now)
        numbers = evictions.places_of(reading, study, len(images))
        known = _known(reading)
    archives = _archives(box, [known[each] for each in numbers if each in known])
    proven = []
    for each in images:
        if not around.keep_going():
            raise _Stays("the run was asked to end")
        dataset, sealed = _read_here(box, each)
        places: list[DestinationId] = []
        for number, archive in archives.items():
            if _has_whole(box, archive, each, sealed):
                places.append(number)
        if not _enough(places, known, standing):
            raise _Stays("no archive that counts has just shown every image whole")
        proven.append(Proven(each.instance, each.object_id, dataset, sealed, tuple(places)))
        around.reached("image proven")
    return proven


def _known(reading: Reading) -> dict[DestinationId, DestinationSettings]:
    return {each.id: each for each in destinations.destinations(reading)}


def _archives(box: Box, places: Sequence[DestinationSettings]) -> dict[DestinationId, Archive]:
    found: dict[DestinationId, Archive] = {}
    for each in places:
        try:
            built = build(each, box)
        except (Refused, OperatorNeeded) as error:
            log.info("%s does not count: %s", each.name, error.message)
            continue
        if isinstance(built, Archive) and not each.paused:
            found[each.id] = built
    return found


def _enough(
    places: Sequence[DestinationId], known: dict[DestinationId, DestinationSettings], standing: Choices
) -> bool:
    return tiers.is_enough(len(places), [known[each].kind for each in places], standing)


def _read_here(box: Box, image: Local) -> tuple[str, str]:
    """The SHA-256 of data set and ciphertext of an image here, opened from end to end. Raises `_Stays`."""
    path = box.objects.path(image.object_id)
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            length = 0
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
                length += len(block)
        with box.open_object(image.object_id, image.key_id) as reader:
            if length != image.sealed_bytes or reader.size != image.size_bytes:
                raise _Stays("a file is not as long as it was")
            reader.verify()
            dataset = data_set_digest(reader)
    except (OSError, Unknown, Corrupt, Transient) as error:
        raise _Stays(f"a file could not be read here ({type(error).__name__})") from error
    return dataset, digest.hexdigest()


def _has_whole(box: Box, archive: Archive, image: Local, sealed_sha256: str) -> bool:
    """Whether an archive gives back, at this moment, the very bytes that are here."""
    digest = hashlib.sha256()
    try:
        recall.verify(
            archive,
            image.object_id,
            box.study_keys.key(image.key_id),
            image.sealed_bytes,
            saw=digest.update,
        )
    except (Corrupt, Unknown) as error:
        log.error("an archive does not have an object whole that it has a receipt for: %s", error.message)
        return False
    except ApplianceError as error:
        log.info("an archive can't show an image now: %s", error.message)
        return False
    return digest.hexdigest() == sealed_sha256


def _look_again(
    reading: Reading,
    study: int,
    images: Sequence[Local],
    proven: Sequence[Proven],
    standing: Choices,
    now: datetime,
) -> None:
    """Hold that what was proven is still what is: to be asked in the transaction that writes it down. Raises `_Stays`."""
    if why := obstacle(reading, now):
        raise _Stays(why)
    _refuse_pinned(reading, study, standing, now)
    if evictions.local_images(reading, study) != list(images):
        raise _Stays("its images have changed meanwhile")
    numbers = set(evictions.places_of(reading, study, len(images)))
    known = _known(reading)
    for each in proven:
        if not _enough([place for place in each.places if place in numbers & set(known)], known, standing):
            raise _Stays("an archive is not there any more")


def _refuse_pinned(reading: Reading, study: int, standing: Choices, now: datetime) -> None:
    facts = evictions.facts_of(reading, [study])
    if not facts or not facts[0].here:
        raise _Stays("nothing of it is here")
    if reasons := tiers.pins(facts[0], standing, now):
        raise _Stays(", ".join(sorted(reasons)))
