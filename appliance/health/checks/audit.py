"""The audit: did its last verification find that somebody has altered it?"""

from __future__ import annotations

from collections.abc import Iterator

from appliance.health.facts import Facts
from appliance.health.problem import Problem, Severity

CODES = ("audit",)


def check(facts: Facts) -> Iterator[Problem]:
    """Any finding is an incident."""
    if facts.audit_findings:
        yield Problem(
            "audit",
            "the audit log has been altered",
            "run 'appliance audit verify', keep the disk as it is, and tell the person in charge of privacy",
            Severity.NOW,
        )
