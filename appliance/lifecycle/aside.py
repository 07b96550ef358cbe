"""Reading what was set aside again: acknowledged images with no row in the catalog (`appliance.ingest.set_aside`), of which this box has the only copy.

They are few. Each is opened under the key of its own record, from its first byte to its last. No archive has them, so nothing mends them: what is damaged is
said while the sender may still have it. One that was accepted while it was looked at is read as the others are, and no finding here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from appliance.box import Box
from appliance.catalog import instances
from appliance.errors import ApplianceError, Corrupt
from appliance.ingest import set_aside
from appliance.model import ObjectId


def look_through(
    box: Box, rest: Callable[[], None] = lambda: None, *, every_byte: bool = True
) -> Iterator[tuple[ObjectId, ApplianceError | None]]:
    """Each object that is set aside, and what is wrong with it: `Unknown` where its file is gone, `Corrupt` where it or its record is not what was
    written, another error where that can't be told now. `rest` is called between two pieces."""
    for path in set_aside.paths(box):
        wrong = _wrong(box, path, rest, every_byte=every_byte)
        if wrong is None or is_set_aside(box, set_aside.object_of(path)):
            yield set_aside.object_of(path), wrong


def is_set_aside(box: Box, object_id: ObjectId) -> bool:
    """Whether an object is set aside still, and no image of the catalog has it."""
    if object_id not in map(set_aside.object_of, set_aside.paths(box)):
        return False
    with box.catalog.reading() as reading:
        return instances.row_of(reading, object_id) is None


def _wrong(box: Box, path: Path, rest: Callable[[], None], *, every_byte: bool) -> ApplianceError | None:
    try:
        received = set_aside.read(box, path)
        stored = received.stored
        key = box.study_keys.opened(stored.key_id, received.header.study_instance_uid, stored.wrapped_key)
        with box.objects.open(stored.object_id, key) as reader:
            if reader.sealed_bytes != stored.sealed_bytes:
                return Corrupt("its length is not the recorded one")
            if every_byte:
                reader.verify(rest)
            else:
                reader.read(1)
    except FileNotFoundError:
        return None  # it is accepted
    except ApplianceError as error:
        return error
    return None
