"""Deliveries that a receiver has refused: they are not tried again until a person says so."""

from __future__ import annotations

from collections.abc import Iterator

from appliance.health.facts import Facts
from appliance.health.problem import Act, Problem, Severity, Verb

CODES = ("delivery-failed",)


def check(facts: Facts) -> Iterator[Problem]:
    """One problem for each destination that refused any."""
    for queue in facts.queues:
        if queue.failed:
            name = queue.destination
            yield Problem(
                "delivery-failed",
                f"{name} refused {queue.failed} images",
                f"see why with 'appliance deliveries list --destination {name} --state FAILED', then retry or cancel",
                Severity.NOW,
                subject=name,
                acts=(Act(Verb.SEE_REFUSED, queue.id), Act(Verb.RETRY, queue.id)),
            )
