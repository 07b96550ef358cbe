"""The audit's anchors away from the box: is the log the one that was witnessed, and is the newest witness fresh?

An archive that cannot be reached is `reachability`'s to tell; here only what stays wrong while there is a line.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from appliance.health.facts import Facts
from appliance.health.problem import Problem, Severity

CODES = ("audit-rolled-back", "anchor-late")
LATE = timedelta(hours=1)


def check(facts: Facts) -> Iterator[Problem]:
    """A roll-back is an incident; an anchor is late after an hour."""
    for anchor in facts.anchors:
        if anchor.rolled_back:
            yield Problem(
                "audit-rolled-back",
                f"the audit log lacks rows that {anchor.destination} has witnessed",
                "leave the machine as it is, and tell the person in charge of privacy",
                Severity.NOW,
                subject=anchor.destination,
            )
        elif not anchor.offline and (anchor.at_utc is None or abs(facts.at_utc - anchor.at_utc) > LATE):
            yield Problem(
                "anchor-late",
                f"the state of the audit log was not written to {anchor.destination} within the hour",
                "see that the box may write there, and that the jobs process runs",
                Severity.SOON,
                subject=anchor.destination,
            )
