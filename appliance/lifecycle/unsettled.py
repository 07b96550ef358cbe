"""What was received before a study was destroyed and is settled after it, or never: its certificate waits.

A log holds what was received lately (`appliance.ingest.scouring`); an image that was acknowledged, and that its study's destruction came
before, may be set aside when it is settled (`appliance.ingest.set_aside`). Both have the key that was destroyed, and a name.

While the disk does not give back the record of an image that is set aside, that image may be of any study, and none is destroyed. A
person has to see to the disk, so the requests that wait for it are noted (`WAITING`), and say so wherever they are shown.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from appliance.box import Box
from appliance.catalog import Reading, settings, tombstones
from appliance.catalog.tombstones import DestroyedStudy
from appliance.errors import ApplianceError, Unreadable
from appliance.ingest import set_aside
from appliance.ingest.scouring import LOGS, scour_idle
from appliance.model import Uid

log = logging.getLogger(__name__)

ASIDE: Final = "destruction.set-aside"
"""Of which destroyed studies (row ids) an image is set aside under a key of theirs: they are not done on this box."""


WAITING: Final = "destruction.waiting"
"""Which approved requests (row ids) wait because a record of what is set aside can't be read."""


def is_waiting(reading: Reading, request: int) -> bool:
    """Whether an approved request waits because of whom an image that is set aside is can't be read; as of the last run."""
    return request in settings.get(reading, WAITING, [])


def note_waiting(box: Box, requests: Sequence[int], now: datetime) -> bool:
    """Whether `requests` must wait for a record that can't be read; it is noted.

    Asked once for all of them, and in no transaction: the disk may try for a minute before it gives up.
    """
    waits = False
    try:
        for _ in set_aside.legible(box) if requests else ():
            pass
    except Unreadable as error:
        log.warning(
            "no study is destroyed: of whom an image that is set aside is can't be read: %s", error.message
        )
        waits = True
    except ApplianceError as error:  # each study is asked about it once more
        log.warning("what is set aside can't be read: %s", error.message)
    found = sorted(requests) if waits else []
    with box.catalog.reading() as conn:
        noted = settings.get(conn, WAITING, [])
    if found != noted:
        with box.catalog.transaction() as tx:
            settings.put(tx, WAITING, found, now)
    return waits


def scour_logs(box: Box, now: datetime) -> None:
    """Write over the logs that nobody has open, and note it once no log holds anything of a destroyed study."""
    with box.catalog.reading() as conn:
        last, done = tombstones.last_destroyed(conn), int(settings.get(conn, LOGS, 0))
    if last > done and scour_idle(box, last, now):
        with box.catalog.transaction() as tx:
            settings.put(tx, LOGS, last, now)


def note_set_aside(box: Box, now: datetime) -> None:
    """Note of which destroyed studies an image is set aside with their key: each may be, while a record of one can't be read."""
    with box.catalog.reading() as conn:
        papers = tombstones.certificates(conn, unfinished=True)
        studies = [each for paper in papers for each in tombstones.studies_of(conn, paper.id)]
        noted = settings.get(conn, ASIDE, [])
    try:
        held = set_aside.under_destroyed_keys(box) if studies else set()
    except Unreadable as error:
        log.warning("certificates wait: %s", error.message)
        found = sorted(each.id for each in studies)
    else:
        found = _destroyed_among(box, held, studies, now) if held else []
    if found != noted:
        with box.catalog.transaction() as tx:
            settings.put(tx, ASIDE, found, now)


def _destroyed_among(box: Box, held: set[Uid], studies: Sequence[DestroyedStudy], now: datetime) -> list[int]:
    """The row ids of those of `studies` that had one of the UIDs in `held`."""
    with box.catalog.transaction() as tx:
        digests = {tombstones.digest(tx, each, now) for each in held}
    return sorted(each.id for each in studies if each.digest in digests)
