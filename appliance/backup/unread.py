"""Study manifests that did not open when the box was restored: the clinic is told how many, and each is tried again every day until it opens.

A manifest that a disk did not give back, or that was spoilt, may speak of images that nothing else does: they lie in the archive, and this
box does not know of them. So nobody is told that all came home while there is one. Once it opens, its images are brought first and recorded
then: an image that is recorded is expected on the disk, and a whole study of which nothing is there would be an attack to the ransomware guard.

What this box writes there for a study that it knows opens too, and ends it: what it did not know it has put aside before (``kept/``), which
is tried with it. What a later recovery key has sealed than the one that was typed never opens here; a restore with the newest does it.

Where the archive has moved since, what is not at its new place is no longer looked for: nothing there can be missing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from appliance.backup import homecoming
from appliance.backup.late_manifests import Trial, put_aside
from appliance.backup.rebuilding import sealed_for
from appliance.box import Box
from appliance.catalog import (
    Reading,
    Transaction,
    destinations,
    settings,
)
from appliance.errors import (
    OperatorNeeded,
    OutOfResources,
    Refused,
    Transient,
)
from appliance.model import DestinationSettings
from appliance.replication.destinations import Archive, build
from appliance.replication.place import place_of

log = logging.getLogger(__name__)

UNREAD: Final = settings.UNREAD_MANIFESTS
"""In `appliance.catalog.settings`: ``of`` is when the restore was, ``place`` the archive's row and ``where`` it was then, ``keys`` which did not
open, ``more`` how many beside those, and ``tried_utc`` when they were tried last."""

MOST_NOTED: Final = 1000
"""So many are tried again; of those beyond it only how many they are is known, until the box is restored anew."""

AGAIN: Final = timedelta(days=1)
ACTOR: Final = "jobs"


def note(tx: Transaction, place: DestinationSettings, keys: Iterable[str], of: str, now: datetime) -> None:
    """Keep what did not open in `place` when the box was restored, `of` that moment as `homecoming.LAST` has it; what was before is over."""
    found = list(keys)
    told = {
        "of": of,
        "place": place.id,
        "where": place_of(place.options),
        "keys": found[:MOST_NOTED],
        "more": len(found[MOST_NOTED:]),
    }
    settings.put(tx, UNREAD, {**told, "tried_utc": None} if found else None, now)


def try_again(box: Box, now: datetime, *, keep_going: Callable[[], bool]) -> int:
    """Read again what did not open, once a day; how many images this box knows by it. Cheap while there is nothing to read.

    Raises what the catalog and this disk raise; an archive that can't be reached is asked next time, as is one whose disk gives back too few.
    """
    with box.catalog.reading() as reading:
        told = _told(reading)
        known = {each.id: each for each in destinations.destinations(reading)}
    if told is None or not _is_time(told, now):
        return 0
    place = known.get(told["place"])
    if place is None or place.paused:
        return 0
    archive = build(place, box)
    assert isinstance(archive, Archive)
    has_moved = told["where"] != place_of(place.options)
    trial = Trial(box, archive, place, now, has_moved=has_moved, keep_going=keep_going)
    waiting = list(told["keys"])
    try:
        aside = put_aside(archive, waiting)
        while waiting and keep_going() and not trial.is_to_stop:
            trial.read(waiting[0], aside.get(sealed_for(waiting[0]), ()))
            waiting.pop(0)
    except (Transient, OperatorNeeded, Refused, OutOfResources) as error:
        log.info("manifests in %s that did not open are read another time: %s", place.name, error.message)
    if trial.opened or trial.unread or trial.resting or trial.dropped:
        is_done = trial.is_to_stop or not waiting
        with box.catalog.transaction() as tx:
            if (latest := _told(tx)) is not None:
                # Those that were not come to are the first of the next time.
                left = {
                    "keys": [*waiting, *trial.resting, *trial.unread],
                    "tried_utc": now.isoformat() if is_done else None,
                }
                more = 0 if has_moved else latest["more"]
                _keep(tx, {**latest, **left, "more": more}, now)
    if trial.images:
        log.info("images of manifests that open again: count=%d", trial.images)
    return trial.images


def of_place(reading: Reading, place: int) -> bool:
    """Whether anything that did not open in the last restore still waits in the archive with this row id."""
    told = _told(reading)
    return told is not None and told["place"] == place and bool(told["keys"] or told["more"])


def _told(reading: Reading) -> dict[str, Any] | None:
    """What is kept of the last restore; of an earlier one it came back with the index, and says nothing."""
    told, last = settings.get(reading, UNREAD), settings.get(reading, homecoming.LAST)
    is_of_it = isinstance(told, dict) and isinstance(last, dict) and told["of"] == last["at_utc"]
    return told if is_of_it else None


def _keep(tx: Transaction, told: dict[str, Any], now: datetime) -> None:
    settings.put(tx, UNREAD, told if told["keys"] or told["more"] else None, now)


def _is_time(told: Mapping[str, Any], now: datetime) -> bool:
    """Whether a day has passed; a clock that was set back since keeps nothing waiting."""
    tried = told["tried_utc"]
    return bool(told["keys"]) and (tried is None or abs(now - datetime.fromisoformat(tried)) >= AGAIN)
