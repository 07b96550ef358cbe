"""The root key: everything else on this box is wrapped, sealed or derived under it, and two slots open it.

Pure but for drawing random bytes. Where the slots are kept, and who may open them, is `appliance.store.keys`.

Chose to write the generation of the root key into everything wrapped under it; because a rotation of the root itself can
then re-wrap study keys one by one, and never re-encrypts an object. Rejected: Tink keysets (a protobuf around each
wrapped key), AES key wrap (binds no context, so one study's key could be passed off as another's).

A slot, 114 bytes: the root key under one seal. Integers are big-endian::

    0    8   "rootslot"
    8    1   format: 1
    9    1   "M" machine seal, "R" recovery key
    10   4   generation of the root key, from 1
    14   32  salt, random
    46   12  nonce, random
    58   48  AES-256-GCM of the 32-byte root key with its 16-byte tag; associated data = bytes 0 to 58;
             key = HKDF-SHA256(secret of the seal, salt, info = "clinic-edge root slot")
    106  8   first 8 bytes of SHA-256 over bytes 0 to 106: tells a damaged slot from a wrong key

Wrapped or sealed bytes, 50 more than what is inside::

    0    1   format: 1
    1    1   "W" wrapped key, "S" sealed data
    2    4   generation of the root key
    6    16  salt, random
    22   12  nonce, random
    34   n   AES-256-GCM with its 16-byte tag; associated data = bytes 0 to 34, then the context;
             key = HKDF-SHA256(root key, salt, info = "clinic-edge wrapped key" or "clinic-edge sealed data")

A derived key is HKDF-SHA256(root key, no salt, info = "clinic-edge derived key: " | purpose), 32 bytes. The salt gives
each wrapping its own AES key, so that random nonces never run out. Python cannot wipe a key from memory: said plainly.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from appliance.errors import Corrupt

KEY_BYTES = 32
SLOT_BYTES = 114
WRAPPING_BYTES = 50

_SLOT_MAGIC = b"rootslot"
_FORMAT = 1
_LABELS = {b"W": b"clinic-edge wrapped key", b"S": b"clinic-edge sealed data"}

SlotKind = Literal[b"M", b"R"]


def _hkdf(secret: bytes, salt: bytes | None, info: bytes) -> bytes:
    return HKDF(hashes.SHA256(), KEY_BYTES, salt, info).derive(secret)


class RootKey:
    """The key above all others of this box, in memory. It never shows itself and is never pickled."""

    __slots__ = ("_secret", "generation")

    def __init__(self, secret: bytes, generation: int = 1) -> None:
        if len(secret) != KEY_BYTES or generation < 1:
            raise ValueError("a root key has 32 bytes and a generation from 1")
        self._secret = secret
        self.generation = generation

    def wrap(self, study_key: bytes, context: bytes) -> bytes:
        """`study_key` wrapped, to be kept anywhere; it opens only with the same `context` (what the key is for)."""
        return self._close(b"W", study_key, context)

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """The study key in `wrapped`. Raises `Corrupt` if it is not what was wrapped for this context."""
        return self._open(b"W", wrapped, context)

    def seal(self, data: bytes, context: bytes) -> bytes:
        """`data` sealed as one piece, for small things: a manifest, a setting. Objects have study keys."""
        return self._close(b"S", data, context)

    def unseal(self, sealed: bytes, context: bytes) -> bytes:
        """The data in `sealed`. Raises `Corrupt` if it is not what was sealed for this context."""
        return self._open(b"S", sealed, context)

    def derive(self, purpose: str) -> bytes:
        """The 32-byte key for one purpose ("catalog", "intake", "audit", …); the same for ever."""
        return _hkdf(self._secret, None, b"clinic-edge derived key: " + purpose.encode())

    def _close(self, use: bytes, plain: bytes, context: bytes) -> bytes:
        head = bytes([_FORMAT]) + use + self.generation.to_bytes(4, "big") + secrets.token_bytes(28)
        key = _hkdf(self._secret, head[6:22], _LABELS[use])
        return head + AESGCM(key).encrypt(head[22:], plain, head + context)

    def _open(self, use: bytes, closed: bytes, context: bytes) -> bytes:
        if len(closed) < WRAPPING_BYTES or closed[0] != _FORMAT or closed[1:2] != use:
            raise Corrupt("what should be sealed under the root key is not")
        if (generation := wrapped_generation(closed)) != self.generation:
            raise Corrupt(f"sealed under root key {generation}, and this is root key {self.generation}")
        head = closed[:34]
        try:
            key = _hkdf(self._secret, head[6:22], _LABELS[use])
            return AESGCM(key).decrypt(head[22:], closed[34:], head + context)
        except InvalidTag:
            raise Corrupt("what is sealed under the root key was changed, or belongs elsewhere") from None

    def __repr__(self) -> str:
        return "<RootKey>"

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, RootKey)
            and self.generation == other.generation
            and hmac.compare_digest(self._secret, other._secret)
        )

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> str:
        raise TypeError("a root key is never pickled")


def wrapped_generation(wrapped: bytes) -> int:
    """Under which generation of the root key `wrapped` lies: what a rotation has still to re-wrap."""
    return int.from_bytes(wrapped[2:6], "big")


# --- slots -----------------------------------------------------------------------------------------------------------


def seal_slot(root: RootKey, kind: SlotKind, secret: bytes) -> bytes:
    head = (
        _SLOT_MAGIC + bytes([_FORMAT]) + kind + root.generation.to_bytes(4, "big") + secrets.token_bytes(44)
    )
    key = _hkdf(secret, head[14:46], b"clinic-edge root slot")
    slot = head + AESGCM(key).encrypt(head[46:], root._secret, head)
    return slot + hashlib.sha256(slot).digest()[:8]


def split_slots(blob: bytes) -> list[bytes]:
    return [blob[at : at + SLOT_BYTES] for at in range(0, len(blob), SLOT_BYTES)]


def open_slots(blob: bytes, kind: SlotKind, secret: bytes) -> RootKey | None:
    """The root key from the first slot that `secret` opens; None if it opens none.

    Raises `Corrupt` if it opens none and one of them is damaged, or there is none at all.
    """
    damaged = not blob
    for slot in split_slots(blob):
        head = slot[:58]
        if len(slot) != SLOT_BYTES or hashlib.sha256(slot[:106]).digest()[:8] != slot[106:]:
            damaged = True
        elif head[:10] == _SLOT_MAGIC + bytes([_FORMAT]) + kind:
            try:
                key = _hkdf(secret, head[14:46], b"clinic-edge root slot")
                opened = AESGCM(key).decrypt(head[46:], slot[58:106], head)
            except InvalidTag:
                continue
            return RootKey(opened, int.from_bytes(head[10:14], "big"))
    if damaged:
        raise Corrupt(
            "the sealed root key is damaged", hint="use another copy, such as the one in the bucket"
        )
    return None
