"""Where copies of the catalog lie for as long as a backup, a restore drill or a check of its pages needs them: ``backups/`` of the data folder.

Each holds a shared lock (flock(2)) on the folder while it runs, which ends with its process, whatever that dies of. Who gets the lock alone knows
that nobody needs what lies there: it was left by a cut, and is removed, by the next of them or by a purge. Chose one lock for the whole folder, and to
wait with the sweep while any of them runs, rather than one lock for each copy, which begins a moment after the copy does.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from appliance.store.disk import Disk, disk_error

FOLDER: Final = "backups"
BACKUP: Final = "catalog-"
DRILL: Final = "drill-"
PAGES: Final = "scrub-"
_KINDS: Final = (BACKUP, DRILL, PAGES)


@contextmanager
def place(data: Path, kind: str) -> Iterator[Path]:
    """A new name that begins with `kind`, for a file or a folder; of what begins with it, nothing is left afterwards, nor of earlier cuts.

    Raises `OutOfResources` or `Transient` when the disk will not have it; what is raised inside passes through.
    """
    folder = data / FOLDER
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        sweep(data)
        held = _open(folder)
    except OSError as error:
        raise disk_error(error, "making room for a copy of the catalog") from error
    try:
        fcntl.flock(held, fcntl.LOCK_SH)  # a sweep is short
        path = folder / f"{kind}{secrets.token_hex(4)}"
        try:
            yield path
        finally:
            with suppress(OSError):  # the next sweep tries again, and a purge waits for it
                for left in folder.glob(f"{path.name}*"):
                    _remove(left)
    finally:
        os.close(held)


def sweep(data: Path) -> bool:
    """Remove what cuts have left, durably; False, and nothing is removed, while a backup, a drill or a check of pages runs.

    Raises `OutOfResources` or `Transient` when the disk fails.
    """
    folder = data / FOLDER
    if not folder.exists():
        return True
    try:
        alone = _open(folder)
        try:
            fcntl.flock(alone, fcntl.LOCK_EX | fcntl.LOCK_NB)
            found = [each for kind in _KINDS for each in folder.glob(f"{kind}*")]
            for each in found:
                _remove(each)
            if found:
                Disk().sync_directory(folder)
        finally:
            os.close(alone)
    except BlockingIOError:
        return False
    except OSError as error:
        raise disk_error(error, "removing copies of the catalog") from error
    return True


def _open(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
