"""After a restore: what was destroyed is not sent in clear before the archive that tells of it was read.

The box came back from one archive; another one, which was away when a study was destroyed, may still name it; and a third has its tombstone. Whichever is read
first, nobody calls back what a PACS was sent. So what came by the restore, or from an archive since (`appliance.backup.other_archives`),
goes to archives alone until every one within reach was looked through: by then what one of them knows as destroyed is not here any more. What
was received since goes everywhere at once.

Within reach is one that is not paused, and has answered within a day. One that stays away holds nothing back after the first day, when somebody is told of
it too: it may never come back. One that answers and is not through, since this disk is full or the ransomware guard holds, holds back for as
long as that lasts, or until a person pauses it. A manifest that does not open tells of nothing, and is not waited for.

Nothing is forgotten by that: what is held back stays owed, and is tried again as is one whose image is in an archive that is away. So chose to ask at
each sending over owing it later: what the backup owed already is held back too, and nothing has to be let go.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from appliance.catalog import Reading, destinations, erasure, settings
from appliance.model import InstanceId

REACH: Final = timedelta(days=1)
"""An archive that has not answered for so long is waited for no longer."""


def holds_back(reading: Reading, instance: InstanceId, now: datetime) -> bool:
    """Whether an image may not be sent in clear yet."""
    last = settings.get(reading, settings.RESTORED)
    if not isinstance(last, dict) or not _is_any_awaited(reading, last, now):
        return False
    restored_to = InstanceId(int(last.get("last", 0)))  # earlier software did not write it
    return not erasure.is_of_since(reading, instance, restored_to)


def _is_any_awaited(reading: Reading, last: Mapping[str, Any], now: datetime) -> bool:
    """Whether an archive within reach was not looked through, as `appliance.backup.other_archives` has kept it."""
    told = settings.get(reading, settings.OTHER_ARCHIVES)
    if not isinstance(told, dict) or told["of"] != last["at_utc"]:
        return False
    standings = {number: each for number, each in told["places"].items() if not each["is_through"]}
    return any(
        str(each.id) in standings and _is_within_reach(standings[str(each.id)], now)
        for each in (destinations.destinations(reading) if standings else ())
        if not each.paused
    )


def _is_within_reach(standing: Mapping[str, Any], now: datetime) -> bool:
    """Whether it has answered within a day, or that is owed for no longer; a clock that was set back since keeps nothing waiting."""
    moments = (standing["since_utc"], standing.get("answered_utc"))
    return any(abs(now - datetime.fromisoformat(each)) < REACH for each in moments if each)
