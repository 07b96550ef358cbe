"""The files of the key directory: read with the care that keys need, replaced whole, and locked while more than one counts."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from appliance.errors import OperatorNeeded
from appliance.store.disk import Disk, disk_error

MOST_BYTES: Final = 4 << 20
"""Of a key file: the chain grows by a slot of 114 bytes with each rotation of the root key, and this holds 36 000."""


@contextlib.contextmanager
def locked(directory: Path, how: int) -> Iterator[None]:
    """Hold the lock of a key directory: exclusive to change it, shared to read more than one file of it."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise OperatorNeeded(
            f"there are no keys in {directory}",
            hint="put the directory back, or restore with the recovery key",
        ) from error
    except OSError as error:
        raise _read_error(directory, error) from error
    try:
        fcntl.flock(descriptor, how)
        yield
    finally:
        os.close(descriptor)


def read(path: Path, *, open_to: int = stat.S_IRWXG | stat.S_IRWXO) -> bytes | None:
    """The bytes of a key file, None if there is none. Raises `OperatorNeeded` if `open_to` of its mode is set, or it is too large."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _read_error(path, error) from error
    with open(descriptor, "rb") as file:
        if os.fstat(descriptor).st_mode & open_to:
            raise OperatorNeeded(
                f"{path} can be read by others than its owner", hint=f"run: chmod 600 {path}"
            )
        try:
            data = file.read(MOST_BYTES + 1)
        except OSError as error:
            raise _read_error(path, error) from error
    if len(data) > MOST_BYTES:
        raise OperatorNeeded(
            f"{path} has more than {MOST_BYTES >> 20} MiB, and no key file has",
            hint="put it back from a copy",
        )
    return data


def write(path: Path, data: bytes) -> None:
    """Replace `path` by `data`: durable when this returns, whole at every moment."""
    disk, fresh = Disk(), path.with_name(f".{path.name}.new")
    try:
        descriptor = disk.overwrite(fresh)
        try:
            disk.write(descriptor, [data])
            disk.sync(descriptor)
        finally:
            os.close(descriptor)
        disk.rename(fresh, path)
        disk.sync_directory(path.parent)
    except OSError as error:
        raise disk_error(error, f"writing {path.name}") from error


def remove(path: Path) -> None:
    """Remove `path`, durably on return."""
    disk = Disk()
    try:
        disk.remove(path)
        disk.sync_directory(path.parent)
    except OSError as error:
        raise disk_error(error, f"removing {path.name}") from error


def _read_error(path: Path, error: OSError) -> OperatorNeeded:
    return OperatorNeeded(
        f"{path} cannot be read ({error.strerror})", hint="check who owns it, and run as that user"
    )
