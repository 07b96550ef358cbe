"""Failed sign-ins within an hour, over all accounts and addresses. What was typed is never shown: it may be a password."""

from __future__ import annotations

from collections.abc import Iterator

from appliance.health.facts import Facts
from appliance.health.problem import Problem, Severity

CODES = ("sign-in-failures",)


def check(facts: Facts) -> Iterator[Problem]:
    """A person mistypes a few times; a program doesn't stop."""
    if facts.sign_in_failures >= facts.limits.failed_sign_ins:
        yield Problem(
            "sign-in-failures",
            f"signing in has failed {facts.sign_in_failures} times within an hour",
            "look in the audit where they come from; if nobody of the clinic did it, take that machine off the network",
            Severity.NOW,
        )
