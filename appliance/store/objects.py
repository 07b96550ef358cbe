"""Sealed objects on this box: one file each, ``objects/ab/<object id>.sealed``, ciphertext only.

Owns the ``objects`` folder. An object comes into being in one of two ways:

- as a part, ``objects/.part/<who>/<object id>``, written while it arrives. Once whole, the part carries the record of
  what it is as an extended attribute of its file (``user.clinicbox.record``), so that one sync makes both durable; it
  gets its name when that record is in the catalog (`ObjectStore.path` finishes the move, whoever asks first).
- out of an intake log, where its ciphertext is durable already, in batches that share one sync (`adopt`).

Chose the attribute because a record of its own beside the part would be a second sync for every instance; rejected a
trailer in the file, because what is on disk is, byte for byte, what is in the cloud.

A part is locked while it is being written: one that can be locked, carries no record and is in no log belongs to
nobody. Names are drawn at random (`appliance.model.ObjectId`): a peer's UID never becomes a path.
"""

from __future__ import annotations

import fcntl
import io
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from appliance.errors import Corrupt, Unknown
from appliance.model import ObjectId
from appliance.store import envelope
from appliance.store.disk import Buffer, Disk, disk_error, read_error

SUFFIX = ".sealed"
RECORD_ATTRIBUTE = "user.clinicbox.record"


def new_object_id() -> ObjectId:
    """A name that no other object has: 128 random bits."""
    return ObjectId(secrets.token_hex(16))


