"""Destroying studies: what two people have approved is carried out, here and in every archive, whatever is cut in between.

::

    approved ──▶ out of the catalog, keys destroyed, obligations recorded      one transaction: the study is gone, or untouched
                   ├──▶ sealed objects removed from this disk                  may be repeated
                   ├──▶ the catalog's file and log hold no remains             may be repeated
                   ├──▶ the intake logs were written over since                may be repeated (ingest.scouring)
                   └──▶ in each archive: a tombstone where the manifest was    the courier (replication.tombstone)
                          └──▶ a newer backup proved, older ones unreadable    may be repeated (lifecycle.shredding)
                                 └──▶ every place done: the certificate is complete

**Where a study's key can be read**, and what becomes of it there: the catalog (its row is emptied); the catalog's write-ahead
log and unused space (written anew, up to `REWRITTEN_BYTES`); intake logs (written over at the first quiet half minute of the process that owns each, at its
next start, in a pause after ten minutes that had neither, or here if it doesn't run: this box is not done before, nor while an image
that it had not recorded yet is set aside under that key); processes that have it
in memory (those that receive forget it then, the others with their end); manifests in archives, those kept aside too (written over, or removed); the
catalogs in backups (made unreadable as a whole); copies of the catalog that a backup, a restore drill or a check of its pages has made on this
disk (removed by it, or, where it was cut, here; while one runs, this box is not done). Copies that left the box in clear, to another DICOM system, a folder or a USB
stick, are out of reach: the certificate says where, and how many.

Chose to make older backups unreadable as a whole, after proving a newer one, because they hold the patient's name and
everything else besides the keys. Rejected: backups without study keys, whose names stay; backups rewritten one by one, which
needs the right to remove and the uplink of a month; waiting until they have had their time, which is no destruction.

An archive that cannot be reached owes its part until it can, as a delivery does: the certificate says so, place by place, and
is complete when the last has done it.

What is wrong with one study or one image keeps no other from being destroyed, and nothing that is owed from being done. A study of which an
image is set aside is left out of its request: it would wait for a person, and the certificate and the older backups of the others with it. Only a
record of what is set aside that the disk does not give back keeps all of them, since it may be of any (`lifecycle.unsettled`). Whether a
study is due is asked of a clock that runs on (`retention.running_from`): the copies of one study are newer than the start of the run.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from appliance import audit
from appliance import settings as chosen
from appliance.box import Box
from appliance.catalog import (
    Reading,
    Transaction,
    audit_search,
    deliveries,
    destinations,
    destructions,
    erasure,
    freezes,
    obligations,
    settings,
    tombstones,
)
from appliance.catalog.columns import utc_text
from appliance.catalog.database import Remains
from appliance.catalog.destructions import DestructionRequest, DueStudy
from appliance.catalog.tombstones import Certificate, Place, PlaceState
from appliance.errors import ApplianceError, Corrupt, OperatorNeeded, Refused, Transient, Unreadable
from appliance.ingest import set_aside
from appliance.ingest.accept import accept_within
from appliance.ingest.scouring import LOGS
from appliance.lifecycle import destruction, memory, retention
from appliance.lifecycle.acting import Act
from appliance.lifecycle.anonymising import Copies, copies_of, discard, refuse_unless_whole
from appliance.lifecycle.destruction import Because
from appliance.lifecycle.request import Method, State
from appliance.lifecycle.shredding import shred_older, versions_left
from appliance.lifecycle.unsettled import ASIDE, note_set_aside, note_waiting, scour_logs
from appliance.model import DestinationId, DestinationSettings
from appliance.replication import manifest, recall
from appliance.replication.tombstone import lives
from appliance.store import scratch

log = logging.getLogger(__name__)

ACTOR: Final = "jobs"
AT_ONCE: Final = 50
REMAINS: Final = "destruction.remains"
"""Up to which destroyed study the catalog's file holds no remains, in `appliance.catalog.settings`."""

