"""Sealing an instance while it arrives, so that no clear byte ever touches a disk.

The data set comes in pieces of any size. They are gathered into segments of the sealed object (1 MiB); a small
instance stays in memory, a larger one goes segment by segment into a part file. The first segment cannot be
sealed before the Study Instance UID has been read, since that chooses the key: until then segments wait in memory,
up to a limit that no real device comes near.
"""

from __future__ import annotations

import io
import mmap
import queue
from dataclasses import dataclass

from appliance.dicom.extent import Extent
from appliance.dicom.header import read_start
from appliance.dicom.part10 import file_head
from appliance.errors import Mismatch, NotUnderstood
from appliance.model import Header, ObjectId, Origin, Stored, Uid
from appliance.store import envelope
from appliance.store.guard import DiskGuard
from appliance.store.objects import ObjectStore, ObjectWriter, SealedReader, new_object_id
from appliance.store.study_keys import StudyKey, StudyKeys

_HEADER_LIMIT_SEGMENTS = 64  # of 1 MiB; a power of two
_GUARD_EVERY_SEGMENTS = 16


@dataclass(frozen=True, slots=True)
class Announced:
    """What the sender said of the instance before its data set (PS3.7 9.3.1, or a file's meta group)."""

    origin: Origin
    sop_class_uid: Uid
    sop_instance_uid: Uid
    transfer_syntax_uid: Uid


class Buffers:
    """Pairs of segment-sized buffers, handed out again so that reception does not allocate. Thread-safe.

    Views and not bytearrays, because assigning to a slice of a bytearray copies the value twice; of anonymous memory,
    because that is page-aligned, as writing past the page cache asks for.
    """

    def __init__(self) -> None:
        self._free: queue.SimpleQueue[tuple[memoryview, memoryview]] = queue.SimpleQueue()

    def take(self) -> tuple[memoryview, memoryview]:
        try:
            return self._free.get_nowait()
        except queue.Empty:
            return _memory(), _memory()

    def give(self, pair: tuple[memoryview, memoryview]) -> None:
        """Take back a pair; past 64 they are let go."""
        if self._free.qsize() < 64:
            self._free.put(pair)


def _memory() -> memoryview:
    return memoryview(mmap.mmap(-1, envelope.SEGMENT_BYTES))


