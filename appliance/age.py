"""Encrypting a file for one reader, in the format of age (age-encryption.org/v1), so that the reader needs no tool of ours.

Chose age over a format of our own, because its command exists everywhere and has been looked at; over PGP, because there is
one way to do each thing. Only writing is here: nothing on the box can open what it has written. The whole file is in
memory, and small::

    age-encryption.org/v1
    -> X25519 <our share, 32 bytes, base64>
    <the file key, 16 bytes, wrapped: ChaCha20-Poly1305 under HKDF(shared secret, our share | reader's key, purpose)>
    --- <HMAC-SHA-256 of all above, under HKDF(file key, "", "header")>
    <16 bytes of nonce> <pieces of 64 KiB, each ChaCha20-Poly1305 under HKDF(file key, nonce, "payload"); its nonce is
    the number of the piece (11 bytes) and 1 for the last, else 0>
"""

from __future__ import annotations

import base64
import hmac
import secrets

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from appliance.errors import Refused

PIECE_BYTES = 64 * 1024
FILE_KEY_BYTES = 16
NONCE_BYTES = 16
_PURPOSE = b"age-encryption.org/v1/X25519"
_PREFIX = "age"
_ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)


def encrypt(data: bytes, reader: str) -> bytes:
    """`data` for whoever has the key that belongs to `reader`, ``age1…``. Raises `Refused` if that is no such key."""
    theirs = public_key(reader)
    file_key = secrets.token_bytes(FILE_KEY_BYTES)
    mine = X25519PrivateKey.generate()
    share = mine.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    try:
        shared = mine.exchange(X25519PublicKey.from_public_bytes(theirs))
    except ValueError as error:  # a point of low order: anybody could open the file
        raise _no_key() from error
    wrapping = ChaCha20Poly1305(_derived(shared, share + theirs, _PURPOSE))
    head = b"".join(
        (
            b"age-encryption.org/v1\n-> X25519 ",
            _base64(share),
            b"\n",
            _base64(wrapping.encrypt(bytes(12), file_key, None)),
            b"\n---",
        )
    )
    mac = hmac.digest(_derived(file_key, b"", b"header"), head, "sha256")
    nonce = secrets.token_bytes(NONCE_BYTES)
    payload = ChaCha20Poly1305(_derived(file_key, nonce, b"payload"))
    pieces = [data[at : at + PIECE_BYTES] for at in range(0, len(data), PIECE_BYTES)] or [b""]
    last = len(pieces) - 1
    sealed = (
        payload.encrypt(number.to_bytes(11, "big") + bytes([number == last]), piece, None)
        for number, piece in enumerate(pieces)
    )
    return b"".join((head, b" ", _base64(mac), b"\n", nonce, *sealed))


def public_key(text: str) -> bytes:
    """The 32 bytes of ``age1…`` (Bech32, BIP 173). Raises `Refused`."""
    text = text.strip()
    if text != text.lower() or not text.startswith(f"{_PREFIX}1"):
        raise _no_key()
    symbols = [_ALPHABET.find(each) for each in text[len(_PREFIX) + 1 :]]
    expanded = [ord(each) >> 5 for each in _PREFIX] + [0] + [ord(each) & 31 for each in _PREFIX]
    if -1 in symbols or len(symbols) < 6 or _polymod(expanded + symbols) != 1:
        raise _no_key()
    number = 0
    for symbol in symbols[:-6]:
        number = number << 5 | symbol
    padding = 5 * (len(symbols) - 6) - 256
    if not 0 <= padding < 5 or number & (1 << padding) - 1:
        raise _no_key()
    return (number >> padding).to_bytes(32, "big")


def checked(text: str) -> str:
    """`text`, if it is the public key of a reader. Raises `Refused`."""
    public_key(text)
    return text.strip()


def _polymod(values: list[int]) -> int:
    check = 1
    for value in values:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for place, part in enumerate(_GENERATOR):
            check ^= part if top >> place & 1 else 0
    return check


def _derived(secret: bytes, salt: bytes, purpose: bytes) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=salt, info=purpose).derive(secret)


def _base64(data: bytes) -> bytes:
    return base64.b64encode(data).rstrip(b"=")


def _no_key() -> Refused:
    return Refused(
        "this is not a public key of age",
        hint="paste the line that begins with age1, as the vendor has sent it",
    )
