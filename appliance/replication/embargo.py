"""After a restore: what was destroyed is not sent in clear before the archive that tells of it was read.

The box came back from one archive; another one, which was away when a study was destroyed, may still name it; and a third has its tombstone. Whichever is read
first, nobody calls back what a PACS was sent. So what came by the restore, or from an archive since (`appliance.backup.other_archives`),
goes to archives alone until every one that the box knew was looked through: by then what one of them knows as destroyed is not here any more.
What was received since goes everywhere at once.

For a day, no longer: an archive that stays away may never come back, and one that can't be read to its end (this disk is full, the ransomware guard
holds) would keep a PACS waiting for as long as that lasts. Somebody is told of it by then. One that is paused is not waited for.

Nothing is forgotten by that: what is held back stays owed, and is tried again. So chose to ask at each sending over owing it later: what the
backup owed already is held back too, and nothing has to be let go.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from appliance.catalog import Reading, destinations, erasure, settings
from appliance.model import InstanceId

LONGEST: Final = timedelta(days=1)

REASON: Final = "an archive that may tell of its destruction was not looked through yet"


def is_on(reading: Reading, now: datetime) -> bool:
    """Whether an archive is waited for, as `appliance.backup.other_archives` has kept it; a clock that was set back since keeps nothing waiting."""
    last, told = settings.get(reading, settings.RESTORED), settings.get(reading, settings.OTHER_ARCHIVES)
    if not isinstance(last, dict) or not isinstance(told, dict) or told["of"] != last["at_utc"]:
        return False
    awaited = {number for number, each in told["places"].items() if _is_awaited(each, now)}
    return bool(awaited) and any(
        str(each.id) in awaited and not each.paused for each in destinations.destinations(reading)
    )


def _is_awaited(standing: Mapping[str, Any], now: datetime) -> bool:
    is_early = abs(now - datetime.fromisoformat(standing["since_utc"])) < LONGEST
    return bool(is_early and standing["was_known"] and not standing["is_through"])


def is_of_before(reading: Reading, instance: InstanceId) -> bool:
    """Whether an image came by the last restore, or from an archive since."""
    last = settings.get(reading, settings.RESTORED)
    restored_to = InstanceId(int(last.get("last", 0))) if isinstance(last, dict) else InstanceId(0)
    return not erasure.is_of_since(reading, instance, restored_to)
