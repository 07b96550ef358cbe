"""Removing the files of images from this disk that an archive has, proven whole a moment ago. The order is everything.

::

    studies nothing pins (lifecycle.tiers)                         reading
      └──▶ each image opened here from end to end, and read back     nothing has changed
           from every archive that counts: the same bytes
             └──▶ looked at again, and written down: LEAVING         one transaction, with the audit
                    └──▶ a freeze asked for once more                else the rows end, and the files stay
                           └──▶ files removed, folders synced        may be cut anywhere
                                  └──▶ written down: AWAY            one transaction, what isn't here

Cut between any two steps, an image is here, or proven in an archive and known to be there; usually both. What a cut has left
unsettled is settled by looking at the disk: what is here counts as here, and is proven anew before it may leave another time.
No proof outlives the run that made it, nor a change of the place where it was made.

One process at a time settles, lets leave or brings back: it holds a lock beside the catalog, and another is told so. A recall for
a viewer waits for nobody; it ends no row that is LEAVING. The hour is read anew wherever something is decided: a proof
may take longer than an image takes to arrive, and one that came after the hour of a run would make its clock look behind.

What keeps everything here, whatever the clinic chose: a clock that is doubted, a freeze of the guard, images still coming home after a restore, an
archive that cannot be read at this moment, a single bit that differs. A file that doesn't open is left for the scrub to mend.

Chose to read every object back over trusting check sums that a store recorded, because after this it is the only copy that
a clinic can reach at once; it costs the download of what leaves, once. An object in deep archive can't be read back, so it
stays here. Rejected: a state beside each instance row, which the hot insert of every image would carry.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from appliance import audit
from appliance import settings as chosen
from appliance.backup import homecoming
from appliance.box import Box
from appliance.catalog import Reading, Transaction, destinations, evictions, freezes, studies
from appliance.catalog.evictions import Local, Proven
from appliance.errors import (
    ApplianceError,
    Corrupt,
    OperatorNeeded,
    Refused,
    Transient,
    Unknown,
)
from appliance.ingest.duplicates import data_set_digest
from appliance.lifecycle import retention, tiers
from appliance.lifecycle.tiers import Choices, Eviction, Pin, Plan, Space, StudyFacts
from appliance.model import DestinationId, DestinationSettings
from appliance.replication import recall
from appliance.replication.destinations import Archive, build
from appliance.replication.place import is_same_place
from appliance.store.disk import disk_error

log = logging.getLogger(__name__)

ACTOR: Final = "jobs"
EVERY_SECONDS: Final = 1800
MOST: Final = 2000
"""How many studies leave in one run at most, the oldest first: more than an hour's line can read back."""

AT_ONCE: Final = 200
"""How many rows are read at a time."""

_BLOCK_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Around:
    """What a run is given: whether to go on, and a word for each step that a test may cut it at.

    `evict` begins with no other study once `has_time` is over: one that is begun is done, however slow a line is, or it would never leave.
    `stayed` are those that stayed in such a run: the next tries them last, and they keep nothing else here. One that has time empties it.
    """

    keep_going: Callable[[], bool] = lambda: True
    reached: Callable[[str], None] = field(default=lambda _: None)
    actor: str = ACTOR
    has_time: Callable[[], bool] = lambda: True
    stayed: set[int] = field(default_factory=set)


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


class Taken(Transient):
    """Another process lets images leave or brings them back at this moment."""


class Stays(Exception):
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
    home = homecoming.under_way(reading)
    # What an archive holds back may be away for months: that keeps nothing else here.
    if home is not None and not (home.is_stopped or home.has_passed):
        return "images are still coming home after a restore"
    return ""


def refuse_obstacle(reading: Reading, now: datetime, words: str) -> None:
    """Raise `Refused`, which begins with `words`, while something keeps everything where it is."""
    if why := obstacle(reading, now):
        raise Refused(f"{words}: {why}", hint="try again when that is over")


