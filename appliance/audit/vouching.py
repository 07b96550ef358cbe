"""A record that only this box can have written: what is judged by it is believed no further. Pure.

Chose an HMAC under the key of the audit over the record's canonical text with what it is a record of: because such a record
is one row that is written over, not a log; because a row that somebody put there, or that belongs to another archive or
another box, then counts for nothing. Rejected: to look the act up in the audit each time the box is judged, which is every
few seconds, in a log of years. What it does not tell is an older record of the same thing that was put back: that one has
its age in it, which is judged too.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Any, Final

from appliance.catalog.columns import canonical_json

MAC: Final = "mac"
"""Where the HMAC is kept, in hexadecimal, beside what it vouches for."""


def vouched(key: bytes, what: str, record: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON-able `record` of `what`, with the proof that it is this box's; `key` is the audit's."""
    said = {name: value for name, value in record.items() if name != MAC}
    return {**said, MAC: _mac(key, what, said)}


def is_vouched(key: bytes, what: str, record: object) -> bool:
    """Whether this box has written `record`, and as one of `what`."""
    if not isinstance(record, Mapping) or not isinstance(record.get(MAC), str):
        return False
    said = {name: value for name, value in record.items() if name != MAC}
    return hmac.compare_digest(record[MAC].encode(), _mac(key, what, said).encode())


def _mac(key: bytes, what: str, said: Mapping[str, Any]) -> str:
    text = f"vouched\0{what}\0{canonical_json(dict(said))}"
    return hmac.digest(key, text.encode(), "sha256").hex()
