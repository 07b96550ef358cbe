"""Whether this box may send heartbeats, and the key by which they are known to be its own, in the caller's transaction.

It may not until a person of the clinic has agreed, and what that person has agreed to is kept beside the name: where heartbeats
go, what they can say, and whose answer counts and for what. When any of it is changed, nothing is sent before somebody has
agreed again. The account of a bucket (its access key and secret) is not part of it: renewing it changes neither.
Whoever agrees or withdraws writes the audit's row (``heartbeat:agree``, ``heartbeat:withdraw``) in the same transaction.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from appliance import settings
from appliance.box import Box
from appliance.catalog import Reading, Transaction
from appliance.catalog import settings as kept_settings
from appliance.errors import OperatorNeeded, Refused
from appliance.fleet import heartbeat, wanted

KEPT = kept_settings.HEARTBEAT_CONSENT
KEY = "heartbeat.key"
"""Keys of `appliance.catalog.settings`: who has agreed and to what; the private key, sealed."""

PLACE = ("address", "endpoint_url", "region", "ca", "on_lan")
"""The settings of heartbeats that say where they go, and how that place is known to be it."""


@dataclass(frozen=True, slots=True)
class Consent:
    """That `by` has agreed; `terms` is the digest of what was agreed to."""

    by: str
    agreed_utc: datetime
    terms: str


def terms(conn: Reading) -> str:
    """The digest of what there is to agree to: where heartbeats go, all that each field can say, who may answer, and for what."""
    places = [settings.get(conn, f"heartbeat.{name}") for name in PLACE]
    vocabulary = {name: allowed.words for name, allowed in heartbeat.FIELDS.items()}
    told = [heartbeat.FORM, vocabulary, places, authority(conn), wanted.CONFIGURABLE]
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
    return Consent(kept["by"], datetime.fromisoformat(kept["agreed_utc"]), kept["terms"])


def standing(conn: Reading) -> Consent | None:
    """The consent under which heartbeats are sent; None if nothing may be sent."""
    found = given(conn)
    return found if found is not None and address(conn) and found.terms == terms(conn) else None


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
    made = Consent(by, now, seen)
    kept = {"by": made.by, "agreed_utc": made.agreed_utc.isoformat(), "terms": made.terms}
    kept_settings.put(tx, KEPT, kept, now)
    return made


def withdraw(tx: Transaction) -> bool:
    """Forbid heartbeats; whether they had been agreed to."""
    found = given(tx)
    kept_settings.remove(tx, KEPT)
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
