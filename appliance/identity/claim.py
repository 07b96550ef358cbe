"""The claim of a new box: whoever holds the code on its screen becomes the owner, once.

The code is 8 characters of 32 (40 bits), sealed in the settings so that it can be shown again until it is used, and
dies at the fifth wrong try; `claim_code` then makes another, which only somebody at the machine can see. Looking,
counting, making the owner and forgetting the code are one transaction that holds the catalog's only write lock: of
any number of people who type the right code at once, one becomes the owner. The winner's password is hashed inside
that transaction, a tenth of a second once in the life of a box, so that no loser's ever is.
"""

from __future__ import annotations

import base64
import hmac
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from appliance.catalog import Catalog, Transaction, people, settings
from appliance.catalog.people import Person
from appliance.identity.people import add_user
from appliance.identity.roles import Role
from appliance.store.keys import RootKey

TRIES = 5
_SETTING = "claim"
_CONTEXT = b"claim code"
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's: no I, L, O, U
_LOOKALIKES = str.maketrans("ILO", "110", " -–")
_LENGTH = 8


class Claimable(Protocol):
    """The parts of a box that a claim needs."""

    @property
    def catalog(self) -> Catalog: ...
    @property
    def root(self) -> RootKey: ...


@dataclass(frozen=True, slots=True)
class Owner:
    """The claim succeeded."""

    person: Person


@dataclass(frozen=True, slots=True)
class WrongCode:
    """Not the code; so many tries are left."""

    tries_left: int


@dataclass(frozen=True, slots=True)
class ClaimClosed:
    """There is nothing to claim: the box has an owner (`owned`), or the code is used up."""

    owned: bool


def claim_code(box: Claimable) -> str | None:
    """The code to show on the box's own screen, made anew if it is used up; None once the box has an owner."""
    with box.catalog.transaction() as tx:
        if people.anybody(tx):
            return None
        kept = settings.get(tx, _SETTING, None)
        if kept is not None and kept["tries_left"] > 0:
            return _grouped(_unsealed(box.root, kept["sealed"]))
        code = "".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH))
        sealed = base64.b64encode(box.root.seal(code.encode(), _CONTEXT)).decode()
        settings.put(tx, _SETTING, {"sealed": sealed, "tries_left": TRIES}, datetime.now(UTC))
        return _grouped(code)


@dataclass(frozen=True, slots=True)
class Proved:
    """The code was typed: whoever did stands at the box, or knows who does. It stays good."""


def prove(tx: Transaction, root: RootKey, typed: str, now: datetime) -> Proved | WrongCode | ClaimClosed:
    """Whether `typed` is the code, without using it up. A wrong one counts when `tx` commits: let it."""
    if people.anybody(tx):
        return ClaimClosed(owned=True)
    kept = settings.get(tx, _SETTING, None)
    if kept is None or kept["tries_left"] <= 0:
        return ClaimClosed(owned=False)
    code = _unsealed(root, kept["sealed"])
    normal = typed.upper().translate(_LOOKALIKES)
    if hmac.compare_digest(code.encode(), normal.encode()):
        return Proved()
    left = kept["tries_left"] - 1
    settings.put(tx, _SETTING, {**kept, "tries_left": left}, now)
    return WrongCode(left)


def redeem(
    tx: Transaction,
    root: RootKey,
    typed: str,
    *,
    login: str,
    name: str,
    password: str,
    language: str,
    now: datetime,
) -> Owner | WrongCode | ClaimClosed:
    """Make the owner, if `typed` is the code. A wrong one counts when `tx` commits: let it.

    Raises `Refused` for a login, name or password that won't do; then let nothing commit: the code stays good.
    """
    proof = prove(tx, root, typed, now)
    if not isinstance(proof, Proved):
        return proof
    owner = add_user(
        tx, login=login, name=name, role=Role.OWNER, password=password, language=language, now=now
    )
    settings.put(tx, _SETTING, None, now)
    return Owner(owner)


def _unsealed(root: RootKey, sealed: str) -> str:
    return root.unseal(base64.b64decode(sealed), _CONTEXT).decode()


def _grouped(code: str) -> str:
    return f"{code[:4]}-{code[4:]}"
