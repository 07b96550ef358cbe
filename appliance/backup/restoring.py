"""A blank box becomes the one that an archive remembers: the recovery key on paper, and any one archive, are enough.

::

    archive ── keys/root.recovery + paper ──▶ root key
       │
       ├── snapshots/, the newest that is whole ──▶ catalog   (in service: every study can be searched and shown)
       ├── manifests/, written since, or all of them without a snapshot ──▶ what came after
       └── objects/ ──▶ on demand (`replication.recall`), and the rest by and by (`bringing_home`)

Everything is fetched into ``restoring/`` of the data folder and verified there; an attempt that is cut goes on from the pieces
that are whole. Then the catalog gets its name, and last the keys: a folder with a catalog and without keys is one that no
process opens, so nothing can begin a new box in between. ``restoring/placed`` names the snapshot that is being put in place,
and is there until all is done: so an attempt cut at any step goes on where it was, and another archive can't be mixed in.

Refused: a box that is not blank; a snapshot that newer software made (with the version to install); a paper of another box,
told from a mistyped one. A snapshot that is damaged is said, and the one before it is taken.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from appliance import audit
from appliance.backup import rebuilding, snapshot
from appliance.backup.snapshot import Index
from appliance.box import Box, open_box
from appliance.catalog import copying, destinations, instances, people, settings, totals
from appliance.catalog.schema import REVISION
from appliance.config import Config
from appliance.errors import (
    ApplianceError,
    Corrupt,
    OperatorNeeded,
    Refused,
    Transient,
    Unknown,
)
from appliance.model import DestinationSettings, InstanceId
from appliance.replication import recall
from appliance.replication.destinations import Archive
from appliance.replication.destinations.archive import RECOVERY_SLOT
from appliance.store.disk import Disk, disk_error
from appliance.store.keys import RootKey, open_with_recovery, restore_keys
from appliance.store.recovery import RecoveryKey

log = logging.getLogger(__name__)

_PLACED: Final = "placed"
LAST: Final = "restore.last"
"""What was restored, and how far its images are home, in `appliance.catalog.settings`."""

OVERLAP: Final = timedelta(hours=1)
"""Manifests written so long before the snapshot, by the bucket's clock, are read too."""

Tell = Callable[[str, int, int], None]
"""Told which part is under way (``catalog`` in bytes, ``manifests`` by number), how much is done, of how much (0: unknown)."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What a blank box has become: by which snapshot (None: by manifests alone), and what came by manifests."""

    snapshot: Index | None
    rebuilt: rebuilding.Rebuilt
    damaged_snapshots: int
    studies: int
    instances: int


def restore(
    config: Config, archive: Archive, place: DestinationSettings, key: RecoveryKey, *, tell: Tell, actor: str
) -> Restored:
    """Restore the blank data folder of `config` from `archive`, which `place` describes, with the recovery key.

    Raises `Refused` for a box that is not blank and for another box's key, `OperatorNeeded` when newer software is needed
    or there is nothing to restore, `Corrupt` when nothing is whole, and what the archive and the disk raise.
    """
    data = config.data.absolute()
    with _alone(data):
        placed = _placed(data)
        written = {each.key: each.written_utc for each in archive.documents(snapshot.PREFIX)}
        names = snapshot.names_in(list(written))
        slot, root = _opened(archive, names, key)
        index, damaged = _fetched(data, archive, root, names if placed is None else placed, tell)
        if placed and index is None:
            raise Refused(
                "an attempt that was cut has put the catalog of another archive in place",
                hint="go on with the archive that it began with, or empty the data folder",
            )
        _put_in_place(data, slot, key, index)
    box = open_box(config)
    try:
        known = _archive_known(box, place)
        # The archive's own clock on both sides; a disk has none of its own, so all of its manifests are read.
        on_its_clock = written.get(snapshot.index_key(index.name)) if index and place.kind == "s3" else None
        since = None if on_its_clock is None else on_its_clock - OVERLAP
        rebuilt = rebuilding.rebuild(
            box, archive, known, since=since, tell=lambda done: tell("manifests", done, 0), actor=actor
        )
        if index is None and not rebuilt.manifests:
            log.warning(
                "the archive holds neither a snapshot nor a manifest: the box is new but for its keys"
            )
        restored = _finish(box, known, index, rebuilt, damaged, actor)
        shutil.rmtree(data / "restoring", ignore_errors=True)
        return restored
    finally:
        box.close()


