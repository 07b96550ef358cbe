"""How many images the clinic expects on a working day: the guess that a forecast rests on until there is history.

The setting ``setup-expected`` of the catalog: a number for each kind of `forecast.BYTES`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from appliance.catalog import Reading, Transaction, settings, studies, totals
from appliance.wizard.forecast import BYTES, EXPECTED, MOST_A_DAY

_SETTING: Final = "setup-expected"


def expected(reading: Reading) -> dict[str, int]:
    """What the clinic expects, or the usual figures."""
    return {**EXPECTED, **settings.get(reading, _SETTING, {})}


def arrived(reading: Reading) -> tuple[int, datetime | None]:
    """How many bytes are kept, and when the first of them came."""
    return totals.totals(reading).bytes, studies.first_received(reading)


def keep(tx: Transaction, counts: Mapping[str, int], now: datetime) -> None:
    """Keep what the clinic expects; numbers out of bounds are held to them."""
    settings.put(tx, _SETTING, {kind: min(MOST_A_DAY, max(0, counts.get(kind, 0))) for kind in BYTES}, now)
