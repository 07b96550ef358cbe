"""Whether a data set that arrives in pieces ends where one of its elements does (PS3.5 7.1, 7.5, A.4). Pure.

A data set cut short on its way, or in the file that it was sent from, still has a whole header: without this it would
be kept, acknowledged, and deleted where it came from. Refused, it stays with its sender, who is told.

Chose to follow lengths from where `header` stopped, because that is some twenty steps for an image whose pixel data is
one value, and nothing is kept of what is passed. It refuses only what is certainly missing: what it cannot follow it does
not judge, and these are let pass, because devices in the field write them and every reader takes them:

- one byte too few at the end (an odd length, announced as even);
- fragments without the Sequence Delimitation Item after them;
- zeros after the last element, and anything at all after the pixel data;
- whatever follows an UN of undefined length, whose inside not everybody writes as PS3.5 6.2.2 says.

A deflated data set is not followed. Rejected: inflating it a second time only for this.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from appliance.dicom.element import (
    ITEM,
    ITEM_END,
    MAX_DEPTH,
    PIXEL_DATA,
    SEQUENCE_END,
    SHORT,
    UNDEFINED,
    Encoding,
    long_length,
)

_LONGEST_HEADER_BYTES: Final = 12


class _Open(NamedTuple):
    """Something of undefined length that has begun: its items are next, or, in an item, its elements."""

    encoding: Encoding
    in_item: bool
    is_pixels: bool = False


class Extent:
    """Follows one data set: `feed` it all there is from an element's first byte on, then ask what is `missing`."""

    def __init__(self, encoding: Encoding | None) -> None:
        """Begin at the first byte of an element in `encoding`; None for what cannot be followed."""
        self._encoding = encoding
        self._open: list[_Open] = []
        self._skip = 0
        self._rest = b""
        self._in_pixels = False
        self._settled = encoding is None

    def feed(self, piece: bytes | memoryview) -> None:
        """Follow the next piece, of any size; nothing of it is kept but the beginning of a header."""
        if self._settled:
            return
        data: bytes | memoryview = self._rest + bytes(piece) if self._rest else piece
        self._rest = bytes(data[self._follow(data, last=False) :])

    def missing(self) -> bool:
        """Whether the data set ends before what its last elements announced. Asked once, after everything was fed."""
        if not self._settled:
            at = self._follow(self._rest, last=True)
            self._rest = self._rest[at:]
        if self._settled:
            return False
        if self._open:
            return not (self._open[-1].is_pixels and not self._skip and not self._rest)
        return self._skip > 1 or bool(self._rest.strip(b"\0"))

    def _follow(self, data: bytes | memoryview, *, last: bool) -> int:
        """Pass what can be passed; how many bytes that is. The rest is the beginning of a header."""
        at, size = 0, len(data)
        while not self._settled:
            if self._skip:
                step = min(self._skip, size - at)
                self._skip -= step
                at += step
                if self._skip:
                    break
            if self._in_pixels and not self._open:
                self._settled = True
                break
            if size - at < (8 if last else _LONGEST_HEADER_BYTES):
                break
            try:
                at = self._enter(data, at)
            except struct.error:  # `last`, and a header of 12 bytes that is not all there
                break
        return size if self._settled else at

    def _enter(self, data: bytes | memoryview, at: int) -> int:
        """Read the header at `at`; where the next byte is to be looked at. Sets what is to be skipped, or opened."""
        inner = self._open[-1] if self._open else None
        encoding = inner.encoding if inner else self._encoding
        assert encoding is not None
        group, element, length = encoding.item.unpack_from(data, at)
        tag = group << 16 | element
        if inner is not None and not inner.in_item:
            if tag == SEQUENCE_END:
                self._open.pop()
            elif tag == ITEM and length == UNDEFINED:
                self._begin(_Open(encoding, in_item=True))
            elif tag == ITEM:
                self._skip = length
            else:
                self._settled = True  # not a sequence as anybody writes one: nothing to be sure of
            return at + 8
        if inner is not None and tag == ITEM_END:
            self._open.pop()
            return at + 8
        if group == 0xFFFE:  # a delimiter that closes nothing
            return at + 8
        vr = b""
        if encoding.explicit:
            vr, length = encoding.element.unpack_from(data, at)[2:]
        at += 8
        if vr and vr not in SHORT:
            at, length = long_length(data, at, vr, length, encoding)
        is_pixels = inner is None and tag in PIXEL_DATA
        self._in_pixels = is_pixels
        if length == UNDEFINED and vr == b"UN":
            self._settled = True  # implicit VR inside, says PS3.5 6.2.2; some devices write it explicit
        elif length == UNDEFINED:
            self._begin(_Open(encoding, in_item=False, is_pixels=is_pixels))
        else:
            self._skip = length
        return at

    def _begin(self, inner: _Open) -> None:
        self._open.append(inner)
        if len(self._open) > 2 * MAX_DEPTH:
            self._settled = True
