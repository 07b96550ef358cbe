"""Images that came twice with different content; the box keeps both and can't know which is right."""

from __future__ import annotations

from collections.abc import Iterator

from appliance.health.facts import Facts
from appliance.health.problem import Act, Problem, Severity, Verb

CODES = ("duplicates",)


def check(facts: Facts) -> Iterator[Problem]:
    """Nothing is lost; a person decides."""
    if facts.contents and facts.contents.duplicates:
        yield Problem(
            "duplicates",
            f"{facts.contents.duplicates} images came twice with different content; both are kept",
            "look at the studies marked in the console and decide which is right",
            Severity.SOON,
            acts=(Act(Verb.SEE_STUDIES),),
        )
