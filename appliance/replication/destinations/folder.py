"""A folder that another program reads: Part 10 files, in clear, as they were received.

Layout below the folder::

    study-<16 hexadecimal digits>/<object id>.dcm     one instance
    .arriving/<object id>-<random>                    one that is being written

The digits are the beginning of the SHA-256 of the Study Instance UID: the instances of a study lie together, and no
text that a peer chose becomes a path. A file has its name only once it is whole, synced and read back, so the reading
program needs no lock. What is left in ``.arriving`` by a crash is removed by the next session that is alone there.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from appliance.errors import ApplianceError, OperatorNeeded, OutOfResources, Transient
from appliance.model import DestinationSettings, Takes
from appliance.replication.destinations import options
from appliance.replication.destinations.parcel import Parcel, Receipt, Session

_BLOCK_BYTES = 1 << 20
_ARRIVING = ".arriving"
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE})
_NOT_ALLOWED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


@dataclass(frozen=True, slots=True)
class FolderDestination:
    """The folder at `path`, which must exist: a missing one is a disk that is not plugged in."""

    path: Path
    takes: Takes = "dicom"

    @classmethod
    def from_settings(cls, settings: DestinationSettings) -> FolderDestination:
        """Raises `OperatorNeeded` unless the option `path` is an absolute path and no file's."""
        path = Path(options.text(settings, "path"))
        if not path.is_absolute():
            raise OperatorNeeded(
                f"the folder {path} is not an absolute path", hint="give it from the root: /srv/…"
            )
        if os.path.isfile(path):
            raise OperatorNeeded(f"{path} is a file, not a folder", hint="give the folder that it is in")
        return cls(path)

    def check(self) -> str:
        """Write, read back and remove a small file."""
        name = secrets.token_hex(8)
        try:
            self._arriving().mkdir(mode=0o700, exist_ok=True)
            probe = self._arriving() / f"check-{name}"
            _write(probe, iter([name.encode()]))
            probe.unlink()
        except OSError as error:
            raise _translated(error, self.path) from error
        return f"The folder {self.path} can be written."

    @contextmanager
    def open(self, parcels: Sequence[Parcel]) -> Iterator[Session]:  # noqa: ARG002
        """Nothing is kept open between the files."""
        try:
            self._arriving().mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise _translated(error, self.path) from error
        yield self

    def send(self, parcel: Parcel) -> Receipt:
        """Write the Part 10 file, or find it there with the same bytes."""
        folder = self.path / f"study-{hashlib.sha256(parcel.study_instance_uid.encode()).hexdigest()[:16]}"
        final = folder / f"{parcel.object_id}.dcm"
        part = self._arriving() / f"{parcel.object_id}-{secrets.token_hex(4)}"
        try:
            if parcel.tried_before and final.exists():
                found = _digest(final)
                with parcel.open() as source:
                    if _digest_of(_blocks(source)) == found:
                        _sync(folder)
                        return self._receipt(final, found)
            folder.mkdir(exist_ok=True)
            try:
                with parcel.open() as source:
                    written = _write(part, _blocks(source))
                if _digest(part) != written:
                    raise Transient("the folder did not keep what was written to it")
                part.rename(final)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
            _sync(folder)
            _sync(self.path)
        except OSError as error:
            raise _translated(error, self.path) from error
        return self._receipt(final, written)

    def _arriving(self) -> Path:
        return self.path / _ARRIVING

    def _receipt(self, final: Path, sha256: str) -> Receipt:
        return {
            "at_utc": datetime.now(UTC).isoformat(timespec="seconds"),
            "file": str(final.relative_to(self.path)),
            "bytes": final.stat().st_size,
            "sha256": sha256,
        }


def _blocks(source: object) -> Iterator[bytes]:
    read = source.read  # type: ignore[attr-defined]
    while block := read(_BLOCK_BYTES):
        yield block


def _write(path: Path, blocks: Iterator[bytes]) -> str:
    """Write a new file, durable on return; the SHA-256 of what was written."""
    digest = hashlib.sha256()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
    with os.fdopen(descriptor, "wb") as file:
        for block in blocks:
            file.write(block)
            digest.update(block)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return _digest_of(_blocks(file))


def _digest_of(blocks: Iterator[bytes]) -> str:
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(block)
    return digest.hexdigest()


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _translated(error: OSError, path: Path) -> ApplianceError:
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
