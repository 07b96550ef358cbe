"""After a restore the box is in service with an index and without images; here they come home, by and by.

An image that somebody wants is recalled at once (`replication.recall`); the others follow, those that were recorded last first, some at a
time, at the pace of the duties. How far it is stands in the catalog's settings. What lies in deep archive is asked for and passed over, as is
what is in an archive that is away, while there are others (`awaited`); once the last has been looked at, another pass brings what has come up
since, `AGAIN_AFTER` later: it takes hours to come, and looking costs two requests an image. Whatever else was looked at is expected here from then
on, and is the business of `lifecycle.scrub` if it goes: an archive may be away for months. What the only archive that has it does not give back is
missing, and holds up nothing either: `lifecycle.scrub` asks for it once a day. An archive that does not answer is left alone for the run.

The new disk may be smaller than what was kept. Two marks hold room for what is received meanwhile::

    free ──▶ the clinic's mark, at which an eviction would end (``tiers.enough_percent``), where images may leave this disk at all
               └──▶ below it an image stays away that nothing pins and archives have just shown whole (`lifecycle.staying`); others come
             the last mark: `KEPT_PERCENT` of the disk above its reserve
               └──▶ below it nothing comes home: the box is full of what must be here, and says that its disk is too small

The second ends a homecoming without ending it: what stays is neither lost nor away on purpose, comes when it is opened, and is looked at
again when there is room. Meanwhile nothing keeps images from leaving that may. Chose not to fill up to the reserve, since a box that
refuses the machines of a clinic is worse than one that fetches an old image over the line.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from appliance import settings as operator_settings
from appliance.backup.awaited import Awaited
from appliance.box import Box
from appliance.catalog import Reading, Transaction, destinations, evictions, instances, settings
from appliance.errors import (
    Corrupt,
    OperatorNeeded,
    OutOfResources,
    Refused,
    Resting,
    Transient,
    Unknown,
    Unreadable,
)
from appliance.lifecycle.tiers import Eviction
from appliance.model import DestinationSettings, InstanceId, KeyId, ObjectId
from appliance.replication import recall
from appliance.replication.silence import MOST_UNREAD, Silence
from appliance.replication.tombstone import RESTORED

log = logging.getLogger(__name__)

AGAIN_AFTER: Final = timedelta(minutes=30)
LAST: Final = RESTORED
"""What was restored, and how far its images are home, in `appliance.catalog.settings`: `last` is the last instance that came
by the restore, which tells those that came since from the others when the clock does not. ``below`` is the row under which the next is looked
at, ``awaited`` what was passed over (`awaited.Stretch`); ``passed`` whether all were looked at once; ``missing`` how many no archive had whole
so far, ``missing_rows`` which these are, up to `MOST_NOTED` of them, ``missing_late`` how many of the others came to be known after the restore; ``stopped`` whether there was no room, ``stayed`` how many stay away on purpose."""

UNREAD_AT_ONCE: Final = MOST_UNREAD
"""Once an archive has not given back so many images in a run, there is more wrong with its disk than a sector: the others wait for the next."""

MOST_NOTED: Final = 1000
"""The rows of so many images are kept that are missing; of those beyond it only how many they are."""

KEPT_PERCENT: Final = 5
"""So much of the disk, above its reserve, is left for what is received, whatever else is still to come home."""


@dataclass(frozen=True, slots=True)
class Homecoming:
    """How far the images are home: `done` of `instances`, counted by their rows; `missing` no archive had whole.

    `stayed` stay away on purpose; it `is_stopped` where this disk has no room for the rest. `has_passed` is whether each was looked at
    once: then what is still to come is `awaited`, because it lies deep, or in an archive that is away. From row `from_row` on
    every other image is expected here, or away on purpose.
    """

    at_utc: datetime
    archive: str
    done: int
    instances: int
    missing: int
    stayed: int = 0
    is_stopped: bool = False
    is_over: bool = False
    has_passed: bool = False
    from_row: int = 1
    awaited: Awaited = field(default_factory=Awaited)

    @property
    def home(self) -> int:
        """How many of `instances` have come: they are not missing, and don't stay away on purpose."""
        return max(0, self.done - self.stayed - self.missing)

    def expects(self, row: int) -> bool:
        """Whether the image of a row should be here, unless it is away on purpose."""
        return row >= self.from_row and row not in self.awaited


def under_way(reading: Reading) -> Homecoming | None:
    """How far the images are home; None when none was ever restored, or all that can come have come."""
    last = _last(reading)
    if not isinstance(last, dict) or last.get("home"):
        return None
    return _told(reading, last)