def bringing_home(box: Box, now: datetime, *, keep_going: Callable[[], bool], most: int = 200) -> int:
    """Recall the next images that are not here yet, after a restore; how many came. Cheap once all are.

    Goes on where it left off. Stops at the reserve of the disk, and at an archive that can't be reached, till next time.
    """
    with box.catalog.reading() as reading:
        last = settings.get(reading, LAST)
        if not isinstance(last, dict) or last.get("home"):
            return 0
        rows = instances.objects_after(reading, InstanceId(int(last["cursor"])), most)
    came, cursor, missing = 0, int(last["cursor"]), int(last["missing"])
    try:
        for instance_id, object_id, key_id, sealed_bytes in rows:
            if not keep_going():
                break
            if not recall.is_here(box, object_id):
                try:
                    recall.recall(box, object_id, key_id, sealed_bytes)
                    came += 1
                except (Unknown, Corrupt) as error:
                    missing += 1
                    log.error("an image cannot be brought back: %s", error.message)
            cursor = instance_id
    except (Transient, OperatorNeeded) as error:
        log.warning("images are brought back later: %s", error.message)
    done = {
        "cursor": cursor,
        "missing": missing,
        "home": len(rows) < most and (not rows or cursor == rows[-1][0]),
    }
    with box.catalog.transaction() as tx:
        settings.put(tx, LAST, {**last, **done}, now)
    return came


# --- the archive -----------------------------------------------------------------------------------------------------


def _opened(archive: Archive, names: list[str], key: RecoveryKey) -> tuple[bytes, RootKey]:
    """The recovery slot that `key` opens, the newest first, and the root key in it."""
    wrong: ApplianceError | None = None
    for where in (RECOVERY_SLOT, *(snapshot.slot_key(name) for name in names)):
        try:
            slot = archive.document(where)
            return slot, open_with_recovery(slot, key)
        except Unknown:
            continue
        except (Refused, Corrupt) as error:
            wrong = wrong or error
    if wrong is not None:
        raise wrong
    raise OperatorNeeded(
        "this archive holds nothing of a box: no wrapped root key is in it",
        hint="check the bucket or the folder; it is where the box has kept its sealed copies",
    )


def _fetched(
    data: Path, archive: Archive, root: RootKey, names: list[str], tell: Tell
) -> tuple[Index | None, int]:
    """The newest snapshot that is whole, its catalog in ``restoring/``; and how many newer ones were damaged."""
    damaged = 0
    for name in names:
        placed = (data / "restoring" / _PLACED).exists() and not (data / "restoring" / f"{name}.db").exists()
        try:
            sealed = archive.document(snapshot.index_key(name))
            index = snapshot.decode(name, root.unseal(sealed, snapshot.context(name)))
            if index.revision > REVISION:
                raise OperatorNeeded(
                    f"the backup was made by newer software ({index.software})",
                    hint=f"install version {index.software} or a newer one, and restore again",
                )
            if not placed:
                fetch(data / "restoring", archive, root, index, tell)
        except (Corrupt, Unknown) as error:
            damaged += 1
            log.error("the snapshot %s is not whole: %s", name, error.message)
            continue
        return index, damaged
    if damaged:
        log.error("no snapshot is whole: the catalog is rebuilt from the manifests alone")
    return None, damaged


