"""The catalog: does it answer? Most other checks see nothing while it doesn't."""

from __future__ import annotations

from collections.abc import Iterator

from appliance.health.facts import Facts
from appliance.health.problem import Problem, Severity

CODES = ("catalog",)


def check(facts: Facts) -> Iterator[Problem]:
    """Without the catalog nothing is accepted and nothing leaves."""
    if facts.catalog is not None:
        words = f"the catalog does not answer: {facts.catalog.message}"
        yield Problem("catalog", words, facts.catalog.hint or "restart the appliance", Severity.BLOCKS)