def has_passed(reading: Reading) -> bool:
    """Whether each image was looked at once since the last restore: what is not here by then, no archive that is known to have it gave."""
    last = _last(reading)
    return isinstance(last, dict) and bool(last.get("passed") or last.get("home"))


def of_late(reading: Reading, since: datetime) -> Homecoming | None:
    """As `under_way`, and one that has ended since the restore of after `since` and left images away on purpose."""
    last = _last(reading)
    if not isinstance(last, dict):
        return None
    told = _told(reading, last)
    is_worth_saying = told.stayed and told.at_utc >= since
    return told if is_worth_saying or not last.get("home") else None


def _last(reading: Reading) -> Any:
    """What is kept under `LAST`.

    Software from before ``awaited`` knew of what it had passed over only that it lies below ``again_below``, and how many above that were
    missing (``missing_then``): the rest is looked at once more, and counted then.
    """
    last = settings.get(reading, LAST)
    if not isinstance(last, dict) or "awaited" in last or not last.get("below"):
        return last
    again, passed = last.get("again_below"), last.get("passed") and not last.get("home")
    below = int(last["below"] if again is None else again)
    missing = last["missing"] if again is None else last.get("missing_then", 0)
    awaited = [[1, below - 1, below - 1]] if passed and below > 1 else []
    return {**last, "below": below, "awaited": awaited, "missing": missing, "again_below": None}


def _told(reading: Reading, last: dict[str, Any]) -> Homecoming:
    end = _end(reading, last)
    from_row = 1 if last.get("passed") or last.get("home") else int(last.get("below", end + 1))
    awaited = Awaited.of(last.get("awaited", ()))
    return Homecoming(
        at_utc=datetime.fromisoformat(last["at_utc"]),
        archive=str(last["from"]),
        done=max(0, end + 1 - from_row - awaited.count),
        instances=end,
        missing=int(last["missing"]),
        stayed=int(last.get("stayed", 0)),
        is_stopped=bool(last.get("stopped")) and not last.get("home"),
        is_over=bool(last.get("home")),
        has_passed=bool(last.get("passed")),
        from_row=from_row,
        awaited=awaited,
    )


def _end(reading: Reading, last: dict[str, Any]) -> int:
    """The last row that came by the restore."""
    return int(last["last"]) if "last" in last else int(instances.last_id(reading))


def is_expected(reading: Reading, object_id: ObjectId) -> bool:
    """Whether the file of an object should be on this disk: it did not leave it on purpose, and is not still to come home."""
    row = instances.row_of(reading, object_id)
    if row is None or evictions.is_away(reading, object_id):  # its study may have been destroyed just now
        return False
    home = under_way(reading)
    return home is None or home.expects(row)


def to_come(reading: Reading) -> int:
    """How many images are still to come home, whether or not each was looked at; 0 once it is over."""
    home = under_way(reading)
    return 0 if home is None else home.instances - home.done


def missing(reading: Reading) -> int:
    """How many images no archive had whole when the box was restored; 0 for one that never was."""
    last = _last(reading)
    return int(last["missing"]) if isinstance(last, dict) else 0


def found(tx: Transaction, object_id: ObjectId, now: datetime) -> None:
    """An image that should be here has come after all: it counts as missing no longer, where it may have been counted.

    Where more are missing than were noted, one that was not missing, went and was brought back lowers it too, and the ransomware guard
    forgives one less. To be called once the file of the object is here, by whoever brought it, except a homecoming.
    """
    last = _last(tx)
    row = instances.row_of(tx, object_id)
    if not isinstance(last, dict) or row is None:
        return
    noted, missing = last.get("missing_rows", ()), int(last["missing"])
    late = int(last.get("missing_late", 0))
    is_of_late = row not in noted and row > _end(tx, last)
    # Of what the homecoming has not come to, or has passed over, nothing was counted.
    may_be_counted = late > 0 if is_of_late else missing > len(noted) + late and _told(tx, last).expects(row)
    if row in noted or may_be_counted:
        rows = [each for each in noted if each != row]
        less = {"missing": missing - 1, "missing_rows": rows, "missing_late": late - is_of_late}
        settings.put(tx, LAST, {**last, **less}, now)