def refuse_idle(reading: Reading, now: datetime) -> None:
    """Raise `Refused` where `evict` would let nothing leave, whatever there is."""
    if choices(reading).eviction is Eviction.OFF:
        raise Refused(
            "the clinic has chosen that images stay on this disk",
            hint="choose otherwise in the settings, tiers.eviction",
        )
    refuse_obstacle(reading, now, "nothing may leave this disk now")


def planned(
    box: Box,
    now: datetime,
    wanted: Choices | None = None,
    keep_going: Callable[[], bool] = lambda: True,
) -> Plan:
    """What would leave now, by the clinic's choice or by `wanted`; nothing is changed.

    Reads on, slice by slice, past whatever is pinned, until what may leave is enough: a year of studies that are held for ever
    must not hide those behind them.
    """
    found = box.guard.space()
    space = Space(found.total_bytes, found.free_bytes)
    with box.catalog.reading() as reading:
        standing = wanted or choices(reading)
    free: list[StudyFacts] = []
    pinned = dict.fromkeys(Pin, 0)
    after, before = ("", 0), now - timedelta(days=standing.keep_days)
    looked = 0
    while keep_going() and not _is_full(looked, free, standing, space):
        with box.catalog.reading() as reading:
            rows = evictions.oldest(reading, before, after, AT_ONCE)
            facts = evictions.facts_of(reading, [number for _, number in rows])
        if not rows:
            break
        after, looked = rows[-1], looked + len(rows)
        for each in facts:
            reasons = tiers.pins(each, standing, now)
            for reason in reasons:
                pinned[reason] += 1
            if not reasons:
                free.append(each)
    return replace(tiers.plan(free, standing, space, now), pinned=pinned)


def _is_full(looked: int, free: Sequence[StudyFacts], standing: Choices, space: Space) -> bool:
    need = tiers.wanted(space, standing)
    if standing.eviction is not Eviction.BY_AGE and not need:
        return looked >= MOST  # nothing leaves: only what keeps them here is shown
    if standing.eviction is Eviction.WHEN_NEEDED and sum(each.here_bytes for each in free) >= need:
        return True
    return len(free) >= MOST


def evict(box: Box, clock: Callable[[], datetime], around: Around = Around()) -> Evicted:
    """Settle what was cut, then let leave what the clinic's choice says; what left.

    Raises `Taken` while another process moves images, and what the catalog raises.
    """
    with alone(box):
        _settle(box, clock())
        with box.catalog.reading() as reading:
            standing, why = choices(reading), obstacle(reading, clock())
        if standing.eviction is Eviction.OFF or why:
            return Evicted()
        total = Evicted()
        plan = planned(box, clock(), standing, around.keep_going)
        for study in sorted(plan.leaving, key=lambda each: each.id in around.stayed):
            if not (around.keep_going() and around.has_time()):
                break
            if standing.eviction is Eviction.WHEN_NEEDED and total.bytes >= plan.wanted_bytes:
                break
            done = _evict_study(box, study.id, standing, clock, around)
            if done.kept:
                around.stayed.add(study.id)
            total += done
        else:
            around.stayed.clear()
    if total.studies:
        log.info("images left this disk: studies=%d images=%d", total.studies, total.images)
    return total


def evict_study(
    box: Box, study: int, standing: Choices, clock: Callable[[], datetime], around: Around = Around()
) -> Evicted:
    """Let the images of one study leave, if nothing pins it and archives have them whole; what left.

    Raises `Taken` while another process moves images, and what the catalog and this disk raise; what an archive raises keeps
    the study here.
    """
    with alone(box):
        return _evict_study(box, study, standing, clock, around)


