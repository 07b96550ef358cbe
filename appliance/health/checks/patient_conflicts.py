"""Studies in which an image names another patient than the study does."""

from __future__ import annotations

from collections.abc import Iterator

from appliance.health.facts import Facts
from appliance.health.problem import Act, Problem, Severity, Verb

CODES = ("patient-conflict",)


def check(facts: Facts) -> Iterator[Problem]:
    """Before anyone relies on them."""
    if facts.contents and facts.contents.patient_conflicts:
        yield Problem(
            "patient-conflict",
            f"{facts.contents.patient_conflicts} studies hold images that name another patient",
            "look at the studies marked in the console before anyone relies on them",
            Severity.NOW,
            acts=(Act(Verb.SEE_STUDIES),),
        )
