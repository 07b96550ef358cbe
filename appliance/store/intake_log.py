"""The intake log: where a small instance is durable before it has a file and a row of its own.

Chose a preallocated, zero-written, recycled file per receiving process because overwriting such a file and syncing
its data costs no journal commit: a third of the time of a new file with its sync (performance.md). Rejected: a table
in the catalog (a commit per instance), one log for all processes (a lock between them on every instance).

A record is the sealed object's final ciphertext and, sealed under a key of its own, what the catalog will say of it;
so settling is a copy and a row, and nothing is ever in clear or encrypted twice. Two files take turns: one is
written while the other is settled.

Format. All integers little-endian; every record begins at a multiple of 4096::

    block 0     8  magic "CLBXINTK"
                4  version, 1
               16  epoch: random, renewed each time the file is recycled
                4  CRC-32 of the 28 bytes before
    record     16  epoch of the file: a record of another epoch is settled and no longer counts
                8  sequence number, rising
                4  length of the sealed metadata
                8  length of the body (0: the object is already in a file of its own)
                4  CRC-32 of the 36 bytes before
               ..  metadata: nonce (12), AES-256-GCM ciphertext, tag (16); associated data = the first 36 bytes
               ..  body: the sealed object, byte for byte as its file will be

A settled record stays where it is until the file's next turn writes over it; once a study was destroyed, the files are written over
with zeroes at the first quiet moment (`scour`).

Written and synced before the answer, so a record that is missing or torn was never acknowledged. Processes append
side by side, so a torn record may stand before a whole one: reading goes on at the next block.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import struct
import threading
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from appliance.errors import OutOfResources, Transient
from appliance.model import ObjectId
from appliance.store.disk import Buffer, Disk, disk_error
from appliance.store.objects import SealedReader

BLOCK = 4096
_MAGIC = b"CLBXINTK"
_VERSION = 1
_SUPERBLOCK = struct.Struct("<8sI16s")
_RECORD = struct.Struct("<16sQIQ")
_CRC = struct.Struct("<I")
_RECORD_HEAD_BYTES = _RECORD.size + _CRC.size
_NONCE_BYTES = 12


@dataclass(frozen=True, slots=True)
class Slot:
    """Where a record's body lies: a file of the log, a byte offset and a length in bytes."""

    file: LogFile
    offset: int
    length: int

    def open(self, object_id: ObjectId, key: bytes) -> SealedReader:
        """The plaintext of the sealed object that is the record's body."""
        return SealedReader(
            os.dup(self.file.descriptor), object_id, key, base=self.offset, sealed_bytes=self.length
        )


@dataclass(frozen=True, slots=True)
class Found:
    """A record read back after a restart: its metadata in clear, and where its body lies."""

    metadata: bytes
    slot: Slot


