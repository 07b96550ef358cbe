"""A disk or a share that keeps what the bucket keeps: ciphertext, manifests, snapshots, and the wrapped root key.

For a USB disk that is taken home, a second machine's share, or any mounted folder. Whoever finds it sees sealed files with
random names; with the recovery key on paper, a blank box becomes this one again. The layout is that of every archive
(`archive`), each key a path below the folder.

Chose a folder over a driver for each kind of share, because the kernel's own (SMB, NFS, USB) are better kept than any
library of ours. A disk that is not mounted leaves an empty folder behind, and copies must not pile up there, on the
box's own disk: so a vault carries a mark (``.clinicbox-vault``) that `prepare` writes once, and where the mark that the
settings name is missing, the disk is not there: `Transient`.

A file is written beside its place (``.arriving``), synced, read back, renamed, and its folder synced. What a crash leaves
there is removed at the next connection test.
"""

from __future__ import annotations

import errno
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from appliance.errors import Refused, Transient, Unknown
from appliance.model import DestinationSettings, Takes
from appliance.replication.destinations import options
from appliance.replication.destinations.archive import (
    CONNECTION_TEST,
    CONNECTION_TEXT,
    Document,
    object_key,
    parts_of_key,
    verified_digest,
)
from appliance.replication.destinations.files import (
    blocks,
    clear_away,
    digest,
    is_whole,
    read_error,
    sync,
    translated,
    write,
)
from appliance.replication.destinations.parcel import Parcel, Receipt, Session, WouldReplace

_ARRIVING: Final = ".arriving"
_MARK: Final = ".clinicbox-vault"


