"""Heartbeats: somebody has agreed to them, and none is sent any more. Whoever waits for them sees a box that is dead."""

from __future__ import annotations

from collections.abc import Iterator

from appliance.health.facts import Facts
from appliance.health.problem import Act, Problem, Severity, Verb

CODES = ("heartbeats-stopped",)


def check(facts: Facts) -> Iterator[Problem]:
    """Said until somebody agrees again or withdraws: either is right, and nobody but the clinic may choose."""
    if facts.heartbeats_stopped:
        yield Problem(
            "heartbeats-stopped",
            "no heartbeat is sent: where they go, how, or who may answer them and for what, was changed since somebody agreed",
            "look at it under Heartbeats, and agree again or send no more; until then a box to which the vendor has named a version "
            "takes no other one over the line",
            Severity.SOON,
            acts=(Act(Verb.SEE_HEARTBEATS),),
        )
