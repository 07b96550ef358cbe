"""Stored images that the last verification found damaged or missing."""

from __future__ import annotations

from collections.abc import Iterator

from appliance.health.facts import Facts
from appliance.health.problem import Problem, Severity

CODES = ("damaged",)


def check(facts: Facts) -> Iterator[Problem]:
    """A replica has them still, if there is one."""
    if facts.contents and facts.contents.damaged:
        yield Problem(
            "damaged",
            f"{facts.contents.damaged} stored images were found damaged or missing",
            "run 'appliance verify --all', and bring them back from a replica",
            Severity.NOW,
        )
