"""Making the backups of an archive unreadable that remember a destroyed patient, once a newer one has proved itself.

A backup holds the catalog of its day: names, dates, the keys of images. Each lies under a key of its own
(`appliance.backup.snapshot`), so to destroy that one small document is to destroy the whole backup, however large it is and
whether or not it can be removed. But a clinic must never be without a backup, so first a newer one is there, and a restore drill
brings it and a sample of its images back. Only when that has passed do the older ones go.

A newer one that was made within the day is tried, whoever made it; otherwise one is made. Where the drill does not pass, it is repeated ever
later (`drill.rests`), of the same one for a day: it takes the uplink, and each backup room. Once a drill there has passed, whoever
started it, nothing rests any more.

Where no archive has an image at all, or every one of the sample lies in deep archive, none can be opened, today or ever, and an older backup
would show no more: there it is enough that the newer one is whole by itself (`drill.Certificate.is_whole`). The weekly drill still
says that it has not passed.

Older is whatever copied the catalog before the destruction, however long it was on its way and whatever it is called. What lies there is listed
while no backup of this box is under way (`making.alone`): one that begins later copies what is left by then. Of those listed only they stay
whose own index proves that they are later (`_since`).

A disk or a bucket may hold the backups of another box, laid there in the same hour as our first: they are that box's only way back, and stay
(`ownership.whose_backup` says what is taken for ours). What is left so is counted, for the certificate must not say that nothing was. An
attempt that was cut before its key was laid is left to the rotation: its pieces open with nothing, once the new one has cleared away what
was left of keys on their way (`making`), and another box may be at it.

Which are destroyed already, their keys say, and not the markers beside them (`backup.standing`): whoever may write there could lay one.

On a disk or a file server they are removed. In a bucket, where the box may remove nothing, their keys are written over; if the bucket keeps what
was written over, as it should, it is gone after `REMEMBERED` by the bucket's own rule. What the bucket says of that at this moment is
kept for the certificate, which must not tell a day on which nothing is left where no rule ends it.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from appliance import audit
from appliance.backup import drill, fetching, making, snapshot, standing
from appliance.backup.snapshot import Index
from appliance.box import Box
from appliance.catalog import Reading, audit_search, freezes
from appliance.errors import ApplianceError, OperatorNeeded, Refused, Transient, Unknown
from appliance.model import DestinationSettings
from appliance.replication.destinations import Archive
from appliance.replication.destinations.archive import Clearable, Remembering, Versions
from appliance.replication.ownership import Whose
from appliance.replication.tombstone import lives

log = logging.getLogger(__name__)

FRESH: Final = timedelta(days=1)
"""How old a backup may be that is tried out instead of a new one: where the drill does not pass, no more than one a day is made for it."""

REMEMBERED: Final = timedelta(days=35)
"""How long a bucket with versions keeps what was written over: long enough for a clinic to notice a thief, and no longer."""

ACTOR: Final = "jobs"
DESTROY: Final = "study:destroy"
"""What the audit says of a destruction, on whose word ever."""


class Left(StrEnum):
    """What an archive keeps of what was written over, as a certificate tells it."""

    NONE = "none"
    FOR_DAYS = "for-days"
    FOR_EVER = "for-ever"
    NOT_TOLD = "not-told"


def versions_left(kept: Versions | None) -> Left:
    """The word for it."""
    if kept is None:
        return Left.NOT_TOLD
    if not kept.are_kept:
        return Left.NONE
    return Left.FOR_EVER if kept.days is None else Left.FOR_DAYS


@dataclass(frozen=True, slots=True)
class Shredded:
    """What became of an archive's backups: the new one, and how many older ones cannot be read any more; and what the archive keeps of
    what was written over, None where it does not tell. `anothers` were left, which no key of this box opens, and `later`, which a later
    recovery key than ours may: those of another box, or of this one before it came back with an earlier paper."""

    snapshot: str
    older: int
    versions: Versions | None = None
    anothers: int = 0
    later: int = 0


def shred_older(
    box: Box,
    place: DestinationSettings,
    now: datetime,
    *,
    keep: timedelta,
    keep_going: Callable[[], bool],
    reached: Callable[[str], None],
) -> Shredded:
    """Try out a backup in the archive `place` that doesn't know what was destroyed, made now if need be, and make those of this box unreadable
    that may know it; may be repeated.

    Raises `OperatorNeeded` when that backup does not pass, and where a box that was restored in the place of this one has its backups, and
    what archive and disk raise; nothing is destroyed then. `Transient` while the ransomware guard holds, and while another backup is being
    made. While a drill that failed there rests, it raises what was wrong, and
    does nothing.
    """
    with box.catalog.reading() as reading:
        freezes.refuse(reading)
        _refuse_while_resting(place, drill.last(reading, box, place.name), now)
    archive = making.archive_at(box, place)
    with making.alone(box):
        there = _names(archive)
        if isinstance(archive, Clearable):
            archive.remove_parts([snapshot.key_key(each) for each in there])
    ours = fetching.indexes(archive, box.root, sorted(there))
    since = _since(box, ours)
    name = _to_try(since, now)
    if name is None:
        name = making.back_up(box, place, now, actor=ACTOR, keep=keep, keep_going=keep_going).name
        reached("backup made")
    _refuse_if_succeeded(box, place, ours)
    found = drill.drill(box, place, now, actor=ACTOR, keep_going=keep_going, name=name)
    if not found.is_whole:
        raise _not_passed(place)
    reached("drill passed")
    found_there = making.whose(box, archive, sorted(there - since.keys()))
    older = [each for each, of in found_there.items() if of in {Whose.OURS, Whose.NOBODYS}]
    for each in older:
        with box.catalog.reading() as reading:
            freezes.refuse(reading)
        _destroy(archive, each)
        reached("backup destroyed")
    left = Counter(found_there.values())
    if len(older) < len(found_there):
        log.warning(
            "%s: %d backups may be of another box, and stay", place.name, len(found_there) - len(older)
        )
    return Shredded(
        name,
        len(older),
        _remembered(archive, place),
        anothers=left[Whose.ANOTHERS],
        later=left[Whose.LATER],
    )


def _refuse_while_resting(place: DestinationSettings, told: Mapping[str, Any], now: datetime) -> None:
    """Raise what was wrong with the latest drill there, as `told`, while that is not repeated yet; nothing for one that is good enough here."""
    if drill.rests(told, now) and not told["tried"]["is_whole"]:
        if error := told["tried"]["error"]:
            raise Transient(error, hint="it is tried again later")
        raise _not_passed(place)


def _not_passed(place: DestinationSettings) -> OperatorNeeded:
    return OperatorNeeded(
        f"the newest backup in {place.name} did not pass its drill, so the older ones stay",
        hint="see: appliance backup drill",
    )


def _to_try(since: Mapping[str, Index], now: datetime) -> str | None:
    """The newest of the backups that don't know what was destroyed; None where one is to be made, since there is none of this day."""
    newest = next(iter(snapshot.in_order([*since], fetching.ages_of(since), now)), None)
    return newest if newest is not None and now - since[newest].made_utc < FRESH else None


