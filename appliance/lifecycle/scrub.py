"""Everything that is kept is read again within thirty days, because a disk that rots says nothing until somebody asks.

In slices of a few objects, all day, with rests between two pieces while the box has no time to spare, so that reception never feels it;
a pass goes on where it was after a restart:

- each sealed object is opened from its first byte to its last. One that is not what was written is fetched from an archive
  that has it whole, and takes the damaged one's place by one rename; where none has, it stays (no part of it that is damaged
  can be shown or sent, since it does not open) and is reported;
- one that the disk does not give back (a sector that dies) is damaged too, and is mended in the same way. Where several in a row are not
  given back, it is the disk or its cable rather than a sector: none of them is touched, reading stops there, health says so, and the
  next slice tries again; only what fails at the same place a second time is mended, so that a bad patch holds up nothing for ever;
- each study manifest in each archive is read and unsealed; one that is damaged or gone, or lacks what it should say
  (`appliance.lifecycle.study_manifests`), is marked to be written again;
- what was set aside (`appliance.lifecycle.aside`) is read before a pass ends;
- at the end of a pass the catalog is copied, which reads every page of it, and the copy is checked. Where it can't be (the disk is
  full), the pass is not complete: what an earlier one found stands, health says what was not checked, the next pass over the objects
  begins all the same, and the catalog is tried again the next day.

An object that is in an archive only because it was evicted, or has not come home yet after a restore, is no damage, and is asked for there
in each pass (`appliance.lifecycle.buckets`). Any other whose file is gone (a repaired file system, somebody who removes a few at a time) is
damaged like one that does not open, and brought back: the archive's copy would be the last. What can't be asked for is tried again in every slice, what
a disk does not give back, an archive's or this one, once a day (`appliance.lifecycle.retries`), and the objects here don't wait for it: when all was last asked for
is a date of its own, and health says when it is old. A clock that is set makes no pass late or early: passes follow one another, and what counts is how far this one is.

Rejected: a date beside each object (a write for every read), and one long pass at night (a clinic's nights are for updates).

How it makes way. Chose the rests of `appliance.pace`, counted by the clock on the wall and not by what the thread computes, because what
is read here is taken from the disk: time that others spend waiting for it is not idle, and then this rests for most of the time.
Rejected: an idle priority for the disk (ionice), which the walls of the units forbid, which NVMe without a scheduler does not heed, and
under which a thread that has the turn to write to the catalog would wait with all of reception behind it; on the image the
unit's `IOWeight` says the same of the whole process.

What "quarantined" means here. Chose to leave a damaged object where it is until a whole one takes its place: because it is
ciphertext whose every segment is authenticated, what was altered can be neither shown nor sent nor copied to an archive, by
nobody; that is the whole of what a quarantine is for. Rejected: to move it to a folder of its own, because an object that only
one place has could then be half mended and half away after a crash, and because rotten bytes that are kept would have to be
found again when their study is destroyed. The audit has the time and the reason of each.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from appliance import audit
from appliance.backup import homecoming
from appliance.box import Box
from appliance.catalog import Reading, Transaction, instances, settings, totals
from appliance.errors import Corrupt, OperatorNeeded, Refused, Transient, Unknown, Unreadable
from appliance.lifecycle import aside, asked, freezing, pages, passes, read_through, study_manifests
from appliance.lifecycle.copies import Copies
from appliance.lifecycle.freezing import UNREAD
from appliance.lifecycle.passes import FINISHED, MOST_LOST, STANDING, VERIFICATION, Pass
from appliance.lifecycle.read_through import ReadThrough
from appliance.lifecycle.retries import Retries
from appliance.model import DestinationId, InstanceId, KeyId, ObjectId
from appliance.pace import Pace
from appliance.replication import recall

__all__ = ["FINISHED", "STANDING", "VERIFICATION", "Pass", "pace", "scrub", "slice_of"]

log = logging.getLogger(__name__)

EVERY_SECONDS: Final = 600
PASS_DAYS: Final = 10
"""What a pass takes on a box that is always on: so one that is on for twelve hours on working days still makes thirty."""

LEAST: Final = 20
STOPPED: Final = "scrub.stopped"
"""Where reading has stopped because the disk did not give back what lies there: a key of its own, since software from before it
reads `STANDING` word by word."""

COPIES_UNREAD: Final = "scrub.copies-unread"
"""By row id, the disks for copies that did not give back several in a slice: the last such object (empty once it was given back) and
when the pass began. One in which a disk was left alone so is not whole."""

UNCHECKED: Final = "scrub.unchecked"
"""Of a pass that came to its end except that the catalog's pages could not be read: why, and what else it found."""

