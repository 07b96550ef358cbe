"""The recovery key: has anybody proved to have written it down, and is what it opens undamaged on this box?"""

from __future__ import annotations

from collections.abc import Iterator

from appliance.health.facts import Facts
from appliance.health.problem import Problem, Severity

CODES = ("recovery-key", "recovery-slot")


def check(facts: Facts) -> Iterator[Problem]:
    """Without it on paper, everything depends on this one machine."""
    if not facts.keys.recovery_confirmed:
        yield Problem(
            "recovery-key",
            "nobody has written down the recovery key yet: without it a lost machine is lost for good",
            "run 'appliance key show-recovery', print it, then 'appliance key check-recovery'",
            Severity.NOW,
        )
    if facts.keys.slot_damage:
        yield Problem(
            "recovery-slot",
            "what the recovery key opens is damaged on this box: the copies elsewhere are kept as they are",
            "issue a new recovery key, print it and type it back (appliance key rotate)",
            Severity.NOW,
        )
