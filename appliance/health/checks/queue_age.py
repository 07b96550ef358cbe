"""How long the oldest delivery of each destination has waited."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from appliance.health.facts import Facts
from appliance.health.problem import Act, Problem, Severity, Verb

CODES = ("delivery-late",)


def check(facts: Facts) -> Iterator[Problem]:
    """Late, then urgent, after as long as the clinic says; what a person has paused is not late."""
    late = timedelta(hours=facts.limits.delivery_late_hours)
    urgent = timedelta(days=facts.limits.delivery_urgent_days)
    for queue in facts.queues:
        if queue.oldest_utc is None or queue.is_paused:
            continue
        waited = facts.at_utc - queue.oldest_utc
        if waited > late:
            yield Problem(
                "delivery-late",
                f"the oldest delivery to {queue.destination} has waited {waited / timedelta(hours=1):.0f} h",
                "check the connection; nothing is lost meanwhile",
                Severity.NOW if waited > urgent else Severity.SOON,
                subject=queue.destination,
                acts=(Act(Verb.SEE_WAITING, queue.id),),
            )