CATALOG_AGAIN: Final = timedelta(days=1)
"""How long after that the catalog alone is tried again: copying it costs as much as a backup."""

GONE: Final = "it is not on this box"
NOT_GIVEN_BACK: Final = "the disk did not give it back"
IN_A_ROW: Final = 8
"""So many objects, one after the other, that can't be read are no bad sector: the disk is failing, or no longer there."""

ACTOR: Final = "jobs"


Sealed = tuple[ObjectId, KeyId, int]
"""An object, its key, and its sealed size in bytes."""


@dataclass(frozen=True, slots=True)
class _Slice:
    """What one slice is done with; `begun` is how far the pass was."""

    box: Box
    begun: Pass
    copies: Copies
    retries: Retries
    through: ReadThrough
    now: datetime


def pace(sleep: Callable[[float], object] = time.sleep) -> Pace:
    """The pace of one slice: by the clock on the wall, since what is taken from others is the disk."""
    return Pace(worked_seconds=time.monotonic, sleep=sleep)


def scrub(
    box: Box,
    now: datetime,
    *,
    keep_going: Callable[[], bool] = lambda: True,
    most: int = 0,
    rest: Callable[[], None] | None = None,
) -> Pass:
    """Read the next slice; how far the pass is then. Records what it finds, in the audit and for `health`.

    `rest` is called between two pieces of at most a megabyte; by default at `pace`.

    Raises what the catalog raises. An archive that can't be reached is no finding: what it holds is asked next time.
    """
    homecoming.look_again(box, now)
    with box.catalog.reading() as reading:
        begun = passes.standing(reading, now)
        stopped = settings.get(reading, STOPPED)
        total = totals.totals(reading).instances
        most = most or slice_of(total)
        rows = instances.objects_after(reading, InstanceId(begun.cursor), most)
        unread = [each["object"] for each in _copies_unread(reading).values() if each["object"]]
        begins = not (begun.cursor or begun.manifest_cursor or begun.checked)
        through = ReadThrough(reading, begun.begun_utc, now, begins=begins)
        missed = through.copies_due(most)
        names = (name for _, name in missed)
        waiting = (*begun.to_mend, *unread, *begun.unasked[:most], *begun.lost, *begun.lost_before, *names)
        known: dict[str, Sealed] = {
            row[0]: row for row in instances.objects_named(reading, tuple(dict.fromkeys(waiting)))
        }
        retries = Retries(reading, now)
    gone = {each for each in waiting if each not in known}  # their studies were destroyed
    left = tuple(each for each in begun.aside if aside.is_set_aside(box, ObjectId(each)))
    standing = replace(begun.without_any(gone), aside=left)
    through.copies({}, (), gone=gone)
    rest = rest or pace().rest
    copies = Copies(box, lambda tx, *of: _mended(tx, box, now, *of), rest)
    at = _Slice(box, begun, copies, retries, through, now)
    row: list[tuple[InstanceId, Sealed, Transient]] = []  # not given back, one after the other
    for instance_id, object_id, key_id, sealed_bytes in rows:
        each = object_id, key_id, sealed_bytes
        if not keep_going():
            return _keep(at, standing)
        try:
            wrong = _wrong(box, *each, rest)
        except Transient as error:
            row.append((instance_id, each, error))
            if _not_given_back(row) == IN_A_ROW:
                standing = _stop(at, standing, row, stopped)
                standing, _ = _manifests(at, standing, keep_going, most)  # which lie elsewhere
                return _keep(at, standing)
            continue
        standing = _unread(at, standing, row)
        row = []
        standing = _mend(at, standing, each, wrong)
        standing = _counted(copies, standing, instance_id, object_id)
    standing = _unread(at, standing, row)
    due = [each for each in begun.to_mend if retries.is_due(each)]
    others = {*unread, *begun.unasked[:most]}.difference(due)
    for name in (each for each in (*due, *others) if each in known):
        if not keep_going():
            break
        may_try = retries.spares(name) or not retries.are_enough
        if name in others or (name in standing.to_mend and may_try):
            standing = _again(at, standing, known[name])
    for place, name in missed:
        if name in known and name not in standing.to_mend and copies.answers(place) and keep_going():
            standing = _mend(at, standing, known[name], "", only=place)
    standing, more = _manifests(at, standing, keep_going, most)
    is_through = len(rows) < most and not more
    if is_through:
        standing = _set_aside(at, standing, keep_going)
    standing = _keep(at, standing, went_on=stopped is not None)
    if is_through and keep_going():
        _finish(box, standing, now)
    elif keep_going():
        _finish_late(box, now)
    return standing


