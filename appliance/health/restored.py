"""What a restore has left to be done, as those who do it have kept it: which archives are not read yet, or give back too little."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from appliance.health.attempts import moment
from appliance.health.facts import Queue
from appliance.health.kept import figure, part, words

NOT_LOOKED_THROUGH = timedelta(days=1)
"""How long after a restore another archive may still be looked through before anybody is told."""


DEEP_TAKES = timedelta(days=5)
"""What lies deep has come by then, two days at most after it was asked for; else the cloud refuses to bring it up."""


def kept_back(queues: Sequence[Queue], kept: object, restored: object) -> Iterator[tuple[str, int]]:
    """Which archives do not give back images that nobody else is known to have, as `appliance.backup.asking` has kept it since the last
    restore, and how many."""
    if words(kept, "of") != words(restored, "at_utc"):
        return
    for queue in queues:
        rows = part(part(part(kept, "unread"), str(queue.id)), "rows")
        if isinstance(rows, list) and rows:
            yield queue.destination, len(rows)


def unread_manifests(queues: Sequence[Queue], kept: object, restored: object) -> Iterator[tuple[str, int]]:
    """In which archive study manifests did not open for the last restore, as `appliance.backup.unread` has kept it, and how many."""
    if words(kept, "of") != words(restored, "at_utc"):
        return
    keys = part(kept, "keys")
    for queue in queues:
        if str(queue.id) == str(part(kept, "place")) and isinstance(keys, list):
            yield queue.destination, len(keys) + figure(kept, "more")


def unread_elsewhere(queues: Sequence[Queue], kept: object, restored: object) -> Iterator[tuple[str, int]]:
    """The same of the archives that the box was not restored from, as `appliance.backup.other_archives` has kept it."""
    if words(kept, "of") != words(restored, "at_utc"):
        return
    for queue in queues:
        standing = part(part(kept, "places"), str(queue.id))
        keys = part(standing, "keys")
        count = (len(keys) if isinstance(keys, list) else 0) + figure(standing, "more")
        if count:
            yield queue.destination, count


def not_looked_through(
    queues: Sequence[Queue], kept: object, restored: object, now: datetime
) -> Iterator[str]:
    """Which archives were not read to their end since the last restore: a day after that was owed."""
    if words(kept, "of") != words(restored, "at_utc"):
        return
    for queue in queues:
        standing = part(part(kept, "places"), str(queue.id))
        since = moment(words(standing, "since_utc"))
        if since is None or words(standing, "where") != queue.place:
            continue
        if part(standing, "is_through") and not (part(standing, "deep") and _is_stuck(queue, since, now)):
            continue
        if abs(now - since) >= NOT_LOOKED_THROUGH:
            yield queue.destination


def _is_stuck(queue: Queue, since: datetime, now: datetime) -> bool:
    """Whether images that lie deep don't come by themselves: nobody asks a paused archive, and no cloud takes so long."""
    return queue.is_paused or abs(now - since) >= DEEP_TAKES


def lying_deep(
    queues: Sequence[Queue], kept: object, restored: object, now: datetime
) -> Iterator[tuple[str, int]]:
    """In which of those archives study manifests name images that are not known here and have to be brought up from the deep first, and how many."""
    if words(kept, "of") != words(restored, "at_utc"):
        return
    for queue in queues:
        standing = part(part(kept, "places"), str(queue.id))
        deep, since = part(standing, "deep"), moment(words(standing, "since_utc"))
        if since is None or words(standing, "where") != queue.place or _is_stuck(queue, since, now):
            continue
        if part(standing, "is_through") and isinstance(deep, list) and deep:
            yield queue.destination, len(deep)


def too_small_for(kept: object) -> str:
    """The archive that a homecoming (`appliance.backup.homecoming`) has left images in, because this disk has no room for them."""
    is_stopped = isinstance(kept, Mapping) and kept.get("stopped") and not kept.get("home")
    return words(kept, "from") if is_stopped else ""
