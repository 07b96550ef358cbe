"""The DICOM file format (PS3.10 chapter 7): written strictly, read leniently.

Written: preamble of zeros, ``DICM``, a group 0002 of our own whose length is right, and then the data set byte for
byte. Read: with or without preamble, with or without group 0002, whatever its group length says, since exporters in
the field get each of these wrong.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO, Final

from appliance.dicom.element import EXPLICIT_VR_BIG_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN
from appliance.dicom.header import read_header
from appliance.errors import NotUnderstood
from appliance.model import Uid

EXPLICIT_VR_LITTLE_ENDIAN: Final = Uid("1.2.840.10008.1.2.1")

IMPLEMENTATION_CLASS_UID: Final = Uid("2.25.187263915538026447164911021847203518")
IMPLEMENTATION_VERSION_NAME: Final = "CLINICBOX_1"

MAX_META_BYTES: Final = 1 << 20
_MAX_HEAD_BYTES: Final = 64 << 20
_PREAMBLE: Final = bytes(128)
_PREFIX: Final = b"DICM"
_LONG: Final = frozenset(vr.encode() for vr in ("OB", "OW", "SQ", "UN", "UT"))


@dataclass(frozen=True, slots=True)
class Part10:
    """What precedes the data set of a file. `dataset_offset` counts bytes from where reading began.

    `source_ae_title` is empty if the file does not say. Where group 0002 is missing, the UIDs are the data set's.
    """

    sop_class_uid: Uid
    sop_instance_uid: Uid
    transfer_syntax_uid: Uid
    source_ae_title: str
    dataset_offset: int


def file_head(
    *, sop_class_uid: Uid, sop_instance_uid: Uid, transfer_syntax_uid: Uid, source_ae_title: str
) -> bytes:
    """Preamble, prefix and file meta information (PS3.10 7.1) for a data set that follows as it is. Pure."""
    elements = b"".join(
        (
            _OB.pack(2, 0x0001, b"OB", 0, 2) + b"\0\1",
            _short(0x0002, b"UI", sop_class_uid),
            _short(0x0003, b"UI", sop_instance_uid),
            _short(0x0010, b"UI", transfer_syntax_uid),
            _short(0x0012, b"UI", IMPLEMENTATION_CLASS_UID),
            _short(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME),
            _short(0x0016, b"AE", source_ae_title) if source_ae_title else b"",
        )
    )
    return _PREAMBLE + _PREFIX + _SHORT.pack(2, 0x0000, b"UL", 4) + _UL.pack(len(elements)) + elements


def read_part10(stream: BinaryIO) -> Part10:
    """What precedes the data set of the file in `stream`, which is left where it happens to be.

    Raises `NotUnderstood` if it is no DICOM file, or not even a bare data set.
    """
    head = _read(stream, MAX_META_BYTES)
    values, offset = _meta(head)
    if offset + 8 > len(head):
        raise NotUnderstood("the file holds no data set")
    sop_class, sop_instance = _uid(values, 0x0002), _uid(values, 0x0003)
    syntax = _uid(values, 0x0010) or _guess(head[offset : offset + 8])
    if not (sop_class and sop_instance):
        header = read_header(memoryview(head)[offset:], syntax, complete=len(head) < MAX_META_BYTES)
        if header is None:
            head += _read(stream, _MAX_HEAD_BYTES)
            header = read_header(memoryview(head)[offset:], syntax, complete=True)
        assert header is not None
        sop_class, sop_instance = sop_class or header.sop_class_uid, sop_instance or header.sop_instance_uid
    source = values.get(0x0016, b"").strip(b" \0").decode("ascii", "replace")
    return Part10(sop_class, sop_instance, syntax, source if source.isprintable() else "", offset)


_SHORT: Final = struct.Struct("<HH2sH")
_OB: Final = struct.Struct("<HH2sHL")
_UL: Final = struct.Struct("<L")


def _short(element: int, vr: bytes, text: str) -> bytes:
    value = text.encode("ascii", "replace")
    value += (b"\0" if vr == b"UI" else b" ") * (len(value) % 2)
    return _SHORT.pack(2, element, vr, len(value)) + value


def _read(stream: BinaryIO, size: int) -> bytes:
    pieces: list[bytes] = []
    while size and (piece := stream.read(size)):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def _meta(head: bytes) -> tuple[dict[int, bytes], int]:
    """The elements of group 0002 and where the data set begins; its own group length is not believed."""
    offset = 0
    if head[128:132] == _PREFIX:
        offset = 132
    elif head[:4] == _PREFIX:
        offset = 4
    values: dict[int, bytes] = {}
    while head[offset : offset + 2] == b"\x02\0":
        if offset + 12 > len(head):
            raise NotUnderstood("the file ends within its meta information")
        element = int.from_bytes(head[offset + 2 : offset + 4], "little")
        vr = head[offset + 4 : offset + 6]
        if vr in _LONG:
            start, length = offset + 12, int.from_bytes(head[offset + 8 : offset + 12], "little")
        elif vr.isalpha() and vr.isupper():
            start, length = offset + 8, int.from_bytes(head[offset + 6 : offset + 8], "little")
        else:  # some writers put the meta information in implicit VR
            start, length = offset + 8, int.from_bytes(head[offset + 4 : offset + 8], "little")
        if start + length > len(head):
            raise NotUnderstood("the file's meta information runs past its end")
        values[element] = head[start : start + length]
        offset = start + length
    return values, offset


def _uid(values: dict[int, bytes], element: int) -> Uid:
    value = values.get(element, b"").strip(b" \0")
    return Uid(value.decode("ascii")) if value.isascii() and len(value) <= 64 else Uid("")


def _guess(first: bytes) -> Uid:
    """The transfer syntax of a data set that does not say, from its first element."""
    vr = first[4:6]
    if not (vr.isalpha() and vr.isupper()):
        return IMPLICIT_VR_LITTLE_ENDIAN
    big_endian = first[:1] == b"\0" and first[1:2] != b"\0"  # no data set begins beyond group 00FF
    return EXPLICIT_VR_BIG_ENDIAN if big_endian else EXPLICIT_VR_LITTLE_ENDIAN