def _remembered(archive: Archive, place: DestinationSettings) -> Versions | None:
    """What is left there of what was written over: asked when all is done, and no reason to say that it is not."""
    if not isinstance(archive, Remembering):
        return Versions(are_kept=False)
    try:
        return archive.versions()
    except ApplianceError as error:
        log.info("%s does not tell what it keeps of what was written over: %s", place.name, error.message)
        return None


def _names(archive: Archive) -> set[str]:
    """Every snapshot that has got as far as its key, finished or not, without those whose key is destroyed, as the key itself says."""
    keys = [each.key for each in archive.documents(snapshot.PREFIX)]
    parts = (each.removeprefix(snapshot.PREFIX).partition("/") for each in keys)
    found = {name for name, _, end in parts if end in {"key", "index"}}
    return found - standing.look(archive, keys).destroyed


def _since(box: Box, ours: Mapping[str, Index]) -> dict[str, Index]:
    """Those of `ours` whose copy of the catalog is certainly later than whatever was destroyed on this box:
    its witness is a row of this box's own audit, and not before the one that tells of the last destruction.

    In the transaction that destroys a study its row is written, and a witness is of the moment that was copied. No name says when that
    was, nor a moment: a clock may have been wrong, and an upload takes hours.
    """
    with box.catalog.reading() as reading:
        last = audit_search.find(reading, audit_search.Wanted(actions=(DESTROY,)), limit=1)
        return {name: index for name, index in ours.items() if last and _is_of(reading, index, last[0].id)}


def _refuse_if_succeeded(box: Box, place: DestinationSettings, ours: Mapping[str, Index]) -> None:
    """Keep a box that another was restored in the place of, and that was switched on again, from destroying that one's backups.

    To be asked once this box has made a backup there: whoever came back has then counted itself past what lay there (`backup.lives`).
    """
    with box.catalog.reading() as reading:
        life = lives(reading)
    if any(index.lives > life for index in ours.values()):
        raise OperatorNeeded(
            f"{place.name} has backups of a box that was restored in the place of this one, so none is destroyed",
            hint="switch this box off, and ask for the destruction on the other one",
        )


def _is_of(reading: Reading, index: Index, since: int) -> bool:
    """Whether a backup is of this box's audit when that had the row `since` already."""
    try:
        witness = audit.Witness.parse(index.audit)
    except Refused:
        return False
    return witness.count >= since and audit.holds(reading, witness)


def _destroy(archive: Archive, name: str) -> None:
    """The key first, in every case: what is cut after it has left nothing that opens."""
    if isinstance(archive, Clearable):
        archive.remove(snapshot.key_key(name))
        archive.remove(snapshot.index_key(name))
        for each in [each.key for each in archive.documents(f"{snapshot.PREFIX}{name}/")]:
            archive.remove(each)
        return
    try:
        if archive.document(snapshot.key_key(name)) != snapshot.DESTROYED:
            archive.put_document(snapshot.key_key(name), snapshot.DESTROYED)
    except Unknown:
        pass  # nothing opens it
    archive.put_document(snapshot.destroyed_key(name), snapshot.DESTROYED)
