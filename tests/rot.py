"""What lies somewhere and is no longer as it was written."""

from __future__ import annotations


def last_byte_changed(data: bytes) -> bytes:
    """As long as `data`, and never the same: what was sealed ends with a byte like any other, so none may be laid over it."""
    return data[:-1] + bytes([data[-1] ^ 1])
