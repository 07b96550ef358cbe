"""What the index needs, read out of the first bytes of an encoded data set (PS3.5 chapter 7). Pure.

Chose an own walk over the encoding, because it stops at (0028,0011), builds no objects for what it passes and knows
when it needs more bytes: some 20 µs for a CT against 230–360 µs for the library's reader. Rejected the library as a
second, slow path: two readers of hostile bytes are twice the ways in, and they could disagree on who the patient is.

Only the four UIDs are mandatory. Everything else is taken as found: unknown VRs, odd lengths, NUL padding, private
creators, sequences and UN of undefined length (nested at most `MAX_DEPTH` deep), and a data set that is not in the VR
encoding that was negotiated (decided on its first element, as other readers do).
"""

from __future__ import annotations

import re
import struct
import zlib
from typing import Final, NamedTuple

from appliance.dicom.charset import decode, encodings
from appliance.dicom.element import (
    IMPLICIT,
    ITEM,
    ITEM_END,
    MAX_DEPTH,
    SEQUENCE_END,
    SHORT,
    UNDEFINED,
    Encoding,
    as_written,
    long_length,
)
from appliance.errors import NotUnderstood
from appliance.model import Header, Uid

MAX_INFLATED_BYTES: Final = 8 << 20
"""How much of a deflated data set is inflated, at most, to find the header."""

DEFLATED: Final = frozenset(
    {
        Uid("1.2.840.10008.1.2.1.99"),  # Deflated Explicit VR Little Endian
        Uid("1.2.840.10008.1.2.4.95"),  # JPIP Referenced Deflate
        Uid("1.2.840.10008.1.2.4.205"),  # JPIP HTJ2K Referenced Deflate
    }
)

_PIXELS: Final = 0x7FE00000
_LAST: Final = 0x00280301  # Burned In Annotation: nothing wanted lies beyond
_MAX_TEXT_BYTES: Final = 1024  # of one value; the longest that is shown, a PN, may have 3 x 64 characters

_UIDS: Final = {
    0x00080016: "SOP Class UID",
    0x00080018: "SOP Instance UID",
    0x0020000D: "Study Instance UID",
    0x0020000E: "Series Instance UID",
}
_CHARACTER_SET: Final = 0x00080005
_TEXTS: Final = {  # free text, in the declared character set; a backslash is part of it
    0x00100020: "patient_id",
    0x00100021: "issuer_of_patient_id",
    0x00100010: "patient_name",
    0x00080050: "accession_number",
    0x00081030: "study_description",
    0x00080090: "referring_physician_name",
    0x0008103E: "series_description",
    0x00080070: "manufacturer",
    0x00081090: "manufacturer_model_name",
    0x00081010: "station_name",
}
_CODES: Final = {  # one value of the default repertoire; the first where there are several
    0x00100030: "patient_birth_date",
    0x00100040: "patient_sex",
    0x00080020: "study_date",
    0x00080030: "study_time",
    0x00080060: "modality",
    0x00200011: "series_number",
    0x00200013: "instance_number",
    0x00180015: "body_part_examined",
    0x00200060: "laterality",
    0x00200062: "image_laterality",
    0x00280301: "burned_in_annotation",
}
_NUMBER_OF_FRAMES: Final = 0x00280008
_ROWS: Final = 0x00280010
_COLUMNS: Final = 0x00280011
_WANTED: Final = frozenset({*_UIDS, *_TEXTS, *_CODES, _CHARACTER_SET, _NUMBER_OF_FRAMES, _ROWS, _COLUMNS})
_UID_SHAPE: Final = re.compile(
    rb"[!-\[\]-~]{1,64}"
)  # any visible character but backslash: devices bend PS3.5 9.1


class Missing(NotUnderstood):
    """A mandatory UID is absent or is not one; `tag` names it for (0000,0901) Offending Element."""

    def __init__(self, tag: int) -> None:
        super().__init__(f"the data set has no readable {_UIDS[tag]}")
        self.tag = tag


class _RanOut(Exception):
    """The bytes end in the middle of an element."""


class Start(NamedTuple):
    """A header, and the place where reading it stopped: `offset` bytes into the data set an element begins, in `encoding`.

    `encoding` is None for a deflated data set, whose bytes are no elements.
    """

    header: Header
    offset: int
    encoding: Encoding | None


def read_header(head: bytes | memoryview, transfer_syntax_uid: Uid, *, complete: bool) -> Header | None:
    """`read_start`, for those who want no more than the header."""
    start = read_start(head, transfer_syntax_uid, complete=complete)
    return None if start is None else start.header


def read_start(head: bytes | memoryview, transfer_syntax_uid: Uid, *, complete: bool) -> Start | None:
    """The header of the data set that starts with `head`, encoded in `transfer_syntax_uid`; None if it needs more.

    `complete` says that `head` is the whole data set: then the answer is never None. Unknown transfer syntaxes are
    read as Explicit VR Little Endian, as every one since 1996 is (PS3.5 A.4).

    Raises `NotUnderstood` if this is no data set, or if one of its four UIDs is missing (`Missing`).
    """
    data: bytes | memoryview = head
    if transfer_syntax_uid in DEFLATED:
        data, ended = _inflate(head)
        if complete and not ended and len(data) < MAX_INFLATED_BYTES:
            raise NotUnderstood("the deflated data set was cut short")
        complete = complete or ended or len(data) >= MAX_INFLATED_BYTES
    if len(data) < 8:
        if complete:
            raise NotUnderstood("the data set ends before its first element")
        return None
    encoding = as_written(data, transfer_syntax_uid)
    try:
        found, offset, done = _walk(data, encoding)
    except (_RanOut, struct.error):  # struct.error: a length field beyond the end
        if complete:
            raise NotUnderstood("the data set ends in the middle of an element") from None
        return None
    if not (done or complete):
        return None
    header = _header(found, transfer_syntax_uid, encoding)
    return Start(header, offset, None if transfer_syntax_uid in DEFLATED else encoding)


