"""Recovery codes: ten on paper, each good once, for the day on which the telephone is lost.

Kept are only digests, keyed with a key of this box: fifty bits would fall to a plain hash, and without the root key
these digests say nothing. Chose Crockford's alphabet, because the codes are read from paper.
"""

from __future__ import annotations

import hmac
import secrets
from datetime import datetime
from hashlib import sha256

from appliance.catalog import Transaction, second_factors
from appliance.store.keys import RootKey

COUNT = 10
FEW = 3
"""So many left are few: the person is told to make new ones."""

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_LOOKALIKES = str.maketrans("ILO", "110", " -–")
_CHARACTERS = 10


def draw(tx: Transaction, root: RootKey, person_id: int, now: datetime) -> tuple[str, ...]:
    """Ten new codes in the place of all earlier ones. They are kept nowhere: show them now."""
    codes = ["".join(secrets.choice(_ALPHABET) for _ in range(_CHARACTERS)) for _ in range(COUNT)]
    second_factors.put_recovery_codes(tx, person_id, [digest(root, person_id, each) for each in codes], now)
    return tuple(f"{each[:5]}-{each[5:]}" for each in codes)


def use(tx: Transaction, root: RootKey, person_id: int, typed: str, now: datetime) -> bool:
    """Whether `typed` is an unused code of this person; it is used up by this."""
    normal = normal_code(typed)
    if len(normal) != _CHARACTERS:
        return False
    return second_factors.use_recovery_code(tx, person_id, digest(root, person_id, normal), now)


def normal_code(typed: str) -> str:
    """A code as it was drawn, however it was typed: case, spaces and dashes don't matter, nor 0 for O."""
    return typed.strip().upper().translate(_LOOKALIKES)


def digest(root: RootKey, person_id: int, code: str) -> str:
    """The name under which a code is kept."""
    return hmac.new(root.derive("recovery codes"), b"%d:" % person_id + code.encode(), sha256).hexdigest()
