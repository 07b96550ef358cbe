"""Updates: a version that was tried on this machine and left again, which nobody sees who doesn't look."""

from __future__ import annotations

from collections.abc import Iterator

from appliance.health.facts import Facts
from appliance.health.problem import Problem, Severity

CODES = ("update-failed",)


def check(facts: Facts) -> Iterator[Problem]:
    """Said until a newer version takes its place: the box is sound, but it stays behind."""
    for version in facts.left_versions:
        yield Problem(
            "update-failed",
            f"version {version} did not work here: the box has gone back to the one before by itself",
            "nothing is lost and nothing has to be done here; tell support, which makes another",
            Severity.SOON,
        )
