"""Making a snapshot: the catalog is copied while the box works, and the copy laid in an archive piece by piece.

The copy lies in ``backups/`` of the data folder for as long as it is sent, encrypted as the catalog is; what a crash leaves of
it is removed by the next attempt. One attempt at a time, by a lock. The index goes last: an attempt that is cut leaves pieces
that no index speaks of, which the rotation clears away, where something can be removed. Every piece is read back by the archive itself, and
laid again a few times where a line loses it (`repeating`); an attempt that has failed all the same is made again ever later.

One that is cut as its key gets its name leaves that key, whole, among what arrives at a disk or a file server: with the pieces it is the
catalog of that day. So the next one clears away whatever key arrives there, and a destruction makes one. Another box that lays
its own there at that instant begins again.

A clock that was set back makes a snapshot whose name sorts before others, no more; and while the clock is in doubt
(`appliance.lifecycle.retention`), none is taken for too old. It is asked when the snapshot is made and one is to go: images have
come since the attempt began, which a moment from then would know nothing of.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from appliance import __version__, audit
from appliance.backup import fetching, rotation, snapshot, standing
from appliance.backup.lives import count_past_others
from appliance.backup.repeating import is_past, patiently, rest_after
from appliance.backup.snapshot import Contents, Index, Piece
from appliance.box import Box
from appliance.catalog import (
    Reading,
    Transaction,
    audit_search,
    copying,
    destinations,
    freezes,
    settings,
    totals,
)
from appliance.catalog.schema import REVISION
from appliance.errors import ApplianceError, Corrupt, OperatorNeeded, Transient, Unknown, Unreadable
from appliance.lifecycle import memory, retention
from appliance.model import DestinationSettings
from appliance.pace import Pace
from appliance.replication import recall
from appliance.replication.destinations import Archive, build
from appliance.replication.destinations.archive import Clearable
from appliance.replication.ownership import Whose, refuse_another_box, whose_backup
from appliance.replication.tombstone import lives
from appliance.store import scratch
from appliance.store.disk import disk_error
from appliance.store.keys import whole_recovery_slot

log = logging.getLogger(__name__)

LAST: Final = settings.LATEST_BACKUP
"""Where the outcome of the latest attempt in each archive is kept, in `appliance.catalog.settings` with its name behind a dot: the form is
`health.facts.Attempt`'s; `health.attempts` works out what stands for all.

