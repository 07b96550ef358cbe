"""One-time codes of a telephone (TOTP, RFC 6238): six digits, SHA-1, every thirty seconds, as every app does them.

Chose SHA-1 and thirty seconds because several apps silently ignore anything else. A code of the step before or after
is taken too, for clocks that part (RFC 6238 5.2). No code is taken twice, by anybody, anywhere (5.2 again): the last
accepted step is kept, and moves in the transaction that accepts; of two browsers that show the same code at once, one
enters. When the box's clock was wrong no code of a telephone fitted, so none can have pushed that step into a far
future. The secret is sealed under the root key, bound to its person.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from datetime import datetime

import pyotp

from appliance.catalog import Reading, Transaction, second_factors
from appliance.errors import Refused
from appliance.store.keys import RootKey

STEP_SECONDS = 30
SKEW_STEPS = 1
DIGITS = 6
SECRET_CHARACTERS = 32  # 160 bits: as long as the hash, RFC 4226 4 (R6)


@dataclass(frozen=True, slots=True)
class SetUp:
    """What a telephone needs to make the codes: `secret` to be typed, `address` to be read from a QR code."""

    secret: str
    address: str


def matching_step(secret: str, typed: str, now: datetime) -> int | None:
    """The time step whose code `typed` is, looked for one step around `now`. Takes as long whichever it is."""
    digits = "".join(typed.split())
    if len(digits) != DIGITS or not (digits.isascii() and digits.isdecimal()):
        return None
    present = step_of(now)
    code = pyotp.TOTP(secret, digits=DIGITS, interval=STEP_SECONDS)
    found = None
    for step in range(max(0, present - SKEW_STEPS), present + SKEW_STEPS + 1):
        if hmac.compare_digest(code.generate_otp(step), digits):
            found = step
    return found


def step_of(moment: datetime) -> int:
    """The time step of a moment (RFC 6238 4.2)."""
    return max(0, int(moment.timestamp()) // STEP_SECONDS)


def begin(tx: Transaction, root: RootKey, person_id: int, now: datetime) -> None:
    """Draw a secret for somebody; it counts from `confirm` on.

    Raises `Refused` if there is one that counts: it is removed first, by somebody who proves who he is.
    """
    kept = second_factors.one_time_secret(tx, person_id)
    if kept is not None and kept.confirmed_utc is not None:
        raise Refused(
            "this account has one-time codes already", hint="remove them first, then set them up again"
        )
    secret = pyotp.random_base32(SECRET_CHARACTERS)
    second_factors.put_one_time_secret(tx, person_id, root.seal(secret.encode(), _context(person_id)), now)


def set_up(conn: Reading, root: RootKey, person_id: int, *, login: str, issuer: str) -> SetUp | None:
    """What to show to the telephone: only until it has shown a code; None if nothing waits for that."""
    kept = second_factors.one_time_secret(conn, person_id)
    if kept is None or kept.confirmed_utc is not None:
        return None
    secret = _secret(root, person_id, kept.sealed)
    address = pyotp.TOTP(secret, digits=DIGITS, interval=STEP_SECONDS).provisioning_uri(
        name=login, issuer_name=issuer
    )
    return SetUp(secret, address)


def confirm(tx: Transaction, root: RootKey, person_id: int, typed: str, now: datetime) -> bool:
    """Let the codes count, if `typed` is one of them."""
    kept = second_factors.one_time_secret(tx, person_id)
    if kept is None or kept.confirmed_utc is not None:
        return False
    if not _accept(tx, root, person_id, kept, typed, now):
        return False
    second_factors.confirm_one_time_secret(tx, person_id, now)
    return True


def accept(tx: Transaction, root: RootKey, person_id: int, typed: str, now: datetime) -> bool:
    """Whether `typed` is a code of this person that nobody has shown before; it is used up by this."""
    kept = second_factors.one_time_secret(tx, person_id)
    if kept is None or kept.confirmed_utc is None:
        return False
    return _accept(tx, root, person_id, kept, typed, now)


def _accept(
    tx: Transaction,
    root: RootKey,
    person_id: int,
    kept: second_factors.OneTimeSecret,
    typed: str,
    now: datetime,
) -> bool:
    step = matching_step(_secret(root, person_id, kept.sealed), typed, now)
    return step is not None and second_factors.use_step(tx, person_id, step)


def _secret(root: RootKey, person_id: int, sealed: bytes) -> str:
    return root.unseal(sealed, _context(person_id)).decode()


def _context(person_id: int) -> bytes:
    return b"one-time codes of user %d" % person_id
