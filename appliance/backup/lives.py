"""How often a box has come back from an archive: what tells the newest backup, where no clock can (`appliance.backup.snapshot`).

A box that is restored counts one more than any backup in the archive that it came from. What it could not see then may have counted
as far: a backup that could not be read that night, or those in another archive, from which the box had come back more often. So
before its first backup in each archive, a box that was restored looks at the backups that lie there, all of them of lives before this
one, and counts past them.

A backup that says nothing to this box, because it was made under a later recovery key than the one that was typed, or is spoilt, may have counted
any number of lives, and whoever finds that key opens both: past such a one it counts by `UNSEEN`, and by more the later it is, since that one may
have counted past another so.

Once for each archive and life, and only a box that was restored: the box before it, switched on once more by mistake, has made its
first backups long ago and is not to count past the one in its place.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from appliance.backup import standing
from appliance.backup.fetching import ages
from appliance.box import Box
from appliance.catalog import settings
from appliance.model import DestinationSettings
from appliance.replication.destinations import Archive
from appliance.replication.tombstone import RESTORED

UNSEEN: Final = 1000
"""More often than any box comes back in a day."""

_FIRST: Final = datetime(2026, 11, 1, tzinfo=UTC)
"""Before this there was none that counted so."""


def count_past_others(box: Box, archive: Archive, place: DestinationSettings, now: datetime) -> None:
    """To be called before a backup is made in the archive at `place`. Raises what the archive raises."""
    with box.catalog.reading() as conn:
        told = settings.get(conn, RESTORED)
    if not isinstance(told, dict) or place.id in told.get("counted_past", ()):
        return
    names = standing.look(archive).names
    seen = ages(archive, box.root, names)
    others = max((each.lives for each in seen.values()), default=-1)
    unseen = UNSEEN * max(1, (now - _FIRST).days) if len(seen) < len(names) else 0
    with box.catalog.transaction() as tx:
        told = settings.get(tx, RESTORED)
        counted = {*told.get("counted_past", ()), place.id}
        count = max(int(told.get("lives", 0)), others + 1) + unseen
        settings.put(tx, RESTORED, {**told, "lives": count, "counted_past": sorted(counted)}, now)
