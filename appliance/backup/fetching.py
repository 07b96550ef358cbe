"""The catalog of one backup, fetched from an archive into a folder, and the key that opens it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from appliance.backup import snapshot
from appliance.backup.snapshot import Index
from appliance.catalog import copying
from appliance.errors import Corrupt
from appliance.replication.destinations import Archive
from appliance.store.disk import disk_error
from appliance.store.keys import RootKey

Tell = Callable[[str, int, int], None]
"""Told which part is under way (``catalog`` in bytes, ``manifests`` by number), how much is done, of how much (0: unknown)."""


def snapshot_key(archive: Archive, root: RootKey, name: str) -> bytes:
    """The key of the copied catalog. Raises `Corrupt` if it was destroyed, which no restore can undo, or is damaged."""
    sealed = archive.document(snapshot.key_key(name))
    if sealed == snapshot.DESTROYED:
        raise Corrupt("the key of the backup was destroyed", hint="use another backup")
    return root.unseal(sealed, snapshot.key_context(name))


def fetch(folder: Path, archive: Archive, key: bytes, index: Index, tell: Tell) -> Path:
    """The catalog of one snapshot, whole, under its `key`, as ``<name>.db`` in `folder`; goes on with what is there of it.

    Nothing else stays in `folder`. Raises `Corrupt` if it is not whole, and what archive and disk raise.
    """
    path = folder / f"{index.name}.db"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
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
    copying.verify(path, key)
    return path
