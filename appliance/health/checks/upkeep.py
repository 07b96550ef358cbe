"""The jobs of the upkeep: the last run of each, as the jobs process reports it."""

from __future__ import annotations

from collections.abc import Iterator

from appliance.health.facts import Facts
from appliance.health.problem import Problem, Severity

CODES = ("job",)


def check(facts: Facts) -> Iterator[Problem]:
    """One problem for each job whose last run failed."""
    for name in facts.failing_jobs:
        yield Problem(
            "job",
            f"the upkeep job '{name}' fails",
            "look at the log of the jobs process",
            Severity.NOW,
            subject=name,
        )
