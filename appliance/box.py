"""One appliance, opened: the keys, the catalog and the store of a data folder, put together once per process.

Layout of the data folder::

    keys/        wrapped root key, machine seal            (store.keys)
    catalog.db   SQLCipher index                           (catalog)
    objects/     sealed objects                            (store.objects)
    intake/      intake logs                               (store.intake_log)

The first process to find the folder empty makes keys and catalog; the others wait for it. A restored box that waits beside
takes its place first (`store.succession`).
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from appliance import audit
from appliance.audit import Entry
from appliance.catalog import Catalog
from appliance.config import Config
from appliance.errors import OperatorNeeded
from appliance.model import KeyId, ObjectId
from appliance.store.disk import Disk
from appliance.store.guard import DiskGuard
from appliance.store.keys import RootKey, create_keys, open_keys
from appliance.store.objects import ObjectStore, SealedReader
from appliance.store.study_keys import StudyKeys
from appliance.store.succession import Occupancy, occupy


@dataclass(frozen=True)
class Box:
    """What every process works on. Open it after forking: the catalog's connections are not shared."""

    config: Config
    root: RootKey
    catalog: Catalog
    objects: ObjectStore
    study_keys: StudyKeys
    guard: DiskGuard
    audit_key: bytes
    intake_key: bytes
    intake_folder: Path
    disk: Disk
    occupancy: Occupancy

    def open_object(self, object_id: ObjectId, key_id: KeyId) -> SealedReader:
        """The Part 10 file inside a recorded object, decrypted as it is read."""
        return self.objects.open(object_id, self.study_keys.key(key_id))

    def record(self, entries: Sequence[Entry], now: datetime) -> None:
        """Write into the audit, in a transaction of its own, what no other change carries."""
        with self.catalog.transaction() as tx:
            audit.append(tx, self.audit_key, entries, now)

    def close(self) -> None:
        self.catalog.close()
        self.occupancy.release()


def open_box(config: Config, *, disk: Disk | None = None) -> Box:
    """Open the data folder of `config`, making it first if it is new.

    Raises `OperatorNeeded` when the folder cannot be used or its keys do not open, `Transient` while a restored box waits to
    take this one's place and somebody still has it open.
    """
    data = config.data.absolute()
    disk = disk or Disk()
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(data / ".opening", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise OperatorNeeded(
            f"the data folder {data} cannot be used ({error.strerror})",
            hint="check APPLIANCE_DATA and that this user may write there",
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        occupancy = occupy(data, disk)
        try:
            keys = data / "keys"
            _refuse_half_a_box(data, keys)
            root = open_keys(keys) if keys.exists() else create_keys(keys)
            catalog = Catalog.open(data / "catalog.db", lambda: root.derived("catalog"))
        except BaseException:
            occupancy.release()
            raise
    finally:
        os.close(lock)
    return Box(
        config=config,
        root=root,
        catalog=catalog,
        objects=ObjectStore(data / "objects", disk=disk),
        study_keys=StudyKeys(root, catalog),
        guard=DiskGuard(data, config.store.reserve_bytes),
        audit_key=root.derive("audit"),
        intake_key=root.derive("intake"),
        intake_folder=data / "intake",
        disk=disk,
        occupancy=occupancy,
    )


def _refuse_half_a_box(data: Path, keys: Path) -> None:
    """A folder that has lost its keys or its catalog is not a new one: to make those anew would orphan every image."""
    catalog = data / "catalog.db"
    has_catalog = catalog.exists() and catalog.stat().st_size > 0
    has_images = any(True for _ in (data / "objects").glob("??/*")) if (data / "objects").is_dir() else False
    if has_images and not has_catalog:
        raise OperatorNeeded(
            f"{data} holds images but their catalog is gone",
            hint="put catalog.db back, or restore it from a backup; nothing was changed",
        )
    if (has_catalog or has_images) and not keys.exists():
        raise OperatorNeeded(
            f"{data} holds images or a catalog but their keys are gone",
            hint="put the keys folder back, or restore with the recovery key; nothing was changed",
        )
