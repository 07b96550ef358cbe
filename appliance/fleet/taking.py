"""Taking what the vendor wants of this box (`appliance.fleet.wanted`), in the caller's transaction.

Nothing is taken unless somebody of the clinic has entered the vendor's key and agreed since (`appliance.fleet.consent`). The same
document comes with every heartbeat until there is another. One that was taken is known again by its digest and changes nothing.
One that was refused is judged again each time, since a clock that was wrong may be right by now; the log and the audit say each
refusal of it once. What the vendor has not signed, such as the page of a proxy, says nothing of what is wanted: what came of the
last order stays as it was.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from appliance import audit, settings
from appliance.audit import Entry, Outcome
from appliance.box import Box
from appliance.catalog import Reading, Transaction
from appliance.catalog import settings as kept_settings
from appliance.errors import ApplianceError, Refused, Unknown
from appliance.fleet import consent, wanted
from appliance.health.kept import word

log = logging.getLogger(__name__)

KEPT = kept_settings.VENDOR_ORDER
NO_VERSION = "none"
ACTOR = "vendor"
MOST_SAID = 64
"""How many refusals are remembered as said, the oldest forgotten first."""


class Came(StrEnum):
    """What came of what was wanted last."""

    NOTHING = "nothing"  # nothing was ever wanted
    TAKEN = "taken"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Standing:
    """What was taken last: its number, the version it names, its digest, and until when it was signed to hold (as ISO 8601; empty of one
    that was taken before that was kept). A box isn't let go by itself after that: it is said (`health.checks.updates`). `came` is of the vendor's last order; `said` are digests of
    refusals that the log and the audit know of, the latest last. `named_utc` is since when that version is named, whichever orders have
    said it again since (as ISO 8601; empty where none is, or before that was kept)."""

    number: int = 0
    software: str = ""
    came: Came = Came.NOTHING
    taken: str = ""
    said: tuple[str, ...] = ()
    until_utc: str = ""
    named_utc: str = ""


def standing(conn: Reading) -> Standing:
    """What is wanted of this box, as far as it has been taken."""
    kept: Mapping[str, Any] = kept_settings.get(conn, KEPT, {})
    return Standing(
        int(kept.get("number", 0)),
        str(kept.get("software", "")),
        word(Came, kept.get("came"), Came.NOTHING),
        str(kept.get("taken", "")),
        tuple(kept.get("said", ())),
        str(kept.get("until_utc", "")),
        str(kept.get("named_utc", "")),
    )


def held_to(conn: Reading) -> str:
    """The version that the vendor has named to this box, which its updater takes and no other; empty where none is named, or the
    clinic agrees to it no more, and then the updater takes the newest.

    `NO_VERSION` where one was named and the clinic has agreed to terms that were changed since: nobody has let the box go, so it waits
    in its ring until somebody agrees again, or withdraws.
    """
    if not consent.authority(conn) or consent.given(conn) is None:
        return ""
    software = standing(conn).software
    return NO_VERSION if software and consent.standing(conn) is None else software


def take(tx: Transaction, box: Box, data: bytes, name: str, running: str, now: datetime) -> None:
    """Do what `data` wants of this box, whose name is `name` and whose version `running`, if it may be done, and keep what came of it."""
    authority, before = str(settings.get(tx, "heartbeat.authority")), standing(tx)
    if not authority or not data:
        return
    digest = hashlib.sha256(data + authority.encode()).hexdigest()
    if digest == before.taken:
        _keep(tx, before, replace(before, came=Came.TAKEN), now)
        return
    try:
        found = wanted.opened(data, _key(authority))
        wanted.admit(found, box=name, after=before.number, running=running, now=now)
        settings.check(tx, found.settings)
    except wanted.NotSigned as refusal:  # each page of a proxy may be another, so its digest doesn't count
        _refuse(tx, box, before, before, refusal, authority, now)
        return
    except (Refused, Unknown) as refusal:
        _refuse(tx, box, before, replace(before, came=Came.REFUSED), refusal, digest, now)
        return
    settings.change(tx, box.audit_key, found.settings, actor=ACTOR, now=now, root=box.root)
    until, named = found.until_utc.isoformat(), now.isoformat() if found.software else ""
    if found.software == before.software:
        named = before.named_utc
    _keep(tx, before, Standing(found.number, found.software, Came.TAKEN, digest, (), until, named), now)
    details = {"software": found.software, "settings": sorted(found.settings)}
    audit.append(tx, box.audit_key, [Entry("fleet:take", str(found.number), ACTOR, details)], now)


def _refuse(
    tx: Transaction,
    box: Box,
    before: Standing,
    after: Standing,
    refusal: ApplianceError,
    of: str,
    now: datetime,
) -> None:
    """Keep `after`; say `refusal` of that which `of` stands for, unless that was said."""
    saying = hashlib.sha256(f"{of} {refusal.message}".encode()).hexdigest()[:16]
    others = tuple(each for each in before.said if each != saying)
    _keep(tx, before, replace(after, said=(*others, saying)[-MOST_SAID:]), now)
    if saying in before.said:
        return
    log.warning("what the vendor wants is refused: %s", refusal)
    entry = Entry("fleet:refuse", str(before.number), ACTOR, outcome=Outcome.REFUSED)
    audit.append(tx, box.audit_key, [entry], now)


def _keep(tx: Transaction, before: Standing, after: Standing, now: datetime) -> None:
    if after != before:
        kept_settings.put(tx, KEPT, asdict(after), now)


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
