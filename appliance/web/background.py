"""Work that somebody has begun in the console and that goes on when their page is answered."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from appliance.errors import ApplianceError

log = logging.getLogger(__name__)


def in_background(name: str, work: Callable[[], object]) -> None:
    """Do `work` in a thread of its own: a page shows how far it is. What it raises is told in the log."""

    def act() -> None:
        try:
            work()
        except ApplianceError as error:
            log.warning("%s did not run: %s", name, error)

    threading.Thread(target=act, name=name, daemon=True).start()