def fetch(folder: Path, archive: Archive, root: RootKey, index: Index, tell: Tell) -> Path:
    """The catalog of one snapshot, whole, as ``<name>.db`` in `folder`; goes on with what is there of it already.

    Nothing else stays in `folder`. Raises `Corrupt` if it is not whole, and what archive and disk raise.
    """
    path = folder / f"{index.name}.db"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        for other in folder.iterdir():
            if other != path:
                other.unlink()
        with open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+b") as file:
            done = 0
            for number, piece in enumerate(index.pieces):
                file.seek(done)
                if hashlib.sha256(file.read(piece.size_bytes)).hexdigest() != piece.sha256:
                    fetched = archive.document(snapshot.piece_key(index.name, number))
                    if hashlib.sha256(fetched).hexdigest() != piece.sha256:
                        raise Corrupt("a piece of a backup is not what was written")
                    file.seek(done)
                    file.write(fetched)
                done += piece.size_bytes
                tell("catalog", done, index.size_bytes)
            file.truncate(done)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise disk_error(error, "fetching a backup") from error
    copying.verify(path, root.derive("catalog"))
    return path


# --- the data folder -------------------------------------------------------------------------------------------------


@contextmanager
def _alone(data: Path) -> Iterator[None]:
    """Nobody else restores, and no process opens the folder meanwhile."""
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(data / ".opening", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise disk_error(error, "preparing the data folder") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise Transient(
            "the data folder is in use: a box is being opened or restored there",
            hint="stop the appliance, then restore",
        ) from error
    finally:
        os.close(lock)


def _placed(data: Path) -> list[str] | None:
    """The snapshot whose catalog an attempt that was cut has put in place (none: `[]`); None for a blank folder.

    Raises `Refused` for a folder that holds a box: it is not overwritten.
    """
    has_keys = (data / "keys").exists()
    has_catalog = (data / "catalog.db").exists()
    has_images = any((data / "objects").glob("??/*.sealed")) if (data / "objects").is_dir() else False
    with suppress(FileNotFoundError):
        return (data / "restoring" / _PLACED).read_text("ascii").split()
    if has_keys or has_catalog or has_images:
        raise Refused(
            f"{data} is not blank: it holds a box already",
            hint="restore into an empty data folder; nothing was changed",
        )
    return None


def _put_in_place(data: Path, slot: bytes, key: RecoveryKey, index: Index | None) -> None:
    """First a note of what is coming, then the catalog, then the keys."""
    restoring = data / "restoring"
    try:
        restoring.mkdir(mode=0o700, exist_ok=True)
        _write(restoring / _PLACED, index.name if index else "")
        if index is not None and (found := restoring / f"{index.name}.db").exists():
            for left in data.glob("catalog.db-*"):
                left.unlink()
            os.replace(found, data / "catalog.db")
            Disk().sync_directory(data)
    except OSError as error:
        raise disk_error(error, "putting the restored catalog in its place") from error
    if not (data / "keys").exists():
        restore_keys(data / "keys", slot, key)


def _write(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    Disk().sync_directory(path.parent)


# --- the box ---------------------------------------------------------------------------------------------------------


def _archive_known(box: Box, place: DestinationSettings) -> DestinationSettings:
    """The destination of the catalog that `place` is, with the access that has just worked; added if it isn't there."""
    which = ("bucket", "endpoint_url", "path")
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
    actor: str,
) -> Restored:
    now = datetime.now(UTC)
    with box.catalog.transaction() as tx:
        for person in people.people(tx):
            people.end_sessions_of(tx, person.id)  # a cookie of the old box opens nothing here
        kept = totals.totals(tx)
        told: dict[str, Any] = {
            "at_utc": now.isoformat(),
            "from": place.name,
            "snapshot": index.name if index else "",
            "cursor": 0,
            "missing": 0,
            "home": False,
        }
        settings.put(tx, LAST, told, now)
        details = {
            "snapshot": told["snapshot"],
            "instances": kept.instances,
            "by manifest": rebuilt.instances,
        }
        audit.append(tx, box.audit_key, [audit.Entry("backup:restore", place.name, actor, details)], now)
    return Restored(index, rebuilt, damaged, kept.studies, kept.instances)
