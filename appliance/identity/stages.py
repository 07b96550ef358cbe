"""The steps of signing in, as one table. Pure.

::

                     password                          code · passkey · recovery code
    OUTSIDE ─────────────────▶ SECOND_FACTOR_DUE ─────────────────────────────────────▶ SIGNED_IN
       │                                                                                   ▲  ▲
       ├── password ─────────▶ ENROLMENT_DUE ────── new factor ────────────────────────────┘  │
       └── password of an account that needs no second factor, or a passkey alone ────────────┘

A passkey alone is enough, because it is two factors in itself: the device that holds it, and the finger, face or
number that unlocked it, which we insist on (`user verification` of WebAuthn). Whatever isn't in the table is refused:
no proof can be offered out of turn, and none counts twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from appliance.errors import NotAuthorised


class Stage(StrEnum):
    """How far a browser has come."""

    OUTSIDE = "outside"
    SECOND_FACTOR_DUE = "second-factor-due"
    ENROLMENT_DUE = "enrolment-due"
    SIGNED_IN = "signed-in"


class Proof(StrEnum):
    """What a person can show."""

    PASSWORD = "password"  # noqa: S105 -- the word, not one of them
    ONE_TIME_CODE = "one-time-code"
    PASSKEY = "passkey"
    RECOVERY_CODE = "recovery-code"
    NEW_FACTOR = "new-factor"
    CLAIM = "claim"
    INVITATION = "invitation"


class Standing(StrEnum):
    """What an account has, and owes."""

    FREE = "free"
    """No second factor, and none is asked of its role."""
    OBLIGED = "obliged"
    """No second factor yet, and its role must have one."""
    ENROLLED = "enrolled"
    """A second factor, whatever its role."""


_ANY = tuple(Standing)

STEPS: Mapping[tuple[Stage, Proof, Standing], Stage] = MappingProxyType(
    {
        (Stage.OUTSIDE, Proof.PASSWORD, Standing.FREE): Stage.SIGNED_IN,
        (Stage.OUTSIDE, Proof.PASSWORD, Standing.OBLIGED): Stage.ENROLMENT_DUE,
        (Stage.OUTSIDE, Proof.PASSWORD, Standing.ENROLLED): Stage.SECOND_FACTOR_DUE,
        (Stage.OUTSIDE, Proof.PASSKEY, Standing.ENROLLED): Stage.SIGNED_IN,
        (Stage.SECOND_FACTOR_DUE, Proof.ONE_TIME_CODE, Standing.ENROLLED): Stage.SIGNED_IN,
        (Stage.SECOND_FACTOR_DUE, Proof.PASSKEY, Standing.ENROLLED): Stage.SIGNED_IN,
        (Stage.SECOND_FACTOR_DUE, Proof.RECOVERY_CODE, Standing.ENROLLED): Stage.SIGNED_IN,
        (Stage.ENROLMENT_DUE, Proof.NEW_FACTOR, Standing.ENROLLED): Stage.SIGNED_IN,
    }
)


def step(stage: Stage, proof: Proof, standing: Standing) -> Stage:
    """Where `proof` leads from `stage`. Raises `NotAuthorised` for what isn't in the table."""
    found = STEPS.get((stage, proof, standing))
    if found is None:
        raise NotAuthorised("that is not the next step of signing in", hint="begin again with your password")
    return found


def standing(*, enrolled: bool, role: str, roles_obliged: frozenset[str]) -> Standing:
    """What an account of `role` has, and owes."""
    if enrolled:
        return Standing.ENROLLED
    return Standing.OBLIGED if role in roles_obliged else Standing.FREE
