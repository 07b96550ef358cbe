"""Destructions that two people have approved, and that are not done everywhere: the certificate waits, and nobody opens it to see.

An archive that is paused or away, a drill that fails before older backups may go, an image that can't be kept anonymous: each keeps one
waiting, for good if nobody looks. Chose eight days, within which a weekly drill has come round.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from appliance.health.facts import Facts
from appliance.health.problem import Problem, Severity

CODES = ("destruction-waits",)
LATE = timedelta(days=8)


def check(facts: Facts) -> Iterator[Problem]:
    """Those that have waited for longer than that, as one problem."""
    if facts.catalog is not None:
        return
    late = [facts.at_utc - each for each in facts.destructions_since if facts.at_utc - each > LATE]
    if late:
        yield Problem(
            "destruction-waits",
            f"the certificate of a destruction is not complete after {max(late).days} days"
            if len(late) == 1
            else f"{len(late)} certificates of destructions are not complete, the oldest after {max(late).days} days",
            "open the certificate: it says what it waits for, and where",
            Severity.SOON,
        )