class LogFile:
    """One preallocated file of records, locked to this process for as long as it is open."""

    def __init__(self, path: Path, key: bytes, size_bytes: int, *, disk: Disk) -> None:
        self.path = path
        self.broken = False
        self._disk = disk
        self._cipher = AESGCM(key)
        self._lock = threading.Lock()
        self._outstanding = 0
        self._wanted_bytes = size_bytes
        self._sequence = 0
        self._next = BLOCK
        try:
            self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise disk_error(error, "opening the intake log") from error
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self.descriptor)
            raise Transient("the intake log is in use by another process") from error
        try:
            self._size = os.fstat(self.descriptor).st_size
            self._epoch = _read_epoch(self.descriptor)
            if self._epoch is None:  # a file of another size may hold records: it changes when it is recycled
                self._allocate(size_bytes)
        except OSError as error:
            os.close(self.descriptor)
            raise disk_error(error, "preparing the intake log") from error

    def records(self) -> Iterator[Found]:
        """Every whole record of the present epoch, in order. Call before the first `append`."""
        for record in _records(self.descriptor, self._cipher):
            with self._lock:
                self._outstanding += 1
                self._next = max(self._next, record.end)
                self._sequence = max(self._sequence, record.sequence)
            yield Found(record.metadata, Slot(self, record.body_at, record.body_bytes))

    def append(self, metadata: bytes, body: Sequence[Buffer]) -> Slot | None:
        """Write one record and return when it is on the disk; None if the file has no room for it now.

        Raises `OutOfResources` or `Transient` if the disk fails; the file is then `broken` and takes no more.
        """
        body_bytes = sum(len(each) for each in body)
        length = _RECORD_HEAD_BYTES + _NONCE_BYTES + len(metadata) + 16 + body_bytes
        blocks = -(-length // BLOCK) * BLOCK
        with self._lock:
            if blocks > self.room_bytes:
                return None
            offset = self._next
            self._next += blocks
            self._outstanding += 1
            self._sequence += 1
            assert self._epoch is not None
            head = _RECORD.pack(self._epoch, self._sequence, _NONCE_BYTES + len(metadata) + 16, body_bytes)
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, metadata, head)
        before = head + _CRC.pack(zlib.crc32(head)) + nonce + sealed
        try:
            self._disk.write_at(self.descriptor, [before, *body], offset)
            self._disk.sync_data(self.descriptor)
        except OSError as error:
            with self._lock:
                self.broken = True
                self._outstanding -= 1
            raise disk_error(error, "writing the intake log") from error
        with self._lock:
            if (
                self.broken
            ):  # by another thread: the kernel tells of pages it has lost once, and not to each of us
                self._outstanding -= 1
                raise Transient("the disk failed while writing the intake log", hint="check the disk")
        return Slot(self, offset + len(before), body_bytes)

    def settled(self, count: int) -> None:
        """`count` records now have their files and rows, durably: their space may be used again once all have."""
        with self._lock:
            self._outstanding -= count

    def recycle(self) -> bool:
        """Make the whole file free again if nothing in it is outstanding; whether it is (nearly) empty now."""
        with self._lock:
            if self._outstanding:
                return False
            is_small = self._size < self._wanted_bytes
            if self._next == BLOCK and not self.broken and not is_small:
                return True
            try:
                if self.broken or is_small:
                    self._allocate(max(self._size, self._wanted_bytes))
                else:
                    self._begin_epoch()
            except OSError as error:
                self.broken = True
                raise disk_error(error, "recycling the intake log") from error
            self.broken = False
            return True

    def scour(self) -> bool:
        """Overwrite what is settled with zeroes, if nothing in the file is outstanding; whether that was so.

        Whoever appends meanwhile waits. The file is written over in place, never cut and grown again: what it held was there.
        One that failed is tried too, and is good again if that goes well: its turn may not come for days.
        """
        zeroes = bytes(1 << 20)
        with self._lock:
            if self._outstanding:
                return False
            try:
                for offset in range(BLOCK, self._size, len(zeroes)):
                    self._disk.write_at(self.descriptor, [zeroes[: self._size - offset]], offset)
                self._begin_epoch()
            except OSError as error:
                self.broken = True
                raise disk_error(error, "overwriting the intake log") from error
            self.broken = False
        return True

    @property
    def outstanding(self) -> int:
        """How many records are not settled yet."""
        return self._outstanding

    @property
    def room_bytes(self) -> int:
        """How much may still be appended."""
        return 0 if self.broken else self._size - self._next

    def close(self) -> None:
        os.close(self.descriptor)

    def _allocate(self, size_bytes: int) -> None:
        """Write the file full of zeroes: only space that was written is free of a journal commit later."""
        zeroes = bytes(1 << 20)
        os.ftruncate(self.descriptor, 0)
        for offset in range(0, size_bytes, len(zeroes)):
            self._disk.write_at(self.descriptor, [zeroes[: size_bytes - offset]], offset)
        self._disk.sync(self.descriptor)
        self._disk.sync_directory(self.path.parent)
        self._size = size_bytes
        self._begin_epoch()

    def _begin_epoch(self) -> None:
        epoch = secrets.token_bytes(16)
        block = _SUPERBLOCK.pack(_MAGIC, _VERSION, epoch)
        self._disk.write_at(self.descriptor, [block + _CRC.pack(zlib.crc32(block))], 0)
        self._disk.sync_data(self.descriptor)
        self._epoch = epoch
        self._next = BLOCK


@dataclass(frozen=True, slots=True)
class _Record:
    sequence: int
    metadata: bytes
    body_at: int
    body_bytes: int
    end: int


def _read_epoch(descriptor: int) -> bytes | None:
    """The present epoch; None if there is no superblock: then no record was ever acknowledged from this file."""
    block = os.pread(descriptor, _SUPERBLOCK.size + _CRC.size, 0)
    if len(block) < _SUPERBLOCK.size + _CRC.size:
        return None
    magic, version, epoch = _SUPERBLOCK.unpack_from(block)
    (crc,) = _CRC.unpack_from(block, _SUPERBLOCK.size)
    if magic != _MAGIC or version != _VERSION or crc != zlib.crc32(block[: _SUPERBLOCK.size]):
        return None
    return bytes(epoch)


