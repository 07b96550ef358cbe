"""Received instances out of nothing: every UID, object and key of its own unless a test says otherwise."""

import itertools
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from appliance.model import Header, Intake, KeyId, ObjectId, Origin, Received, Stored, Uid

KEY = bytes(range(32))
NOW = datetime(2026, 11, 22, 1, 49, 0, 123456, tzinfo=UTC)
CT = Uid("1.2.840.10008.5.1.4.1.1.2")
EXPLICIT = Uid("1.2.840.10008.1.2.1")

_numbers = itertools.count(1)


def received(at: datetime = NOW, *, size_bytes: int = 1000, **changes: Any) -> Received:
    """An instance of study 1.2.3, series 1.2.3.1, of Hélène Côté-Lévesque; `changes` are attributes of its header."""
    number = next(_numbers)
    header = Header(
        sop_class_uid=CT,
        sop_instance_uid=Uid(f"1.2.3.1.{number}"),
        study_instance_uid=Uid("1.2.3"),
        series_instance_uid=Uid("1.2.3.1"),
        transfer_syntax_uid=EXPLICIT,
        patient_id="P-0042",
        patient_name="CÔTÉ-LÉVESQUE^Hélène",
        patient_birth_date="19700131",
        patient_sex="F",
        study_date="20261121",
        study_time="101500",
        accession_number="ACC-77",
        study_description="Panoramique",
        modality="CT",
        instance_number=str(number),
        rows=512,
        columns=256,
    )
    stored = Stored(
        ObjectId(f"{number:032x}"), KeyId(f"{1:032x}"), b"wrapped study key", size_bytes, size_bytes + 60
    )
    return Received(replace(header, **changes), Origin(Intake.DICOM, "CT1", "10.0.0.7"), stored, at)
