"""How many days the disk lasts: from what arrived so far, or, while that says nothing, from what the clinic expects. Pure.

A box that has received for a week knows better than anybody's guess; before that, the guess is asked for and shown as
one. Sizes are those of usual machines (a panoramic is 12 to 14 MB uncompressed, an intra-oral 2 to 4, a CBCT 200 to
400), rounded up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Final

MB: Final = 1_000_000
BYTES: Final[Mapping[str, int]] = MappingProxyType(
    {"panoramic": 14 * MB, "intraoral": 4 * MB, "cbct": 400 * MB}
)
"""What an image of each kind takes."""

EXPECTED: Final[Mapping[str, int]] = MappingProxyType({"panoramic": 10, "intraoral": 60, "cbct": 2})
"""Images on a working day, until the clinic says otherwise."""

MOST_A_DAY: Final = 10_000
HISTORY: Final = timedelta(days=7)
WORKING_DAYS_A_WEEK: Final = 5
MOST_DAYS: Final = 36_500


class Basis(StrEnum):
    """What a forecast rests on."""

    HISTORY = "history"
    EXPECTED = "expected"


@dataclass(frozen=True, slots=True)
class Forecast:
    """`days` of the calendar until the disk is down to its reserve, at `bytes_a_day` on the average day."""

    days: int
    bytes_a_day: int
    basis: Basis


def forecast(
    *,
    usable_bytes: int,
    kept_bytes: int,
    first_received_utc: datetime | None,
    expected: Mapping[str, int],
    now: datetime,
) -> Forecast:
    """`usable_bytes` is free space above the reserve, `expected` images on a working day by kind of `BYTES`."""
    since = now - first_received_utc if first_received_utc is not None else timedelta()
    if since >= HISTORY and kept_bytes > 0:
        a_day, basis = kept_bytes // max(1, since.days), Basis.HISTORY
    else:
        on_working_days = sum(BYTES[kind] * count for kind, count in expected.items())
        a_day, basis = on_working_days * WORKING_DAYS_A_WEEK // 7, Basis.EXPECTED
    days = MOST_DAYS if a_day <= 0 else min(MOST_DAYS, max(0, usable_bytes) // a_day)
    return Forecast(days, a_day, basis)
