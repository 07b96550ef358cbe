"""Boxes to test on: small logs, no reserve, in a temporary folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from appliance.box import Box, open_box
from appliance.catalog import Reading, instances, studies
from appliance.catalog.instances import InstanceRow
from appliance.config import Config, StoreConfig
from appliance.ingest import Reception
from appliance.ingest.accept import Accepted, accept
from appliance.ingest.awaiting import Awaiting
from appliance.ingest.sealing import Announced, Buffers, Sealing
from appliance.model import Intake, Origin, Received, Stored
from appliance.store.disk import Disk
from tests.instances import EXPLICIT_LITTLE_ENDIAN, Instance

_BUFFERS = Buffers()
MODALITY = Origin(Intake.DICOM, "MODALITY", "127.0.0.1")


def config_in(data: Path, *, log_bytes: int = 8 << 20, reserve_bytes: int = 0) -> Config:
    return replace(Config(), data=data, store=StoreConfig(reserve_bytes=reserve_bytes, log_bytes=log_bytes))


@contextmanager
def box_in(data: Path, *, disk: Disk | None = None, log_bytes: int = 8 << 20) -> Iterator[Box]:
    box = open_box(config_in(data, log_bytes=log_bytes), disk=disk)
    try:
        yield box
    finally:
        box.close()


def send(reception: Reception, instance: Instance, *, piece_bytes: int = 100_000) -> None:
    """Send `instance` as an association would; returns when it is acknowledged."""
    arrival = reception.begin(
        MODALITY,
        sop_class_uid=instance.sop_class_uid,
        sop_instance_uid=instance.sop_instance_uid,
        transfer_syntax_uid=EXPLICIT_LITTLE_ENDIAN,
    )
    try:
        encoded = memoryview(instance.data_set)
        for start in range(0, len(encoded), piece_bytes):
            arrival.write(encoded[start : start + piece_bytes])
        arrival.finish()
    finally:
        arrival.abandon()


def take_in(box: Box, instance: Instance, at: datetime) -> tuple[Stored, Accepted]:
    """Receive `instance` as of `at`, whatever the clock says; how it lies, and what became of it."""
    announced = Announced(MODALITY, instance.sop_class_uid, instance.sop_instance_uid, EXPLICIT_LITTLE_ENDIAN)
    sealing = Sealing(
        announced,
        objects=box.objects,
        study_keys=box.study_keys,
        guard=box.guard,
        buffers=_BUFFERS,
        who="import",
    )
    sealing.write(memoryview(instance.data_set))
    header = sealing.complete()
    sealing.writer.keep()
    sealing.writer.close()
    sealing.release()
    stored = sealing.stored
    return stored, accept(box, [Awaiting(Received(header, MODALITY, stored, at))])


def recorded(box: Box) -> list[InstanceRow]:
    """Every instance in the catalog, study by study."""
    with box.catalog.reading() as reading:
        return [
            row
            for study in studies.find(reading, limit=1_000_000)
            for row in instances.instances_of_study(reading, study.study_instance_uid)
        ]


def delivery_states(conn: Reading) -> Counter[str]:
    """How many deliveries are in each state, for what asks many times a second: listing them takes much longer."""
    rows = conn.exec_driver_sql("SELECT state, count(*) FROM deliveries GROUP BY state")
    return Counter({str(state): int(count) for state, count in rows})


def data_set_of(box: Box, row: InstanceRow) -> bytes:
    """The data set inside a recorded object, in clear."""
    with box.open_object(row.object_id, row.key_id) as reader:
        part10 = reader.read()
    assert part10 is not None
    assert part10[128:132] == b"DICM"
    return bytes(part10[144 + int.from_bytes(part10[140:144], "little") :])
