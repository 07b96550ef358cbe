"""What was received before a study was destroyed and is settled after it, or never: its certificate waits.

A log holds what was received lately (`appliance.ingest.scouring`); an image that was acknowledged, and that its study's destruction came
before, may be set aside when it is settled (`appliance.ingest.set_aside`). Both have the key that was destroyed, and a name.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from appliance.box import Box
from appliance.catalog import settings, tombstones
from appliance.catalog.tombstones import DestroyedStudy
from appliance.errors import Unreadable
from appliance.ingest import set_aside
from appliance.ingest.scouring import LOGS, scour_idle
from appliance.model import Uid

log = logging.getLogger(__name__)

ASIDE: Final = "destruction.set-aside"
"""Of which destroyed studies (row ids) an image is set aside under a key of theirs: they are not done on this box."""


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