def _records(descriptor: int, cipher: AESGCM) -> Iterator[_Record]:
    """The records of the present epoch whose metadata opens; after one that does not, the next block is tried."""
    size = os.fstat(descriptor).st_size
    epoch = _read_epoch(descriptor)
    offset = BLOCK
    while epoch is not None and offset + BLOCK <= size:
        record = _read_record(descriptor, cipher, epoch, offset, size)
        if record is not None:
            yield record
        offset = offset + BLOCK if record is None else record.end


def _read_record(descriptor: int, cipher: AESGCM, epoch: bytes, offset: int, size: int) -> _Record | None:
    head = os.pread(descriptor, _RECORD_HEAD_BYTES, offset)
    if len(head) < _RECORD_HEAD_BYTES:  # being allocated by its owner
        return None
    found, sequence, metadata_bytes, body_bytes = _RECORD.unpack_from(head)
    (crc,) = _CRC.unpack_from(head, _RECORD.size)
    length = _RECORD_HEAD_BYTES + metadata_bytes + body_bytes
    if found != epoch or crc != zlib.crc32(head[: _RECORD.size]) or offset + length > size:
        return None
    sealed = os.pread(descriptor, metadata_bytes, offset + _RECORD_HEAD_BYTES)
    try:
        metadata = cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], head[: _RECORD.size])
    except InvalidTag:
        return None
    body_at = offset + _RECORD_HEAD_BYTES + metadata_bytes
    return _Record(sequence, metadata, body_at, body_bytes, offset + -(-length // BLOCK) * BLOCK)


def metadata_in(folder: Path, key: bytes) -> Iterator[bytes]:
    """The metadata of every record in the logs of `folder`, settled or not, beside the processes that write them."""
    cipher = AESGCM(key)
    for path in sorted(folder.glob("*.log")):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            for record in _records(descriptor, cipher):
                yield record.metadata
        finally:
            os.close(descriptor)


class IntakeLog:
    """Two files that take turns, so that one settles while the other is written."""

    def __init__(
        self, folder: Path, name: str, key: bytes, size_bytes: int, *, disk: Disk | None = None
    ) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        disk = disk or Disk()
        half = max(size_bytes // 2, 2 << 20) // BLOCK * BLOCK
        self.files: list[LogFile] = []
        self._turn = 0
        self._appending = 0
        self._closed = False
        self._changed = threading.Condition()
        try:
            for turn in "ab":
                self.files.append(LogFile(folder / f"{name}-{turn}.log", key, half, disk=disk))
        except BaseException:
            self.close()  # or it would stay locked, and could not be opened when there is room again
            raise

    def append(self, metadata: bytes, body: Sequence[Buffer], *, patience_seconds: float) -> Slot:
        """Write one record, durable on return, waiting for settling to make room if both files are full.

        Raises `OutOfResources` if there was no room in `patience_seconds`, `Transient` if the log is being closed, and
        what the disk raises.
        """
        with self._changed:
            self._appending += 1
            turn = self._turn
        try:
            while True:
                if self._closed:
                    raise Transient("this process is stopping", hint="send again later")
                if (slot := self.files[turn].append(metadata, body)) is not None:
                    return slot
                turn = self._other_turn(turn, patience_seconds)
        finally:
            with self._changed:
                self._appending -= 1
                if self._closed:
                    self._changed.notify_all()

    def _other_turn(self, turn: int, patience_seconds: float) -> int:
        """Whose turn it is now that file `turn` is full."""
        with self._changed:
            if turn == self._turn:
                if not self._changed.wait_for(
                    lambda: self._closed or self._other_is_free(turn), patience_seconds
                ):
                    raise OutOfResources("the intake log is full", hint="the disk is slow; send again later")
                if not self._closed:
                    self._turn = 1 - turn
            return self._turn

    def settled(self, slots: Sequence[Slot]) -> None:
        """These records have their files and rows, durably."""
        for file in self.files:
            if count := sum(1 for each in slots if each.file is file):
                file.settled(count)
        with self._changed:
            self._changed.notify_all()

    def recycle(self) -> None:
        """Forget what is settled, so that the next start does not read it again."""
        for file in self.files:
            file.recycle()

    def scour(self) -> bool:
        """Overwrite what is settled, which stays in the files until their next turn; whether nothing else was in them.

        For when a patient was destroyed: a settled record still has that patient's name, and the key of the study.
        """
        return all(file.scour() for file in self.files)

    @property
    def outstanding(self) -> int:
        """How many acknowledged records are waiting to be settled."""
        return sum(file.outstanding for file in self.files)

    def close(self) -> None:
        """Close the files once nobody is writing: a descriptor's number may be another file's a moment later."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._appending)
        for file in self.files:
            file.close()

    def _other_is_free(self, turn: int) -> bool:
        return self.files[1 - turn].recycle()