REWRITTEN: Final = "destruction.rewritten"
"""Up to which destroyed study the file was written anew since: not even a copy in unused space is left."""

REWRITTEN_BYTES: Final = 128 << 20
"""A catalog up to this size is written anew after a destruction: it takes so much memory, and a few seconds.

In a larger one the rows were overwritten as they were deleted (``secure_delete``), but copies of rows that SQLite had moved before may lie
in its unused space (`Catalog.forget_deleted`), under the catalog's key, until something else is written there: a name, a number, a
study's key as it is wrapped. The certificate says so.
"""


@dataclass(frozen=True, slots=True)
class Around:
    """What a run is given: whether to go on, a word for each step that a test may cut it at, and a clock.

    Without one, the clock says at the start what the run is told, and goes on from there.
    """

    keep_going: Callable[[], bool] = lambda: True
    reached: Callable[[str], None] = field(default=lambda _: None)
    clock: Callable[[], datetime] | None = None


def carry_out(box: Box, now: datetime, around: Around = Around()) -> int:
    """Do what can be done now of everything approved and owed; how many studies were destroyed.

    Goes on where an earlier run was cut. What an archive refuses is recorded with its place, and keeps no other from going on.
    Nor does a study that can't be destroyed now, or of which no copy can be made. Raises what the catalog and the disk raise,
    and a defect in one request once all the rest is done. Does nothing while the ransomware guard holds: what is approved waits. After a
    restore no study and no older backup is destroyed until somebody has looked at what is held (`lifecycle.memory`): a backup may know of
    a hold that this box has forgotten.
    """
    clock = around.clock or retention.running_from(now)
    destroyed = 0
    with box.catalog.reading() as conn:
        if freezes.in_force(conn) is not None:
            return 0
        remembers = memory.gap(conn) is None
        requests = destructions.approved(conn) if remembers else []
    defect: Exception | None = None
    waits = note_waiting(box, [each.id for each in requests], clock())
    for request in () if waits else requests:
        try:
            destroyed += _carry_out(box, request, clock, around)
        except Exception as error:  # noqa: BLE001 - raised once what is owed is done
            defect = defect or error
    _close_ended(box, clock())
    _forget_words(box, clock())
    _remove_objects(box, clock(), around)
    _leave_no_remains(box, clock(), around)
    scour_logs(box, clock())
    note_set_aside(box, clock())
    if remembers:
        _shred_backups(box, clock, around)
    _complete(box, clock())
    if defect is not None:
        raise defect
    return destroyed


# --- this box --------------------------------------------------------------------------------------------------------


def _carry_out(box: Box, request: DestructionRequest, clock: Callable[[], datetime], around: Around) -> int:
    """Destroy the studies of an approved request, one by one; what is wrong with one is told, and keeps no other from it."""
    done = 0
    for study in request.study_ids:
        if not around.keep_going():
            return done
        try:
            erased = _carry_out_one(box, request, study, clock, around)
        except _UnreadError as error:
            log.warning("a study of an approved request waits: %s", error.message)
            return done
        except _SetAsideError as error:
            log.warning("a study of an approved request is left out: %s", error.message)
            _leave_out(box, request, study, clock())
            continue
        except Refused as error:
            log.warning("a study of an approved request was not destroyed: %s", error.message)
            continue
        except (Transient, OperatorNeeded) as error:  # such as an archive that has the images, and is away
            later = "made anonymous" if request.method is Method.ANONYMISE else "destroyed"
            log.warning("a study is %s later: %s", later, error.message)
            continue
        except Corrupt as error:  # the scrub says which: here it is only why the study stays
            log.error("a study of an approved request waits for somebody to look at it: %s", error.message)
            continue
        around.reached("destroyed")
        box.study_keys.forget(erased.keys)
        done += 1
    return done


