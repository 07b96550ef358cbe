"""The root key: everything else on this box is wrapped, sealed or derived under it, and two slots open it.

Pure but for drawing random bytes. Where the slots are kept, and who may open them, is `appliance.store.keys`.

Chose to write the generation of the root key into everything wrapped under it; because a rotation of the root itself can
then re-wrap study keys one by one, and never re-encrypts an object. Rejected: Tink keysets (a protobuf around each
wrapped key), AES key wrap (binds no context, so one study's key could be passed off as another's).

A root key that was rotated keeps its predecessors: each lies in a slot of kind "E" under the root key that followed it, behind
the slots of the seals. So whoever opens the newest root key opens everything this box ever sealed, and whoever has an earlier one
opens nothing that was sealed since. Rejected: re-sealing every backup in every archive, which a locked bucket rightly refuses.

A slot, 114 bytes: the root key under one seal. Integers are big-endian::

    0    8   "rootslot"
    8    1   format: 1
    9    1   "M" machine seal, "R" recovery key, "E" the root key of the next generation
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

A derived key is HKDF-SHA256(root key, no salt, info = "clinic-edge derived key: " | purpose), 32 bytes. It comes from the first
root key, and is the same for ever, where what it makes has to be found or verified again (the chain of the audit, names in the
bucket, the handles of passkeys, the intake log); the catalog's comes from the newest. The salt gives each wrapping its own AES
key, so that random nonces never run out. Python cannot wipe a key from memory: said plainly.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, Literal

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

FIRST_GENERATION: Final = 1

SlotKind = Literal[b"M", b"R", b"E"]


def _hkdf(secret: bytes, salt: bytes | None, info: bytes) -> bytes:
    return HKDF(hashes.SHA256(), KEY_BYTES, salt, info).derive(secret)


class RootKey:
    """The key above all others of this box, in memory, with those before it. It never shows itself and is never pickled.

    `look` is asked before anything is closed, and when something was sealed under a later generation: the root key of this
    box if it was rotated since, else None. So processes that run learn of a rotation when they need to.
    """

    __slots__ = ("_look", "_secrets")

    def __init__(
        self,
        secret: bytes,
        generation: int = FIRST_GENERATION,
        earlier: Mapping[int, bytes] = MappingProxyType({}),
        look: Callable[[], RootKey | None] | None = None,
    ) -> None:
        if (
            len(secret) != KEY_BYTES
            or generation < FIRST_GENERATION
            or any(each >= generation for each in earlier)
        ):
            raise ValueError("a root key has 32 bytes and a generation from 1, the newest of all")
        self._secrets: Mapping[int, bytes] = MappingProxyType({**earlier, generation: secret})
        self._look = look

    @property
    def generation(self) -> int:
        """The newest generation that is known: 1, and one more for each rotation."""
        return max(self._secrets)

    def successor(self, secret: bytes) -> RootKey:
        """The root key that follows this one, which stays known."""
        return RootKey(secret, self.generation + 1, self._secrets)

    def looking(self, look: Callable[[], RootKey | None]) -> RootKey:
        """The same root key, which asks `look` whether there is a later one."""
        earlier = {each: secret for each, secret in self._secrets.items() if each != self.generation}
        return RootKey(self._secrets[self.generation], self.generation, earlier, look)

    def knows(self, other: RootKey) -> bool:
        """Whether this is `other`, or a root key that followed it."""
        secret = self._secrets.get(other.generation)
        return secret is not None and hmac.compare_digest(secret, other._secrets[other.generation])

    def renew(self) -> None:
        """Learn of a rotation that happened since."""
        found = self._look() if self._look else None
        if found is not None and found.generation > self.generation:
            self._secrets = found._secrets

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

    def derive(self, purpose: str, generation: int = FIRST_GENERATION) -> bytes:
        """The 32-byte key for one purpose ("catalog", "intake", "audit", …); the same for ever.

        Raises `Corrupt` if the root key of that generation is not known.
        """
        return _hkdf(self._secret_of(generation), None, b"clinic-edge derived key: " + purpose.encode())

    def derived(self, purpose: str) -> list[bytes]:
        """The keys for one purpose under every root key there was, the newest first."""
        self.renew()
        return [self.derive(purpose, each) for each in sorted(self._secrets, reverse=True)]

    def _close(self, use: bytes, plain: bytes, context: bytes) -> bytes:
        self.renew()
        generation = self.generation
        head = bytes([_FORMAT]) + use + generation.to_bytes(4, "big") + secrets.token_bytes(28)
        key = _hkdf(self._secrets[generation], head[6:22], _LABELS[use])
        return head + AESGCM(key).encrypt(head[22:], plain, head + context)

    def _open(self, use: bytes, closed: bytes, context: bytes) -> bytes:
        if len(closed) < WRAPPING_BYTES or closed[0] != _FORMAT or closed[1:2] != use:
            raise Corrupt("what should be sealed under the root key is not")
        secret = self._secret_of(wrapped_generation(closed))
        head = closed[:34]
        try:
            key = _hkdf(secret, head[6:22], _LABELS[use])
            return AESGCM(key).decrypt(head[22:], closed[34:], head + context)
        except InvalidTag:
            raise Corrupt("what is sealed under the root key was changed, or belongs elsewhere") from None

    def _secret_of(self, generation: int) -> bytes:
        if generation > self.generation:
            self.renew()
        if generation not in self._secrets:
            raise Corrupt(f"sealed under root key {generation}, and this is root key {self.generation}")
        return self._secrets[generation]

    def __repr__(self) -> str:
        return "<RootKey>"

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, RootKey)
            and self.generation == other.generation
            and hmac.compare_digest(self._secrets[self.generation], other._secrets[other.generation])
        )

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> str:
        raise TypeError("a root key is never pickled")


def wrapped_generation(wrapped: bytes) -> int:
    """Under which generation of the root key `wrapped` lies: what a rotation has still to re-wrap."""
    return int.from_bytes(wrapped[2:6], "big")


def sealed_generation(sealed: bytes) -> int:
    """Under which generation `sealed` lies, as far as can be told without that root key; 0 for what is not sealed data."""
    is_sealed = len(sealed) >= WRAPPING_BYTES and sealed[:2] == bytes([_FORMAT]) + b"S"
    return wrapped_generation(sealed) if is_sealed else 0


# --- slots -----------------------------------------------------------------------------------------------------------


def seal_slot(root: RootKey, kind: SlotKind, secret: bytes) -> bytes:
    """The newest root key under one seal."""
    return _slot(root._secrets[root.generation], root.generation, kind, secret)


def chain_slots(root: RootKey) -> bytes:
    """The slots of all earlier root keys, each under the one that followed it, the newest first."""
    known = root._secrets
    return b"".join(
        _slot(known[each], each, b"E", known[each + 1])
        for each in range(root.generation - 1, 0, -1)
        if each in known
    )


def _slot(content: bytes, generation: int, kind: SlotKind, secret: bytes) -> bytes:
    head = _SLOT_MAGIC + bytes([_FORMAT]) + kind + generation.to_bytes(4, "big") + secrets.token_bytes(44)
    key = _hkdf(secret, head[14:46], b"clinic-edge root slot")
    slot = head + AESGCM(key).encrypt(head[46:], content, head)
    return slot + hashlib.sha256(slot).digest()[:8]


def split_slots(blob: bytes) -> list[bytes]:
    return [blob[at : at + SLOT_BYTES] for at in range(0, len(blob), SLOT_BYTES)]


def slots_of(blob: bytes, kind: SlotKind) -> list[bytes]:
    """Those of one kind, as they follow each other."""
    return [each for each in split_slots(blob) if each[9:10] == kind]


def newest_generation(blob: bytes) -> int:
    """The newest generation that any undamaged slot speaks of, 0 for none; no key is needed to see it."""
    return max((int.from_bytes(each[10:14], "big") for each in split_slots(blob) if _whole(each)), default=0)


def check_slots(blob: bytes) -> None:
    """Return if every slot is what was written, as far as that can be told without a key. Raises `Corrupt`."""
    if not blob or not all(_whole(each) for each in split_slots(blob)):
        raise _damaged()


def open_slots(blob: bytes, kind: SlotKind, secret: bytes) -> RootKey | None:
    """The root key from the first slot that `secret` opens, with its predecessors; None if it opens none.

    Raises `Corrupt` if it opens none and one of them is damaged, if there is none at all, or a predecessor is lost.
    """
    damaged = not blob
    for slot in split_slots(blob):
        if not _whole(slot):
            damaged = True
        elif slot[:10] == _SLOT_MAGIC + bytes([_FORMAT]) + kind:
            opened = _opened(slot, secret)
            if opened is not None:
                generation = int.from_bytes(slot[10:14], "big")
                return RootKey(opened, generation, _predecessors(blob, opened, generation))
    if damaged:
        raise _damaged()
    return None


def _damaged() -> Corrupt:
    return Corrupt("the sealed root key is damaged", hint="use another copy, such as the one in the bucket")


def _whole(slot: bytes) -> bool:
    return len(slot) == SLOT_BYTES and hashlib.sha256(slot[:106]).digest()[:8] == slot[106:]


def _opened(slot: bytes, secret: bytes) -> bytes | None:
    head = slot[:58]
    try:
        return AESGCM(_hkdf(secret, head[14:46], b"clinic-edge root slot")).decrypt(
            head[46:], slot[58:106], head
        )
    except InvalidTag:
        return None


def _predecessors(blob: bytes, secret: bytes, generation: int) -> dict[int, bytes]:
    """Down the chain from one root key to the first. Raises `Corrupt` where a link is missing."""
    links = {int.from_bytes(each[10:14], "big"): each for each in slots_of(blob, b"E") if _whole(each)}
    known: dict[int, bytes] = {}
    if not slots_of(blob, b"E"):  # one slot by itself, as in a test vector
        return known
    for each in range(generation - 1, 0, -1):
        opened = _opened(links[each], secret) if each in links else None
        if opened is None:
            raise _damaged()
        known[each] = secret = opened
    return known
