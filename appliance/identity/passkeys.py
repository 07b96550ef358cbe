"""Passkeys (WebAuthn level 2): a key in a telephone, a computer or a token, which signs what we ask it to.

Chose to insist on user verification and on keys that can be found again (resident), so that every passkey is two
factors in one and signs in without a login; because one kind is simpler to explain than two. Attestation is not asked
for: a clinic may use whatever device it trusts. A challenge is drawn here, kept here, bound to one browser and one
purpose, and answered once.

Counters: a device that counts must count upwards. The library compares them before it checks the signature; we do so
after, because a number that nobody has signed must not be able to block a passkey (7.2, step 21). One that goes back
is blocked: somebody has a copy, and nobody can tell which of the two is the owner's.
"""

from __future__ import annotations

import hmac
import ipaddress
import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from typing import Any

import webauthn
from webauthn.helpers import base64url_to_bytes, options_to_json
from webauthn.helpers.exceptions import WebAuthnException
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    AuthenticatorTransport,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from appliance.catalog import Reading, Transaction, half_open, second_factors
from appliance.catalog.people import Person
from appliance.catalog.second_factors import Passkey
from appliance.errors import Refused
from appliance.store.keys import RootKey

CHALLENGE_LIFETIME = timedelta(minutes=5)
MOST_PASSKEYS = 10
MOST_NAME_CHARACTERS = 60
_TRANSPORTS = frozenset(each.value for each in AuthenticatorTransport)


class Purpose(StrEnum):
    """What a challenge is for: the answer to one is no answer to another."""

    REGISTER = "register"
    SIGN_IN = "sign-in"
    SECOND_FACTOR = "second-factor"
    CONFIRM = "confirm"


@dataclass(frozen=True, slots=True)
class Site:
    """Where a passkey works: the host name it is bound to, and the origin that a browser reports."""

    host: str
    origin: str


@dataclass(frozen=True, slots=True)
class Verified:
    """A passkey has signed what it was asked to."""

    passkey: Passkey


@dataclass(frozen=True, slots=True)
class Copied:
    """It signed, but its counter went back: it is blocked now."""

    passkey: Passkey


def site_of(netloc: str, *, secure: bool) -> Site | None:
    """The site of a console at `netloc` (host and port). None where browsers allow no passkeys: under an address, or
    without TLS anywhere but on this machine (WebAuthn 5.1.2, effective domain; secure contexts)."""
    host = netloc.rsplit(":", 1)[0] if not netloc.endswith("]") else netloc
    host = host.strip("[]").rstrip(".").lower()
    try:
        ipaddress.ip_address(host)
    except ValueError:
        if host and (secure or host == "localhost"):
            return Site(host, f"{'https' if secure else 'http'}://{netloc.lower()}")
    return None


def user_handle(root: RootKey, person_id: int) -> bytes:
    """The name of a person towards devices: says nothing about who it is, and never changes (5.4.3)."""
    return hmac.new(root.derive("passkeys"), b"%d" % person_id, sha256).digest()


def is_copied(kept: int, shown: int) -> bool:
    """Whether a counter that must grow has not. Devices that don't count show 0 for ever."""
    return (kept > 0 or shown > 0) and shown <= kept


# --- registering -----------------------------------------------------------------------------------------------------


def ask_to_register(
    tx: Transaction, root: RootKey, person: Person, site: Site, *, holder: str, now: datetime, box_name: str
) -> str:
    """What the browser is to give its device, as JSON. Raises `Refused` when this person has too many."""
    existing = second_factors.passkeys_of(tx, person.id)
    if len(existing) >= MOST_PASSKEYS:
        raise Refused("this account has as many passkeys as it can", hint="remove one that is no longer used")
    options = webauthn.generate_registration_options(
        rp_id=site.host,
        rp_name=box_name,
        user_id=user_handle(root, person.id),
        user_name=person.login,
        user_display_name=person.name,
        exclude_credentials=_descriptors(existing, site),
        authenticator_selection=AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.REQUIRED,
            user_verification=UserVerificationRequirement.REQUIRED,
        ),
    )
    half_open.put_challenge(tx, holder, Purpose.REGISTER, options.challenge, now + CHALLENGE_LIFETIME)
    return options_to_json(options)