def _inflate(head: bytes | memoryview) -> tuple[bytes, bool]:
    """Up to `MAX_INFLATED_BYTES` of a deflated data set (PS3.5 A.5), and whether that is all of it."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        return inflater.decompress(head, MAX_INFLATED_BYTES), inflater.eof
    except zlib.error:
        raise NotUnderstood("the data set is announced as deflated and cannot be inflated") from None


def _walk(data: bytes | memoryview, encoding: Encoding) -> tuple[dict[int, bytes], int, bool]:
    """The wanted values by tag, how far it got, and whether all that can be found has been passed. Raises `_RanOut`."""
    found: dict[int, bytes] = {}
    size = len(data)
    explicit, element_header = encoding.explicit, encoding.element.unpack_from
    offset = 0
    while offset + 8 <= size:
        vr = b""
        if explicit:
            group, element, vr, length = element_header(data, offset)
        else:
            group, element, length = element_header(data, offset)
        tag = group << 16 | element
        if tag > _LAST:
            if group == 0xFFFE:  # a delimiter that closes nothing
                offset += 8
                continue
            if tag >= _PIXELS or found.keys() >= _UIDS.keys():
                return found, offset, True
        offset += 8
        if explicit and vr not in SHORT:
            offset, length = long_length(data, offset, vr, length, encoding)
        if length == UNDEFINED:
            offset = _skip_items(data, offset, IMPLICIT if vr == b"UN" else encoding, MAX_DEPTH)
            continue
        if tag in _WANTED:
            if offset + length > size:
                raise _RanOut
            found[tag] = bytes(data[offset : offset + min(length, _MAX_TEXT_BYTES)])
        offset += length
    if offset != size:
        raise _RanOut
    return found, offset, False


def _skip_items(data: bytes | memoryview, offset: int, encoding: Encoding, depth: int) -> int:
    """The offset after the sequence, or the fragments, of undefined length whose first item is at `offset`.

    Raises `NotUnderstood` for what is no item, and for nesting beyond `depth`; `_RanOut`.
    """
    if depth == 0:
        raise NotUnderstood(f"sequences are nested more than {MAX_DEPTH} deep")
    size = len(data)
    while offset + 8 <= size:
        group, element, length = encoding.item.unpack_from(data, offset)
        tag = group << 16 | element
        offset += 8
        if tag == SEQUENCE_END:
            return offset
        if tag != ITEM:
            raise NotUnderstood("a sequence holds something that is no item")
        offset = _skip_item(data, offset, encoding, depth) if length == UNDEFINED else offset + length
    raise _RanOut


def _skip_item(data: bytes | memoryview, offset: int, encoding: Encoding, depth: int) -> int:
    """The offset after the item of undefined length whose first element is at `offset`."""
    size = len(data)
    explicit, element_header, item_header = encoding.explicit, encoding.element, encoding.item
    while offset + 8 <= size:
        group, element, length = item_header.unpack_from(data, offset)
        tag = group << 16 | element
        if tag == ITEM_END:
            return offset + 8
        vr = b""
        if explicit and group != 0xFFFE:
            vr, length = element_header.unpack_from(data, offset)[2:]
        offset += 8
        if vr and vr not in SHORT:
            offset, length = long_length(data, offset, vr, length, encoding)
        if length == UNDEFINED:
            offset = _skip_items(data, offset, IMPLICIT if vr == b"UN" else encoding, depth - 1)
        else:
            offset += length
    raise _RanOut


def _header(found: dict[int, bytes], transfer_syntax_uid: Uid, encoding: Encoding) -> Header:
    codecs = encodings(found.get(_CHARACTER_SET, b""))
    texts = {name: decode(found[tag], codecs) for tag, name in _TEXTS.items() if tag in found}
    for tag, name in _CODES.items():
        if tag in found:
            texts[name] = decode(found[tag].partition(b"\\")[0], codecs)
    return Header(
        sop_class_uid=_uid(found, 0x00080016),
        sop_instance_uid=_uid(found, 0x00080018),
        study_instance_uid=_uid(found, 0x0020000D),
        series_instance_uid=_uid(found, 0x0020000E),
        transfer_syntax_uid=transfer_syntax_uid,
        number_of_frames=_integer(found.get(_NUMBER_OF_FRAMES, b"")),
        rows=_unsigned(found.get(_ROWS, b""), encoding),
        columns=_unsigned(found.get(_COLUMNS, b""), encoding),
        **texts,
    )


def _uid(found: dict[int, bytes], tag: int) -> Uid:
    value = found.get(tag, b"").strip(b" \0")
    if not _UID_SHAPE.fullmatch(value):
        raise Missing(tag)
    return Uid(value.decode("ascii"))


def _integer(value: bytes) -> int:
    text = value.partition(b"\\")[0].strip(b" \0")
    return int(text) if text.isdigit() and len(text) < 10 else 0


def _unsigned(value: bytes, encoding: Encoding) -> int:
    return int(encoding.number.unpack_from(value)[0]) if len(value) >= 2 else 0
