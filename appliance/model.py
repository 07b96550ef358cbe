"""The nouns that every package shares: identifiers, what was received, who is known, what is owed.

Frozen values only, no behaviour beyond their own invariants, no I/O. DICOM attributes are spelt in snake_case after
their PS3.6 keywords.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final, Literal, NewType

from appliance.errors import Refused

Uid = NewType("Uid", str)
"""A DICOM unique identifier (PS3.5 9.1) with its padding removed. Never a path."""

AETitle = NewType("AETitle", str)
"""An application entity title (PS3.5 6.2, VR AE): 1 to 16 characters, outer spaces removed."""

ObjectId = NewType("ObjectId", str)
"""32 hexadecimal digits drawn at random: the name of a sealed object, here and in every replica."""

KeyId = NewType("KeyId", str)
"""32 hexadecimal digits drawn at random: the name of a study key."""

InstanceId = NewType("InstanceId", int)
DestinationId = NewType("DestinationId", int)
DeliveryId = NewType("DeliveryId", int)


def ae_title(text: str) -> AETitle:
    """`text` as an AE title, outer spaces removed.

    Raises `Refused` unless 1 to 16 characters of the default repertoire without backslash remain (PS3.5 6.2).
    """
    trimmed = text.strip(" ")
    if not 1 <= len(trimmed) <= 16 or "\\" in trimmed or not trimmed.isascii() or not trimmed.isprintable():
        raise Refused(
            f"{text!r} is not an AE title",
            hint="use 1 to 16 plain characters, as shown in the device's DICOM settings",
            field="ae_title",
        )
    return AETitle(trimmed)


@dataclass(frozen=True, slots=True)
class Header:
    """What the index needs to know of one instance; text is decoded for display, absent values are empty.

    Dates are DICOM DA (YYYYMMDD) and times DICOM TM as received, trimmed; names are PN with their carets.
    """

    sop_class_uid: Uid
    sop_instance_uid: Uid
    study_instance_uid: Uid
    series_instance_uid: Uid
    transfer_syntax_uid: Uid
    patient_id: str = ""
    issuer_of_patient_id: str = ""
    patient_name: str = ""
    patient_birth_date: str = ""
    patient_sex: str = ""
    study_date: str = ""
    study_time: str = ""
    accession_number: str = ""
    study_description: str = ""
    referring_physician_name: str = ""
    modality: str = ""
    series_number: str = ""
    series_description: str = ""
    body_part_examined: str = ""
    laterality: str = ""
    image_laterality: str = ""
    burned_in_annotation: str = ""
    instance_number: str = ""
    manufacturer: str = ""
    manufacturer_model_name: str = ""
    station_name: str = ""
    number_of_frames: int = 0
    rows: int = 0
    columns: int = 0


class Intake(StrEnum):
    """By which door an instance came."""

    DICOM = "dicom"
    UPLOAD = "upload"
    IMPORT = "import"


@dataclass(frozen=True, slots=True)
class Origin:
    """Who handed an instance over. `name` is the calling AE title, or the person who imported it."""

    intake: Intake
    name: str
    address: str = ""


ANONYMISED: Final = Origin(Intake.IMPORT, "anonymised")
"""Of a copy without whoever it is of, which archives alone are given."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A sealed object that is durable on this box.

    `size_bytes` counts the Part 10 file inside, `sealed_bytes` the ciphertext. `wrapped_key` is the study key
    `key_id` under the root key, so that catalog and manifest can carry it.
    """

    object_id: ObjectId
    key_id: KeyId
    wrapped_key: bytes
    size_bytes: int
    sealed_bytes: int


@dataclass(frozen=True, slots=True)
class Received:
    """One instance, sealed and durable, waiting to be recorded: what the straight line carries."""

    header: Header
    origin: Origin
    stored: Stored
    received_utc: datetime
    of_study: Header | None = None
    """The same header with whom its study is of, where a manifest tells that this image names somebody else."""


@dataclass(frozen=True, slots=True)
class Device:
    """A machine on the LAN that may send to this box: AE title and address together (dicom-interop rule 14)."""

    ae_title: AETitle
    address: str
    name: str = ""
    port: int | None = None
    id: int = 0


@dataclass(frozen=True, slots=True)
class Visitor:
    """An unknown caller "seen at the door": refused, and admitted by one click."""

    ae_title: AETitle
    address: str
    first_seen_utc: datetime
    last_seen_utc: datetime
    calls: int


DestinationKind = Literal["dicom", "s3", "folder", "vault", "sftp", "smb"]
Takes = Literal["ciphertext", "dicom"]

CAN_BE_ERASED: Final = frozenset[DestinationKind]({"vault", "sftp", "smb"})
"""The archives that whoever has taken over the box can erase: it lays copies there with rights that also remove."""


@dataclass(frozen=True, slots=True)
class DestinationSettings:
    """A remote place that instances are owed to, as configured. `secret` is never listed, logged or exported."""

    name: str
    kind: DestinationKind
    takes: Takes
    options: Mapping[str, str | int | bool]
    secret: str = field(default="", repr=False)
    paused: bool = False
    id: DestinationId = DestinationId(0)


@dataclass(frozen=True, slots=True)
class Rule:
    """Instances that match are owed to `destination`; an empty `device` or `modality` matches all.

    A higher `priority` leaves first.
    """

    destination_id: DestinationId
    destination: str
    takes: Takes
    device: AETitle | None = None
    modality: str | None = None
    priority: int = 0
    id: int = 0


@dataclass(frozen=True, slots=True)
class Owed:
    """One obligation to be met: this instance, to that destination."""

    destination_id: DestinationId
    priority: int


class SecureBoot(StrEnum):
    """Whether the machine starts only what is signed, as its firmware says; unknown where there is nothing to be known."""

    ON = "on"
    OFF = "off"
    WITHOUT_KEYS = "without-keys"
    """In Setup Mode: the box's keys were not enrolled."""
    UNKNOWN = "unknown"
