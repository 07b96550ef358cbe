"""When an image comes: what the clock says, or what it should say while it is behind (`appliance.catalog.known_clock`)."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime

from appliance.box import Box
from appliance.catalog.known_clock import KnownClock, known_clock
from appliance.errors import ApplianceError

log = logging.getLogger(__name__)

_STALE_SECONDS = 60.0


class Hours:
    """The hour for one process that receives. What is known of the clock is read again once a minute, by a thread for which nobody waits.

    Whatever is wrong with what is known, an image is received: by what was known before, or by the clock.
    """

    def __init__(self, box: Box) -> None:
        """Raises what the catalog raises."""
        self._box = box
        self._clock = KnownClock()
        self._read()

    def now(self) -> datetime:
        """The moment of what has come now."""
        return self._clock.reckoned(datetime.now(UTC))

    def refresh(self) -> None:
        """Read again what is known, if it is a minute old."""
        if time.monotonic() - self._read_at < _STALE_SECONDS:
            return
        try:
            self._read()
        except ApplianceError as error:
            log.warning("what is known of the clock is read later: %s", error.message)

    def _read(self) -> None:
        self._read_at = time.monotonic()
        with self._box.catalog.reading() as reading:
            try:
                self._clock = known_clock(reading)
            except ValueError:
                log.warning("what is kept of the clock can't be read")