def miss(tx: Transaction, object_ids: Iterable[ObjectId], now: datetime) -> None:
    """Count images as missing that came to be known after the restore, in this transaction, and that their archive had not whole.

    To be called once for each: of those beyond `MOST_NOTED` nobody can tell later whether they were counted."""
    last = _last(tx)
    rows = [row for each in object_ids if (row := instances.row_of(tx, each)) is not None]
    if rows:
        noted = [*last.get("missing_rows", ()), *rows]
        counted = {
            "missing": int(last["missing"]) + len(rows),
            "missing_rows": noted[:MOST_NOTED],
            "missing_late": int(last.get("missing_late", 0)) + len(noted[MOST_NOTED:]),
        }
        settings.put(tx, LAST, {**last, **counted}, now)


def look_again(box: Box, now: datetime) -> None:
    """Count those as missing no longer that have come by another way: somebody has opened them, or their studies were destroyed."""
    with box.catalog.reading() as reading:
        last = _last(reading)
        noted = [InstanceId(row) for row in last.get("missing_rows", ())] if isinstance(last, dict) else []
        known = instances.objects_in(reading, noted)
    come = {row for row in noted if row not in known or recall.is_here(box, known[row])}
    if not come:
        return
    with box.catalog.transaction() as tx:
        last = _last(tx)
        rows = [row for row in last.get("missing_rows", ()) if row not in come]
        missing = int(last["missing"]) + len(rows) - len(last.get("missing_rows", ()))
        settings.put(tx, LAST, {**last, "missing": max(0, missing), "missing_rows": rows}, now)


def refuse_if_needed(reading: Reading, box: Box, place: DestinationSettings) -> None:
    """Keep an archive from being taken off the box while an image that is nowhere else has not come home from it, or has left
    for it.

    To be asked in the transaction that would remove it. Raises `Refused`.
    """
    recall.refuse_to_lose(reading, place)
    if place.takes != "ciphertext" or under_way(reading) is None:
        return
    for object_id, _, _ in instances.all_objects(reading):
        if recall.is_here(box, object_id):
            continue
        if {each.id for each in recall.holders(reading, object_id)} == {place.id}:
            raise Refused(
                "images that are in this archive and nowhere else have not come home yet",
                hint="connect it and wait until the dashboard says that all images are home, then remove it; pause one that is broken for good",
            )


def bringing_home(
    box: Box,
    now: datetime,
    *,
    keep_going: Callable[[], bool],
    most: int = 200,
    stay: Callable[[ObjectId], int] = lambda _: 0,
) -> int:
    """Recall the next images that are not here yet, after a restore; how many came. Cheap once all are.

    Goes on where it left off. Stops where reception needs the room, and at an archive that can't be reached, till next time; where there are
    several, only what is in that one waits. `stay` is asked
    where the clinic's own mark is reached: how many images stay away on purpose with the one that it is given, 0 if that one may not.
    """
    with box.catalog.reading() as reading:
        last = _last(reading)
        if not isinstance(last, dict) or last.get("home") or _is_too_soon(last, now):
            return 0
        end = _end(reading, last)
        begun = int(last.get("below", end + 1))
        awaited = Awaited.of(last.get("awaited", ()))
        spans = awaited.below(begun) if last.get("passed") else [(1, begun - 1)]
        rows = _next(reading, spans, most)
        marks = _marks(box, reading)
        known = destinations.destinations(reading)
        archives = [each for each in known if each.takes == "ciphertext" and not each.paused]
    came, stayed = 0, 0
    missed: list[InstanceId] = []
    looked: list[tuple[int, bool]] = []  # each with whether it was passed over
    is_short = bool(last.get("short"))
    is_full = False
    silence = Silence()
    try:
        for instance_id, object_id, key_id, sealed_bytes in rows:
            if not keep_going():
                break
            is_passed_over = False
            if not recall.is_here(box, object_id) and not _stays_away(box, object_id):
                try:
                    left = stay(object_id) if marks.is_past_choice(box, sealed_bytes) else 0
                    stayed += left
                    if not left and marks.is_past_last(box, sealed_bytes):
                        is_short = True
                        if not marks.may_leave:
                            is_full = True
                            break
                        raise _PassedOver
                    if not left:
                        sealed = object_id, key_id, sealed_bytes
                        _bring(box, sealed, silence, there_are_others=len(archives) > 1)
                        came += 1
                except _PassedOver:
                    is_passed_over = True
                except Unreadable as error:
                    missed.append(instance_id)
                    log.error(
                        "an image is not given back; look at that disk and its cable: %s", error.message
                    )
                except (Unknown, Corrupt) as error:
                    missed.append(instance_id)
                    log.error("an image cannot be brought back: %s", error.message)
            looked.append((instance_id, is_passed_over))
    except (Transient, OperatorNeeded) as error:
        log.warning("images are brought back later: %s", error.message)
    at_the_end = len(looked) == len(rows) < most
    awaited = awaited.after(spans, looked, is_end=at_the_end)
    below = looked[-1][0] if looked else begun
    done = {
        "below": end + 1 if at_the_end else below,
        "awaited": awaited.stretches,
        "home": at_the_end and not awaited.stretches,
        "short": is_short and not at_the_end,
        "passed": at_the_end or bool(last.get("passed")),
        "stopped": is_short if at_the_end or is_full else bool(last.get("stopped")) and not came,
        "stayed": int(last.get("stayed", 0)) + stayed,
        "looked_utc": now.isoformat() if at_the_end else None,
    }
    with box.catalog.transaction() as tx:
        # As it is now: a backup that was made meanwhile has noted there how often the box came back, and others what was `found`.
        last = _last(tx)
        # Of those that are not in the catalog any more, the studies were destroyed meanwhile.
        missed = sorted(instances.objects_in(tx, missed), reverse=True)
        counted = {
            "missing": int(last["missing"]) + len(missed),
            "missing_rows": [*last.get("missing_rows", ()), *missed][:MOST_NOTED],
        }
        settings.put(tx, LAST, {**last, **done, **counted}, now)
    return came


