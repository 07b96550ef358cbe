"""Whether this box may send heartbeats, and the key by which they are known to be its own, in the caller's transaction.

It may not until a person of the clinic has agreed, and what that person has agreed to is kept beside the name: where heartbeats
go, all the words that they can say, and whose answer counts and for what. When it is another place, another voice, or one that
counts for more, nothing is sent before somebody has agreed again, and the box says so (`HEARTBEATS_STOPPED`). The account of a
bucket (its access key and secret) is not part of it: renewing it changes neither.

A version that can say more than was agreed to goes on under the consent that there is, and says no more than that, in the words that
were agreed to; the page offers the others. Consent covers what the person has seen (Law 25, P-39.1 s. 14: for specific purposes), so
nothing beyond it leaves; and it isn't void because the box could say more by now. Chose that over asking again before anything is
sent; because then each version with a new word would silence every box that takes it, and the vendor, who waits for the first one,
would see it as dead. No problem is made of words that wait: nothing stops, and whoever is asked each day to agree isn't free to.
Whoever agrees or withdraws writes the audit's row (``heartbeat:agree``, ``heartbeat:withdraw``) in the same transaction.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from appliance import settings
from appliance.box import Box
from appliance.catalog import Reading, Transaction
from appliance.catalog import settings as kept_settings
from appliance.errors import OperatorNeeded, Refused
from appliance.fleet import heartbeat, vocabulary, wanted
from appliance.fleet.vocabulary import Words

KEPT = kept_settings.HEARTBEAT_CONSENT
KEY = "heartbeat.key"
"""Keys of `appliance.catalog.settings`: who has agreed and to what; the private key, sealed."""

PLACE = ("address", "endpoint_url", "region", "ca", "on_lan")
"""The settings of heartbeats that say where they go, and how that place is known to be it."""


@dataclass(frozen=True, slots=True)
class Consent:
    """That `by` has agreed; `terms` is the digest of what was agreed to, `whom` of its part that may not change, `words` all that a
    heartbeat may say, by field."""

    by: str
    agreed_utc: datetime
    terms: str
    whom: str
    words: Mapping[str, Words]


def terms(conn: Reading) -> str:
    """The digest of what there is to agree to: where heartbeats go, all that each field can say, who may answer, and for what."""
    return _digest([whom(conn), vocabulary.as_kept()])


def whom(conn: Reading) -> str:
    """The digest of where heartbeats go, in which form, who may answer, and for what."""
    places = [settings.get(conn, f"heartbeat.{name}") for name in PLACE]
    return _digest([heartbeat.FORM, places, authority(conn), wanted.CONFIGURABLE])


def _digest(told: object) -> str:
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def address(conn: Reading) -> str:
    """Where heartbeats go; empty if nobody has entered it."""
    return str(settings.get(conn, "heartbeat.address"))


def endpoint(conn: Reading) -> str:
    """Where the bucket is that heartbeats go to; empty if they go to none, or to one of AWS."""
    return str(settings.get(conn, "heartbeat.endpoint_url")) if address(conn).startswith("s3://") else ""


def authority(conn: Reading) -> str:
    """The public key of whoever may say what is wanted of this box, in answer to a heartbeat; empty: nobody may."""
    return str(settings.get(conn, "heartbeat.authority"))


def given(conn: Reading) -> Consent | None:
    """What was agreed to last, whether or not it still holds."""
    kept = kept_settings.get(conn, KEPT)
    if kept is None:
        return None
    agreed_utc = datetime.fromisoformat(kept["agreed_utc"])
    return Consent(kept["by"], agreed_utc, kept["terms"], kept.get("whom", ""), kept.get("words", {}))


def standing(conn: Reading) -> Consent | None:
    """The consent under which heartbeats are sent; None if nothing may be sent."""
    found = given(conn)
    return found if found is not None and address(conn) and found.whom == whom(conn) else None


def more(conn: Reading) -> dict[str, tuple[str, ...]]:
    """What heartbeats could say beyond what is agreed to, by field, and leave out until somebody agrees to it; empty if nothing, or if
    none is sent."""
    found = standing(conn)
    return {} if found is None else vocabulary.more(found.words)


def is_stopped(conn: Reading) -> bool:
    """Whether it is kept that none is sent though somebody had agreed."""
    return kept_settings.get(conn, kept_settings.HEARTBEATS_STOPPED) is not None


def note_stopped(tx: Transaction, now: datetime) -> None:
    """Keep since when none is sent though somebody had agreed, for whoever looks at the health of the box; forget it where that is over."""
    if given(tx) is None or standing(tx) is not None:
        kept_settings.remove(tx, kept_settings.HEARTBEATS_STOPPED)
    elif not is_stopped(tx):
        kept_settings.put(tx, kept_settings.HEARTBEATS_STOPPED, {"since_utc": now.isoformat()}, now)


def agree(tx: Transaction, seen: str, by: str, now: datetime) -> Consent:
    """Let heartbeats be sent. `seen` are the terms that `by` was shown.

    Raises `OperatorNeeded` if there is no address, `Refused` if the terms were changed meanwhile.
    """
    if not address(tx):
        raise OperatorNeeded(
            "nobody has entered where heartbeats go",
            hint="enter the address that the vendor has sent, in the settings of heartbeats",
        )
    if seen != terms(tx):
        raise Refused(
            "what would be sent, or where to, was changed meanwhile", hint="look at it again, then agree"
        )
    made = Consent(by, now, seen, whom(tx), vocabulary.as_kept())
    kept_settings.put(tx, KEPT, asdict(made) | {"agreed_utc": made.agreed_utc.isoformat()}, now)
    note_stopped(tx, now)
    return made


def withdraw(tx: Transaction) -> bool:
    """Forbid heartbeats; whether they had been agreed to."""
    found = given(tx)
    kept_settings.remove(tx, KEPT)
    kept_settings.remove(tx, kept_settings.HEARTBEATS_STOPPED)
    return found is not None


def key_of(tx: Transaction, box: Box, now: datetime) -> Ed25519PrivateKey:
    """The key that signs, made when it is first needed. It is in backups, so a box that takes another's place is known."""
    kept = kept_settings.get(tx, KEY)
    if kept is None:
        made = Ed25519PrivateKey.generate()
        kept_settings.put(tx, KEY, box.root.seal(made.private_bytes_raw(), KEY.encode()).hex(), now)
        return made
    return Ed25519PrivateKey.from_private_bytes(box.root.unseal(bytes.fromhex(kept), KEY.encode()))


def public(key: Ed25519PrivateKey) -> str:
    """The public half, in hexadecimal."""
    return key.public_key().public_bytes_raw().hex()