def _carry_out_one(
    box: Box, request: DestructionRequest, study: int, clock: Callable[[], datetime], around: Around
) -> erasure.Erased:
    copies = Copies((), 0)
    if request.method is Method.ANONYMISE:
        with box.catalog.reading() as conn:
            _refuse_unless_ready(conn, box, request, study, clock())
        copies = copies_of(box, study, around.keep_going)
        around.reached("copies sealed")
    try:
        with box.catalog.transaction() as tx:
            freezes.refuse(tx)
            erased = _destroy(tx, box, request, study, clock(), copies)
            around.reached("destroying")
    except (Refused, Transient):
        discard(box, copies.sealed)
        raise
    return erased


class _SetAsideError(Refused):
    """An image of the study is set aside: it stands in no study, so the certificate would know nothing of it."""


class _UnreadError(Transient):
    """Of whom an image that is set aside is can't be read: it may be of this study, and of every other."""


def _refuse_unless_ready(
    conn: Reading, box: Box, request: DestructionRequest, study: int, now: datetime
) -> DueStudy:
    """The study as it was asked for, if it may be destroyed now. Raises `Refused` when it is held, not due any more, or on its way;
    `_SetAsideError`, or `_UnreadError` if what is set aside may be of it."""
    due = destruction.refuse_if_changed(conn, request.id, study, now)
    if deliveries.being_sent(conn, study):
        raise Refused("an image of the study is being sent", hint="it is destroyed afterwards")
    try:
        is_set_aside = set_aside.has_image_of(box, due.study_instance_uid)
    except Unreadable as error:
        raise _UnreadError(
            f"of whom an image that is set aside is can't be read: {error.message}", hint=error.hint
        ) from error
    if is_set_aside:
        raise _SetAsideError(
            "an image of the study came and is set aside",
            hint="ask for the destruction anew once that image is accepted",
        )
    return due


def _leave_out(box: Box, request: DestructionRequest, study: int, now: datetime) -> None:
    """Take a study of which an image is set aside out of the request that was approved."""
    with box.catalog.transaction() as tx:
        found = destructions.request(tx, request.id)
        if found.state is State.APPROVED and study in found.study_ids:
            destruction.leave_out(tx, Act(ACTOR, now, box.audit_key), request.id, study, Because.SET_ASIDE)


def _close_ended(box: Box, now: datetime) -> None:
    """A certificate whose request has ended gets no more studies: those left were taken out of it, or its time was over."""
    with box.catalog.reading() as conn:
        ended = [
            each.id
            for each in tombstones.certificates(conn, unfinished=True)
            if each.closed_utc is None
            and each.request is not None
            and destructions.request(conn, each.request).state is not State.APPROVED
        ]
    if ended:
        with box.catalog.transaction() as tx:
            for number in ended:
                tombstones.close(tx, number, now)


def _forget_words(box: Box, now: datetime) -> None:
    """What people wrote in requests that earlier software carried out, or why one was withdrawn of which a part was done."""
    with box.catalog.reading() as conn:
        if not destructions.has_words(conn):
            return
    with box.catalog.transaction() as tx:
        destructions.forget_words(tx)
        settings.put(tx, REWRITTEN, 0, now)  # the file and its log have remains again


def _destroy(
    tx: Transaction, box: Box, request: DestructionRequest, study: int, now: datetime, copies: Copies
) -> erasure.Erased:
    """The one transaction that destroys a study, with whatever it is still owed, and records the copies that are kept of it.

    Raises what `_refuse_unless_ready` does, and `Transient` when a copy is not on the disk: then nothing has changed, and all that
    it is owed goes on.
    """
    due = _refuse_unless_ready(tx, box, request, study, now)
    refuse_unless_whole(box, copies.sealed)
    erased = erasure.erase(tx, study, now)
    if erased is None:
        raise Refused("the study is not here any more", hint="look at the request again")
    if copies.sealed:
        accept_within(tx, box, copies.sealed, now)
    kept = {"kept_anonymous": len(copies.sealed)} if copies.sealed else {}
    uid = erased.study_instance_uid
    certificate = tombstones.begin(tx, request.id, _authority(request), now)
    tombstones.bury(
        tx,
        certificate,
        erased,
        why={**due.decision, **kept},
        elsewhere=obligations.given_in_clear(tx, erased),
        exports=audit_search.count(tx, "study:export", uid),
        manifest=manifest.key(box.root, uid),
        archives=obligations.archives(tx, erased),
        now=now,
    )
    destructions.carried_out(tx, request.id, study, certificate.label, now)
    destructions.forget_words(tx)
    details = {
        "certificate": certificate.label,
        "request": request.id,
        "instances": erased.instances,
        "asked by": request.asked_by,
        "approved by": request.approved_by,
        **kept,
    }
    audit.append(
        tx,
        box.audit_key,
        [audit.Entry("study:destroy", f"study:{study}", ACTOR, details, study=uid)],
        now,
    )
    return erased


