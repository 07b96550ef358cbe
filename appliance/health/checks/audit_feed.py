"""Audit messages to a collector: have they waited for more than an hour? Nothing is lost meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from appliance.health.facts import Facts
from appliance.health.problem import Problem, Severity

CODES = ("syslog-late",)
LATE = timedelta(hours=1)


def check(facts: Facts) -> Iterator[Problem]:
    """Late after an hour."""
    since = facts.audit_feed_behind_utc
    if since is not None and abs(facts.at_utc - since) > LATE:
        yield Problem(
            "syslog-late",
            "audit messages to the other system have waited for more than an hour",
            "nothing is lost, they go by themselves once it answers; check its address and certificates in the settings",
            Severity.SOON,
        )
