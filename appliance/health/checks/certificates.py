"""Certificates: how long each one that the box shows to others is still valid."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from appliance.health.facts import Facts
from appliance.health.problem import Problem, Severity

CODES = ("certificate-expired", "certificate-expiring")
VERY_SOON = timedelta(days=7)


def check(facts: Facts) -> Iterator[Problem]:
    """Said from as many days on as the clinic says, pressing from 7. An expired one turns browsers and machines away."""
    for each in facts.certificates:
        left = each.expires_utc - facts.at_utc
        if left <= timedelta(0):
            yield Problem(
                "certificate-expired",
                f"the certificate {each.name} has expired: browsers and machines will not trust this box",
                "renew it",
                Severity.NOW,
                subject=each.name,
            )
        elif left <= timedelta(days=facts.limits.certificate_days):
            yield Problem(
                "certificate-expiring",
                f"the certificate {each.name} expires in {max(1, left.days)} days",
                "renew it before then",
                Severity.NOW if left <= VERY_SOON else Severity.SOON,
                subject=each.name,
            )