def _next(
    reading: Reading, spans: Sequence[tuple[int, int]], most: int
) -> list[tuple[InstanceId, ObjectId, KeyId, int]]:
    """The next instances of `spans`, the last recorded first."""
    found: list[tuple[InstanceId, ObjectId, KeyId, int]] = []
    for first, last in spans:
        if len(found) == most:
            break
        found += instances.objects_before(reading, InstanceId(last + 1), most - len(found), InstanceId(first))
    return found


class _PassedOver(Exception):
    """An image can't come now, and others can: another pass looks at it again."""


def _bring(
    box: Box, sealed: tuple[ObjectId, KeyId, int], silence: Silence, *, there_are_others: bool
) -> None:
    """Recall an image. Raises `_PassedOver` for one that lies deep, or whose archive is away while there are others; and as `recall`."""
    try:
        recall.recall(box, *sealed, silence)
    except (OutOfResources, Unreadable):
        raise
    except (Transient, OperatorNeeded) as error:
        if not (there_are_others or isinstance(error, Resting)):
            raise
        log.info("an image is brought back later: %s", error.message)
        raise _PassedOver from error


@dataclass(frozen=True, slots=True)
class _Marks:
    """How many bytes stay free: where the clinic lets images leave, and in any case."""

    may_leave: bool
    choice_bytes: int
    last_bytes: int

    def is_past_choice(self, box: Box, size_bytes: int) -> bool:
        return self.may_leave and box.guard.space().free_bytes - size_bytes < self.choice_bytes

    def is_past_last(self, box: Box, size_bytes: int) -> bool:
        return box.guard.space().free_bytes - size_bytes < self.last_bytes


def has_room(box: Box, reading: Reading, size_bytes: int) -> bool:
    """Whether something may come home now without reaching either mark."""
    marks = _marks(box, reading)
    return not (marks.is_past_choice(box, size_bytes) or marks.is_past_last(box, size_bytes))


def has_any_room(box: Box, reading: Reading, size_bytes: int) -> bool:
    """Whether something may come now that nothing else brings: images that may leave this disk make room for it then."""
    return not _marks(box, reading).is_past_last(box, size_bytes)


def _marks(box: Box, reading: Reading) -> _Marks:
    total = box.guard.space().total_bytes
    kept = box.guard.reserve_bytes + KEPT_PERCENT * total // 100
    chosen = int(operator_settings.get(reading, "tiers.enough_percent")) * total // 100
    may_leave = operator_settings.get(reading, "tiers.eviction") != Eviction.OFF
    return _Marks(may_leave, max(chosen, kept), kept)


def _is_too_soon(last: dict[str, Any], now: datetime) -> bool:
    """Whether a pass has just met its end; a clock that was set back since keeps nobody waiting."""
    looked = last.get("looked_utc")
    return looked is not None and timedelta(0) <= now - datetime.fromisoformat(looked) < AGAIN_AFTER


def _stays_away(box: Box, object_id: ObjectId) -> bool:
    """Whether an image had left the disk before the box was lost: it stays where it was, until somebody wants it."""
    with box.catalog.reading() as reading:
        return evictions.is_away(reading, object_id)
