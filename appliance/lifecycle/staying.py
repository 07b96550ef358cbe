"""Images that stay in the archives after a restore, because the new disk has no room for what nothing keeps on it.

They are what an eviction would have made of them, without their coming and leaving: each is opened from end to end in every archive that
counts, as many as the clinic asks for show the very same bytes, and only then it is written down as away. What pins a study, holds it here
(`lifecycle.tiers`): a study of late, one that is held, one that too few archives have whole.

It is written down as one that is leaving, and settled by a look at the disk afterwards: somebody who opens an image may fetch it at this
moment, and what is here counts as here. Chose to read it once more over trusting the receipt, as in an eviction, because after this it is
the only copy that a clinic can reach at once.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from datetime import datetime

from appliance.box import Box
from appliance.catalog import Reading, evictions, freezes, instances
from appliance.catalog.evictions import Local, Proven
from appliance.errors import ApplianceError, Corrupt, Unknown
from appliance.ingest.duplicates import DataSetDigest
from appliance.lifecycle import retention
from appliance.lifecycle.eviction import (
    ACTOR,
    Stays,
    alone,
    archives_at,
    choices,
    is_carried,
    known_places,
    record_eviction,
    refuse_changed,
    refuse_pinned,
    settle,
)
from appliance.lifecycle.tiers import Choices, Eviction
from appliance.model import DestinationId, DestinationSettings, ObjectId
from appliance.replication import recall
from appliance.replication.destinations import Archive
from appliance.replication.silence import Silence

log = logging.getLogger(__name__)


class Staying:
    """Says for one run of a homecoming which images stay away; what it has found of a study it doesn't look for again."""

    def __init__(
        self,
        box: Box,
        clock: Callable[[], datetime],
        standing: Choices | None = None,
        keep_going: Callable[[], bool] = lambda: True,
    ) -> None:
        self._box = box
        self._clock = clock
        self._standing = standing
        self._keep_going = keep_going
        self._must_come: set[int] = set()
        self._silence = Silence()

    def __call__(self, object_id: ObjectId) -> int:
        """Let the images that are not here of an object's study stay away, if they may; how many do now.

        An archive that can't show an image at this moment does not count, and one that does not answer is left alone for the run. Raises `Taken` while another process moves images.
        """
        with self._box.catalog.reading() as reading:
            standing = self._standing or choices(reading)
            study = instances.study_row_of(reading, object_id)
        if study is None or study in self._must_come or standing.eviction is Eviction.OFF:
            return 0
        try:
            with alone(self._box):
                stayed = _stay(self._box, study, standing, self._clock, self._keep_going, self._silence)
        except Stays as why:
            log.info("study %d comes home: %s", study, why)
            self._must_come.add(study)
            return 0
        settle(self._box, self._clock())
        return stayed


def staying(box: Box, now: datetime, keep_going: Callable[[], bool]) -> Staying:
    """For a run of the duties that begins `now` (`appliance.backup.schedule`)."""
    return Staying(box, retention.running_from(now), keep_going=keep_going)


def _stay(
    box: Box,
    study: int,
    standing: Choices,
    clock: Callable[[], datetime],
    keep_going: Callable[[], bool],
    silence: Silence,
) -> int:
    with box.catalog.reading() as reading:
        _refuse(reading, study, standing, clock())
        images = evictions.local_images(reading, study)
        numbers = evictions.places_of(reading, study, len(images))
        known = known_places(reading)
    archives = archives_at(box, [known[each] for each in numbers if each in known])
    absent = [each for each in images if not recall.is_here(box, each.object_id)]
    proven: list[Proven] = []
    for each in absent:
        if not keep_going():
            raise Stays("the run was asked to end")
        heard = [(known[number], archive) for number, archive in archives.items()]
        shown = _shown_by(box, heard, each, silence)
        if not is_carried(shown.places, known, standing):
            raise Stays("no archive that counts has just shown every image whole")
        proven.append(shown)
    with box.catalog.transaction() as tx:
        now = clock()
        _refuse(tx, study, standing, now)
        asked = {number: place for number, place in known.items() if number in archives}
        refuse_changed(tx, study, images, proven, asked, standing)
        evictions.leave(tx, study, proven, now)
        size = sum(each.sealed_bytes for each in absent)
        record_eviction(tx, box, study, len(proven), size, ACTOR, now)
    return len(proven)


def _refuse(reading: Reading, study: int, standing: Choices, now: datetime) -> None:
    """Raise `Stays` where something keeps the images of a study on this box. A homecoming itself does not."""
    if retention.clock_of(reading, now).doubt is not None:
        raise Stays("the clock of the box is doubted")
    if freezes.in_force(reading) is not None:
        raise Stays("the ransomware guard holds")
    refuse_pinned(reading, study, standing, now)


def _shown_by(
    box: Box, archives: Sequence[tuple[DestinationSettings, Archive]], image: Local, silence: Silence
) -> Proven:
    """What the archives show of an image at this moment: those count that have the same bytes, whole."""
    found: list[tuple[DestinationId, str, str]] = []
    for place, archive in archives:
        if silence.of(place) is not None:
            continue
        sealed, dataset = hashlib.sha256(), DataSetDigest()
        try:
            recall.verify(
                archive,
                image.object_id,
                box.study_keys.key(image.key_id),
                image.sealed_bytes,
                saw=sealed.update,
                opened=dataset.update,
            )
        except (Corrupt, Unknown) as error:
            log.error("an archive does not have an object whole that it has a receipt for: %s", error.message)
            continue
        except ApplianceError as error:
            log.info("an archive can't show an image now: %s", silence.heard(place, error).message)
            continue
        found.append((place.id, dataset.hexdigest(), sealed.hexdigest()))
    dataset_sha256, sealed_sha256 = found[0][1:] if found else ("", "")
    places = tuple(number for number, _, digest in found if digest == sealed_sha256)
    return Proven(image.instance, image.object_id, dataset_sha256, sealed_sha256, places)
