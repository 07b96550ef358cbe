"""Real parcels: instances that were received, sealed and recorded on a box in a temporary folder."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from appliance.box import Box
from appliance.dicom.part10 import file_head
from appliance.ingest import import_file
from appliance.model import Intake, Origin, Uid
from appliance.replication.destinations import Parcel
from appliance.replication.destinations.parcel import parcel_of
from tests.boxes import box_in, recorded
from tests.instances import EXPLICIT_LITTLE_ENDIAN, Instance

IMPORTED = Origin(Intake.IMPORT, "tests")


def part10(data_set: bytes, *, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> bytes:
    """A Part 10 file around `data_set`."""
    head = file_head(
        sop_class_uid=Uid(sop_class_uid),
        sop_instance_uid=Uid(sop_instance_uid),
        transfer_syntax_uid=Uid(transfer_syntax_uid),
        source_ae_title="TESTS",
    )
    return head + data_set


def take_in(box: Box, instances: Sequence[Instance]) -> None:
    """Import `instances`."""
    for each in instances:
        file = part10(
            each.data_set,
            sop_class_uid=each.sop_class_uid,
            sop_instance_uid=each.sop_instance_uid,
            transfer_syntax_uid=EXPLICIT_LITTLE_ENDIAN,
        )
        import_file(box, io.BytesIO(file), IMPORTED)


@contextmanager
def parcels_in(data: Path, instances: Sequence[Instance]) -> Iterator[list[Parcel]]:
    """A box that holds `instances`, as parcels in their order."""
    with box_in(data) as box:
        take_in(box, instances)
        yield [parcel_of(box, row) for row in recorded(box)]


def plain(parcel: Parcel) -> bytes:
    """The Part 10 file inside."""
    with parcel.open() as file:
        pieces = []
        while piece := file.read(1 << 20):
            pieces.append(piece)
        return b"".join(pieces)