class ObjectStore:
    """The folder of sealed objects below `root`."""

    def __init__(self, root: Path, *, disk: Disk | None = None) -> None:
        self.root = root
        self.disk = disk or Disk()
        self.parts = root / ".part"
        self.parts.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.recalls = root / ".recall"
        self.recalls.mkdir(mode=0o700, exist_ok=True)
        folders = {each.name for each in root.iterdir()}
        missing = [name for name in (f"{number:02x}" for number in range(256)) if name not in folders]
        for name in missing:
            (root / name).mkdir(mode=0o700, exist_ok=True)
        if missing:
            self.disk.sync_directory(root)

    def path(self, object_id: ObjectId) -> Path:
        """Where the recorded object is, or would be. A part whose record is in the catalog gets its name here."""
        final = self._final(object_id)
        if not os.path.exists(final):  # Path.exists raises for a folder that the disk does not give back
            for part in self._parts_of(object_id):
                try:
                    self.disk.rename(part, final)
                except FileNotFoundError:
                    break  # somebody else was asked at the same moment
                except OSError as error:
                    raise disk_error(error, "naming an object") from error
        return final

    def create(self, object_id: ObjectId, who: str, *, past_cache: bool = True) -> ObjectWriter:
        """Begin an object that `who` receives; `OutOfResources` or `Transient` if the disk will not have it.

        `past_cache`: whole segments will come in page-aligned buffers, and may go past the page cache.
        """
        path = self.parts / who / object_id
        try:
            if not path.parent.is_dir():
                path.parent.mkdir(mode=0o700, exist_ok=True)
                self.disk.sync_directory(self.parts)
            return ObjectWriter(self, object_id, path, self.disk.create(path), past_cache=past_cache)
        except OSError as error:
            raise disk_error(error, "beginning an object") from error

    def recall(self, object_id: ObjectId) -> ObjectWriter:
        """Begin an object that comes back from an archive, where nobody takes it for whole before it is kept.

        Any number may be recalled at once, the same one too. What a crash leaves is removed by `forget_recalls`.
        """
        path = self.recalls / f"{object_id}-{secrets.token_hex(8)}"
        try:
            return ObjectWriter(self, object_id, path, self.disk.create(path), past_cache=False)
        except OSError as error:
            raise disk_error(error, "beginning an object") from error

    def forget_recalls(self) -> int:
        """Remove what recalls that died have left; how many. One that lives holds a lock on its file."""
        removed = 0
        for path in list(self.recalls.iterdir()):
            if (descriptor := _locked(path)) is not None:
                try:
                    path.unlink(missing_ok=True)
                    removed += 1
                finally:
                    os.close(descriptor)
        return removed

    def open(self, object_id: ObjectId, key: bytes) -> SealedReader:
        """The plaintext of a recorded object, decrypted as it is read; `Unknown` if it is not on this box."""
        return _open(self.path(object_id), object_id, key)

    def open_part(self, object_id: ObjectId, who: str, key: bytes) -> SealedReader:
        """The plaintext of a part that is whole but not recorded yet; `Unknown` if there is none."""
        return _open(self.parts / who / object_id, object_id, key)

    def has_part(self, object_id: ObjectId, who: str) -> bool:
        """Whether there is such a part."""
        return (self.parts / who / object_id).exists()

    def recorded_parts(self, who: str) -> Iterator[tuple[ObjectId, bytes]]:
        """The parts of `who` that carry a record, with it. One may still have been cut short by a crash: verify it."""
        folder = self.parts / who
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            record = _record_of(path)
            if record is not None:
                yield ObjectId(path.name), record

    def adopt(self, log: int, slots: Iterable[tuple[ObjectId, int, int]]) -> None:
        """Copy ciphertexts (object id, offset, length) out of the intake log open at `log`, durable on return.

        May be repeated after a crash at any point: the log still holds every byte, so a half copy is overwritten.
        """
        anchor: int | None = None
        try:
            for object_id, offset, length in slots:
                target = self.disk.overwrite(f"{self.root}/{object_id[:2]}/{object_id}{SUFFIX}")
                try:
                    self.disk.copy(log, offset, length, target)
                finally:
                    if anchor is None:
                        anchor = target
                    else:
                        os.close(target)
            if anchor is not None:
                self.disk.sync_filesystem(anchor)
        except OSError as error:
            raise disk_error(error, "settling objects") from error
        finally:
            if anchor is not None:
                os.close(anchor)

    def remove(self, object_id: ObjectId) -> None:
        """Remove the ciphertext from this box, if it is there."""
        try:
            self.disk.remove(self._final(object_id))
            for part in self._parts_of(object_id):
                self.disk.remove(part)
        except OSError as error:
            raise disk_error(error, "removing an object") from error

    def destroy(self, object_ids: Iterable[ObjectId]) -> None:
        """Remove these from this box, wherever they are, durably on return; may be repeated."""
        folders = {self.recalls, *self.parts.iterdir()}
        for object_id in object_ids:
            self.remove(object_id)
            folders.add(self._final(object_id).parent)
            for left in self.recalls.glob(f"{object_id}-*"):
                left.unlink(missing_ok=True)
        try:
            for folder in sorted(folders):
                self.disk.sync_directory(folder)
        except OSError as error:
            raise disk_error(error, "removing an object") from error

    def evict(self, object_ids: Sequence[ObjectId]) -> None:
        """Remove the named files of these, durably on return; a recall that is on its way goes on. May be repeated."""
        try:
            for object_id in object_ids:
                self.disk.remove(self._final(object_id))
        except OSError as error:
            raise disk_error(error, "removing an object") from error
        self.sync(object_ids)

    def sync(self, object_ids: Iterable[ObjectId]) -> None:
        """Make durable what has become of the names of these."""
        try:
            for folder in sorted({self._final(each).parent for each in object_ids}):
                self.disk.sync_directory(folder)
        except OSError as error:
            raise disk_error(error, "removing an object") from error

    def ids(self) -> Iterator[ObjectId]:
        """Every object on this box, in no order."""
        for folder in self.root.iterdir():
            if folder.is_dir() and len(folder.name) == 2:
                for file in folder.iterdir():
                    if file.suffix == SUFFIX:
                        yield ObjectId(file.stem)

    def abandoned_parts(self) -> list[ObjectId]:
        """Parts without a record that nobody is writing. One may still be spoken of in an intake log."""
        abandoned = []
        for path in self.parts.glob("*/*"):
            if (descriptor := _locked(path)) is None:
                continue
            os.close(descriptor)
            if _record_of(path) is None:
                abandoned.append(ObjectId(path.name))
        return abandoned

    def _parts_of(self, object_id: ObjectId) -> list[Path]:
        """The parts of an object, whoever receives it. Asked by name: of every image that is not here, a pattern costs ten times as much."""
        with os.scandir(self.parts) as folders:
            found = [f"{folder.path}/{object_id}" for folder in folders]
        return [Path(each) for each in found if os.path.lexists(each)]

    def _final(self, object_id: ObjectId) -> Path:
        return self.root / object_id[:2] / f"{object_id}{SUFFIX}"


