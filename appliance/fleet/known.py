"""What is to be cut out of all that goes towards support: what the catalog knows of patients, and the secrets of the box."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from appliance import settings
from appliance.box import Box
from appliance.catalog import Reading, destinations, identifying, webhooks
from appliance.fleet.markers import Markers

LONGEST_KEPT_SECONDS = 300.0
_OF_PEOPLE = ("clinic.", "plan.", "mail.user", "mail.from")


def tells_of_people(key: str) -> bool:
    """Whether a setting tells of the clinic's people: who they are, where the recovery key is, whom to call."""
    return key.startswith(_OF_PEOPLE) and key not in ("clinic.province", "clinic.time_zone")


def markers(conn: Reading, box: Box) -> Markers:
    """The markers of `box`, as of now."""
    return Markers(identifying.identifying(conn), _secrets(conn, box))


@dataclass
class Lookout:
    """The markers of `box`, made when they are first wanted and again when there is more to look for.

    Chose to keep them over making them for each answer, because every patient's name is folded for it, which takes seconds
    where there are many. What has come is told by the highest row and by the secrets; what was changed in place, by time.
    """

    box: Box

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: tuple[object, float, Markers] | None = None

    def markers(self) -> Markers:
        """The markers, which know everybody who was there when this was called."""
        with self._lock, self.box.catalog.reading() as conn:
            seen, now = (identifying.mark(conn), tuple(_secrets(conn, self.box))), time.monotonic()
            if self._kept is None or self._kept[0] != seen or now - self._kept[1] > LONGEST_KEPT_SECONDS:
                self._kept = seen, now, markers(conn, self.box)
            return self._kept[2]


def _secrets(conn: Reading, box: Box) -> Iterator[str]:
    """Every secret that the box keeps in a form in which it could be leaked."""
    for each in destinations.destinations(conn):
        yield each.secret
    for hook in webhooks.webhooks(conn):
        yield hook.secret
    for key, chosen in settings.SETTINGS.items():
        if chosen.is_secret:
            yield settings.secret(conn, box.root, key)
