"""An image that was sealed while its study was being destroyed: sealed anew, under a key that lives.

A study is destroyed with its keys, and a process that was receiving more of it may have sealed those images under one of them. They
were acknowledged, so they are kept: as a new study, which somebody is told of (`appliance.ingest.accept`). Their sealed
form in the intake log still opens, with the key that came along; what is kept from here on does not, and the log is written over
once more (`appliance.ingest.scouring`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from appliance.box import Box
from appliance.catalog import study_keys
from appliance.errors import Corrupt
from appliance.ingest import scouring
from appliance.ingest.awaiting import Awaiting
from appliance.model import Stored
from appliance.store import envelope
from appliance.store.objects import new_object_id

_WHO = "resealing"


def under_living_keys(box: Box, arrivals: Sequence[Awaiting]) -> list[Awaiting]:
    """`arrivals`, those under a destroyed key sealed anew. Raises what store and catalog raise; may be repeated."""
    with box.catalog.reading() as reading:
        dead = study_keys.destroyed_among(reading, [each.received.stored.key_id for each in arrivals])
    if not dead:
        return list(arrivals)
    box.study_keys.forget(dead)
    with box.catalog.transaction() as tx:
        scouring.begin_anew(tx, box)
    return [_resealed(box, each) if each.received.stored.key_id in dead else each for each in arrivals]


def _resealed(box: Box, arrival: Awaiting) -> Awaiting:
    received = arrival.received
    key = box.study_keys.for_study(received.header.study_instance_uid)
    object_id = new_object_id()
    size_bytes = received.stored.size_bytes
    with arrival.open(box) as reader:
        if reader.size != size_bytes:
            raise Corrupt("a sealed object is not as long as it was")
        writer = box.objects.create(object_id, _WHO, past_cache=False)
        try:
            sealer = envelope.Sealer(key.key, object_id.encode("ascii"))
            writer.write([sealer.header])
            done = 0
            while True:
                plain = _read(reader, min(sealer.room, size_bytes - done))
                done += len(plain)
                writer.write([sealer.seal(plain, last=done == size_bytes)])
                if done == size_bytes:
                    break
            writer.keep()
        except BaseException:
            writer.abandon()
            raise
        writer.close()
    stored = Stored(object_id, key.key_id, key.wrapped, size_bytes, envelope.sealed_size(size_bytes))
    return Awaiting(
        replace(received, stored=stored), slot=None, part_of="", instead_of=received.stored.object_id
    )


def _read(reader: object, length: int) -> bytes:
    pieces: list[bytes] = []
    while length and (piece := reader.read(length)):  # type: ignore[attr-defined]
        pieces.append(piece)
        length -= len(piece)
    return b"".join(pieces)
