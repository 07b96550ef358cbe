"""What the intake log says of an instance that has no row yet: `Received` as JSON, format 1.

Keys are kept for as long as a log written by an older version may be found after an update: a reader ignores keys it
does not know, and a new field of `Header` has a default.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from dataclasses import fields
from datetime import datetime
from typing import Any

from appliance.model import Header, Intake, KeyId, ObjectId, Origin, Received, Stored

_FORMAT = 1
_HEADER_FIELDS = tuple(each.name for each in fields(Header))


def encode(received: Received) -> bytes:
    """`received` as the metadata of a log record."""
    header, origin, stored = received.header, received.origin, received.stored
    return json.dumps(
        {
            "format": _FORMAT,
            "header": {name: value for name in _HEADER_FIELDS if (value := getattr(header, name))},
            "intake": origin.intake.value,
            "origin": origin.name,
            "address": origin.address,
            "object": stored.object_id,
            "key": stored.key_id,
            "wrapped": b64encode(stored.wrapped_key).decode("ascii"),
            "size": stored.size_bytes,
            "sealed": stored.sealed_bytes,
            "received": received.received_utc.isoformat(),
        },
        separators=(",", ":"),
    ).encode()


def decode(metadata: bytes) -> Received:
    """The inverse of `encode`. The metadata was authenticated, so a shape it does not know is a programming error."""
    told: dict[str, Any] = json.loads(metadata)
    header = {name: value for name, value in told["header"].items() if name in _HEADER_FIELDS}
    return Received(
        header=Header(**header),
        origin=Origin(Intake(told["intake"]), told["origin"], told["address"]),
        stored=Stored(
            ObjectId(told["object"]),
            KeyId(told["key"]),
            b64decode(told["wrapped"]),
            told["size"],
            told["sealed"],
        ),
        received_utc=datetime.fromisoformat(told["received"]),
    )
