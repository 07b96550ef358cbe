"""Re-encoding an instance for a receiver that refuses the syntax it is stored in: decompression and byte order only.

The pixels stay what they were, so the SOP Instance UID stays (PS3.4 B.4.1.3 asks for a new one when *lossy* compression
is applied, which is never done here). Samples keep the colour space that the codec gives: a YBR image stays YBR,
because converting it would round. What was compressed lossily says so afterwards (PS3.3 C.7.6.1.1.5), since the
transfer syntax, which said so before, is gone. Objects without pixels need no codec.

Chose to walk the elements and carry their values over as bytes; pydicom only decompresses. Rejected letting pydicom
write the data set: it decodes and re-encodes every text, and text whose bytes are not in the declared character set,
which is common, would come out altered. The whole object is held in memory: this path is rare.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO, Final

import numpy as np
import pydicom
from pydicom.datadict import dictionary_VR
from pydicom.uid import UID

from appliance.dicom.part10 import read_part10
from appliance.errors import Refused, Transient
from appliance.model import Uid

IMPLICIT: Final = Uid("1.2.840.10008.1.2")
EXPLICIT: Final = Uid("1.2.840.10008.1.2.1")
DEFLATED: Final = Uid("1.2.840.10008.1.2.1.99")
BIG_ENDIAN: Final = Uid("1.2.840.10008.1.2.2")
NATIVE: Final = frozenset({IMPLICIT, EXPLICIT, DEFLATED, BIG_ENDIAN})
_ALWAYS_LOSSY: Final = frozenset({"1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"})

DEEPEST_NESTING: Final = 64
MOST_INFLATED_BYTES: Final = 2 << 30
_UNDEFINED: Final = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_BITS_ALLOCATED, _PIXEL_REPRESENTATION, _PIXEL_DATA = 0x00280100, 0x00280103, 0x7FE00010
_OFFSET_TABLES: Final = (0x7FE00001, 0x7FE00002)
_LONG: Final = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"})
_WORD_BYTES: Final = {
    **dict.fromkeys(("AT", "OW", "SS", "US"), 2),
    **dict.fromkeys(("FL", "OF", "OL", "SL", "UL"), 4),
    **dict.fromkeys(("FD", "OD", "OV", "SV", "UV"), 8),
}

_Replacements = Mapping[int, tuple[str, bytes] | None]


@dataclass(frozen=True, slots=True)
class _Coding:
    """How a data set is encoded (PS3.5 7.1, 7.3)."""

    implicit: bool
    big_endian: bool = False


@dataclass(frozen=True, slots=True)
class _Pixels:
    """What the VR of ambiguous elements depends on."""

    bits_allocated: int = 16
    signed: bool = False


@dataclass(frozen=True, slots=True)
class _Element:
    tag: int
    vr: str
    length: int
    start: int


def transcode(part10: BinaryIO, target: Uid) -> bytes:
    """The data set of the Part 10 file `part10`, encoded in `target` (Implicit or Explicit VR Little Endian).

    Raises `Refused` when it cannot be read or no codec here can decompress it.
    """
    if target not in {IMPLICIT, EXPLICIT}:
        raise ValueError("only the uncompressed little endian syntaxes are written")
    file = _read_all(part10)
    head = read_part10(io.BytesIO(file))
    stored = head.transfer_syntax_uid
    data = memoryview(file)[head.dataset_offset :]
    replacements: _Replacements = {}
    if stored == DEFLATED:
        data = memoryview(_inflated(data))
    elif stored not in NATIVE:
        if not UID(stored).is_transfer_syntax or UID(stored).is_private:
            raise Refused("this object is in an encoding that is not known here")
        replacements = _decompressed(file, stored)
    source = _Coding(implicit=stored == IMPLICIT or _looks_implicit(data), big_endian=stored == BIG_ENDIAN)
    try:
        return b"".join(_rewritten(data, source, _Coding(implicit=target == IMPLICIT), replacements))
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise Refused("this object's data set is malformed, so it cannot be re-encoded") from error


def _looks_implicit(data: memoryview) -> bool:
    """Whether a data set that should have explicit VRs has none, as some encoders write compressed objects."""
    vr = bytes(data[4:6])
    return len(vr) == 2 and not (vr.isalpha() and vr.isupper())


def _rewritten(
    data: memoryview, source: _Coding, target: _Coding, replacements: _Replacements
) -> Iterator[bytes | memoryview]:
    """The top level of a data set, with `replacements` (tag → VR and value, or None to leave it out) in their places."""
    pixels = _pixels(data, source)
    pending = sorted(tag for tag, value in replacements.items() if value is not None)
    for element in _elements(data, source, 0, len(data), pixels, outermost=True):
        while pending and pending[0] <= element.tag:
            yield from _replacement(pending.pop(0), replacements, target)
        if element.tag not in replacements:
            yield from _converted(data, element, source, target, pixels, 0)
    for tag in pending:
        yield from _replacement(tag, replacements, target)


def _replacement(tag: int, replacements: _Replacements, target: _Coding) -> Iterator[bytes]:
    value = replacements[tag]
    assert value is not None
    yield _element_head(tag, value[0], len(value[1]), target)
    yield value[1]


def _converted(
    data: memoryview, element: _Element, source: _Coding, target: _Coding, pixels: _Pixels, depth: int
) -> Iterator[bytes | memoryview]:
    """One element in the target coding."""
    if element.tag & 0xFFFF == 0:
        return  # group lengths are retired (PS3.5 7.2) and would be wrong
    if depth > DEEPEST_NESTING:
        raise Refused("this object's sequences are nested too deeply")
    if element.vr == "SQ":
        items = list(_sequence(data, element, source, target, pixels, depth))
        length = _UNDEFINED if element.length == _UNDEFINED else sum(map(len, items))
        yield _element_head(element.tag, "SQ", length, target)
        yield from items
        if length == _UNDEFINED:
            yield _delimiter(_SEQUENCE_END)
    elif element.length == _UNDEFINED:
        if element.vr != "UN":
            raise Refused("this object holds compressed pixels in a place where they cannot be decompressed")
        # PS3.5 6.2.2: an unknown element of undefined length is a sequence in implicit VR little endian, in any syntax
        yield _element_head(element.tag, "UN", _UNDEFINED, target)
        yield data[element.start : _end_of_sequence(data, element.start, _Coding(implicit=True), depth) + 8]
    else:
        value = data[element.start : element.start + element.length]
        if source.big_endian:
            value = _swapped(value, _width(element, pixels))
        yield _element_head(element.tag, element.vr, len(value), target)
        yield value


def _sequence(
    data: memoryview, element: _Element, source: _Coding, target: _Coding, pixels: _Pixels, depth: int
) -> Iterator[bytes | memoryview]:
    """The items of a sequence (PS3.5 7.5); items keep the style of length that they had."""
    at = element.start
    end = len(data) if element.length == _UNDEFINED else element.start + element.length
    while at + 8 <= end:
        tag, length = _item_head(data, at, source)
        at += 8
        if tag == _SEQUENCE_END:
            return
        if tag != _ITEM:
            raise Refused("this object's data set is malformed, so it cannot be re-encoded")
        item_end = end if length == _UNDEFINED else at + length
        pieces: list[bytes | memoryview] = []
        for each in _elements(data, source, at, item_end, pixels):
            if each.tag == _ITEM_END:
                item_end = each.start
                break
            pieces.extend(_converted(data, each, source, target, pixels, depth + 1))
        new_length = _UNDEFINED if length == _UNDEFINED else sum(map(len, pieces))
        yield struct.pack("<HHL", 0xFFFE, 0xE000, new_length)
        yield from pieces
        if length == _UNDEFINED:
            yield _delimiter(_ITEM_END)
        at = item_end


def _elements(
    data: memoryview, source: _Coding, at: int, end: int, pixels: _Pixels, *, outermost: bool = False
) -> Iterator[_Element]:
    """The elements from `at` to `end`; an item's end is given out as an element, and ends the walk.

    Outermost, a delimiter closes nothing and is passed over, as `header` does: what comes after it is not to be lost.
    """
    order = ">" if source.big_endian else "<"
    while at + 8 <= end:
        group, number = struct.unpack_from(f"{order}HH", data, at)
        tag = group << 16 | number
        if group == 0xFFFE:
            if outermost and tag in (_ITEM_END, _SEQUENCE_END):
                at += 8
                continue
            if tag == _ITEM_END:
                yield _Element(tag, "", 0, at + 8)
                return
            if tag == _SEQUENCE_END or at == 0:
                return
            raise Refused("this object's data set is malformed, so it cannot be re-encoded")
        if source.implicit:
            (length,) = struct.unpack_from(f"{order}L", data, at + 4)
            start = at + 8
            vr = _looked_up(tag, length, pixels)
        else:
            vr = bytes(data[at + 4 : at + 6]).decode("ascii")
            if vr in _LONG:
                (length,) = struct.unpack_from(f"{order}L", data, at + 8)
                start = at + 12
            else:
                (length,) = struct.unpack_from(f"{order}H", data, at + 6)
                start = at + 8
        if length == _UNDEFINED:
            inner = _Coding(implicit=True) if vr == "UN" else source
            following = _end_of_sequence(data, start, inner, 0) + 8
        else:
            following = start + length
            if following > end:
                raise Refused("this object's data set is cut short, so it cannot be re-encoded")
        yield _Element(tag, vr, length, start)
        at = following


def _end_of_sequence(data: memoryview, at: int, source: _Coding, depth: int) -> int:
    """Where the delimiter of the sequence (or of the fragments) that begins at `at` stands."""
    if depth > DEEPEST_NESTING:
        raise Refused("this object's sequences are nested too deeply")
    while True:
        tag, length = _item_head(data, at, source)
        if tag == _SEQUENCE_END:
            return at
        if tag != _ITEM:
            raise Refused("this object's data set is malformed, so it cannot be re-encoded")
        at = _end_of_item(data, at + 8, source, depth + 1) if length == _UNDEFINED else at + 8 + length


def _end_of_item(data: memoryview, at: int, source: _Coding, depth: int) -> int:
    """Where what follows an item of undefined length begins."""
    order = ">" if source.big_endian else "<"
    while True:
        tag, length = _item_head(data, at, source)
        if tag == _ITEM_END:
            return at + 8
        start, inner = at + 8, source
        if not source.implicit:
            vr = bytes(data[at + 4 : at + 6]).decode("ascii")
            if vr in _LONG:
                (length,) = struct.unpack_from(f"{order}L", data, at + 8)
                start = at + 12
            else:
                (length,) = struct.unpack_from(f"{order}H", data, at + 6)
            inner = _Coding(implicit=True) if vr == "UN" else source
        at = start + length if length != _UNDEFINED else _end_of_sequence(data, start, inner, depth) + 8


def _item_head(data: memoryview, at: int, source: _Coding) -> tuple[int, int]:
    group, number, length = struct.unpack_from(">HHL" if source.big_endian else "<HHL", data, at)
    return group << 16 | number, length


def _element_head(tag: int, vr: str, length: int, target: _Coding) -> bytes:
    """Tag, VR and length (PS3.5 7.1.2, 7.1.3); what a short length cannot hold becomes UN (PS3.5 6.2.2)."""
    if target.implicit:
        return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, length)
    if vr not in _LONG and length > 0xFFFF:
        vr = "UN"
    if vr in _LONG:
        return struct.pack("<HH2sHL", tag >> 16, tag & 0xFFFF, vr.encode(), 0, length)
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr.encode(), length)


def _delimiter(tag: int) -> bytes:
    return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, 0)


def _looked_up(tag: int, length: int, pixels: _Pixels) -> str:
    """The VR of an element whose encoding does not say (PS3.6; PS3.5 A.1 for those with a choice)."""
    if tag >> 16 & 1:
        if tag & 0xFFFF < 0x0010:
            return "UN"
        return "LO" if tag & 0xFF00 == 0 and length != _UNDEFINED else "UN"
    if tag & 0xFFFF == 0:
        return "UL"
    try:
        vr = dictionary_VR(tag)
    except KeyError:
        return "UN"
    if vr == "OB or OW":
        return "OB" if tag == _PIXEL_DATA and pixels.bits_allocated <= 8 else "OW"
    if vr == "US or OW":
        return "OW"
    if " or " in vr:
        return "SS" if pixels.signed else "US"
    return "UN" if length == _UNDEFINED and vr != "SQ" else vr


def _pixels(data: memoryview, source: _Coding) -> _Pixels:
    bits, signed = 16, False
    order = ">" if source.big_endian else "<"
    for element in _elements(data, source, 0, len(data), _Pixels(), outermost=True):
        if element.tag > _PIXEL_REPRESENTATION:
            break
        if element.length == 2 and element.tag in {_BITS_ALLOCATED, _PIXEL_REPRESENTATION}:
            (value,) = struct.unpack_from(f"{order}H", data, element.start)
            if element.tag == _BITS_ALLOCATED:
                bits = value
            else:
                signed = value == 1
    return _Pixels(bits, signed)


def _width(element: _Element, pixels: _Pixels) -> int:
    if element.tag == _PIXEL_DATA and element.vr == "OW" and pixels.bits_allocated in {32, 64}:
        return pixels.bits_allocated // 8
    return _WORD_BYTES.get(element.vr, 1)


def _swapped(value: memoryview, width: int) -> memoryview:
    if width == 1 or len(value) % width:
        return value
    return memoryview(np.frombuffer(value, f"u{width}").byteswap().tobytes())


def _inflated(data: memoryview) -> bytes:
    """PS3.5 A.5, with a limit against objects that inflate without end."""
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        inflated = stream.decompress(data, MOST_INFLATED_BYTES)
    except zlib.error as error:
        raise Refused("this object's data set does not inflate") from error
    if stream.unconsumed_tail:
        raise Refused("this object's data set inflates beyond 2 GiB")
    return inflated


def _decompressed(file: bytes, stored: Uid) -> _Replacements:
    """What changes at the top level when the pixels of `file` are decompressed; nothing if it has none."""
    try:
        instance = pydicom.dcmread(io.BytesIO(file), force=True)
        if "PixelData" not in instance:
            return {}
        instance.decompress(as_rgb=False, generate_instance_uid=False)
        pixels = bytes(instance.PixelData)
        photometric = str(instance.PhotometricInterpretation)
        bits = int(instance.BitsAllocated)
        samples = int(instance.Rows) * int(instance.Columns) * int(instance.get("NumberOfFrames") or 1)
        if photometric == "YBR_FULL_422" and len(pixels) >= 3 * samples * bits // 8:
            photometric = "YBR_FULL"  # every pixel has its own chrominance once it is decompressed
        replacements: dict[int, tuple[str, bytes] | None] = {
            _PIXEL_DATA: ("OB" if bits <= 8 else "OW", pixels + b"\0" * (len(pixels) % 2)),
            0x00280004: ("CS", _padded(photometric)),
            _BITS_ALLOCATED: ("US", struct.pack("<H", bits)),
            **dict.fromkeys(_OFFSET_TABLES),
        }
        if "PlanarConfiguration" in instance:
            replacements[0x00280006] = ("US", struct.pack("<H", int(instance.PlanarConfiguration)))
    except MemoryError as error:
        raise Transient("there is not enough memory to decompress this object now") from error
    except Exception as error:
        # Codecs raise anything, and what they say may quote the data set: only the kind is passed on.
        raise Refused(
            f"this object cannot be decompressed for a receiver that wants it so ({type(error).__name__})",
            hint="configure the receiver to accept the encoding that the device produces",
        ) from error
    if stored in _ALWAYS_LOSSY:
        replacements[0x00282110] = ("CS", b"01")
    return replacements


def _padded(text: str) -> bytes:
    value = text.encode("ascii")
    return value + b" " * (len(value) % 2)


def _read_all(stream: BinaryIO) -> bytes:
    pieces: list[bytes] = []
    while piece := stream.read(1 << 20):
        pieces.append(piece)
    return b"".join(pieces)
