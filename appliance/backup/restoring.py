"""A blank box becomes the one that an archive remembers: the recovery key on paper, and any one archive, are enough.

::

    archive ── keys/root.recovery + paper ──▶ root key
       │
       ├── snapshots/, the newest that is whole ──▶ catalog   (in service: every study can be searched and shown)
       ├── manifests/, written since, or all of them without a snapshot ──▶ what came after
       └── objects/ ──▶ on demand (`replication.recall`), and the rest by and by (`homecoming`)

The new box is made whole in ``arriving/`` of the data folder (`store.succession`), whatever stands beside it: nothing, or a
blank box whose console shows how far it is. Everything is fetched into ``arriving/restoring/`` and verified there; an
attempt that is cut goes on from the pieces that are whole. Then the catalog gets its name, and last the keys.
``restoring/placed`` names the snapshot that is being put in place, and ``restoring/index`` is its sealed index, until all is
done: so an attempt cut at any step goes on where it was, from any archive of the same box, and begins anew from another
box's, or for another backup: nothing is mixed. Only when the manifests are read and every old session is ended is the box announced; no process has seen it before.

Refused: a box that is not blank; a snapshot that newer software made (with the version to install); a paper of another box,
told from a mistyped one. A snapshot that is damaged is said, and the one before it is taken, unless somebody has chosen it. Which is the
newest, no clock decides: neither the one that has named it nor that of the blank box (`snapshot.in_order`). Which may be chosen, and
when one must be, is in `choice`.

A bucket that keeps earlier versions may be restored as it stood at a moment (`destinations.past`): whoever had the box's key to it has
written over what lies there, and can't remove what lay there before. What came after that moment and still opens is read all the same.

The newest paper opens everything. A paper that was replaced opens the snapshots of its day, each by the slot beside it, and with the
root key that it finds there every later one, until that is changed too (``key rotate-root``). Chose not to refuse those: whoever has
paper and archive has that key whatever this code says, and a clinic that finds only the old paper after a fire gets its box back. What was
sealed under a later root key stays closed to it, and the newest snapshot that it does open is taken, with a warning.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from appliance import audit
from appliance.backup import (
    catching_up,
    homecoming,
    other_archives,
    rebuilding,
    snapshot,
    standing,
    unread,
)
from appliance.backup.choice import Wanted, chosen, is_too_new, needs
from appliance.backup.fetching import Tell, ages_of, fetch, indexes, open_root, snapshot_key
from appliance.backup.snapshot import Index
from appliance.box import Box, open_box
from appliance.catalog import (
    Reading,
    copying,
    destinations,
    devices,
    instances,
    people,
    settings,
    tier_tags,
    totals,
)
from appliance.config import Config
from appliance.errors import Corrupt, Refused, Transient, Unknown, Unreadable
from appliance.lifecycle import destruction, memory
from appliance.lifecycle.acting import Act
from appliance.model import DestinationSettings
from appliance.replication.destinations import Archive, past
from appliance.store.disk import Disk, disk_error
from appliance.store.keys import RootKey, restore_keys
from appliance.store.recovery import RecoveryKey
from appliance.store.root_key import wrapped_generation
from appliance.store.succession import ARRIVING, announce, is_announced

log = logging.getLogger(__name__)

_PLACED: Final = "placed"
_PLACED_INDEX: Final = "index"


@dataclass(frozen=True, slots=True)
class Restored:
    """What a blank box has become: by which snapshot (None: by manifests alone), and what came by manifests."""

    snapshot: Index | None
    rebuilt: rebuilding.Rebuilt
    damaged_snapshots: int
    studies: int
    instances: int


def restore(
    config: Config,
    archive: Archive,
    place: DestinationSettings,
    key: RecoveryKey,
    *,
    tell: Tell,
    actor: str,
    backup: str = "",
    as_of: datetime | None = None,
    now: datetime | None = None,
) -> Restored:
    """Restore the blank data folder of `config` from `archive`, which `place` describes, with the recovery key.

    From the backup called `backup`, or the newest that is whole where none is named; with `as_of` from a bucket as it stood then. `now` is what the clock says, unless another moment
    is given. A blank box that runs there meanwhile is replaced when its processes have started anew. Raises `Refused` for a box that
    is not blank and for another box's key, `OperatorNeeded` when newer software is needed, there is nothing to restore, or a person has to
    name the backup (`choice.chosen`), `Unknown` and `Corrupt` for one that was named and is not there or not whole, and what the archive
    and the disk raise.
    """
    if (before := _blank_box(config)) is not None:
        before.close()  # what is there is blank, or it would have been refused
    restored = prepare(
        config, archive, place, key, tell=tell, actor=actor, backup=backup, as_of=as_of, now=now
    )
    box = _blank_box(config)  # it may have begun, or been claimed, meanwhile
    if box is None:
        _announce(config.data.absolute(), Disk())
    else:
        try:
            put_in_service(box)
        finally:
            box.close()
    with suppress(Transient):  # whoever has the blank box open makes room in a moment
        open_box(config).close()
    return restored


def prepare(
    config: Config,
    archive: Archive,
    place: DestinationSettings,
    key: RecoveryKey,
    *,
    tell: Tell,
    actor: str,
    address: str = "",
    backup: str = "",
    as_of: datetime | None = None,
    now: datetime | None = None,
) -> Restored:
    """Make the restored box, whole, in ``arriving/`` of the data folder of `config`; the box that is there goes on.

    Goes on with an attempt that was cut, unless that was of another backup than `backup`, or of another moment. `address` is where `actor` is, for the audit. Raises as `restore`.
    """
    data = config.data.absolute()
    with _alone(data):
        if is_announced(data):
            raise Transient("a restored box waits to take its place here", hint="start the appliance anew")
        arriving = replace(config, data=data / ARRIVING)
        now = now or datetime.now(UTC)
        return _prepare(
            arriving,
            archive,
            place,
            key,
            Wanted(backup, as_of),
            now,
            tell=tell,
            actor=actor,
            address=address,
        )


def put_in_service(blank: Box) -> None:
    """Announce the box that `prepare` has made in the folder of `blank`; every process must then start anew.

    Judged and announced under the write lock of the blank box's catalog, so that it cannot be claimed or get an image in
    between. Raises `Refused` when it is not blank any more.
    """
    with blank.catalog.transaction() as tx:
        require_blank(tx)
        _announce(blank.config.data.absolute(), blank.disk)


def _announce(data: Path, disk: Disk) -> None:
    shutil.rmtree(data / ARRIVING / "restoring", ignore_errors=True)
    announce(data, disk)


def require_blank(reading: Reading) -> None:
    """Raise `Refused` unless the box has no image, nobody who signs in, and neither device nor destination."""
    held = (
        totals.totals(reading).instances
        or people.anybody(reading)
        or devices.devices(reading)
        or destinations.destinations(reading)
    )
    if held:
        raise Refused(
            "this box is not blank: it holds a box already",
            hint="restore into an empty data folder; nothing was changed",
        )


def _prepare(
    config: Config,
    archive: Archive,
    place: DestinationSettings,
    key: RecoveryKey,
    wanted: Wanted,
    now: datetime,
    *,
    tell: Tell,
    actor: str,
    address: str,
) -> Restored:
    data = config.data
    current = archive
    if wanted.as_of is not None:
        archive = past.as_it_was(archive, wanted.as_of)
    written = {each.key: each.written_utc for each in archive.documents(snapshot.PREFIX)}
    names = list(standing.look(archive, written).names)
    slot, root = open_root(archive, names, key)
    known_indexes = indexes(archive, root, names)
    known_ages = ages_of(known_indexes)
    placed = _placed(data, root, wanted)
    if placed is None:
        tried = chosen(snapshot.in_order(names, known_ages, now), known_indexes, wanted.backup)
        index, damaged = _fetched(data, archive, root, tried, tell, is_chosen=bool(wanted.backup))
    else:
        index, damaged = (placed.index, 0)
    _put_in_place(data, archive, slot, root, key, index, wanted)
    box = open_box(config)
    try:
        known = _archive_known(box, place)
        # The archive's own clock on both sides; a disk has none of its own, so all of its manifests are read.
        since = None
        if index and place.kind == "s3" and other_archives.knows(box, known):
            since = snapshot.came_after(index, written)
        rebuilt = rebuilding.rebuild(
            box, archive, known, since=since, tell=lambda done: tell("manifests", done, 0), actor=actor
        )
        if isinstance(archive, past.Past):
            rebuilt += catching_up.catch_up(
                box,
                current,
                archive,
                known,
                slot,
                tell=lambda done: tell("manifests", done, 0),
                actor=actor,
            )
        if index is None and rebuilt.kept_back and not rebuilt.opened:
            raise Unreadable(
                "the disk gives back nothing of what the box had kept there",
                hint="look at its plug and its cable, try another socket, and restore again; or restore from another archive",
            )
        if index is None and not rebuilt.manifests:
            log.warning(
                "the archive holds neither a snapshot nor a manifest: the box is new but for its keys"
            )
        lives = 1 + max((each.lives for each in known_ages.values()), default=0)
        return _finish(box, known, index, rebuilt, damaged, lives, actor, address)
    finally:
        box.close()


# --- the archive -----------------------------------------------------------------------------------------------------


def _fetched(
    data: Path, archive: Archive, root: RootKey, names: list[str], tell: Tell, *, is_chosen: bool
) -> tuple[Index | None, int]:
    """The newest snapshot that is whole, its catalog in ``restoring/``; and how many newer ones were damaged, or not given back by their disk.

    None is taken in the place of one that a person has chosen.
    """
    damaged = 0
    for name in names:
        try:
            sealed = archive.document(snapshot.index_key(name))
            if wrapped_generation(sealed) > root.generation:
                if is_chosen:
                    raise Refused(
                        f"the backup {name} was made after this recovery key was replaced",
                        hint="type the newest key, or choose an older backup",
                    )
                log.warning(
                    "the snapshot %s was made after this recovery key was replaced: an older one is taken",
                    name,
                )
                continue
            index = snapshot.decode(name, root.unseal(sealed, snapshot.context(name)))
            if is_too_new(index):
                raise needs(index)
            fetch(data / "restoring", archive, snapshot_key(archive, root, name), index, tell)
        except (Corrupt, Unknown, Unreadable) as error:
            if is_chosen:
                log.error("the snapshot %s is not whole: %s", name, error.message)
                raise Corrupt(f"the backup {name} can't be restored", hint="choose another backup") from error
            damaged += 1
            log.error("the snapshot %s is not whole: %s", name, error.message)
            continue
        return index, damaged
    if damaged:
        log.error("no snapshot is whole: the catalog is rebuilt from the manifests alone")
    return None, damaged


# --- the data folder -------------------------------------------------------------------------------------------------


@contextmanager
def _alone(data: Path) -> Iterator[None]:
    """Nobody else restores here."""
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(data / ".restoring", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise disk_error(error, "preparing the data folder") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise Transient(
            "a backup is being restored here already", hint="wait until that has ended"
        ) from error
    finally:
        os.close(lock)


def _blank_box(config: Config) -> Box | None:
    """The blank box that is in the data folder, opened; None for an empty folder.

    Raises `Refused` for a folder that holds more: it is not overwritten.
    """
    data = config.data.absolute()
    has_keys, has_catalog = (data / "keys").exists(), (data / "catalog.db").exists()
    has_images = any((data / "objects").glob("??/*.sealed")) if (data / "objects").is_dir() else False
    if not (has_keys or has_catalog or has_images):
        return None
    refusal = Refused(
        f"{data} is not blank: it holds a box already",
        hint="restore into an empty data folder; nothing was changed",
    )
    if has_images or not has_keys:
        raise refusal
    box = open_box(config)
    try:
        with box.catalog.reading() as reading:
            require_blank(reading)
    except Refused as error:
        box.close()
        raise refusal from error
    except BaseException:
        box.close()
        raise
    return box


@dataclass(frozen=True, slots=True)
class _Placed:
    """What an attempt that was cut has begun to put in place: the catalog of a snapshot, or none (manifests alone)."""

    index: Index | None


def _placed(data: Path, root: RootKey, wanted: Wanted) -> _Placed | None:
    """What an attempt that was cut has begun to put in place; None if nothing yet.

    What it has left of another box is removed, or of another backup or moment than was chosen: all of it is in the archive.
    """
    restoring = data / "restoring"
    try:
        if not (restoring / _PLACED).exists():
            if (data / "keys").exists() or (data / "catalog.db").exists():
                _remove_all(data)
            return None
        name, _, moment = (restoring / _PLACED).read_text("ascii").partition("\n")
        if name and (restoring / f"{name}.db").exists():
            return None  # it has no name yet, and is made whole again
        if moment != wanted.moment or (wanted.backup and name != wanted.backup):
            log.warning(
                "what an attempt that was cut has left is of another backup or moment: it begins anew"
            )
            _remove_all(data)
            return None
        text = root.unseal((restoring / _PLACED_INDEX).read_bytes(), snapshot.context(name))
        return _Placed(snapshot.decode(name, text) if name else None)
    except Corrupt:
        log.warning("what an attempt that was cut has left is of another box: it begins anew")
        _remove_all(data)
        return None
    except OSError as error:
        raise disk_error(error, "reading what an attempt that was cut has left") from error


def _remove_all(data: Path) -> None:
    try:
        shutil.rmtree(data)
        data.mkdir(mode=0o700)
    except OSError as error:
        raise disk_error(error, "removing what an attempt that was cut has left") from error


def _put_in_place(
    data: Path,
    archive: Archive,
    slot: bytes,
    root: RootKey,
    key: RecoveryKey,
    index: Index | None,
    wanted: Wanted,
) -> None:
    """First a note of what is coming, then the catalog, under the key that this box opens it with, then the keys."""
    restoring = data / "restoring"
    name = index.name if index else ""
    try:
        restoring.mkdir(mode=0o700, parents=True, exist_ok=True)
        note = snapshot.encode(index) if index else b""
        _write(restoring / _PLACED_INDEX, root.seal(note, snapshot.context(name)))
        noted = f"{name}\n{wanted.moment}" if wanted.moment else name
        _write(restoring / _PLACED, noted.encode("ascii"))
        if index is not None and (found := restoring / f"{index.name}.db").exists():
            opened = restoring / "opened.db"
            copying.change_key(found, snapshot_key(archive, root, index.name), opened, root.derive("catalog"))
            for left in data.glob("catalog.db-*"):
                left.unlink()
            os.replace(opened, data / "catalog.db")
            Disk().sync_directory(data)
            found.unlink()
            Disk().sync_directory(restoring)
    except OSError as error:
        raise disk_error(error, "putting the restored catalog in its place") from error
    if not (data / "keys").exists():
        restore_keys(data / "keys", slot, key)


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    Disk().sync_directory(path.parent)


# --- the box ---------------------------------------------------------------------------------------------------------


def _archive_known(box: Box, place: DestinationSettings) -> DestinationSettings:
    """The destination of the catalog that `place` is, with the access that has just worked; added if it isn't there."""
    which = ("bucket", "endpoint_url", "path", "address", "folder")
    with box.catalog.transaction() as tx:
        for each in destinations.destinations(tx):
            mark = place.options.get("mark")
            same = (mark and each.options.get("mark") == mark) or all(
                each.options.get(name, "") == place.options.get(name, "") for name in which
            )
            if each.kind == place.kind and same:
                destinations.change(tx, each.name, {**each.options, **place.options}, place.secret or None)
                return replace(
                    each, options={**each.options, **place.options}, secret=place.secret or each.secret
                )
        name, number = place.name, 1
        while destinations.destination(tx, name) is not None:
            number += 1
            name = f"{place.name}-{number}"
        return replace(place, name=name, id=destinations.add(tx, replace(place, name=name)))