def slice_of(total: int) -> int:
    """How many of `total` objects a slice has, so that a pass takes `PASS_DAYS`."""
    return max(LEAST, math.ceil(total * EVERY_SECONDS / (PASS_DAYS * 86_400)))


def _again(at: _Slice, standing: Pass, sealed: Sealed) -> Pass:
    """Try again what could not be mended in an earlier slice."""
    return _tried(at, standing.trying_again(sealed[0]), sealed).past(sealed[0])


def _tried(at: _Slice, standing: Pass, sealed: Sealed) -> Pass:
    if at.retries.spares(sealed[0]):
        return _mend(at, standing, sealed, NOT_GIVEN_BACK, is_unread=True, is_spared=True)
    return _read_here(at, standing, sealed)


def _read_here(at: _Slice, standing: Pass, sealed: Sealed) -> Pass:
    try:
        wrong = _wrong(at.box, *sealed, at.copies.rest)
    except Unreadable as error:
        at.retries.not_given_back_here(sealed[0])
        return _mend(at, standing, sealed, error.message, is_unread=True)
    except Transient:
        return standing.waiting_for(sealed[0])
    return _mend(at, standing, sealed, wrong)


def _unread(at: _Slice, standing: Pass, row: Sequence[tuple[InstanceId, Sealed, Transient]]) -> Pass:
    """What could not be read, though the disk gives back what lies beside it: damaged where a sector is bad, else tried again."""
    for instance_id, sealed, error in row:
        log.warning("a stored image cannot be read: %s", error.message)
        if isinstance(error, Unreadable):
            at.retries.not_given_back_here(sealed[0])
            standing = _mend(at, standing, sealed, error.message, is_unread=True)
        else:
            at.copies.miss(sealed[0])
            standing = standing.waiting_for(sealed[0])
        standing = _counted(at.copies, standing, instance_id, sealed[0])
    return standing


def _counted(copies: Copies, standing: Pass, instance_id: InstanceId, object_id: ObjectId) -> Pass:
    """The pass is past an object, which counts as checked unless a copy of it was left unread on a disk that is there."""
    was_read = object_id not in copies.passed_over
    return replace(standing.past(object_id), cursor=instance_id, checked=standing.checked + was_read)


def _not_given_back(row: Sequence[tuple[InstanceId, Sealed, Transient]]) -> int:
    """How many of a row the disk did not give back; others could not be read for want of memory, or the like."""
    return sum(isinstance(error, Unreadable) for _, _, error in row)


def _stop(
    at: _Slice, standing: Pass, row: Sequence[tuple[InstanceId, Sealed, Transient]], before: Any
) -> Pass:
    """End a slice before a row of objects that the disk does not give back; when it stopped there `before`, after them."""
    where = next(sealed[0] for _, sealed, error in row if isinstance(error, Unreadable))
    count = _not_given_back(row)
    log.error("%d stored images in a row cannot be read: reading stops there; look at the disk", count)
    if isinstance(before, dict) and before.get("object") == where:
        standing = _unread(at, standing, row)
    with at.box.catalog.transaction() as tx:
        told = {"object": where, "in_a_row": count, "at_utc": at.now.isoformat()}
        settings.put(tx, STOPPED, told, at.now)
    return standing


def _mend(
    at: _Slice,
    standing: Pass,
    sealed: Sealed,
    wrong: str,
    *,
    is_unread: bool = False,
    is_spared: bool = False,
    only: DestinationId | None = None,
) -> Pass:
    """Mend an object if something is `wrong` with it here, and its copies on disks, which are read, or that on one `only`.

    One that `is_spared` here is read here after all before it is given up: the disk may be well again.
    An archive that does not give it back, or was pulled out meanwhile, says nothing of the object: it is tried again.
    """
    object_id, key_id, sealed_bytes = sealed
    if (is_wrong := bool(wrong)) and not at.retries.is_due(object_id):
        at.copies.miss(object_id)
        return standing if object_id in standing.to_mend else standing.waiting_for(object_id)
    try:
        if wrong:
            _bring(at, sealed, wrong)
            is_wrong = False
            log.warning("a stored image was damaged and is mended from an archive")
            with at.box.catalog.transaction() as tx:
                _mended(tx, at.box, at.now, object_id, "", wrong, is_unread)
                if wrong == GONE:
                    homecoming.found(tx, object_id, at.now)
            standing = replace(standing, repaired=standing.repaired + 1)
        mended = at.copies.check(object_id, key_id, sealed_bytes, only=only)
        return replace(standing, copies=standing.copies + mended)
    except (Unknown, Corrupt, Refused) as error:
        if is_spared:
            return _read_here(at, standing, sealed)
        details: dict[str, Any] = {"reason": wrong or error.message}
        if is_unread and not isinstance(error, Corrupt):  # an archive's that is altered is another matter
            details |= {UNREAD: True}
        with at.box.catalog.transaction() as tx:
            if instances.row_of(tx, object_id) is None:
                return standing  # its study was destroyed meanwhile
            log.error("a stored image is damaged and could not be mended: %s", error.message)
            _report(tx, at, standing, object_id, details)
        return standing.losing(object_id)
    except (Transient, OperatorNeeded) as error:
        log.warning("a stored image is damaged, and is mended once its archive answers: %s", error.message)
        if is_wrong and isinstance(error, Unreadable):
            at.retries.not_given_back(object_id)
        at.copies.miss(object_id)
        return standing.waiting_for(object_id)


