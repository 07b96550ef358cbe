"""Whether two Part 10 files carry the same data set.

The file meta group is left out: it names who sent the instance and who wrote the file (PS3.10 7.1), which may differ
between two sendings of the same bytes.
"""

from __future__ import annotations

import hashlib
from typing import Protocol

_PIECE = 1 << 20
_META_LENGTH_AT = 140  # preamble 128, "DICM" 4, then (0002,0000) UL 4: tag 4, VR 2, length 2, value 4


class Readable(Protocol):
    """A binary file open for reading at any place."""

    def read(self, size: int = -1, /) -> bytes | None: ...

    def seek(self, offset: int, whence: int = 0, /) -> int: ...


def dataset_offset(head: bytes) -> int:
    """Where the data set begins in a Part 10 file of our writing; `head` is its first 144 bytes."""
    return _META_LENGTH_AT + 4 + int.from_bytes(head[_META_LENGTH_AT : _META_LENGTH_AT + 4], "little")


def same_data_set(one: Readable, other: Readable) -> bool:
    """Compare from the start of each data set to the end, reading a megabyte at a time."""
    for each in (one, other):
        each.seek(0)
        each.seek(dataset_offset(each.read(_META_LENGTH_AT + 4) or b""))
    while True:
        a, b = _fill(one), _fill(other)
        if a != b:
            return False
        if not a:
            return True


def data_set_digest(source: Readable) -> str:
    """The SHA-256 of the data set in a Part 10 file of our writing, hexadecimal: what is left to compare when it is away."""
    source.seek(0)
    source.seek(dataset_offset(source.read(_META_LENGTH_AT + 4) or b""))
    digest = hashlib.sha256()
    while piece := source.read(_PIECE):
        digest.update(piece)
    return digest.hexdigest()


class DataSetDigest:
    """`data_set_digest` of a file that comes piece by piece, from its first byte on."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._head = b""
        self._skip: int | None = None

    def update(self, piece: bytes) -> None:
        """The next bytes of the file."""
        if self._skip is None:
            self._head += piece
            if len(self._head) < _META_LENGTH_AT + 4:
                return
            piece, self._skip, self._head = self._head, dataset_offset(self._head), b""
        self._digest.update(piece[self._skip :])
        self._skip = max(0, self._skip - len(piece))

    def hexdigest(self) -> str:
        """The digest of what has come, hexadecimal."""
        return self._digest.hexdigest()


def _fill(source: Readable) -> bytes:
    pieces: list[bytes] = []
    wanted = _PIECE
    while wanted and (piece := source.read(wanted)):
        pieces.append(piece)
        wanted -= len(piece)
    return b"".join(pieces)
