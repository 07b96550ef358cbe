"""The roll of the boxes that somebody looks after: which of them have been heard lately, and say it themselves. Pure.

The register is what people keep (a file in version control): the boxes in the order in which they are changed, the first ones the
canaries, each with the public key that its clinic has sent. A heartbeat counts if its signature is of the key that the register has
for that very box, and if it is fresh. One of another version counts, as far as it is understood (`heartbeat.understood`). Whatever else lies there is refused, with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from appliance.errors import ApplianceError, Refused
from appliance.fleet import heartbeat
from appliance.fleet.heartbeat import Heartbeat

FRESH = timedelta(hours=1)
AHEAD = timedelta(minutes=10)
"""How far a box's clock may be before ours."""


class Why(StrEnum):
    """Why a box is not on the roll."""

    SILENT = "silent"
    UNSIGNED = "unsigned"
    OTHER_FORM = "other-form"  # signed, and of a version of which this one understands nothing
    STRANGER = "stranger"
    STALE = "stale"


@dataclass(frozen=True, slots=True)
class Roll:
    """`present` in the register's order; `refused` says why, by box."""

    present: Mapping[str, Heartbeat]
    refused: Mapping[str, Why]


def call(
    register: Mapping[str, str], found: Mapping[str, bytes], now: datetime, *, fresh: timedelta = FRESH
) -> Roll:
    """The roll as of `now`: `register` has each box's public key in hexadecimal, `found` what lies under each box's name."""
    present: dict[str, Heartbeat] = {}
    refused: dict[str, Why] = {name: Why.STRANGER for name in found if name not in register}
    for name, key in register.items():
        if name not in found:
            refused[name] = Why.SILENT
            continue
        try:
            heard = heartbeat.received(found[name])
        except Refused:
            refused[name] = Why.OTHER_FORM
            continue
        except ApplianceError:
            refused[name] = Why.UNSIGNED
            continue
        if heard.key != key.lower() or heard.box != name:
            refused[name] = Why.STRANGER
        elif not now - fresh <= heard.sent_utc <= now + AHEAD:
            refused[name] = Why.STALE
        else:
            present[name] = heard
    return Roll(present, refused)