def _evict_study(
    box: Box, study: int, standing: Choices, clock: Callable[[], datetime], around: Around
) -> Evicted:
    with box.catalog.reading() as reading:
        images = evictions.local_images(reading, study)
    size = sum(each.sealed_bytes for each in images)
    try:
        proof = _prove(box, study, images, standing, clock, around)
        around.reached("proven")
        with box.catalog.transaction() as tx:
            now = clock()
            _look_again(tx, study, images, proof, standing, now)
            evictions.leave(tx, study, proof.images, now)
            record_eviction(tx, box, study, len(images), size, around.actor, now)
            around.reached("leaving")
        around.reached("written down")
        _ask_once_more(box, study, proof, size, around.actor, clock)
    except Stays as why:
        log.info("study %d stays on this disk: %s", study, why)
        return Evicted(kept=1)
    box.objects.evict([each.object_id for each in proof.images])
    around.reached("files removed")
    with box.catalog.transaction() as tx:
        back = {each.object_id for each in proof.images if recall.is_here(box, each.object_id)}
        evictions.here(tx, sorted(back))  # recalled since it was removed, by somebody who opened it
        evictions.gone(tx, study, [each for each in proof.images if each.object_id not in back], clock())
    around.reached("away")
    return Evicted(1, len(images), size)


def _ask_once_more(
    box: Box, study: int, proof: _Proof, size: int, actor: str, clock: Callable[[], datetime]
) -> None:
    """Hold that nothing keeps everything here since it was written down, and take it back if so. Raises `Stays`."""
    with box.catalog.reading() as reading:
        why = obstacle(reading, clock())
    if not why:
        return
    with box.catalog.transaction() as tx:
        evictions.here(tx, [each.object_id for each in proof.images])
        outcome = audit.Outcome.FAILED
        record_eviction(tx, box, study, len(proof.images), size, actor, clock(), outcome)
    raise Stays(why)


def record_eviction(
    tx: Transaction,
    box: Box,
    study: int,
    images: int,
    size: int,
    actor: str,
    now: datetime,
    outcome: audit.Outcome = audit.Outcome.DONE,
) -> None:
    """That the images of a study leave this disk, in the audit."""
    found = studies.study_by_id(tx, study)
    entry = audit.Entry(
        "study:evict",
        f"study:{study}",
        actor,
        {"instances": images, "bytes": size},
        outcome=outcome,
        study=found.study_instance_uid if found else "",
    )
    audit.append(tx, box.audit_key, [entry], now)


def settle(box: Box, now: datetime) -> int:
    """Write down where the files are whose removal or return was cut; how many were unsettled.

    One that is being recalled at this very moment counts as away until it has come, which is written down then. Raises
    `Taken` while another process moves images: what it is about to do is not cut.
    """
    with alone(box):
        return _settle(box, now)


def _settle(box: Box, now: datetime) -> int:
    with box.catalog.reading() as reading:
        waiting = evictions.unsettled(reading)
    if not waiting:
        return 0
    box.objects.sync(waiting)  # a removal that was cut may not be durable yet
    with box.catalog.transaction() as tx:
        waiting = evictions.unsettled(tx)
        here = [each for each in waiting if recall.is_here(box, each)]
        evictions.here(tx, here)
        evictions.away(tx, sorted(set(waiting) - set(here)), now)
    return len(waiting)


@contextmanager
def alone(
    box: Box,
    name: str = "tiers.lock",
    taken: str = "images are leaving this disk or coming back to it already",
) -> Iterator[None]:
    """Be the only one who removes files or judges by the disk where they are. The lock ends with the process.

    With another `name` the only one who does something else; `taken` says what. Raises `Taken`.
    """
    path = box.config.data.absolute() / name
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise disk_error(error, "moving images between this disk and the archives") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Taken(taken, hint="wait until that is done") from error
        yield
    finally:
        os.close(lock)


# --- the proof -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Proof:
    """What was read back whole, and the archives as they were then."""

    images: tuple[Proven, ...]
    archives: Mapping[DestinationId, DestinationSettings]


