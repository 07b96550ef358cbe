"""What is to be cut out of all that goes towards support: what the catalog knows of patients, and the secrets of the box."""

from __future__ import annotations

from collections.abc import Iterator

from appliance import settings
from appliance.box import Box
from appliance.catalog import Reading, destinations, identifying, webhooks
from appliance.fleet.markers import Markers

LEFT_OUT = ("clinic.", "mail.user", "mail.from", "plan.", "support.")
"""Settings whose names begin so tell of people, or of nothing that matters to support."""


def markers(conn: Reading, box: Box) -> Markers:
    """The markers of `box`, as of now."""
    return Markers(identifying.identifying(conn), _secrets(conn, box))


def _secrets(conn: Reading, box: Box) -> Iterator[str]:
    """Every secret that the box keeps in a form in which it could be leaked."""
    for each in destinations.destinations(conn):
        yield each.secret
    for hook in webhooks.webhooks(conn):
        yield hook.secret
    for key, chosen in settings.SETTINGS.items():
        if chosen.is_secret:
            yield settings.secret(conn, box.root, key)