def _authority(request: DestructionRequest) -> dict[str, Any]:
    """On whose word, without what people wrote: they write names."""
    return {
        "request": request.id,
        "method": str(request.method),
        "asked_by": request.asked_by,
        "asked_utc": utc_text(request.asked_utc),
        "approved_by": request.approved_by,
        "approved_utc": utc_text(request.approved_utc) if request.approved_utc else "",
        "digest": request.digest,
    }


def _remove_objects(box: Box, now: datetime, around: Around) -> None:
    while True:
        with box.catalog.reading() as conn:
            waiting = tombstones.to_remove(conn, AT_ONCE)
        if not waiting or not around.keep_going():
            return
        for study, object_ids in waiting:
            with box.catalog.reading() as conn:
                freezes.refuse(conn)
            box.objects.destroy(object_ids)
            around.reached("objects removed")
            with box.catalog.transaction() as tx:
                tombstones.removed(tx, study, now)


def _leave_no_remains(box: Box, now: datetime, around: Around) -> None:
    with box.catalog.reading() as conn:
        last, done = tombstones.last_destroyed(conn), int(settings.get(conn, REMAINS, 0))
        rewritten = int(settings.get(conn, REWRITTEN, 0))
    data = box.config.data.absolute()
    if rewritten >= last or not _no_copies(data):
        return
    left = box.catalog.forget_deleted(REWRITTEN_BYTES)
    if left is Remains.LOG:
        log.info("the catalog's log is emptied later: somebody is reading")
        return
    if left is Remains.COPIES and done >= last:  # it is larger than it may be, as it was before
        return
    if not _no_copies(data):  # one that was begun before the file was written anew
        return
    around.reached("no remains")
    with box.catalog.transaction() as tx:
        settings.put(tx, REMAINS, last, now)
        if left is Remains.NONE:
            settings.put(tx, REWRITTEN, last, now)


def _no_copies(data: Path) -> bool:
    """Whether no copy of the catalog is left beside it, nor being made."""
    if scratch.sweep(data):
        return True
    log.info("copies of the catalog are looked for later: a backup, a drill or a check is running")
    return False


# --- archives --------------------------------------------------------------------------------------------------------


def _shred_backups(box: Box, clock: Callable[[], datetime], around: Around) -> None:
    """In each archive that has all its tombstones: one new backup for all certificates that wait for it."""
    with box.catalog.reading() as conn:
        unfinished = [each for each in tombstones.certificates(conn, unfinished=True) if each.closed_utc]
        waiting = {each.id: tombstones.places(conn, each.id) for each in unfinished}
        here = {each.id: each for each in destinations.destinations(conn)}
        left = destinations.left(conn)
        keep = timedelta(days=int(chosen.get(conn, "backup.keep_days")))
    by_archive: dict[DestinationId, list[tuple[Certificate, Place]]] = {}
    for each in unfinished:
        for place in waiting[each.id]:
            if place.state in {PlaceState.OWED, PlaceState.LAID}:
                by_archive.setdefault(place.destination, []).append((each, place))
    for number, owing in by_archive.items():
        if not around.keep_going():
            return
        if number not in here:
            has_moved = number in left and left[number].has_moved
            why = tombstones.MOVED if has_moved else tombstones.TAKEN_OFF
            with box.catalog.transaction() as tx:
                for each, place in owing:
                    tombstones.give_up(tx, each.id, place.destination, clock(), reason=why)
            continue
        laid = _laid(box, owing, clock())
        if laid and not here[number].paused:
            _shred(box, here[number], laid, clock(), keep, around)


