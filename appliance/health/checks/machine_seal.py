"""The machine seal: will the box start again by itself, and only on this machine?"""

from __future__ import annotations

from collections.abc import Iterator

from appliance.health.facts import Facts, Trouble
from appliance.health.problem import Problem, Severity

CODES = ("machine-seal",)


def check(facts: Facts) -> Iterator[Problem]:
    """A seal that can't be had, or that lies beside what it seals."""
    seal = facts.keys.seal
    if isinstance(seal, Trouble):
        words = f"the box will not start again by itself: {seal.message}"
        yield Problem("machine-seal", words, seal.hint or "call support", Severity.NOW)
    elif seal == "file":
        yield Problem(
            "machine-seal",
            "the root key lies in a file on the same disk: a stolen disk can be read",
            "on a machine with a TPM, seal it there; for trying things out it is fine",
            Severity.SOON,
        )
