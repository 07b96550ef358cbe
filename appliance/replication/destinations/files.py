"""Files on a disk that may be pulled out: written so that they are whole and there, and errors in our terms."""

from __future__ import annotations

import errno
import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from appliance.errors import ApplianceError, OperatorNeeded, OutOfResources, Transient, Unreadable
from appliance.store.disk import NOT_GIVEN_BACK

_BLOCK_BYTES = 1 << 20
_LEFT_BEHIND_SECONDS = 24 * 3600
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE})
_NOT_ALLOWED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


def blocks(source: object) -> Iterator[bytes]:
    """What a binary file holds from where it stands, a megabyte at a time."""
    read = source.read  # type: ignore[attr-defined]
    while block := read(_BLOCK_BYTES):
        yield block


def write(path: Path, pieces: Iterator[bytes]) -> str:
    """Write a new file, durable on return; the SHA-256 of what was written."""
    written = hashlib.sha256()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
    with os.fdopen(descriptor, "wb") as file:
        for piece in pieces:
            file.write(piece)
            written.update(piece)
        file.flush()
        os.fsync(file.fileno())
    return written.hexdigest()


def digest(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return digest_of(blocks(file))


def is_whole(path: Path, sha256: str) -> bool:
    """Whether the file is there and has this SHA-256. One that the disk does not give back has not."""
    try:
        return path.exists() and digest(path) == sha256
    except OSError as error:
        if error.errno in NOT_GIVEN_BACK:
            return False
        raise


def digest_of(pieces: Iterator[bytes]) -> str:
    """The SHA-256 of `pieces`, in hexadecimal."""
    found = hashlib.sha256()
    for piece in pieces:
        found.update(piece)
    return found.hexdigest()


def clear_away(arriving: Path) -> None:
    """Remove from `arriving` what a crash left half written, a day ago or more. Does not raise: there is another time."""
    with suppress(OSError):
        for left in arriving.iterdir():
            if time.time() - left.stat().st_mtime > _LEFT_BEHIND_SECONDS:
                left.unlink()


def sync(folder: Path) -> None:
    """The names in `folder` are on the disk when this returns."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_error(error: OSError, path: Path) -> ApplianceError:
    """As `translated`, for one met while reading a file: `Unreadable` when the disk does not give back what it holds."""
    if error.errno in NOT_GIVEN_BACK:
        return Unreadable(
            f"a file in {path} cannot be read ({(error.strerror or 'input/output error').lower()})"
        )
    return translated(error, path)


def translated(error: OSError, path: Path) -> ApplianceError:
    """`error` at the folder `path`, in our terms: a disk that is full, closed to us, not plugged in, or failing."""
    words = (error.strerror or "input/output error").lower()
    if error.errno in _NO_ROOM:
        return OutOfResources(f"there is no room left in {path} ({words})")
    if error.errno in _NOT_ALLOWED:
        return OperatorNeeded(
            f"the folder {path} cannot be written ({words})",
            hint="give the appliance's user the right to write there",
        )
    if error.errno in {errno.ENOENT, errno.ENOTDIR}:
        return Transient(f"the folder {path} is not there", hint="is its disk or share connected?")
    return Transient(f"the folder {path} failed ({words})")
