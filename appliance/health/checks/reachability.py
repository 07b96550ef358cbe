"""Destinations: is each one reached, and is what was paused meant to stay so?"""

from __future__ import annotations

from collections.abc import Iterator

from appliance.health.facts import Facts
from appliance.health.problem import Act, Problem, Severity, Verb

CODES = ("destination-down", "destination-paused")


def check(facts: Facts) -> Iterator[Problem]:
    """Nothing is lost by either; what is owed waits."""
    for queue in facts.queues:
        name = queue.destination
        if queue.trouble:
            yield Problem(
                "destination-down",
                f"{name} is not reached ({queue.trouble}); {queue.waiting} deliveries wait",
                f"nothing is lost, they go by themselves once it answers; 'appliance destination test {name}' tries it",
                Severity.NOW,
                subject=name,
                acts=(Act(Verb.TEST, queue.id),),
            )
        if queue.is_paused and queue.waiting:
            yield Problem(
                "destination-paused",
                f"{name} is paused and {queue.waiting} deliveries wait",
                f"'appliance destination resume {name}' when it may go on",
                Severity.SOON,
                subject=name,
                acts=(Act(Verb.RESUME, queue.id),),
            )
