"""Images that were acknowledged and could not be recorded: sealed, kept, and tried again at every start."""

from __future__ import annotations

from collections.abc import Iterator

from appliance.health.facts import Facts
from appliance.health.problem import Problem, Severity

CODES = ("set-aside",)


def check(facts: Facts) -> Iterator[Problem]:
    """Any at all are for a person to see to."""
    held, damaged = (facts.contents.set_aside, facts.contents.set_aside_damaged) if facts.contents else (0, 0)
    if held:
        yield Problem(
            "set-aside",
            f"{held} received images could not be recorded and are set aside, sealed; damaged: {damaged}"
            if damaged
            else f"{held} received images could not be recorded and are set aside, sealed",
            "restart the appliance, which tries them again; if they stay, call support before anything is removed",
            Severity.NOW,
        )
