"""The door for what can wait: a Part 10 file, or a bare data set, sealed into a file of its own and accepted at once."""

from __future__ import annotations

from typing import BinaryIO

from appliance.box import Box
from appliance.dicom.part10 import read_part10
from appliance.ingest.accept import accept
from appliance.ingest.awaiting import Awaiting
from appliance.ingest.hours import Hours
from appliance.ingest.sealing import Announced, Buffers, Sealing
from appliance.model import Header, Origin, Received

_PIECE = 1 << 20


def seal_file(box: Box, stream: BinaryIO, origin: Origin) -> Received:
    """Seal the instance that `stream` (seekable) holds: durable when this returns, and an orphan until it is recorded.

    The data set is kept byte for byte; the file meta group is written anew (PS3.10 7.1). Raises `NotUnderstood`,
    `Mismatch`, `OutOfResources`, `Transient`; nothing is kept then.
    """
    part10 = read_part10(stream)
    announced = Announced(origin, part10.sop_class_uid, part10.sop_instance_uid, part10.transfer_syntax_uid)
    received_utc = Hours(box).now()
    sealing = Sealing(
        announced,
        objects=box.objects,
        study_keys=box.study_keys,
        guard=box.guard,
        buffers=Buffers(),
        who="import",
    )
    try:
        stream.seek(part10.dataset_offset)
        while piece := stream.read(_PIECE):
            sealing.write(memoryview(piece))
        header = sealing.complete()
        sealing.writer.keep()
    except BaseException:
        sealing.abandon()
        raise
    sealing.writer.close()
    sealing.release()
    return Received(header, origin, sealing.stored, received_utc)


def import_file(box: Box, stream: BinaryIO, origin: Origin) -> Header:
    """Take in the instance that `stream` (seekable) holds; when this returns it is durable and recorded.

    Raises what `seal_file` and `accept` raise; nothing is kept then.
    """
    received = seal_file(box, stream, origin)
    accept(box, [Awaiting(received)])
    return received.header