An attempt that succeeded and has a reason made its backup, and could not remove older ones whose time is over: the reason says why not.
"""

MAKE: Final = "backup:make"
"""What the audit says when a backup was made: under ``name`` how it is called."""

ABANDONED: Final = timedelta(days=1)

Tell = Callable[[int, int], None]
"""Told how many bytes of how many are in the archive."""


def _silent(done: int, total: int) -> None:
    del done, total


BETWEEN: Final = timedelta(hours=1)
"""So long after an attempt comes the next one because of what people decide: many decisions of an afternoon share a backup."""


RESTS_AT_MOST: Final = timedelta(hours=6)
"""So long rests one that goes on failing, unless a person asks for it, the archive gets other settings or goes on, or its line is back."""

BY_ITSELF: Final = "jobs"
"""Who makes a backup that nobody has asked for."""


def archives(reading: Reading) -> list[DestinationSettings]:
    """The destinations that a backup can be laid in: those that hold the ciphertext."""
    return [each for each in destinations.destinations(reading) if each.takes == "ciphertext"]


def archive_at(box: Box, settings_: DestinationSettings) -> Archive:
    """The archive that a destination is. Raises `OperatorNeeded` if it is none, and what `build` raises."""
    built = build(settings_, box)
    if not isinstance(built, Archive):
        raise OperatorNeeded(
            f"{settings_.name} holds images, not sealed copies: a backup cannot go there",
            hint="name a destination of the kind s3, vault, sftp or smb",
        )
    return built


def back_up(
    box: Box,
    to: DestinationSettings,
    now: datetime,
    *,
    actor: str,
    keep: timedelta,
    keep_going: Callable[[], bool] = lambda: True,
    tell: Tell = _silent,
    clock: Callable[[], datetime] | None = None,
) -> Index:
    """Make a snapshot in the archive `to`, rotate those where it may, and record how it went, for `health` and the audit: that older ones
    could not be removed fails no backup, and is told beside it.

    It bears `now`; by `clock`, which without one runs from `now` on, the older ones have had their time. Raises what the archive
    raises, `OperatorNeeded` where it is another box's, `OutOfResources` without room for the copy, `Transient` when `keep_going`
    says no or another attempt is under way.
    """
    clock = clock or retention.running_from(now)
    with box.catalog.reading() as reading:
        decisions = memory.decisions(reading)  # at least those are in the copy
    laid = threading.Event()
    try:
        archive = archive_at(box, to)
        own = whole_recovery_slot(box.config.data.absolute() / "keys")
        go_on = _going_on(keep_going)
        patiently(archive, lambda: refuse_another_box(archive, to.name, box.root, own), go_on)
        _begin(box, to, now)
        patiently(archive, lambda: count_past_others(box, archive, to, now), go_on)
        index = make(box, archive, now, keep_going=keep_going, tell=tell, laid=laid.set)
    except ApplianceError as error:
        has_failed = (
            laid.is_set() and keep_going()
        )  # what the box's own stop has cut says nothing of the archive
        with box.catalog.transaction() as tx:
            _record(tx, box, to, now, actor, failure=error)
            if has_failed:
                _count_failure(tx, to, clock(), actor)
        raise
    removed, stays = 0, None
    try:
        if (believed := _believed(box, clock)) is not None:
            removed = _rotate(box, archive, believed, keep, to.name)
    except ApplianceError as error:
        stays = error  # the new one is there all the same, and not made again before its time
    with box.catalog.transaction() as tx:
        _record(tx, box, to, now, actor, made=index, removed=removed, decisions=decisions, failure=stays)
    return index


def _going_on(keep_going: Callable[[], bool]) -> Callable[[], None]:
    def go_on() -> None:
        if not keep_going():
            raise Transient("the backup was interrupted", hint="it is made again later")

    return go_on


def _begin(box: Box, to: DestinationSettings, now: datetime) -> None:
    """Write down that something is laid at the place where `to` is, before it is. Raises `Transient` when it is there no more."""
    with box.catalog.transaction() as tx:
        if recall.has_moved(tx, to):
            raise Transient("the backup was interrupted", hint="it is made again later")
        destinations.begin_backup(tx, to, now)


def is_due(reading: Reading, name: str, now: datetime, every: timedelta) -> bool:
    """Whether the archive `name` is due for a backup: never had one, its last is `every` old, or of a moment to come; or lacks what a
    person has decided since (`lifecycle.memory`), once `BETWEEN` have gone since the latest attempt. One that goes on failing there rests."""
    told = settings.get(reading, _of(name), {})
    if _rests(reading, name, now):
        return False
    if told.get("succeeded_utc") is None:
        return True
    if memory.decisions(reading) > int(told.get("decisions", 0)):
        every = min(every, BETWEEN)
        return is_past(told["at_utc"], now, every)
    return is_past(told["succeeded_utc"], now, every)


def _rests(reading: Reading, name: str, now: datetime) -> bool:
    """Whether a backup that has failed in the archive `name` is not made again yet by itself: each attempt leaves pieces there, where nothing
    can be removed for months. What failed before anything was laid, as where a line is down, is tried whenever it is due."""
    failed = settings.get(reading, _failures_of(name))
    return failed is not None and not is_past(
        failed["at_utc"], now, rest_after(int(failed["count"]), RESTS_AT_MOST)
    )


def make_due(tx: Transaction, name: str) -> None:
    """Let the archive `name` be due for a backup, whenever it had its last."""
    settings.remove(tx, _of(name))
    destinations.end_rest(tx, name)


def last(reading: Reading, name: str) -> Mapping[str, str | None]:
    """How the latest attempt in the archive `name` went: ``at_utc``, ``outcome``, ``succeeded_utc``, ``reason``; empty for none."""
    told: Mapping[str, str | None] = settings.get(reading, _of(name), {})
    return told


def _of(name: str) -> str:
    """Where the outcome of the latest attempt in one archive is kept."""
    return f"{LAST}.{name}"


def _failures_of(name: str) -> str:
    return f"{settings.BACKUP_FAILURES}.{name}"


def make(
    box: Box,
    archive: Archive,
    now: datetime,
    *,
    keep_going: Callable[[], bool] = lambda: True,
    tell: Tell = _silent,
    laid: Callable[[], None] = lambda: None,
) -> Index:
    """Lay a snapshot of `box` as of now in `archive`; raises as `back_up`, and records nothing. `laid` is called once something of it
    is there."""

    pace, stop = Pace(), _going_on(keep_going)

    def go_on() -> None:
        pace.rest()
        stop()

    def put(where: str, data: bytes) -> None:
        """Each document has its own name: laid once more, it is the same."""
        patiently(archive, lambda: archive.put_document(where, data), go_on)

    name, key = snapshot.new_name(now, secrets.token_hex(4)), secrets.token_bytes(snapshot.KEY_BYTES)
    with _place_for_copy(box) as path:
        if isinstance(archive, Clearable):
            archive.remove_parts([snapshot.key_key(name)])
        put(snapshot.begun_key(name), snapshot.BEGUN)
        laid()
        page_by_page = path.with_name(f"{path.name}.pages")
        (contents, witness, came_back) = copying.copy(
            box.catalog, page_by_page, key, lambda reading: _look(reading, go_on), go_on
        )
        copying.rewrite(page_by_page, key, path, go_on)
        page_by_page.unlink()
        total, done = path.stat().st_size, 0
        pieces: list[Piece] = []
        with path.open("rb") as copy:
            while data := copy.read(snapshot.PIECE_BYTES):
                go_on()
                put(snapshot.piece_key(name, len(pieces)), data)
                pieces.append(Piece(len(data), hashlib.sha256(data).hexdigest()))
                done += len(data)
                tell(done, total)
        sealed_key = box.root.seal(key, snapshot.key_context(name))
        index = Index(name, now, __version__, REVISION, tuple(pieces), contents, witness, came_back)
        sealed = box.root.seal(snapshot.encode(index), snapshot.context(name))
        # Read when all is sealed: a root key that was rotated meanwhile is in it.
        slot = whole_recovery_slot(box.config.data.absolute() / "keys")
        put(snapshot.slot_key(name), slot)
        put(snapshot.key_key(name), sealed_key)
        put(snapshot.index_key(name), sealed)
    return index


def _look(reading: Reading, go_on: Callable[[], None]) -> tuple[Contents, str, int]:
    """What is in the copy. Rows are counted, and not taken from the running counts: those lie in the copy too, and would agree with
    themselves whatever it lacks. 100,000 studies of four images take half a second; a reader holds up no writer, and this rests as the copying does."""
    rows = totals.counted(reading, go_on)
    contents = Contents(rows.studies, rows.instances, rows.bytes, rows.series)
    return contents, str(audit.witness(reading)), lives(reading)


@contextmanager
def alone(box: Box) -> Iterator[Path]:
    """While nobody else makes a backup of this box: what an archive holds of one then is finished, or was cut, and whoever begins one
    later copies the catalog as it will be by then. The folder for copies.

    Raises `Transient` when one is being made, and what the disk raises.
    """
    folder = box.config.data.absolute() / scratch.FOLDER
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise disk_error(error, "making room for a backup") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Transient("a backup is being made already", hint="wait until it is done") from error
        yield folder
    except OSError as error:
        raise disk_error(error, "copying the catalog") from error
    finally:
        os.close(lock)


@contextmanager
def _place_for_copy(box: Box) -> Iterator[Path]:
    """A name for the copy, with room for it; nobody else makes one meanwhile, and nothing is left of it."""
    data = box.config.data.absolute()
    with alone(box) as folder:
        for left in folder.glob(f"{scratch.BACKUP}*"):  # even while a drill runs
            left.unlink(missing_ok=True)
        sizes = [
            (data / name).stat().st_size
            for name in ("catalog.db", "catalog.db-wal")
            if (data / name).exists()
        ]
        box.guard.admit(2 * sum(sizes))  # page by page, then row by row
        with scratch.place(data, scratch.BACKUP) as path:
            yield path


def _believed(box: Box, clock: Callable[[], datetime]) -> datetime | None:
    """The moment by which a backup may have had its time; None while the clock is in doubt: set wrong, it would do away with
    good ones.

    In a transaction, so that nothing is recorded between the look at the clock and the look at what came last.
    """
    with box.catalog.transaction() as tx:
        now = clock()
        doubt = retention.clock_of(tx, now).doubt
    if doubt is None:
        return now
    log.info("no backup is removed while the clock of the box is in doubt (%s)", doubt)
    return None


def _rotate(box: Box, archive: Archive, now: datetime, keep: timedelta, name: str) -> int:
    """Remove from a disk or a file server our snapshots past `keep`, and what cut attempts left; how many documents.

    A bucket is not touched: the box has no right to remove anything there, so that whoever takes the box over has none.
    Its own life-cycle rule does it. Nothing is removed while the ransomware guard holds. The newest few that stay are of those that open;
    what may be another box's stays for ever, and the log says each time that there is such.
    """
    if not isinstance(archive, Clearable):
        return 0
    documents = list(archive.documents(snapshot.PREFIX))
    finished = standing.look(archive, [each.key for each in documents]).names
    gone = set(rotation.obsolete(finished, now, keep))
    if gone:
        opening = [each for each in finished if _opens(box, archive, each)]
        closed = set(rotation.obsolete(finished, now, keep, least=0)).difference(opening)
        ours = _ours(box, archive, closed)
        if stay := len(closed.difference(ours)):
            log.warning(
                "%s: %d backups have had their time and stay, since no key of this box opens them: damaged, or of another box",
                name,
                stay,
            )
        gone = {*rotation.obsolete(opening, now, keep), *ours}
    removed = 0
    for each in sorted(documents, key=lambda each: not each.key.endswith("/index")):  # the index first
        of = each.key.removeprefix(snapshot.PREFIX).partition("/")[0]
        moment = snapshot.moment_of(of)
        cut = of not in finished and moment is not None and now - moment > ABANDONED
        if of in gone or cut:
            with box.catalog.reading() as reading:
                if freezes.in_force(reading) is not None:
                    break
            archive.remove(each.key)
            removed += 1
    return removed


def _opens(box: Box, archive: Archive, name: str) -> bool:
    """Whether the key of a snapshot is there, and ours."""
    try:
        fetching.snapshot_key(archive, box.root, name)
    except (Corrupt, Unknown, Unreadable):
        return False
    return True


def whose(box: Box, archive: Archive, names: Iterable[str]) -> dict[str, Whose]:
    """Whose the snapshots `names` in an archive are, as this box can tell (`whose_backup`). Raises what the archive raises."""
    judge = judge_of(box, archive)
    return {each: judge(each) for each in names}


def judge_of(box: Box, archive: Archive) -> Callable[[str], Whose]:
    """What says of one snapshot whose it is, by what this box knows now."""
    with box.catalog.reading() as reading:
        made = audit_search.details(reading, MAKE, "name")
    try:
        own = whole_recovery_slot(box.config.data.absolute() / "keys")
    except Corrupt:  # then it tells nothing
        own = b""
    return lambda name: whose_backup(archive, name, box.root, own, made)


def _ours(box: Box, archive: Archive, names: Iterable[str]) -> list[str]:
    """Those of the snapshots `names` that are known to be this box's; without those of which a bad spot of the disk leaves that open."""
    judge, found = judge_of(box, archive), []
    for each in names:
        with suppress(Unreadable):
            if judge(each) is Whose.OURS:
                found.append(each)
    return found


