"""What a new box still lacks before it is of use."""

from __future__ import annotations

from collections.abc import Iterator

from appliance.health.facts import Facts
from appliance.health.problem import Act, Problem, Severity, Verb

CODES = ("no-devices", "no-rules")


def check(facts: Facts) -> Iterator[Problem]:
    """A machine that may send, and a place that gets copies."""
    if facts.catalog is not None:
        return
    if not facts.senders:
        yield Problem(
            "no-devices",
            "no machine may send yet",
            "admit one: 'appliance device add --help'",
            Severity.SOON,
            acts=(Act(Verb.SEE_DEVICES),),
        )
    if not facts.rules:
        yield Problem(
            "no-rules",
            "nothing is copied anywhere yet",
            "add a destination and a rule for it",
            Severity.SOON,
            acts=(Act(Verb.SEE_DESTINATIONS),),
        )