def _bring(at: _Slice, sealed: Sealed, wrong: str) -> None:
    try:
        recall.recall(at.box, *sealed, at.retries.silence)
    except (Unknown, Corrupt, Refused):
        if wrong == GONE:
            at.copies.check(*sealed)  # which says who has it no longer
        raise


def _mended(
    tx: Transaction, box: Box, now: datetime, object_id: ObjectId, place: str, wrong: str, is_unread: bool
) -> None:
    details = {"reason": wrong} | ({"on": place} if place else {}) | ({UNREAD: True} if is_unread else {})
    _record(tx, box, "instance:mend", object_id, now, details)


def _wrong(box: Box, object_id: ObjectId, key_id: KeyId, sealed_bytes: int, rest: Callable[[], None]) -> str:
    """What is wrong with an object, in words; empty when nothing is. Raises `Transient` when that can't be told now."""
    try:
        with box.open_object(object_id, key_id) as reader:
            if reader.sealed_bytes != sealed_bytes:  # of the open file: its name may go meanwhile
                return "its length is not the recorded one"
            reader.verify(rest)
    except Unknown:
        with box.catalog.reading() as reading:
            is_expected = homecoming.is_expected(reading, object_id)
        return GONE if is_expected and not recall.is_here(box, object_id) else ""  # it may have come just now
    except Corrupt as error:
        with box.catalog.reading() as reading:
            return error.message if instances.row_of(reading, object_id) else ""  # its study was destroyed
    return ""


def _manifests(at: _Slice, standing: Pass, keep_going: Callable[[], bool], most: int) -> tuple[Pass, bool]:
    """Read the manifests of the next studies in every archive, and those that an archive did not give; whether there are more."""
    due = at.through.manifests_due(most)
    done = study_manifests.read_again(at.box, standing.manifest_cursor, at.now, keep_going, most, due)
    at.through.manifests(done.missed, done.met)
    read, rewritten = standing.manifests + done.read, standing.rewritten + done.rewritten
    standing = replace(standing, manifest_cursor=done.cursor, manifests=read, rewritten=rewritten)
    return standing, done.are_more


def _set_aside(at: _Slice, standing: Pass, keep_going: Callable[[], bool]) -> Pass:
    """Read what was set aside; of what can't be told now, what was found before stands."""
    damaged = []
    for object_id, error in aside.look_through(at.box, at.copies.rest):
        if not keep_going():
            return standing
        if isinstance(error, Unreadable | Unknown | Corrupt):
            log.error("an image that is set aside is damaged, and nobody else has it: %s", error.message)
            details = {"reason": error.message} | ({UNREAD: True} if isinstance(error, Unreadable) else {})
            with at.box.catalog.transaction() as tx:
                _report(tx, at, standing, object_id, details)
            damaged.append(object_id)
        elif error is not None and object_id in standing.aside:
            damaged.append(object_id)
    return replace(standing, aside=tuple(damaged))


def _copies_unread(reading: Reading) -> dict[str, dict[str, str]]:
    told = settings.get(reading, COPIES_UNREAD)
    return told if isinstance(told, dict) else {}


def _note_unread(tx: Transaction, copies: Copies, standing: Pass, now: datetime) -> None:
    """Write down which disks did not give back several copies, and of which the last of these has been given back since."""
    before = _copies_unread(tx)
    known = {
        place: {**each, "object": ""} if (int(place), each["object"]) in copies.given_back else each
        for place, each in before.items()
    }
    for place, object_id in copies.gave_up.items():
        known[str(place)] = {"object": object_id, "pass": standing.begun_utc}
    if known != before:
        settings.put(tx, COPIES_UNREAD, known, now)