class Sealing:
    """One instance on its way in: `write` pieces, `complete` once, then take `body` or `writer`; or `abandon`."""

    def __init__(
        self,
        announced: Announced,
        *,
        objects: ObjectStore,
        study_keys: StudyKeys,
        guard: DiskGuard,
        buffers: Buffers,
        who: str,
        in_memory_bytes: int = 0,
        own: bool = False,
    ) -> None:
        """Begin; raises `OutOfResources` at the reserve, of which what is the box's `own` may take.

        A sealed object of one segment and `in_memory_bytes` at most gets no file; any other is a part of `who`.
        """
        guard.admit(own=own)
        self.announced = announced
        self.object_id: ObjectId = new_object_id()
        self._objects = objects
        self._study_keys = study_keys
        self._guard = guard
        self._own = own
        self._buffers = buffers
        self._who = who
        self._in_memory_bytes = in_memory_bytes
        self._pair: tuple[memoryview, memoryview] | None = buffers.take()
        self._plain, self._sealed = self._pair
        self._filled = 0
        self._room = envelope.FIRST_PLAINTEXT_BYTES
        self._sealed_segments = 0
        self._sealed_filled = 0
        self._size_bytes = 0
        self._header: Header | None = None
        self._extent = Extent(None)
        self._key: StudyKey | None = None
        self._sealer: envelope.Sealer | None = None
        self._writer: ObjectWriter | None = None
        self._head = file_head(
            sop_class_uid=announced.sop_class_uid,
            sop_instance_uid=announced.sop_instance_uid,
            transfer_syntax_uid=announced.transfer_syntax_uid,
            source_ae_title=announced.origin.name,
        )
        self._append(memoryview(self._head))

    def write(self, fragment: memoryview) -> None:
        """Take the next piece of the data set.

        Raises `OutOfResources`, `Transient` or `NotUnderstood`; the instance is lost to this attempt then.
        """
        end = self._filled + len(fragment)
        if end <= self._room:
            self._plain[self._filled : end] = fragment
            self._filled = end
        else:
            self._append(fragment)

    def complete(self) -> Header:
        """No more pieces: check what arrived against what was announced, and seal the last segment.

        Raises `NotUnderstood` and `Mismatch` besides what `write` raises.
        """
        header = self._header
        if header is None:
            header = self._read_header(complete=True)
            assert header is not None
        else:
            self._extent.feed(self._plain[: self._filled])
        if self._extent.missing():
            raise NotUnderstood("the data set was cut short", hint="send it again from the original")
        announced = self.announced
        if header.sop_instance_uid != announced.sop_instance_uid:
            raise Mismatch("the data set's SOP Instance UID is not the one announced")
        if header.sop_class_uid != announced.sop_class_uid:
            raise Mismatch("the data set's SOP Class UID is not the one announced")
        self._size_bytes += self._filled
        while self._filled > self._capacity:  # only where the first segments had to wait for their key
            self._seal(self._capacity, last=False)
        self._seal(self._filled, last=True)
        return header

    @property
    def body(self) -> memoryview | None:
        """The sealed object, complete, if it is in memory; valid until `release`."""
        return self._sealed[: self._sealed_filled] if self._writer is None else None

    @property
    def stored(self) -> Stored:
        """What to record, once `complete`."""
        assert self._key is not None
        return Stored(
            self.object_id,
            self._key.key_id,
            self._key.wrapped,
            self._size_bytes,
            envelope.sealed_size(self._size_bytes),
        )

    @property
    def writer(self) -> ObjectWriter:
        """The part that the object is in, if it is not in memory; `close` it once it is durable."""
        assert self._writer is not None
        return self._writer

    def open(self) -> io.BytesIO | SealedReader:
        """Read back the Part 10 file inside, once `complete`."""
        if self._writer is None:
            return io.BytesIO(self._plain[: self._size_bytes])
        assert self._key is not None
        return self._writer.open_part(self._key.key)

    def release(self) -> None:
        """Give the buffers back. Idempotent; nothing else may be called afterwards but `abandon`."""
        if self._pair is not None:
            self._buffers.give(self._pair)
            self._pair = None

    def abandon(self) -> None:
        """Leave nothing behind. Idempotent."""
        if self._writer is not None:
            self._writer.abandon()
        self.release()

    def _append(self, fragment: memoryview) -> None:
        while True:
            space = self._room - self._filled
            if len(fragment) <= space:
                self._plain[self._filled : self._filled + len(fragment)] = fragment
                self._filled += len(fragment)
                return
            self._plain[self._filled : self._room] = fragment[:space]
            self._filled = self._room
            fragment = fragment[space:]
            self._segment_full()

    def _segment_full(self) -> None:
        """A segment is full and more is coming: seal it, or wait if its key is not known yet."""
        if self._header is not None:
            self._extent.feed(self._plain[: self._filled])
        elif self._read_header(complete=False) is None:
            waiting = -(-self._filled // envelope.PLAINTEXT_BYTES)
            if waiting >= _HEADER_LIMIT_SEGMENTS:
                raise NotUnderstood("no Study Instance UID in the first 64 MiB of the data set")
            # Twice as much each time, because the header is read from the start each time.
            self._room = self._filled + waiting * envelope.PLAINTEXT_BYTES
            grown = memoryview(bytearray(self._room))
            grown[: self._filled] = self._plain[: self._filled]
            self._plain = grown
            return
        if self._sealed_segments % _GUARD_EVERY_SEGMENTS == 0:
            self._guard.admit(own=self._own)
        self._size_bytes += self._filled
        while self._filled:
            self._seal(self._capacity, last=False)
        self._room = envelope.PLAINTEXT_BYTES

    @property
    def _capacity(self) -> int:
        return envelope.PLAINTEXT_BYTES if self._sealed_segments else envelope.FIRST_PLAINTEXT_BYTES

    def _seal(self, length: int, *, last: bool) -> None:
        """Seal the first `length` bytes of what is gathered as the next segment, and move the rest to the front."""
        if self._sealer is None:
            header = self._header
            assert header is not None
            self._key = self._study_keys.for_study(header.study_instance_uid)
            self._sealer = envelope.Sealer(self._key.key, self.object_id.encode("ascii"))
            self._sealed[: envelope.HEADER_BYTES] = self._sealer.header
            self._sealed_filled = envelope.HEADER_BYTES
        sealed = self._sealed
        self._sealed_filled += self._sealer.seal_into(
            self._plain[:length], sealed[self._sealed_filled :], last=last
        )
        self._sealed_segments += 1
        small = last and self._writer is None and self._sealed_filled <= self._in_memory_bytes
        if not small:
            if self._writer is None:
                self._writer = self._objects.create(self.object_id, self._who)
            self._writer.write([sealed[: self._sealed_filled]])
            self._sealed_filled = 0
        rest = self._filled - length
        if rest:
            self._plain[:rest] = self._plain[length : self._filled]
        self._filled = rest

    def _read_header(self, *, complete: bool) -> Header | None:
        """The header, from the first bytes of the data set, once they suffice: then its extent is followed from there."""
        data_set = self._plain[len(self._head) : self._filled]
        start = read_start(data_set, self.announced.transfer_syntax_uid, complete=complete)
        if start is not None:
            self._header = start.header
            self._extent = Extent(start.encoding)
            self._extent.feed(data_set[start.offset :])
        return self._header
