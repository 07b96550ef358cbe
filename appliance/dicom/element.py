"""How the elements of a data set are encoded (PS3.5 chapter 7): what `header` and `extent` both read by. Pure."""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from appliance.model import Uid

MAX_DEPTH: Final = 64
"""Nested sequences of undefined length beyond this are an attack or a loop (Orthanc's 2026 advisories)."""

IMPLICIT_VR_LITTLE_ENDIAN: Final = Uid("1.2.840.10008.1.2")
EXPLICIT_VR_BIG_ENDIAN: Final = Uid("1.2.840.10008.1.2.2")

UNDEFINED: Final = 0xFFFFFFFF
ITEM: Final = 0xFFFEE000
ITEM_END: Final = 0xFFFEE00D
SEQUENCE_END: Final = 0xFFFEE0DD

PIXEL_DATA: Final = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})  # Float, Double Float, and plain (PS3.6)

# PS3.5 7.1.2: these carry their length in 16 bits; the long ones, and VRs of the future, in 32
SHORT: Final = frozenset(
    vr.encode()
    for vr in "AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".split()  # noqa: SIM905 - a list of names
)
LONG: Final = frozenset(vr.encode() for vr in "OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())  # noqa: SIM905


class Encoding(NamedTuple):
    """A VR encoding in one byte order, as the structures that read it."""

    explicit: bool
    element: struct.Struct  # tag, VR, 16-bit length; or tag, 32-bit length
    item: struct.Struct  # tag, 32-bit length
    length: struct.Struct
    number: struct.Struct


def _encoding(order: str, *, explicit: bool) -> Encoding:
    return Encoding(
        explicit,
        struct.Struct(order + ("HH2sH" if explicit else "HHL")),
        struct.Struct(order + "HHL"),
        struct.Struct(order + "L"),
        struct.Struct(order + "H"),
    )


IMPLICIT: Final = _encoding("<", explicit=False)
EXPLICIT: Final = _encoding("<", explicit=True)
BIG_ENDIAN: Final = _encoding(">", explicit=True)


def as_written(data: bytes | memoryview, transfer_syntax_uid: Uid) -> Encoding:
    """The VR encoding that the first element is really in, whatever was negotiated."""
    if transfer_syntax_uid == EXPLICIT_VR_BIG_ENDIAN:
        return BIG_ENDIAN
    vr = bytes(data[4:6])
    if transfer_syntax_uid == IMPLICIT_VR_LITTLE_ENDIAN:  # as a length, two letters would mean megabytes
        return EXPLICIT if vr in SHORT or vr in LONG else IMPLICIT
    return EXPLICIT if vr.isalpha() and vr.isupper() else IMPLICIT


def long_length(
    data: bytes | memoryview, offset: int, vr: bytes, length: int, encoding: Encoding
) -> tuple[int, int]:
    """Where the value starts and how long it is, for an element whose VR is not one of the short ones.

    `offset` is that of the byte after the 8 already read, `length` their last two as a number.
    """
    if vr in LONG or (vr.isalpha() and vr.isupper() and length == 0):  # a VR of the future (PS3.5 6.2)
        return offset + 4, int(encoding.length.unpack_from(data, offset)[0])
    if vr.isascii() and vr.decode("ascii").isprintable():
        return offset, length
    return offset, int(
        encoding.length.unpack_from(data, offset - 4)[0]
    )  # one element in implicit VR among explicit