def register(
    tx: Transaction, person_id: int, site: Site, *, holder: str, name: str, answer: str, now: datetime
) -> bool:
    """Record the passkey in `answer`, the browser's JSON. False if it is none, or not the answer to our question.

    The question is used up either way: let `tx` commit. Raises `Refused` for a passkey that is known already.
    """
    name = " ".join(name.split())[:MOST_NAME_CHARACTERS]
    challenge = half_open.take_challenge(tx, holder, Purpose.REGISTER, now)
    if challenge is None:
        return False
    try:
        verified = webauthn.verify_registration_response(
            credential=answer,
            expected_challenge=challenge,
            expected_rp_id=site.host,
            expected_origin=site.origin,
            require_user_verification=True,
        )
    except (WebAuthnException, ValueError, TypeError, KeyError):
        return False
    if len(second_factors.passkeys_of(tx, person_id)) >= MOST_PASSKEYS:
        return False
    second_factors.add_passkey(
        tx,
        person_id,
        credential_id=verified.credential_id,
        public_key=verified.credential_public_key,
        host=site.host,
        name=name,
        sign_count=verified.sign_count,
        transports=_transports(answer),
        now=now,
    )
    return True


# --- signing ---------------------------------------------------------------------------------------------------------


def ask_to_sign(
    tx: Transaction, site: Site, purpose: Purpose, *, holder: str, person_id: int | None, now: datetime
) -> str:
    """What the browser is to have signed, as JSON: by a passkey of `person_id`, or by any that the device has."""
    known = [] if person_id is None else usable(tx, person_id, site)
    options = webauthn.generate_authentication_options(
        rp_id=site.host,
        allow_credentials=_descriptors(known, site) or None,
        user_verification=UserVerificationRequirement.REQUIRED,
    )
    half_open.put_challenge(tx, holder, purpose, options.challenge, now + CHALLENGE_LIFETIME)
    return options_to_json(options)


def verify(
    tx: Transaction,
    root: RootKey,
    site: Site,
    purpose: Purpose,
    *,
    holder: str,
    answer: str,
    person_id: int | None,
    now: datetime,
) -> Verified | Copied | None:
    """Whose passkey signed what we asked; None if nobody's did. Let `tx` commit: the question is used up.

    With `person_id` only a passkey of that person counts.
    """
    challenge = half_open.take_challenge(tx, holder, purpose, now)
    read = _credential(answer)
    if challenge is None or read is None:
        return None
    found = second_factors.passkey(tx, base64url_to_bytes(read["id"]))
    if found is None or found.blocked_utc is not None or found.host != site.host:
        return None
    if person_id is not None and found.person_id != person_id:
        return None
    handle = read["response"].get("userHandle")
    try:
        if handle and base64url_to_bytes(handle) != user_handle(root, found.person_id):
            return None
        verified = webauthn.verify_authentication_response(
            credential=answer,
            expected_challenge=challenge,
            expected_rp_id=site.host,
            expected_origin=site.origin,
            credential_public_key=found.public_key,
            credential_current_sign_count=0,
            require_user_verification=True,
        )
    except (WebAuthnException, ValueError, TypeError, KeyError):
        return None
    if is_copied(found.sign_count, verified.new_sign_count):
        second_factors.block_passkey(tx, found.id, now)
        return Copied(found)
    second_factors.use_passkey(tx, found.id, verified.new_sign_count, now)
    return Verified(found)


def usable(conn: Reading, person_id: int, site: Site | None) -> list[Passkey]:
    """The passkeys of a person that work at `site`."""
    return [
        each
        for each in second_factors.passkeys_of(conn, person_id)
        if site is not None and each.host == site.host and each.blocked_utc is None
    ]


def _descriptors(known: list[Passkey], site: Site) -> list[PublicKeyCredentialDescriptor]:
    return [
        PublicKeyCredentialDescriptor(
            id=each.credential_id,
            transports=[AuthenticatorTransport(way) for way in each.transports if way in _TRANSPORTS] or None,
        )
        for each in known
        if each.host == site.host
    ]


def _credential(answer: str) -> dict[str, Any] | None:
    """The browser's JSON as far as we read it ourselves."""
    try:
        read = json.loads(answer)
    except ValueError:
        return None
    if (
        isinstance(read, dict)
        and isinstance(read.get("id"), str)
        and read["id"].isascii()
        and isinstance(read.get("response"), dict)
        and isinstance(read["response"].get("userHandle", None), str | None)
    ):
        try:
            base64url_to_bytes(read["id"])
        except ValueError:
            return None
        return read
    return None


def _transports(answer: str) -> list[str]:
    read = _credential(answer)
    named = read["response"].get("transports") if read is not None else None
    return (
        sorted(_TRANSPORTS & {each for each in named if isinstance(each, str)})
        if isinstance(named, list)
        else []
    )
