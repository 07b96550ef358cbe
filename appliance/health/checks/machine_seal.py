"""The machine seal: will the box start again by itself, and only on this machine?"""

from __future__ import annotations

from collections.abc import Iterator

from appliance.health.facts import Facts, Trouble
from appliance.health.problem import Problem, Severity

CODES = ("machine-seal",)

_SEAL_THERE = "on a machine with a TPM, have support seal it there; for trying things out it is fine"


def check(facts: Facts) -> Iterator[Problem]:
    """A seal that can't be had, or that lies beside what it seals, or beside what opens it."""
    seal = facts.keys.seal
    if isinstance(seal, Trouble):
        words = f"the box will not start again by itself: {seal.message}"
        yield Problem("machine-seal", words, seal.hint or "call support", Severity.NOW)
    elif seal == "file":
        words = "the root key lies in a file on the same disk: a stolen disk can be read"
        yield Problem("machine-seal", words, _SEAL_THERE, Severity.SOON)
    elif seal == "host":
        words = (
            "no TPM guards the root key: what opens it lies on the same disk, and a stolen disk can be read"
        )
        yield Problem("machine-seal", words, _SEAL_THERE, Severity.SOON)
