"""Buckets: does what kept their copies from whoever takes over this box still do so?"""

from __future__ import annotations

from collections.abc import Iterator

from appliance.health.facts import Facts
from appliance.health.problem import Act, Problem, Severity, Verb

CODES = ("protection-lost", "protection-untold")


def check(facts: Facts) -> Iterator[Problem]:
    """One that it never had is no problem: whoever set it up was told. Trying the destination again ends this at once where it is mended."""
    for each in facts.unprotected:
        acts = (Act(Verb.TEST, each.id), Act(Verb.SEE_DESTINATIONS))
        if each.lost:
            yield Problem(
                "protection-lost",
                f"the bucket of {each.destination} no longer has what protected it from whoever takes over this box: {'; '.join(each.lost)}",
                "find out today who changed it at the cloud account; have it set as it was, then test the destination here",
                Severity.NOW,
                subject=each.destination,
                acts=acts,
            )
        if each.untold:
            yield Problem(
                "protection-untold",
                f"the bucket of {each.destination} no longer says whether it has what protected it from whoever takes over this box:"
                f" {'; '.join(each.untold)}",
                "ask whoever looks after the cloud account whether the rights of the box's key were changed there; give it back the right"
                " to see these settings, then test the destination here",
                Severity.SOON,
                subject=each.destination,
                acts=acts,
            )
