"""Counting the sealed objects: the ransomware guard's own eyes, every few minutes, whatever else is read.

A sample of what the catalog says is here is looked at: whether it is there, whether its length and its first byte are those
that it was given; and some of it is opened. A box with up to `SAMPLE` images on its disk is looked at whole. The sample is drawn at
random, in short runs all over the catalog, because whoever encrypts a disk goes by folders or by dates, and both must be met.
Each run begins at an image that is expected here, all of them alike: begun anywhere in the catalog of a box whose older images
were evicted, nearly all runs would be the same first ones after the gap.

What is not expected to be here is not counted: after a restore, an image that has not come home yet; one that was evicted. A row is asked for again
before its object is called missing, because a study may be destroyed between the two looks. One that the disk does not give back, at its
beginning or further on, is a bad sector, and no more counted than it is when everything is read again: a disk that dies is no attack.

Chose one count over two in a row: whoever deletes is quick, and a disk that is away takes the catalog with it.
"""

from __future__ import annotations

import logging
import os
import random
from bisect import bisect_right
from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import accumulate
from typing import Final

from appliance.backup import homecoming
from appliance.box import Box
from appliance.catalog import Reading, instances, totals
from appliance.catalog.freezes import Freeze
from appliance.errors import ApplianceError, Corrupt, Unknown
from appliance.lifecycle import freezing
from appliance.lifecycle.acting import Act
from appliance.lifecycle.mass_loss import Count
from appliance.model import InstanceId, KeyId, ObjectId
from appliance.replication import recall
from appliance.store import envelope

log = logging.getLogger(__name__)

EVERY_SECONDS: Final = 300
SAMPLE: Final = 2000
OPENED: Final = 40
RUN: Final = 50
"""How many rows that follow one another are taken from each place of the catalog."""

ACTOR: Final = "jobs"

Sample = list[tuple[InstanceId, ObjectId, KeyId, int]]


def take(
    box: Box,
    now: datetime,
    *,
    keep_going: Callable[[], bool] = lambda: True,
    dice: random.Random | None = None,
) -> Freeze | None:
    """Count once, and judge; the freeze that this began, if it began one. Raises what the catalog raises."""
    dice = dice or random.SystemRandom()
    with box.catalog.reading() as reading:
        sample = drawn(reading, dice)
        kept = totals.totals(reading).instances
        expected = max(len(sample), kept - homecoming.to_come(reading))
        known = homecoming.missing(reading)
    count = _count(box, sample, dice, keep_going)
    if count is None:
        return None
    with box.catalog.transaction() as tx:
        begun = freezing.counted(
            tx, Act(ACTOR, now, box.audit_key), count, kept=kept, expected=expected, known=known
        )
    if begun is not None:
        log.error("the ransomware guard holds: nothing is overwritten or removed until a person releases it")
    return begun


def drawn(reading: Reading, dice: random.Random) -> Sample:
    """Objects that are expected here: all of them on a small box, otherwise runs of rows from all over the catalog."""
    home, last = homecoming.under_way(reading), instances.last_id(reading)
    spans = [(1, last)] if home is None else home.awaited.others(home.from_row, last)
    rows = _expected(reading, spans, SAMPLE + 1)
    if len(rows) <= SAMPLE:
        return rows
    runs = [
        _expected(reading, [(start, spans[at][1]), *spans[at + 1 :]], RUN)
        for start, at in _starts(reading, dice, spans)
    ]
    return list({row[0]: row for run in runs for row in run}.values())


def _expected(reading: Reading, spans: Sequence[tuple[int, int]], most: int) -> Sample:
    """The first objects of these spans of rows that did not leave the disk on purpose."""
    found: Sample = []
    for first, last in spans:
        if len(found) == most:
            break
        found += instances.objects_expected_after(
            reading, InstanceId(first - 1), most - len(found), InstanceId(last)
        )
    return found


def _starts(reading: Reading, dice: random.Random, spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Where the runs begin: rows of `spans`, each with the number of its span. More than `SAMPLE` are expected in them, so some draws always meet one."""
    ends = list(accumulate(last + 1 - first for first, last in spans))
    found: list[tuple[int, int]] = []
    while len(found) < SAMPLE // RUN:
        thrown: list[tuple[int, int]] = []
        for _ in range(SAMPLE):
            drawn = dice.randrange(ends[-1])
            at = bisect_right(ends, drawn)
            thrown.append((spans[at][1] + 1 - (ends[at] - drawn), at))
        expected = instances.rows_expected_among(reading, [InstanceId(row) for row, _ in thrown])
        found += [each for each in thrown if each[0] in expected]
    return sorted(found[: SAMPLE // RUN])


def _count(box: Box, sample: Sample, dice: random.Random, keep_going: Callable[[], bool]) -> Count | None:
    """Look at a sample; None when there is no time for it."""
    opened = {row[0] for row in dice.sample(sample, min(OPENED, len(sample)))}
    missing: list[ObjectId] = []
    altered: list[ObjectId] = []
    unreadable: list[ObjectId] = []
    for number, object_id, key_id, sealed_bytes in sample:
        if not keep_going():
            return None
        try:
            if not _looks_whole(box, object_id, sealed_bytes):
                altered.append(object_id)
            elif number in opened and not _opens(box, object_id, key_id):
                unreadable.append(object_id)
        except FileNotFoundError:
            missing.append(object_id)
        except OSError:
            continue  # the disk does not give it back, or it can't be told now
    gone = _gone(box, [*missing, *altered, *unreadable])
    gone.update(each for each in missing if recall.is_here(box, each))  # it was away just then, and has come
    return Count(
        looked=len(sample),
        missing=len(set(missing) - gone),
        altered=len(set(altered) - gone),
        opened=len(opened),
        unreadable=len(set(unreadable) - gone),
    )


def _looks_whole(box: Box, object_id: ObjectId, sealed_bytes: int) -> bool:
    """Whether length and first byte are those of a sealed object. Raises OSError."""
    with box.objects.path(object_id).open("rb", buffering=0) as file:
        is_long = os.fstat(file.fileno()).st_size == sealed_bytes
        return is_long and os.pread(file.fileno(), 1, 0) == envelope.FIRST_BYTE


def _opens(box: Box, object_id: ObjectId, key_id: KeyId) -> bool:
    try:
        with box.open_object(object_id, key_id) as reader:
            reader.read(1)
    except (Corrupt, Unknown):
        return False
    except ApplianceError:
        return True  # it can't be told now
    return True


def _gone(box: Box, object_ids: Sequence[ObjectId]) -> set[ObjectId]:
    """Those that are not expected here any more: their study was destroyed meanwhile, or they were evicted."""
    if not object_ids:
        return set()
    with box.catalog.reading() as reading:
        return set(object_ids) - instances.expected_among(reading, object_ids)