def _finish(
    box: Box,
    place: DestinationSettings,
    index: Index | None,
    rebuilt: rebuilding.Rebuilt,
    damaged: int,
    lives: int,
    actor: str,
    address: str,
) -> Restored:
    now = datetime.now(UTC)
    with box.catalog.transaction() as tx:
        for person in people.people(tx):
            people.end_sessions_of(tx, person.id)  # a cookie of the old box opens nothing here
        destruction.end_after_restore(tx, Act(by=actor, now=now, audit_key=box.audit_key, address=address))
        memory.note_restored(tx, index.made_utc if index else None, now)
        for each in destinations.destinations(tx):
            if each.kind == "s3":  # which has tags that were set after the backup was made
                tier_tags.doubt_all(tx, each.id, now)
        kept = totals.totals(tx)
        told: dict[str, Any] = {
            "at_utc": now.isoformat(),
            "from": place.name,
            "snapshot": index.name if index else "",
            "cursor": 0,
            "last": instances.last_id(tx),
            "missing": 0,
            "home": False,
            "lives": lives,
        }
        settings.put(tx, homecoming.LAST, told, now)
        unread.note(tx, place, rebuilt.unread, told["at_utc"], now)
        other_archives.note(tx, place, told["at_utc"], now)
        details = {
            "snapshot": told["snapshot"],
            "instances": kept.instances,
            "by manifest": rebuilt.instances,
        }
        entries = [audit.Entry("backup:restore", place.name, actor, details, address=address)]
        if settings.get(tx, settings.HEARTBEAT_CONSENT) is not None:
            # it may have been withdrawn since the snapshot: somebody agrees again, or nothing is sent
            settings.remove(tx, settings.HEARTBEAT_CONSENT)
            entries.append(audit.Entry("heartbeat:withdraw", "heartbeat", actor, address=address))
        audit.append(tx, box.audit_key, entries, now)
    return Restored(index, rebuilt, damaged, kept.studies, kept.instances)