def _prove(
    box: Box,
    study: int,
    images: Sequence[Local],
    standing: Choices,
    clock: Callable[[], datetime],
    around: Around,
) -> _Proof:
    """Read every image here and in as many archives as count; raises `Stays` at the first thing that isn't right."""
    with box.catalog.reading() as reading:
        now = clock()
        if why := obstacle(reading, now):  # before a byte is fetched for nothing
            raise Stays(why)
        refuse_pinned(reading, study, standing, now)
        numbers = evictions.places_of(reading, study, len(images))
        known = known_places(reading)
    archives = archives_at(box, [known[each] for each in numbers if each in known])
    proven: list[Proven] = []
    for each in images:
        if not around.keep_going():
            raise Stays("the run was asked to end")
        dataset, sealed = _read_here(box, each)
        places: list[DestinationId] = []
        for number, archive in archives.items():
            if _has_whole(box, archive, each, sealed):
                places.append(number)
        if not is_carried(places, known, standing):
            raise Stays("no archive that counts has just shown every image whole")
        proven.append(Proven(each.instance, each.object_id, dataset, sealed, tuple(places)))
        around.reached("image proven")
    return _Proof(tuple(proven), known)


def known_places(reading: Reading) -> dict[DestinationId, DestinationSettings]:
    """The destinations by their number."""
    return {each.id: each for each in destinations.destinations(reading)}


def archives_at(box: Box, places: Sequence[DestinationSettings]) -> dict[DestinationId, Archive]:
    """The archives among these places that can be asked at this moment."""
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


def is_carried(
    places: Sequence[DestinationId], known: Mapping[DestinationId, DestinationSettings], standing: Choices
) -> bool:
    """Whether so many places, of their kinds, may carry what is not here."""
    return tiers.is_enough(len(places), [known[each].kind for each in places], standing)


def _read_here(box: Box, image: Local) -> tuple[str, str]:
    """The SHA-256 of data set and ciphertext of an image here, opened from end to end. Raises `Stays`."""
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
                raise Stays("a file is not as long as it was")
            reader.verify()
            dataset = data_set_digest(reader)
    except (OSError, Unknown, Corrupt, Transient) as error:
        raise Stays(f"a file could not be read here ({type(error).__name__})") from error
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
    proof: _Proof,
    standing: Choices,
    now: datetime,
) -> None:
    """Hold that what was proven is still what is: to be asked in the transaction that writes it down. Raises `Stays`."""
    if why := obstacle(reading, now):
        raise Stays(why)
    refuse_pinned(reading, study, standing, now)
    refuse_changed(reading, study, images, proof.images, proof.archives, standing)


def refuse_changed(
    reading: Reading,
    study: int,
    images: Sequence[Local],
    proven: Sequence[Proven],
    asked: Mapping[DestinationId, DestinationSettings],
    standing: Choices,
) -> None:
    """Raise `Stays` unless a study has the images that it had, and each is carried still by the archives that were `asked` for it.

    An archive counts only if it is where it was: a receipt stands beside its number, and does not know of the other bucket.
    """
    if evictions.local_images(reading, study) != list(images):
        raise Stays("its images have changed meanwhile")
    known = known_places(reading)
    standing_still = {
        number
        for number in evictions.places_of(reading, study, len(images))
        if number in known.keys() & asked.keys()
        and known[number].kind == asked[number].kind
        and is_same_place(known[number].options, asked[number].options)
    }
    for each in proven:
        if not is_carried([place for place in each.places if place in standing_still], known, standing):
            raise Stays("an archive is not there any more")


def refuse_pinned(reading: Reading, study: int, standing: Choices, now: datetime) -> None:
    """Raise `Stays` where a pin keeps a study on this box, or nothing of it is counted as here."""
    facts = evictions.facts_of(reading, [study])
    if not facts or not facts[0].here:
        raise Stays("nothing of it is here")
    if reasons := tiers.pins(facts[0], standing, now):
        raise Stays(", ".join(sorted(reasons)))
