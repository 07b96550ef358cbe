"""What is known of the images that are in buckets and not here: when all were last asked for, and which a bucket has not whole any more.

A date of its own beside that of reading everything again: a clinic whose line is down for a week reads what is here all the same, and what
is only in a bucket is owed. Written at the end of each slice and of each pass of `appliance.lifecycle.scrub`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from appliance.catalog import Reading, Transaction, settings
from appliance.lifecycle.buckets import Buckets

FAR: Final = "scrub.far"
"""When a pass last asked for everything that is not here (``asked_utc``), else since when it is owed (``since_utc``) and how much was not."""

LOST: Final = "scrub.far-lost"
"""By row id of a bucket, the objects that it has not whole any more, nor anybody else, each with when the pass that asked began."""

MOST: Final = 1000


def lost(reading: Reading) -> dict[str, dict[str, str]]:
    """What is kept under `LOST`."""
    told = settings.get(reading, LOST)
    return told if isinstance(told, dict) else {}


def note(tx: Transaction, buckets: Buckets, begun_utc: str, now: datetime) -> None:
    """Write down what a slice of the pass that began at `begun_utc` has found lost, and forget what a bucket has again."""
    before = lost(tx)
    known = {
        place: {each: at for each, at in objects.items() if (int(place), each) not in buckets.whole}
        for place, objects in before.items()
    }
    for number, objects in buckets.lost.items():
        known.setdefault(str(number), {}).update(dict.fromkeys(sorted(objects), begun_utc))
    known = {place: dict(list(objects.items())[-MOST:]) for place, objects in known.items() if objects}
    if known != before:
        settings.put(tx, LOST, known, now)


def finish(tx: Transaction, begun_utc: str, unasked: int, now: datetime) -> None:
    """Write down the end of a pass in which so many could not be asked for; what it has not met again is lost no longer: it was destroyed,
    or has come home."""
    if unasked:
        told = settings.get(tx, FAR)
        before = told if isinstance(told, dict) else {}
        since = before.get("asked_utc") or before.get("since_utc") or begun_utc
        settings.put(tx, FAR, {"since_utc": since, "unasked": unasked}, now)
    else:
        settings.put(tx, FAR, {"asked_utc": now.isoformat()}, now)
    before = lost(tx)
    met = {
        place: {each: at for each, at in objects.items() if at == begun_utc}
        for place, objects in before.items()
    }
    met = {place: objects for place, objects in met.items() if objects}
    if met != before:
        settings.put(tx, LOST, met, now)
