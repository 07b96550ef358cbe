"""The other side of `appliance.age`: opens what age and what we have written. For tests alone; nothing of ours is used."""

import base64
import hmac
from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

SYMBOLS = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
IDENTITY = "AGE-SECRET-KEY-164RSF2ZGA00QS5V2ZV5FGL92FZDKCHHRCQATL59UPXW2URUH25PSZMV0CF"
READER = "age1aa906cvfm0l8k5d7c5vvaxpe3kg7zt6q24qg86dm9wa9ghhtuf2qe05n3t"
"""A pair that `age-keygen` has made."""


def opened(data: bytes, identity: str = IDENTITY) -> bytes:
    """What `data` holds. Any of cryptography's errors, or AssertionError, if it does not open."""
    mine = X25519PrivateKey.from_private_bytes(_secret(identity))
    head, payload = data.split(b"\n--- ", 1)
    mac, payload = payload.split(b"\n", 1)
    version, stanza, body = head.split(b"\n")
    assert version == b"age-encryption.org/v1"
    kind, name, share = stanza.split(b" ")
    assert (kind, name) == (b"->", b"X25519")
    theirs = _decoded(share)
    shared = mine.exchange(X25519PublicKey.from_public_bytes(theirs))
    public = mine.public_key().public_bytes_raw()
    wrapping = _derived(shared, theirs + public, b"age-encryption.org/v1/X25519")
    file_key = ChaCha20Poly1305(wrapping).decrypt(bytes(12), _decoded(body), None)
    assert _decoded(mac) == hmac.digest(_derived(file_key, b"", b"header"), head + b"\n---", "sha256")
    nonce, rest = payload[:16], payload[16:]
    stream = ChaCha20Poly1305(_derived(file_key, nonce, b"payload"))
    pieces = [rest[at : at + 65536 + 16] for at in range(0, len(rest), 65536 + 16)]
    return b"".join(
        stream.decrypt(number.to_bytes(11, "big") + bytes([number == len(pieces) - 1]), piece, None)
        for number, piece in enumerate(pieces)
    )


def _secret(identity: str) -> bytes:
    symbols = [SYMBOLS.index(each) for each in identity.lower().removeprefix("age-secret-key-1")]
    number = 0
    for symbol in symbols[:-6]:
        number = number << 5 | symbol
    return (number >> (5 * (len(symbols) - 6) - 256)).to_bytes(32, "big")


def _decoded(text: bytes) -> bytes:
    return base64.b64decode(text + b"=" * (-len(text) % 4))


def _derived(secret: bytes, salt: bytes, purpose: bytes) -> bytes:
    """HKDF (RFC 5869), of one block."""
    return hmac.digest(hmac.digest(salt or bytes(32), secret, sha256), purpose + b"\x01", sha256)
