"""Secure Boot: does anything but what was signed start on this machine? The key of the disk is only as safe as that."""

from __future__ import annotations

from collections.abc import Iterator

from appliance.health.facts import Facts
from appliance.health.problem import Problem, Severity
from appliance.model import SecureBoot

CODES = ("secure-boot-off",)

_WORDS = {
    SecureBoot.OFF: "Secure Boot is off: whoever starts this machine from a stick of their own can open its disk",
    SecureBoot.WITHOUT_KEYS: "the box's Secure Boot keys were not enrolled: whoever starts this machine from a stick of their own can open "
    "its disk",
}


def check(facts: Facts) -> Iterator[Problem]:
    """Where it is off, the TPM2 gives the key of the disk to a machine that is off, too, and any loader can imitate the rest."""
    if facts.secure_boot in _WORDS:
        yield Problem(
            "secure-boot-off",
            _WORDS[facts.secure_boot],
            "have the recovery key and the disk's recovery key on paper at hand, enrol the box's keys in the firmware, and type both once; "
            "the help says how",
            Severity.SOON,
        )
