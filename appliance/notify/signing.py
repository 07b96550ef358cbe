"""How what a webhook receives is signed, so that it can tell this box from anybody else. Pure.

::

    X-Appliance-Timestamp: 1772366400                         seconds since 1970, of this attempt
    X-Appliance-Signature: v1=<HMAC-SHA256, hexadecimal>      key: the webhook's secret, as text
                                                              over: the timestamp, a full stop, the body as it came
    X-Appliance-Delivery: <id>                                the same at every attempt

A receiver computes the signature over the bytes as received, compares in constant time, refuses a timestamp more than
`REPLAY_SECONDS` from its own clock, and drops a delivery whose id it has seen. `check` does the first three.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from datetime import datetime

REPLAY_SECONDS = 300
VERSION = "v1"


def new_secret() -> str:
    """A secret for a webhook: 256 random bits, as text that can be pasted."""
    return f"whsec_{secrets.token_urlsafe(32)}"


def signature(secret: str, timestamp: int, body: bytes) -> str:
    """The signature of `body`, sent at `timestamp`."""
    signed = f"{timestamp}.".encode() + body
    return f"{VERSION}={hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()}"


def headers(secret: str, delivery: str, body: bytes, now: datetime) -> dict[str, str]:
    """The headers of one attempt."""
    timestamp = int(now.timestamp())
    return {
        "Content-Type": "application/json; charset=utf-8",
        "X-Appliance-Timestamp": str(timestamp),
        "X-Appliance-Signature": signature(secret, timestamp, body),
        "X-Appliance-Delivery": delivery,
    }


def check(secret: str, timestamp: str, signed: str, body: bytes, now: datetime) -> bool:
    """What a receiver does: whether `body` comes from the holder of `secret`, lately."""
    if not timestamp.isascii() or not timestamp.isdecimal():
        return False
    if abs(int(timestamp) - now.timestamp()) > REPLAY_SECONDS:
        return False
    return hmac.compare_digest(signature(secret, int(timestamp), body).encode(), signed.encode())
