"""The sealed object: bytes that nobody can read, change, cut, reorder or exchange without being found out.

Pure: it turns plaintext segments into ciphertext segments and back. Who holds the file, and when it is durable, is
`appliance.store.objects`.

Chose the streaming AEAD of Tink, parameters ``AES256_GCM_HKDF_1MB`` with output prefix RAW, on `cryptography`'s AES-GCM;
because 1 MiB segments open at random offsets, and because whoever holds the key can open an object with a published
library and without this product (tests/store/test_envelope.py does so, both ways). Rejected: one AES-GCM message per
object (a frame of a 308 MB volume would cost the whole volume), age (no associated data, so objects could be exchanged
under each other's names), depending on the `tink` package at run time (a copy per segment, and no random access).

Wire format, after Tink's "AES-GCM-HKDF Streaming AEAD" (developers.google.com/tink/streaming-aead). Integers are
big-endian, a segment is 1 MiB of ciphertext::

    offset            bytes  meaning
    0                 1      length of the header: 0x28 = 40
    1                 32     salt, drawn at random for each object
    33                7      nonce prefix, drawn at random for each object
    40                n      segment 0: AES-256-GCM of at most 1 MiB - 56 plaintext bytes, with its 16-byte tag
    1 MiB             n      segment 1: AES-256-GCM of at most 1 MiB - 16 plaintext bytes, with its 16-byte tag
    i * 1 MiB         n      segment i, likewise

    object key   = HKDF-SHA256(key = study key, salt = salt, info = associated data), 32 bytes (RFC 5869)
    nonce of i   = nonce prefix (7) | i (4) | 1 for the last segment, 0 for any other (1)
    AAD of i     = empty: the associated data, which is the object id in ASCII, is bound in by the object key

Every segment but the last is full, and the last is empty only if the whole object is. So each plaintext size has exactly
one sealed size, and a file cut at a segment boundary does not open: its last segment was not sealed as the last.
"""

from __future__ import annotations

import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from appliance.errors import Corrupt

Buffer = bytes | bytearray | memoryview

KEY_BYTES = 32
SALT_BYTES = 32
NONCE_PREFIX_BYTES = 7
HEADER_BYTES = 1 + SALT_BYTES + NONCE_PREFIX_BYTES
TAG_BYTES = 16
SEGMENT_BYTES = 1 << 20
FIRST_PLAINTEXT_BYTES = SEGMENT_BYTES - HEADER_BYTES - TAG_BYTES
PLAINTEXT_BYTES = SEGMENT_BYTES - TAG_BYTES
MAX_SEGMENTS = 1 << 32

FIRST_BYTE = bytes([HEADER_BYTES])
"""What every sealed object begins with: the length of its header."""


def _cipher(key: bytes, salt: bytes, associated_data: bytes) -> AESGCM:
    if len(key) != KEY_BYTES:
        raise ValueError(f"a key has {KEY_BYTES} bytes, not {len(key)}")
    return AESGCM(HKDF(hashes.SHA256(), KEY_BYTES, salt, associated_data).derive(key))


def _nonce(prefix: bytes, index: int, last: bool) -> bytes:
    return prefix + index.to_bytes(4, "big") + (b"\x01" if last else b"\x00")


def plaintext_capacity(index: int) -> int:
    """How many plaintext bytes segment `index` holds when it is full."""
    return PLAINTEXT_BYTES if index else FIRST_PLAINTEXT_BYTES


def plaintext_offset(index: int) -> int:
    """Where in the plaintext segment `index` begins."""
    return index * PLAINTEXT_BYTES - HEADER_BYTES if index else 0


class Sealer:
    """Seals one object, segment after segment, in order.

    `key` is the 32-byte study key, `associated_data` the object id in ASCII. `header` goes first in the file.
    Wrong use (a short segment before the last, anything after it) is a `ValueError`: a defect, not bad input.
    """

    __slots__ = ("_cipher", "_index", "_prefix", "_sealed_last", "header")

    def __init__(self, key: bytes, associated_data: bytes, *, _drawn: bytes | None = None) -> None:
        # `_drawn` (salt, then nonce prefix) is for the vectors only: the same one twice under one key breaks GCM.
        drawn = secrets.token_bytes(SALT_BYTES + NONCE_PREFIX_BYTES) if _drawn is None else _drawn
        self.header = FIRST_BYTE + drawn
        self._prefix = drawn[SALT_BYTES:]
        self._cipher = _cipher(key, drawn[:SALT_BYTES], associated_data)
        self._index = 0
        self._sealed_last = False

    @property
    def room(self) -> int:
        """How many plaintext bytes the next segment takes: exactly so many unless it is the last."""
        return plaintext_capacity(self._index)

    def seal_into(self, plaintext: Buffer, out: bytearray | memoryview, *, last: bool) -> int:
        """Write the next segment's ciphertext and tag to the start of `out`; return how many bytes that is.

        `out` may begin where `plaintext` begins, and then seals in place. It needs `len(plaintext) + TAG_BYTES`
        bytes; more are left alone.
        """
        nonce = self._next(len(plaintext), last)
        return self._cipher.encrypt_into(
            nonce, plaintext, None, memoryview(out)[: len(plaintext) + TAG_BYTES]
        )

    def seal(self, plaintext: Buffer, *, last: bool) -> bytes:
        """The next segment's ciphertext and tag."""
        return self._cipher.encrypt(self._next(len(plaintext), last), plaintext, None)

    def _next(self, plain_bytes: int, last: bool) -> bytes:
        index, room = self._index, self.room
        if self._sealed_last:
            raise ValueError("the last segment is sealed already")
        if plain_bytes > room or (plain_bytes < room and not last) or (plain_bytes == 0 and index):
            raise ValueError(f"segment {index} of {plain_bytes} bytes does not fit the format")
        if index >= MAX_SEGMENTS:
            raise ValueError("an object has at most 2**32 segments")
        self._index, self._sealed_last = index + 1, last
        return _nonce(self._prefix, index, last)


