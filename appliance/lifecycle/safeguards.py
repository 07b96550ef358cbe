"""Whether what once protected a bucket from the box's own key still does: asked once a week, and whenever a person tests the destination.

Somebody at the cloud account may switch versioning, the lock or a rule off long after the trial that found them, and nothing that the box
does would fail by it. So what was found is kept, of each bucket and each of its protections (`protection`), and what becomes of it:

========  ==========================================  ===================================
standing  meaning                                     said on the start page
========  ==========================================  ===================================
never     it has not been on                          nothing: the trial said so
held      it is on                                    nothing
doubted   it was on, and the last look was not told   nothing; it is asked the next day
untold    it was on, and two looks were not told      a warning
lost      it was on, and is missing                   a problem, until it is on again
========  ==========================================  ===================================

Not to be told once is no warning: a store that is being mended, or a key whose new rights have not come everywhere, answers so for an hour.
To be told no longer is one: whoever wants to switch something off unseen takes the right to look away first. What is lost and then
not told stays lost.

A bucket that can't be asked keeps what was found, and is asked the next day; that it can't be reached is said by other checks. One that is
paused is left alone. Another bucket or endpoint under the same name begins anew; another access key does not, which may remove what the
first could not. When it is due is judged by the moment of the last attempt: one that is still to come, by a clock that was ahead, counts as
long ago, so that a wrong clock costs one look more and nothing else.

What it costs: eight requests or so a week and bucket, and one small version of `protection.PROBE`, which is the only way to know whether
the key may remove what it has written. The life cycle that is printed for a bucket removes it as it does every version that was overwritten;
without one there are fifty-two a year of a hundred bytes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from appliance.box import Box
from appliance.catalog import Reading, destinations, settings
from appliance.errors import ApplianceError
from appliance.model import DestinationSettings
from appliance.replication.destinations import build
from appliance.replication.destinations.protection import Protection, State
from appliance.replication.destinations.s3 import S3Destination
from appliance.replication.place import place_of

log = logging.getLogger(__name__)

KEPT: Final = settings.PROTECTIONS
LOOKS_EVERY: Final = timedelta(days=7)
LOOKS_AGAIN: Final = timedelta(days=1)
"""After a bucket that could not be asked, or one that was not told for the first time."""
EVERY_SECONDS: Final = 3600
"""How often it is seen whether a look is due."""


class Standing(StrEnum):
    """What has become of one protection since it was first asked for."""

    NEVER = "never"
    HELD = "held"
    DOUBTED = "doubted"
    UNTOLD = "untold"
    LOST = "lost"


NEXT: Final[Mapping[Standing, Mapping[State, Standing]]] = {
    Standing.NEVER: {
        State.ON: Standing.HELD,
        State.MISSING: Standing.NEVER,
        State.NOT_TOLD: Standing.NEVER,
    },
    Standing.HELD: {
        State.ON: Standing.HELD,
        State.MISSING: Standing.LOST,
        State.NOT_TOLD: Standing.DOUBTED,
    },
    Standing.DOUBTED: {
        State.ON: Standing.HELD,
        State.MISSING: Standing.LOST,
        State.NOT_TOLD: Standing.UNTOLD,
    },
    Standing.UNTOLD: {
        State.ON: Standing.HELD,
        State.MISSING: Standing.LOST,
        State.NOT_TOLD: Standing.UNTOLD,
    },
    Standing.LOST: {
        State.ON: Standing.HELD,
        State.MISSING: Standing.LOST,
        State.NOT_TOLD: Standing.LOST,
    },
}
"""By what was so far, and what is found now."""


def look(box: Box, place: DestinationSettings, archive: object, now: datetime) -> list[Protection]:
    """Ask a bucket for its protections, keep what it says, and give it back; nothing of what is no bucket.

    Raises what the bucket raises; what was kept stays then.
    """
    if not isinstance(archive, S3Destination):
        return []
    found = archive.protections()
    _keep(box, place, now, found)
    return found


def look_where_due(box: Box, now: datetime, keep_going: Callable[[], bool] = lambda: True) -> None:
    """Ask each bucket that is in use and whose look is due, until `keep_going` says otherwise. Raises what the catalog raises."""
    with box.catalog.reading() as reading:
        kept = _kept(reading)
        places = [
            each for each in destinations.destinations(reading) if each.kind == "s3" and not each.paused
        ]
    for place in places:
        if not keep_going():
            return
        if not is_due(kept.get(str(place.id)), place, now):
            continue
        try:
            look(box, place, build(place, box), now)
        except ApplianceError as error:
            log.info("%s could not be asked for its protections: %s", place.name, error.message)
            _keep(box, place, now, None)


def is_due(told: Mapping[str, Any] | None, place: DestinationSettings, now: datetime) -> bool:
    """Whether a bucket is to be asked, by what is kept of it. Pure."""
    if told is None or told["place"] != place_of(place.options):
        return True
    wants_more = not told["is_answered"] or any(
        each["standing"] == Standing.DOUBTED for each in told["found"]
    )
    since = now - datetime.fromisoformat(told["tried_utc"])
    return not timedelta(0) <= since < (LOOKS_AGAIN if wants_more else LOOKS_EVERY)


def last(reading: Reading, place: DestinationSettings) -> tuple[datetime, list[Protection]] | None:
    """When a bucket last answered, and what it said; None if it never has where it is now."""
    told = _kept(reading).get(str(place.id))
    if told is None or told["place"] != place_of(place.options) or not told["at_utc"]:
        return None
    return datetime.fromisoformat(told["at_utc"]), [
        Protection(each["name"], State(each["state"]), each["words"]) for each in told["found"]
    ]


def after(before: Mapping[str, Any] | None, found: Protection) -> dict[str, str]:
    """What is kept of a protection that was kept as `before`, and is `found` so now. Pure.

    `lacks` is in words what is lost or untold: what is lost keeps its words while it is not told.
    """
    standing = NEXT[Standing(before["standing"]) if before else Standing.NEVER][found.state]
    kept = {"name": found.name, "state": str(found.state), "words": found.words, "standing": str(standing)}
    if standing in (Standing.LOST, Standing.UNTOLD):
        stays = before and standing is Standing.LOST and found.state is State.NOT_TOLD
        kept["lacks"] = str(before["lacks"]) if before and stays else found.words
    return kept


def _keep(box: Box, place: DestinationSettings, now: datetime, found: Sequence[Protection] | None) -> None:
    """Keep what was `found`, or with None that the bucket did not answer; nothing of one that was removed or has moved meanwhile."""
    where = place_of(place.options)
    with box.catalog.transaction() as tx:
        there = {str(each.id): place_of(each.options) for each in destinations.destinations(tx)}
        if there.get(str(place.id)) != where:
            return
        kept = _kept(tx)
        told = kept.get(str(place.id))
        if told is None or told["place"] != where:
            told = {"place": where, "at_utc": "", "found": []}
        told = {**told, "tried_utc": now.isoformat(), "is_answered": found is not None}
        if found is not None:
            before = {each["name"]: each for each in told["found"]}
            told |= {
                "at_utc": now.isoformat(),
                "found": [after(before.get(each.name), each) for each in found],
            }
            for name in _newly_lost(before.values(), told["found"]):
                log.warning("%s has lost a protection of its bucket: %s", place.name, name)
        others = {number: each for number, each in kept.items() if number in there}
        settings.put(tx, KEPT, others | {str(place.id): told}, now)


def _newly_lost(before: Iterable[Mapping[str, str]], found: Iterable[Mapping[str, str]]) -> list[str]:
    lost, was = (
        {each["name"] for each in told if each["standing"] == Standing.LOST} for told in (found, before)
    )
    return sorted(lost - was)


def _kept(reading: Reading) -> dict[str, Any]:
    found = settings.get(reading, KEPT)
    return found if isinstance(found, dict) else {}
