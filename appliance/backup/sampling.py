"""The sample of a restore drill: which images are drawn, and what comes of each when it is brought back (`appliance.backup.drill`)."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.backup.making import archive_at
from appliance.box import Box
from appliance.catalog import Reading, instances, study_keys
from appliance.errors import ApplianceError, Corrupt, Resting, Transient, Unknown
from appliance.model import DestinationSettings, InstanceId, KeyId, ObjectId
from appliance.replication import recall
from appliance.replication.destinations import Archive
from appliance.store.study_keys import wrapping_context

SIZE: Final = 20
NONE_OPENED: Final = "every image of the sample lies in deep archive, and none was opened"
_DESTROYED: Final = "every image of the sample has been destroyed since the backup was made"
_LATEST: Final = 5
"""So many of the sample are the images that came last: they are what a fire tonight would take."""


def go_on(keep_going: Callable[[], bool]) -> None:
    """Raise `Transient` when the drill is to end."""
    if not keep_going():
        raise Transient("the restore drill was interrupted", hint="it is made again later")


@dataclass(frozen=True, slots=True)
class Drawn:
    """An image of the sample, and the archives that it may come from, in the order in which they are asked."""

    object_id: ObjectId
    key_id: KeyId
    sealed_bytes: int
    holders: tuple[DestinationSettings, ...]

    def is_held_here(self, place: DestinationSettings) -> bool:
        """Whether the archive that is tried should have it."""
        return self.holders[0].id == place.id


def draw(reading: Reading, place: DestinationSettings, dice: random.Random) -> list[Drawn]:
    """Which images to bring back: the latest few, and others by chance, of those that the archive has receipts for; where it has none
    of them, of those that others have.
    """
    last = instances.last_id(reading)
    drawn = {last - each for each in range(_LATEST)}
    drawn |= {dice.randint(1, last) for _ in range(4 * SIZE)} if last else set()
    here: dict[ObjectId, Drawn] = {}
    elsewhere: dict[ObjectId, Drawn] = {}
    for number in sorted(drawn, reverse=True):
        for _, object_id, key_id, sealed_bytes in instances.objects_after(reading, InstanceId(number - 1), 1):
            holders = recall.holders(reading, object_id)
            own = [place for each in holders if each.id == place.id]
            others = [each for each in holders if each.id != place.id]
            found = Drawn(object_id, key_id, sealed_bytes, (*own, *others))
            if own:
                here[object_id] = found
            elif others and len(elsewhere) < SIZE:
                elsewhere[object_id] = found
        if len(here) >= SIZE:
            break
    return list((here or elsewhere).values())


@dataclass(slots=True)
class Sample:
    """What came of the images that were drawn: opened to the last byte, lying deep, destroyed since the backup, or not as they should be."""

    opened: int = 0
    opened_bytes: int = 0
    resting: int = 0
    destroyed: int = 0
    findings: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    ungiven: tuple[str, ...] = ()


class Sampling:
    """Bringing the images of a sample back, each from the first of its archives that gives it whole."""

    def __init__(self, box: Box, place: DestinationSettings) -> None:
        self._box = box
        self._place = place
        self._archives: dict[int, Archive] = {}

    def bring(self, reading: Reading, drawn: Sequence[Drawn], keep_going: Callable[[], bool]) -> Sample:
        """All of them. That all lie deep is a finding: then nothing has been tried. Raises as `_image`."""
        done = Sample()
        for each in drawn:
            go_on(keep_going)
            recorded = study_keys.wrapped(reading, each.key_id)
            if recorded is None:
                done.findings += ("the backup lacks the key of an image",)
                continue
            study_instance_uid, wrapped = recorded
            try:
                key = self._box.root.unwrap(wrapped, wrapping_context(each.key_id, study_instance_uid))
            except Corrupt as error:
                done.findings += (f"an image in the archive is not what was written ({error.message})",)
                continue
            self._image(each, key, done)
        if done.resting and not done.opened:
            done.findings += (NONE_OPENED,)
        if done.destroyed and not (done.opened or done.findings):
            raise Transient(_DESTROYED, hint="it is made again later, with the next backup")
        return done

    def _image(self, drawn: Drawn, key: bytes, done: Sample) -> None:
        """Raises what an archive raises that can't be reached, if it is the one that is tried, or none has given the image."""
        damage: dict[str, str] = {}
        away: list[tuple[str, ApplianceError]] = []
        is_resting = False
        for holder in drawn.holders:
            digest = hashlib.sha256()
            try:
                recall.verify(self._archive(holder), drawn.object_id, key, drawn.sealed_bytes, digest.update)
            except Resting:  # on purpose, says the archive: whether it is whole is seen when it is fetched
                if holder.id == self._place.id:
                    done.resting += 1
                    return
                is_resting = True
            except (Corrupt, Unknown) as error:
                damage[holder.name] = error.message
            except ApplianceError as error:
                if holder.id == self._place.id:
                    raise
                away.append((holder.name, error))
            else:
                self._came(drawn, holder, digest.hexdigest(), damage, done)
                break
        else:
            if damage and self._is_destroyed(drawn):
                done.destroyed += 1
                return
            self._did_not_come(damage, away, done, is_resting=is_resting)
        others = [name for name in (*damage, *(name for name, _ in away)) if name != self._place.name]
        done.ungiven = tuple(dict.fromkeys((*done.ungiven, *others)))

    def _did_not_come(
        self,
        damage: Mapping[str, str],
        away: Sequence[tuple[str, ApplianceError]],
        done: Sample,
        *,
        is_resting: bool,
    ) -> None:
        if self._place.name in damage or not (is_resting or away):
            done.findings += (_lost(damage, self._place, is_sure=not (is_resting or away)),)
        elif is_resting:
            done.resting += 1
        else:
            raise away[0][1]

    def _came(
        self,
        drawn: Drawn,
        holder: DestinationSettings,
        digest: str,
        damage: Mapping[str, str],
        done: Sample,
    ) -> None:
        if (why := damage.get(self._place.name)) is not None:
            done.findings += (
                f"an image in the archive is not what was written ({why}), and {holder.name} has it whole",
            )
        else:
            done.opened += 1
            done.opened_bytes += drawn.sealed_bytes
            done.sources = tuple(dict.fromkeys((*done.sources, holder.name)))
            done.findings += tuple(_like_here(self._box, drawn.object_id, digest))

    def _is_destroyed(self, drawn: Drawn) -> bool:
        """Whether the study of an image was destroyed since the backup was made: on this box, its key is known to be."""
        with self._box.catalog.reading() as reading:
            return bool(study_keys.destroyed_among(reading, [drawn.key_id]))

    def _archive(self, holder: DestinationSettings) -> Archive:
        if holder.id not in self._archives:
            self._archives[holder.id] = archive_at(self._box, holder)
        return self._archives[holder.id]


def _lost(damage: Mapping[str, str], place: DestinationSettings, *, is_sure: bool) -> str:
    """The finding of an image that no archive has given; `is_sure` that none could."""
    if len(damage) > 1 and is_sure:
        return (
            f"an image is whole in no archive, neither where it should be nor in another: {', '.join(damage)}"
        )
    why = damage.get(place.name) or next(iter(damage.values()))
    return f"an image in the archive is not what was written ({why})"


def _like_here(box: Box, object_id: ObjectId, digest: str) -> Sequence[str]:
    path: Path = box.objects.path(object_id)
    try:
        with path.open("rb") as file:
            same = hashlib.file_digest(file, "sha256").hexdigest() == digest
    except OSError:
        return []  # it lives in the archive only
    return [] if same else ["an image on this box is not the one in the archive: verify the store"]