def _record(
    tx: Transaction,
    box: Box,
    to: DestinationSettings,
    now: datetime,
    actor: str,
    *,
    made: Index | None = None,
    removed: int = 0,
    decisions: int = 0,
    failure: ApplianceError | None = None,
) -> None:
    reason = f"{to.name}: {failure.message}" if failure else ""
    if not recall.has_moved(tx, to):  # a backup of one place is none of another
        _keep(tx, to.name, now, reason, None if made is None else decisions)
        if made is not None:
            destinations.end_rest(tx, to.name)
    if made is not None:
        details = {
            "name": made.name,
            "bytes": made.size_bytes,
            "instances": made.contents.instances,
            "removed": removed,
        }
        entry = audit.Entry(MAKE, to.name, actor, details)
    else:
        entry = audit.Entry("backup:fail", to.name, actor, {"reason": reason})
    audit.append(tx, box.audit_key, [entry], now)


def _count_failure(tx: Transaction, to: DestinationSettings, now: datetime, actor: str) -> None:
    """Note one more that has failed in an archive; the first again where a person has asked for it, who may have mended something."""
    if not recall.has_moved(tx, to):
        before = settings.get(tx, _failures_of(to.name)) if actor == BY_ITSELF else None
        failed = {"count": int((before or {}).get("count", 0)) + 1, "at_utc": now.isoformat()}
        settings.put(tx, _failures_of(to.name), failed, now)


def _keep(tx: Transaction, to: str, now: datetime, reason: str, decisions: int | None) -> None:
    """Write down how the latest attempt in an archive went. `decisions` are what the backup has that was made; None: none was."""
    before = settings.get(tx, _of(to), {})
    made = decisions is not None
    latest = {
        "at_utc": now.isoformat(),
        "outcome": "succeeded" if made else "failed",
        "succeeded_utc": now.isoformat() if made else before.get("succeeded_utc"),
        "reason": reason,
        "decisions": decisions if made else int(before.get("decisions", 0)),
    }
    settings.put(tx, _of(to), latest, now)
