"""A sealed object is there whole or not at all, and opens anywhere."""

from __future__ import annotations

import errno
import io
import mmap
import os
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.errors import Corrupt, OutOfResources, Transient, Unknown
from appliance.store import envelope
from appliance.store.objects import ObjectStore, ObjectWriter, new_object_id
from tests.store.faults import FaultyDisk, os_error

KEY = bytes(range(32))
PLAIN = random.Random(1).randbytes(2 * envelope.SEGMENT_BYTES + 12345)


def seal(store: ObjectStore, plain: bytes) -> ObjectWriter:
    object_id = new_object_id()
    writer = store.create(object_id, "worker")
    try:
        sealer = envelope.Sealer(KEY, object_id.encode())
        segment = memoryview(mmap.mmap(-1, envelope.SEGMENT_BYTES))
        segment[: len(sealer.header)] = sealer.header
        filled, rest = len(sealer.header), plain
        while True:
            piece, rest = rest[: sealer.room], rest[sealer.room :]
            filled += sealer.seal_into(piece, segment[filled:], last=not rest)
            writer.write([segment[:filled]])
            filled = 0
            if not rest:
                return writer
    except BaseException:
        writer.abandon()
        raise


def test_what_is_kept_can_be_read_and_what_is_abandoned_is_gone(tmp_path: Path) -> None:
    store = ObjectStore(tmp_path)
    kept, dropped = seal(store, PLAIN), seal(store, PLAIN)
    with kept.open_part(KEY) as part:
        assert part.read() == PLAIN
    kept.keep()
    dropped.abandon()
    dropped.abandon()
    assert list(store.ids()) == [kept.object_id]
    with store.open(kept.object_id, KEY) as reader:
        assert reader.read() == PLAIN
        reader.verify()
    assert list(store.parts.glob("*/*")) == []
    store.remove(kept.object_id)
    store.remove(kept.object_id)
    with pytest.raises(Unknown):
        store.open(kept.object_id, KEY)


@given(st.integers(0, len(PLAIN) + 10), st.integers(0, 2 * envelope.SEGMENT_BYTES), st.integers(0, 2))
@settings(max_examples=60)
def test_it_opens_at_any_place(
    tmp_path_factory: pytest.TempPathFactory, offset: int, length: int, whence: int
) -> None:
    store = ObjectStore(tmp_path_factory.mktemp("objects"))
    writer = seal(store, PLAIN)
    writer.keep()
    plain = io.BytesIO(PLAIN)
    with store.open(writer.object_id, KEY) as reader:
        shift = {0: offset, 1: offset, 2: -min(offset, len(PLAIN))}[whence]
        assert reader.seek(shift, whence) == plain.seek(shift, whence)
        assert reader.tell() == plain.tell()
        buffered = io.BufferedReader(reader)
        assert buffered.read(length) == plain.read(length)


def test_damage_and_a_wrong_key_are_corrupt(tmp_path: Path) -> None:
    store = ObjectStore(tmp_path)
    writer = seal(store, PLAIN)
    writer.keep()
    path = store.path(writer.object_id)
    whole = path.read_bytes()
    for at in (0, 5, 60, envelope.SEGMENT_BYTES + 3, len(whole) - 1):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(Corrupt), store.open(writer.object_id, KEY) as reader:
            reader.verify()
    for size in (0, 39, 60, envelope.SEGMENT_BYTES, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(Corrupt), store.open(writer.object_id, KEY) as reader:
            reader.verify()
    path.write_bytes(whole)
    with pytest.raises(Corrupt), store.open(writer.object_id, bytes(32)) as reader:
        reader.read(1)


def test_a_part_that_is_being_written_is_never_swept(tmp_path: Path) -> None:
    store = ObjectStore(tmp_path)
    writing = seal(store, b"still coming")
    (store.parts / "worker" / ("cd" * 16)).write_bytes(b"left by a process that died")
    whole = seal(store, PLAIN)
    assert whole.secure(b"what it is")
    whole.close()
    assert store.abandoned_parts() == ["cd" * 16]
    writing.keep()
    writing.close()
    assert list(store.ids()) == [writing.object_id]


def test_a_part_with_its_record_gets_its_name_from_whoever_asks_first(tmp_path: Path) -> None:
    store = ObjectStore(tmp_path)
    writer = seal(store, PLAIN)
    assert writer.secure(b"what it is")
    writer.close()
    assert list(store.recorded_parts("worker")) == [(writer.object_id, b"what it is")]
    assert list(store.recorded_parts("another")) == []
    with store.open_part(writer.object_id, "worker", KEY) as part:
        assert part.read() == PLAIN
    assert list(store.ids()) == []
    with ObjectStore(tmp_path).open(writer.object_id, KEY) as reader:
        assert reader.read() == PLAIN
    assert list(store.ids()) == [writer.object_id]
    assert not store.has_part(writer.object_id, "worker")
    assert store.path(writer.object_id).read_bytes()


def test_objects_are_adopted_from_a_log_whole_and_again_after_a_crash(tmp_path: Path) -> None:
    store = ObjectStore(tmp_path / "objects")
    log = tmp_path / "log"
    log.write_bytes(b"......" + b"sealed one" + b"..." + b"sealed two!")
    one, two = new_object_id(), new_object_id()
    descriptor = os.open(log, os.O_RDONLY)
    for _ in range(2):
        store.adopt(descriptor, [(one, 6, 10), (two, 19, 11)])
        assert store.path(one).read_bytes() == b"sealed one"
        assert store.path(two).read_bytes() == b"sealed two!"
    open_before = len(os.listdir("/proc/self/fd"))
    for slots in ([(one, 20, 100)], [(one, 6, 10), (two, 20, 100)]):
        with pytest.raises(Transient):
            store.adopt(descriptor, slots)  # tried every second while the disk is full: nothing may stay open
    assert len(os.listdir("/proc/self/fd")) == open_before
    os.close(descriptor)


@pytest.mark.parametrize(("code", "kind"), [(errno.ENOSPC, OutOfResources), (errno.EIO, Transient)])
def test_a_failing_disk_is_told_in_our_terms_and_leaves_no_object(
    tmp_path: Path, code: int, kind: type[Exception]
) -> None:
    disk = FaultyDisk(error=os_error(code))
    store = ObjectStore(tmp_path, disk=disk)
    seal(store, PLAIN).keep()
    begun = len(disk.calls)
    seal(store, PLAIN).keep()
    steps = len(disk.calls) - begun
    whole = set(store.ids())
    for step in range(1, steps + 1):
        disk.fail_at = len(disk.calls) + step
        with pytest.raises(kind):
            writer = seal(store, PLAIN)
            try:
                writer.keep()
            except BaseException:
                writer.abandon()
                raise
        assert set(store.ids()) == whole
        assert list(store.parts.glob("*/*")) == []
