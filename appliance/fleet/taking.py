"""Taking what the vendor wants of this box (`appliance.fleet.wanted`), in the caller's transaction.

Nothing is taken unless somebody of the clinic has entered the vendor's key and agreed since (`appliance.fleet.consent`). What
was judged is not judged again: the same document comes with every heartbeat until there is another.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from appliance import __version__, audit, settings
from appliance.audit import Entry, Outcome
from appliance.box import Box
from appliance.catalog import Reading, Transaction
from appliance.catalog import settings as kept_settings
from appliance.errors import Refused, Unknown
from appliance.fleet import wanted

log = logging.getLogger(__name__)

KEPT = "fleet.wanted"
ACTOR = "vendor"


class Came(StrEnum):
    """What came of what was wanted last."""

    NOTHING = "nothing"  # nothing was ever wanted
    TAKEN = "taken"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Standing:
    """What was taken last: its number and the version it names; `came` is of what was judged last."""

    number: int = 0
    software: str = ""
    came: Came = Came.NOTHING
    judged: str = ""


def standing(conn: Reading) -> Standing:
    """What is wanted of this box, as far as it has been taken."""
    kept: Mapping[str, Any] = kept_settings.get(conn, KEPT, {})
    return Standing(
        int(kept.get("number", 0)),
        str(kept.get("software", "")),
        Came(kept.get("came", Came.NOTHING)),
        str(kept.get("judged", "")),
    )


def take(tx: Transaction, box: Box, data: bytes, name: str, now: datetime) -> None:
    """Do what `data` wants of this box, whose name is `name`, if it may be done, and keep what came of it."""
    authority, before = str(settings.get(tx, "heartbeat.authority")), standing(tx)
    judged = hashlib.sha256(data + authority.encode()).hexdigest()
    if not authority or not data or judged == before.judged:
        return
    try:
        found = wanted.opened(data, _key(authority))
        wanted.admit(found, box=name, after=before.number, running=__version__, now=now)
        settings.check(tx, found.settings)
    except (Refused, Unknown) as refusal:
        log.warning("what the vendor wants is refused: %s", refusal)
        _keep(tx, Standing(before.number, before.software, Came.REFUSED, judged), now)
        entry = Entry("fleet:refuse", str(before.number), ACTOR, outcome=Outcome.REFUSED)
        audit.append(tx, box.audit_key, [entry], now)
        return
    settings.change(tx, box.audit_key, found.settings, actor=ACTOR, now=now, root=box.root)
    _keep(tx, Standing(found.number, found.software, Came.TAKEN, judged), now)
    details = {"software": found.software, "settings": sorted(found.settings)}
    audit.append(tx, box.audit_key, [Entry("fleet:take", str(found.number), ACTOR, details)], now)


def _keep(tx: Transaction, now_standing: Standing, now: datetime) -> None:
    kept = {
        "number": now_standing.number,
        "software": now_standing.software,
        "came": str(now_standing.came),
        "judged": now_standing.judged,
    }
    kept_settings.put(tx, KEPT, kept, now)


def _key(line: str) -> Ed25519PublicKey:
    try:
        key = serialization.load_ssh_public_key(line.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise Refused(
            "the vendor's key is none", hint="paste it again, in the settings of heartbeats"
        ) from error
    if not isinstance(key, Ed25519PublicKey):
        raise Refused("the vendor's key is of another kind", hint="it begins with ssh-ed25519")
    return key