def _keep(at: _Slice, standing: Pass, *, went_on: bool = False) -> Pass:
    far, now = at.copies.far, at.now
    waiting = tuple(dict.fromkeys((*standing.unasked, *sorted(far.unasked))))
    standing = replace(
        standing,
        asked=standing.asked + far.asked,
        unasked=waiting[:MOST_LOST],
        passed=standing.passed + len(waiting[MOST_LOST:]),
    )
    with at.box.catalog.transaction() as tx:
        _note_unread(tx, at.copies, standing, now)
        at.retries.note(tx, standing.to_mend, now)
        at.through.copies(at.copies.missed, at.copies.given_back, failing=at.copies.gave_up)
        at.through.note(tx, standing.cursor, standing.manifest_cursor, now)
        asked.note(tx, far, standing.begun_utc, now)
        if went_on:
            settings.remove(tx, STOPPED)
        return passes.keep(tx, standing, at.begun, now)


def _finish(box: Box, standing: Pass, now: datetime) -> None:
    """The end of a pass: the catalog's own pages, what to tell, and the next pass begins."""
    finding, unchecked = pages.check(box)
    with box.catalog.transaction() as tx:
        standing = passes.keep(tx, standing, standing, now)  # a person may have verified since
        passes.end(tx, standing, now)
        read_through.finish(tx, standing.begun_utc, now)
        asked.finish(tx, standing.begun_utc, len(standing.unasked) + standing.passed, now)
        unread = {
            place: each for place, each in _copies_unread(tx).items() if each["pass"] == standing.begun_utc
        }
        settings.put(tx, COPIES_UNREAD, unread, now)
        done = standing.at_its_end() | {"is_whole": not unread}
        if unchecked:
            before = settings.get(tx, UNCHECKED)
            since = before["since_utc"] if isinstance(before, dict) else standing.begun_utc
            told = {
                "why": unchecked,
                "since_utc": since,
                "tried_utc": now.isoformat(),
                "done": done,
            }
            settings.put(tx, UNCHECKED, told, now)
        else:
            _complete(tx, box, done, finding, now)


def _finish_late(box: Box, now: datetime) -> None:
    """Try the catalog again, a day after it could not be read at the end of a pass, which is complete then."""
    with box.catalog.reading() as reading:
        told = settings.get(reading, UNCHECKED)
    if not isinstance(told, dict) or abs(now - datetime.fromisoformat(told["tried_utc"])) < CATALOG_AGAIN:
        return
    finding, unchecked = pages.check(box)
    with box.catalog.transaction() as tx:
        if unchecked:
            settings.put(tx, UNCHECKED, {**told, "why": unchecked, "tried_utc": now.isoformat()}, now)
        else:
            _complete(tx, box, told["done"], finding, now)


def _complete(tx: Transaction, box: Box, done: dict[str, Any], finding: str, now: datetime) -> None:
    """Write down a pass that has read everything, or has found the catalog damaged."""
    if not done.get("is_whole", True) and not finding:
        log.warning("not every copy on a disk was read again: the pass does not count")
        settings.remove(tx, UNCHECKED)
        return
    settings.put(tx, FINISHED, {**done, "finished_utc": now.isoformat(), "catalog": finding}, now)
    settings.remove(tx, UNCHECKED)
    details = {name: done[name] for name in ("checked", "repaired", "copies", "manifests", "rewritten")}
    damaged = len(done["lost"]) + done.get("more_lost", 0) + len(done.get("aside", ()))
    details |= {"damaged": damaged, "catalog": finding}
    outcome = audit.Outcome.FAILED if damaged or finding else audit.Outcome.DONE
    entry = audit.Entry("store:scrub", "objects", ACTOR, details, outcome=outcome)
    audit.append(tx, box.audit_key, [entry], now)
    log.info(
        "everything was read again: objects=%d mended=%d copies=%d",
        done["checked"],
        done["repaired"],
        done["copies"],
    )


def _report(
    tx: Transaction, at: _Slice, standing: Pass, object_id: ObjectId, details: dict[str, Any]
) -> None:
    """Write into the audit that an object is damaged, which the ransomware guard counts: not in every pass, and no more once a person knows."""
    is_unread = details.get(UNREAD) is True
    if not (
        standing.may_know(object_id) and freezing.need_not_be_said(tx, object_id, at.now, is_unread=is_unread)
    ):
        _record(tx, at.box, "instance:corrupt", object_id, at.now, details)


def _record(
    tx: Transaction, box: Box, action: str, object_id: ObjectId, now: datetime, details: dict[str, Any]
) -> None:
    study = instances.study_of(tx, object_id)
    entry = audit.Entry(action, f"instance:{object_id}", ACTOR, details, study=study)
    audit.append(tx, box.audit_key, [entry], now)
