"""Small instances as bytes, for tests that are about where bytes go and not about what they show."""

from __future__ import annotations

import random
from dataclasses import dataclass

from appliance.model import Uid

CT_IMAGE = Uid("1.2.840.10008.5.1.4.1.1.2")
EXPLICIT_LITTLE_ENDIAN = Uid("1.2.840.10008.1.2.1")
_LONG = (b"OB", b"OW", b"UN")


def element(group: int, number: int, vr: bytes, value: bytes) -> bytes:
    """One element in Explicit VR Little Endian (PS3.5 7.1.2), padded to an even length."""
    if len(value) % 2:
        value += b"\0" if vr in (b"UI", b"OB") else b" "
    head = group.to_bytes(2, "little") + number.to_bytes(2, "little") + vr
    if vr in _LONG:
        return head + b"\0\0" + len(value).to_bytes(4, "little") + value
    return head + len(value).to_bytes(2, "little") + value


@dataclass(frozen=True)
class Instance:
    """A data set in Explicit VR Little Endian; equal `number`s of equal kinds are the same instance."""

    number: int
    study: int = 1
    series: int = 1
    patient_id: str = "MARK0001"
    patient_name: str = "Marqueur^Éloïse"
    pixel_bytes: int = 2000
    variant: int = 0
    sop_class_uid: Uid = CT_IMAGE
    side: int = 0
    """Of a square image that can be drawn, whose pixels are a byte each; without it the pixels have no shape."""

    @property
    def study_instance_uid(self) -> Uid:
        return Uid(f"2.25.1000{self.study}")

    @property
    def sop_instance_uid(self) -> Uid:
        return Uid(f"2.25.1000{self.study}.{self.series}.{self.number}")

    @property
    def data_set(self) -> bytes:
        return b"".join(
            (
                element(0x0008, 0x0005, b"CS", b"ISO_IR 100"),
                element(0x0008, 0x0016, b"UI", self.sop_class_uid.encode()),
                element(0x0008, 0x0018, b"UI", self.sop_instance_uid.encode()),
                element(0x0008, 0x0020, b"DA", b"20261122"),
                element(0x0008, 0x0050, b"SH", b"ACC1"),
                element(0x0008, 0x0060, b"CS", b"CT"),
                element(0x0010, 0x0010, b"PN", self.patient_name.encode("latin-1")),
                element(0x0010, 0x0020, b"LO", self.patient_id.encode()),
                element(0x0020, 0x000D, b"UI", self.study_instance_uid.encode()),
                element(0x0020, 0x000E, b"UI", f"2.25.1000{self.study}.{self.series}".encode()),
                element(0x0020, 0x0013, b"IS", str(self.number).encode()),
                *(self._shape if self.side else ()),
                element(0x7FE0, 0x0010, b"OB", self.pixels),
            )
        )

    @property
    def pixels(self) -> bytes:
        """What the image shows: other bytes in every image."""
        count = self.side * self.side or self.pixel_bytes
        return random.Random(f"{self.number}/{self.study}/{self.variant}").randbytes(count)

    @property
    def _shape(self) -> tuple[bytes, ...]:
        """Image Pixel (PS3.3 C.7.6.3) of eight bits."""
        numbers = (
            (0x0002, 1),
            (0x0010, self.side),
            (0x0011, self.side),
            (0x0100, 8),
            (0x0101, 8),
            (0x0102, 7),
            (0x0103, 0),
        )
        told = {
            number: element(0x0028, number, b"US", value.to_bytes(2, "little")) for number, value in numbers
        }
        told[0x0004] = element(0x0028, 0x0004, b"CS", b"MONOCHROME2")
        return tuple(told[number] for number in sorted(told))