class Opener:
    """Opens segments of one object, in any order.

    Raises `Corrupt` if `header` is not one. A wrong key or another object's id shows at the first segment.
    """

    __slots__ = ("_cipher", "_prefix")

    def __init__(self, key: bytes, associated_data: bytes, header: Buffer) -> None:
        header = bytes(header)
        if len(header) != HEADER_BYTES or header[:1] != FIRST_BYTE:
            raise Corrupt("a sealed object does not begin with its header")
        self._prefix = header[1 + SALT_BYTES :]
        self._cipher = _cipher(key, header[1 : 1 + SALT_BYTES], associated_data)

    def open_segment(self, index: int, ciphertext: Buffer, *, last: bool) -> bytes:
        """The plaintext of segment `index`; `last` says whether it is the last by the size of the file.

        Raises `Corrupt` if these are not the bytes that were sealed at this place of this object.
        """
        plain_bytes = len(ciphertext) - TAG_BYTES
        full = plaintext_capacity(index)
        if plain_bytes > full or (plain_bytes < full and not last) or plain_bytes < (1 if index else 0):
            raise Corrupt(f"segment {index} of a sealed object has an impossible size")
        try:
            return self._cipher.decrypt(_nonce(self._prefix, index, last), ciphertext, None)
        except InvalidTag:
            raise Corrupt(f"segment {index} of a sealed object is not what was sealed") from None


def segment_count(sealed_bytes: int) -> int:
    """How many segments an object of `sealed_bytes` has; raises `Corrupt` for a size that no object has."""
    count = -(-sealed_bytes // SEGMENT_BYTES)
    last_bytes = sealed_bytes - (count - 1) * SEGMENT_BYTES
    least = TAG_BYTES + 1 if count > 1 else HEADER_BYTES + TAG_BYTES
    if count < 1 or count > MAX_SEGMENTS or last_bytes < least:
        raise Corrupt(f"no sealed object has {sealed_bytes} bytes: it was cut short")
    return count


def sealed_size(plain_bytes: int) -> int:
    """Size in bytes of the sealed object that holds `plain_bytes` of plaintext."""
    rest = max(0, plain_bytes - FIRST_PLAINTEXT_BYTES)
    return HEADER_BYTES + plain_bytes + TAG_BYTES * (1 - (-rest // PLAINTEXT_BYTES))


def plain_size(sealed_bytes: int) -> int:
    """Size in bytes of the plaintext in a sealed object; raises `Corrupt` for a size that no object has."""
    return sealed_bytes - HEADER_BYTES - TAG_BYTES * segment_count(sealed_bytes)


def segments_for(offset: int, length: int, sealed_bytes: int) -> range:
    """Indices of the segments that hold plaintext bytes `offset` to `offset + length`, as far as there are any.

    Raises `Corrupt` for a size that no object has.
    """
    end = min(offset + length, plain_size(sealed_bytes))
    if offset < 0 or offset >= end:
        return range(0)
    return range((offset + HEADER_BYTES) // PLAINTEXT_BYTES, (end - 1 + HEADER_BYTES) // PLAINTEXT_BYTES + 1)


def segment_span(index: int, sealed_bytes: int) -> tuple[int, int]:
    """Where in the file segment `index` begins, and how many bytes it has there, tag included.

    Raises `Corrupt` for a size that no object has, `IndexError` for a segment past the end.
    """
    if not 0 <= index < segment_count(sealed_bytes):
        raise IndexError(f"no segment {index} in {sealed_bytes} bytes")
    begin = index * SEGMENT_BYTES if index else HEADER_BYTES
    return begin, min((index + 1) * SEGMENT_BYTES, sealed_bytes) - begin
