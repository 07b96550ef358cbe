"""The water marks of the data disk, in words."""

from __future__ import annotations

from appliance.health.checks.disk import LOW_SPACE_RESERVES
from appliance.web.language import Words


def marks(reserve_bytes: int, words: Words) -> str:
    """With how much free the box warns, and with how much reception stops; nothing where no reserve is kept."""
    if not reserve_bytes:
        return ""
    low, reserve = words.size(LOW_SPACE_RESERVES * reserve_bytes), words.size(reserve_bytes)
    return words("dashboard.disk_marks", low=low, reserve=reserve)