class ObjectWriter:
    """One object being written. `secure` or `keep`, then `close`; or `abandon`, which may be called again."""

    def __init__(
        self, store: ObjectStore, object_id: ObjectId, part: Path, descriptor: int, *, past_cache: bool = True
    ) -> None:
        self.object_id = object_id
        self._store = store
        self._part = part
        self._descriptor = descriptor
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._direct = past_cache and store.disk.set_direct(descriptor, True)

    def write(self, buffers: Sequence[Buffer]) -> None:
        """Append ciphertext.

        Whole segments in one page-aligned buffer go to the disk past the page cache, which costs more than sealing
        them; the first piece that is none ends that.
        """
        try:
            if self._direct and [len(each) for each in buffers] != [envelope.SEGMENT_BYTES]:
                self._direct = self._store.disk.set_direct(self._descriptor, False)
            self._store.disk.write(self._descriptor, buffers)
        except OSError as error:
            raise disk_error(error, "writing an object") from error

    def secure(self, record: bytes) -> bool:
        """Make the part durable, and `record` with it; False if the file system would not take the record along."""
        disk = self._store.disk
        try:
            attached = disk.attach(self._descriptor, RECORD_ATTRIBUTE, record)
            disk.sync(self._descriptor)
            disk.sync_directory(self._part.parent)
        except OSError as error:
            raise disk_error(error, "keeping an object") from error
        return attached

    def keep(self) -> None:
        """Make the object durable under its name, for one that is recorded at once."""
        disk = self._store.disk
        try:
            disk.sync(self._descriptor)
            final = self._store._final(self.object_id)
            disk.rename(self._part, final)
            self._part = final
            disk.sync_directory(final.parent)
        except OSError as error:
            raise disk_error(error, "keeping an object") from error

    def open_part(self, key: bytes) -> SealedReader:
        """Read back what has been written, before it is named."""
        return _open(self._part, self.object_id, key)

    def abandon(self) -> None:
        """Leave nothing behind. Does not raise: what cannot be removed now is swept as an abandoned part."""
        if self._descriptor >= 0:
            try:
                self._store.disk.remove(self._part)
            except OSError:
                pass  # the sweep acts on it: the lock goes with the descriptor
            self.close()

    def close(self) -> None:
        """Let go of the part; nothing can be done with it here any more. Idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _locked(path: Path) -> int | None:
    """A descriptor that holds the lock of a file that nobody is writing; None if somebody is, or it is gone."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _record_of(path: Path) -> bytes | None:
    try:
        return os.getxattr(path, RECORD_ATTRIBUTE)
    except OSError:  # no such attribute, no such file, or a file system without them: in each case no record
        return None


def _open(path: Path, object_id: ObjectId, key: bytes) -> SealedReader:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise Unknown("the image is not on this box", hint="recall it from a replica") from error
    except OSError as error:
        raise read_error(error, "opening an object") from error
    return SealedReader(descriptor, object_id, key)


class SealedReader(io.RawIOBase):
    """The plaintext of a sealed object as a read-only, seekable binary file; holds one segment (1 MiB) at a time.

    Raises `Corrupt` on the first read that meets an altered, truncated, reordered or foreign segment.
    """

    def __init__(
        self,
        descriptor: int,
        object_id: ObjectId,
        key: bytes,
        *,
        base: int = 0,
        sealed_bytes: int | None = None,
    ) -> None:
        """Read the ciphertext of `sealed_bytes` (default: to the end) at `base` of `descriptor`, which it owns."""
        super().__init__()
        self._descriptor = descriptor
        self._base = base
        self._position = 0
        self._start = 0
        self._plain = b""
        try:
            self._sealed_bytes = os.fstat(descriptor).st_size - base if sealed_bytes is None else sealed_bytes
            if self._sealed_bytes < envelope.HEADER_BYTES + envelope.TAG_BYTES:
                raise Corrupt("a sealed object is shorter than its header")
            header = self._read_sealed(0, envelope.HEADER_BYTES)
            self._opener = envelope.Opener(key, object_id.encode("ascii"), header)
            self.size = envelope.plain_size(self._sealed_bytes)
        except BaseException:
            self.close()
            raise
        self._segments = envelope.segment_count(self._sealed_bytes)

    @property
    def sealed_bytes(self) -> int:
        """The length of the ciphertext, as it was when it was opened."""
        return self._sealed_bytes

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        if base + offset < 0:
            raise ValueError("negative position")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        wanted = min(len(view), max(self.size - self._position, 0))
        if not wanted:
            return 0
        if not self._start <= self._position < self._start + len(self._plain):
            self._load(envelope.segments_for(self._position, 1, self._sealed_bytes)[0])
        at = self._position - self._start
        piece = self._plain[at : at + wanted]
        view[: len(piece)] = piece
        self._position += len(piece)
        return len(piece)

    def verify(self, between: Callable[[], None] = lambda: None) -> None:
        """Open every segment, with a call of `between` after each; `Corrupt` if any does not open."""
        for index in range(self._segments):
            self._load(index)
            between()

    def close(self) -> None:
        if not self.closed:
            os.close(self._descriptor)
        super().close()

    def _load(self, index: int) -> None:
        offset, length = envelope.segment_span(index, self._sealed_bytes)
        sealed = self._read_sealed(offset, length)
        self._plain = self._opener.open_segment(index, sealed, last=index == self._segments - 1)
        self._start = envelope.plaintext_offset(index)

    def _read_sealed(self, offset: int, length: int) -> bytes:
        try:
            data = os.pread(self._descriptor, length, self._base + offset)
            while len(data) < length:
                more = os.pread(self._descriptor, length - len(data), self._base + offset + len(data))
                if not more:
                    raise Corrupt("a sealed object was cut short")
                data += more
        except OSError as error:
            raise read_error(error, "reading an object") from error
        return data