def _laid(box: Box, owing: list[tuple[Certificate, Place]], now: datetime) -> list[Certificate]:
    """Those whose tombstones all lie in the archive; that is recorded.

    Of a study that this box did not know, the other archives are looked through for its keys (`appliance.catalog.obeying`).
    """
    found = []
    with box.catalog.transaction() as tx:
        life = lives(tx)
        for each, place in owing:
            if tombstones.still_to_lay(tx, each.id, place.destination):
                continue
            if each.authority.get("unknown") and tombstones.unlooked(tx, place.destination, life, 1)[1]:
                continue
            if place.state is PlaceState.OWED:
                tombstones.move(tx, each.id, place.destination, PlaceState.LAID, now)
            found.append(each)
    return found


def _shred(
    box: Box,
    place: DestinationSettings,
    laid: list[Certificate],
    now: datetime,
    keep: timedelta,
    around: Around,
) -> None:
    try:
        _refuse_while_in_doubt(box, place, now)
        made = shred_older(box, place, now, keep=keep, keep_going=around.keep_going, reached=around.reached)
    except ApplianceError as error:
        log.warning("%s: older backups are made unreadable later: %s", place.name, error.message)
        with box.catalog.transaction() as tx:
            for each in laid:
                tombstones.move(tx, each.id, place.id, PlaceState.LAID, now, reason=error.message)
        return
    detail: dict[str, Any] = {"snapshot": made.snapshot, "older": made.older}
    stay = {"anothers": made.anothers, "later": made.later}
    detail |= {name: count for name, count in stay.items() if count}
    kept = made.versions
    left = {"versions": str(versions_left(kept)), "days": kept.days if kept is not None else None}
    with box.catalog.transaction() as tx:
        if recall.has_moved(tx, place):  # what was done at one place is not done at another
            return
        for each in laid:
            tombstones.move(tx, each.id, place.id, PlaceState.DONE, now, detail=detail | left)
        entry = audit.Entry("backup:destroy", place.name, ACTOR, detail)
        audit.append(tx, box.audit_key, [entry], now)
    around.reached("archive done")


def _refuse_while_in_doubt(box: Box, place: DestinationSettings, now: datetime) -> None:
    """Raise `Transient` for a bucket while the clock is in doubt.

    It keeps what is written over for its days, by its own clock; the day on which nothing is left there, which the certificate
    tells, is reckoned by ours.
    """
    if place.kind != "s3":
        return
    with box.catalog.reading() as conn:
        doubt = retention.clock_of(conn, now).doubt
    if doubt is not None:
        raise Transient(
            "the clock of the box is in doubt, and the certificate is to say on which day nothing is left in the bucket",
            hint="compare it with another clock, and say on the page of retention that it is right",
        )


def _complete(box: Box, now: datetime) -> None:
    with box.catalog.transaction() as tx:
        clean = min(int(settings.get(tx, REMAINS, 0)), int(settings.get(tx, LOGS, 0)))
        aside = settings.get(tx, ASIDE, [])
        for each in tombstones.certificates(tx, unfinished=True):
            studies = tombstones.studies_of(tx, each.id)
            open_places = [
                place
                for place in tombstones.places(tx, each.id)
                if place.state in {PlaceState.OWED, PlaceState.LAID}
            ]
            here = all(
                study.removed_utc is not None and study.id <= clean and study.id not in aside
                for study in studies
            )
            if each.closed_utc is None or open_places or not here:
                continue
            tombstones.complete(tx, each.id, now)
            details = {"studies": len(studies)}
            audit.append(
                tx, box.audit_key, [audit.Entry("destruction:complete", each.label, ACTOR, details)], now
            )