@dataclass(frozen=True, slots=True)
class VaultDestination:
    """The folder at `path`, which must exist: a missing one is a disk that is not plugged in."""

    path: Path
    mark: str = ""
    takes: Takes = "ciphertext"

    @classmethod
    def from_settings(cls, settings: DestinationSettings) -> VaultDestination:
        """Raises `OperatorNeeded` unless the option `path` is an absolute path and no file's."""
        return cls(options.folder(settings), options.text(settings, "mark", ""))

    @staticmethod
    def mark_of(path: Path) -> str:
        """The mark of the vault at `path`, which is only looked at; nothing if it has none."""
        try:
            return (path / _MARK).read_text("ascii", "replace").strip()
        except OSError:
            return ""

    @classmethod
    def prepare(cls, path: Path) -> str:
        """Mark the disk at `path` as a vault, once; the mark, for the settings. Raises as `Session.send`."""
        try:
            if (path / _MARK).exists():
                return (path / _MARK).read_text("ascii").strip()
            mark = secrets.token_hex(16)
            write(path / _MARK, iter([mark.encode()]))
            sync(path)
        except UnicodeDecodeError as error:
            raise Refused(
                "the mark of this disk is not one of ours", hint=f"remove {path / _MARK} and try again"
            ) from error
        except OSError as error:
            raise translated(error, path) from error
        return mark

    def check(self) -> str:
        """Write and read back a small file, and clear away what a crash left half written."""
        self.put_document(CONNECTION_TEST, CONNECTION_TEXT)
        clear_away(self.path / _ARRIVING)
        return f"The disk at {self.path} can be written and read."

    @contextmanager
    def open(self, parcels: Sequence[Parcel]) -> Iterator[Session]:  # noqa: ARG002
        """Nothing is kept open between the files."""
        yield self

    def send(self, parcel: Parcel) -> Receipt:
        """Copy the ciphertext, unless it is there already, and read it back."""
        sha256 = verified_digest(parcel).hex()
        final = self._path(object_key(parcel.object_id))
        try:
            self._look()
            looks_first = parcel.tried_before or parcel.replaces == "nothing"
            if not (looks_first and is_whole(final, sha256)):
                if parcel.replaces == "nothing" and final.exists():
                    raise WouldReplace
                with parcel.sealed_path.open("rb") as source:
                    self._keep(final, blocks(source), sha256, parcel)
            sync(final.parent)
        except OSError as error:
            raise translated(error, self.path) from error
        return {
            "at_utc": datetime.now(UTC).isoformat(timespec="seconds"),
            "file": object_key(parcel.object_id),
            "bytes": parcel.sealed_bytes,
            "sha256": sha256,
            "proof": "read back",
        }

    def put_document(self, key: str, data: bytes) -> None:
        """See `Archive`."""
        try:
            self._look()
            self._keep(self._path(key), iter([data]))
        except OSError as error:
            raise translated(error, self.path) from error

    def document(self, key: str) -> bytes:
        """See `Archive`."""
        return b"".join(self.blocks(key))

    def documents(self, prefix: str) -> Iterator[Document]:
        """See `Archive`."""
        folder = self._path(prefix.rstrip("/"))
        try:
            self._look()
            for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
                if path.is_file():
                    written = datetime.fromtimestamp(path.stat().st_mtime, UTC)
                    yield Document(path.relative_to(self.path).as_posix(), written)
        except OSError as error:
            raise translated(error, self.path) from error

    def blocks(self, key: str) -> Iterator[bytes]:
        """See `Archive`."""
        path = self._path(key)
        try:
            self._look()
            if not path.is_file():
                raise Unknown("the disk does not hold that", hint="look in another archive")
        except OSError as error:
            raise translated(error, self.path) from error
        try:
            with path.open("rb") as file:
                yield from blocks(file)
        except OSError as error:
            raise read_error(error, self.path) from error

    def remove(self, key: str) -> None:
        """See `Clearable`."""
        path = self._path(key)
        try:
            self._look()
            path.unlink(missing_ok=True)
            if path.parent.is_dir():
                sync(path.parent)
            with suppress(OSError):  # not empty yet
                path.parent.rmdir()
        except OSError as error:
            raise translated(error, self.path) from error

    def remove_parts(self, keys: Sequence[str]) -> None:
        """See `Clearable`."""
        beginnings = tuple(_part_of(self._path(key)) for key in keys)
        arriving = self.path / _ARRIVING
        try:
            self._look()
            left = [each for each in arriving.iterdir() if each.name.startswith(beginnings)]
            for each in left:
                each.unlink(missing_ok=True)
            if left:
                sync(arriving)
        except FileNotFoundError as error:
            if arriving.exists() or not self.path.exists():
                raise translated(error, self.path) from error
        except OSError as error:
            raise translated(error, self.path) from error

    def _look(self) -> None:
        """Raise FileNotFoundError if the disk is not there."""
        if self.mark:
            if (self.path / _MARK).read_text("ascii", "replace").strip() != self.mark:
                raise FileNotFoundError(errno.ENOENT, "another disk is in its place")
        elif not self.path.is_dir():
            raise FileNotFoundError(errno.ENOENT, "not there")

    def _keep(
        self, final: Path, pieces: Iterator[bytes], sha256: str = "", parcel: Parcel | None = None
    ) -> None:
        """Write a file whole under its name. Raises OSError, `Transient`."""
        arriving = self.path / _ARRIVING
        arriving.mkdir(mode=0o700, exist_ok=True)
        part = arriving / f"{_part_of(final)}{secrets.token_hex(4)}"
        try:
            written = write(part, _while_wanted(pieces, parcel))
            if digest(part) != written or (sha256 and written != sha256):
                raise Transient("the disk did not keep what was written to it")
            made = [each for each in final.parents if each != self.path and self.path in each.parents]
            for folder in reversed(made):
                folder.mkdir(mode=0o700, exist_ok=True)
            part.replace(final)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        for folder in (final.parent, *final.parent.parents):
            sync(folder)
            if folder == self.path:
                break

    def _path(self, key: str) -> Path:
        """Where `key` is. Raises `Refused` for what is no key of an archive."""
        return self.path.joinpath(*parts_of_key(key))


def _part_of(final: Path) -> str:
    """What the name begins with under which a file arrives."""
    return f"{final.name[:64]}-"


def _while_wanted(pieces: Iterator[bytes], parcel: Parcel | None) -> Iterator[bytes]:
    for piece in pieces:
        if parcel is not None and not parcel.keep_going():
            raise Transient("the courier is stopping")
        yield piece
