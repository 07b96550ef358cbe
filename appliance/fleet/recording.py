"""A visit of support as a recording in asciinema's format (asciicast v2), and its checksum. Pure.

The format is one JSON document a line: a head, then ``[seconds, "i" or "o", text]`` for what was typed and shown. It is made
of rows of the catalog, which are there before anybody sees an effect of them, so a visit that is cut has its recording too;
and it is made alike each time, so that its checksum in the audit proves it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import sha256

from appliance.catalog.support_sessions import Event, Visit

WIDTH, HEIGHT = 100, 40


def cast(visit: Visit, events: Sequence[Event]) -> str:
    """The recording, which ``asciinema play`` plays."""
    head = {
        "version": 2,
        "width": WIDTH,
        "height": HEIGHT,
        "timestamp": int(visit.began_utc.timestamp()),
        "title": f"support session {visit.session}, visit {visit.id}",
    }
    lines = [json.dumps(head, sort_keys=True)]
    lines += [
        json.dumps(
            [each.at_milliseconds / 1000, each.kind, each.text.replace("\n", "\r\n")], ensure_ascii=False
        )
        for each in events
    ]
    return "\n".join(lines) + "\n"


def checksum(visit: Visit, events: Sequence[Event]) -> str:
    """SHA-256 of the recording, in hexadecimal."""
    return sha256(cast(visit, events).encode("utf-8", "backslashreplace")).hexdigest()
