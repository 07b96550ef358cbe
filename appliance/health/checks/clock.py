"""The clock: is it believed, does it follow a time server, was it set while the box ran, and does it lag behind what was recorded?

Nothing on the box is deleted because of a clock; but hours in the audit and in reports are only as good as it is. One that has moved
further than the box has lived, while it ran or while it was off, is in doubt until a person has looked: meanwhile nothing is due, no backup
is removed, no image leaves and no certificate is renewed, so somebody has to be told.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from appliance.health.facts import Discipline, Facts
from appliance.health.problem import Act, Problem, Severity, Verb

CODES = ("clock-behind", "clock-doubted", "clock-free", "clock-set")
BEHIND = timedelta(minutes=10)
REMEMBERED = timedelta(days=1)
WORTH_SAYING_SECONDS = 60.0

SAY_IT_IS_RIGHT = "compare it with another clock, set it if need be, and say under Retention that it is right"
"""Also of one that is behind: what was received while it was ahead says so against a right one for years, until somebody has looked."""


def check(facts: Facts) -> Iterator[Problem]:
    """Behind is surely wrong; one in doubt, or free, may be right; set is worth a look at the audit."""
    clock = facts.clock
    if clock.latest_record_utc is not None and clock.latest_record_utc - facts.at_utc > BEHIND:
        yield Problem(
            "clock-behind",
            "the clock of the box is behind the images that it has received",
            SAY_IT_IS_RIGHT,
            Severity.NOW,
            acts=(Act(Verb.SEE_RETENTION),),
        )
    elif clock.is_doubted:
        yield Problem(
            "clock-doubted",
            "the clock of the box is in doubt: it was set by much, or the box was off for long",
            SAY_IT_IS_RIGHT,
            Severity.SOON,
            acts=(Act(Verb.SEE_RETENTION),),
        )
    if clock.discipline is Discipline.FREE:
        yield Problem(
            "clock-free",
            "the clock of the box does not follow a time server",
            "allow the box to reach a time server (NTP, UDP port 123)",
            Severity.NOTE,
        )
    recent = clock.set_utc is not None and abs(facts.at_utc - clock.set_utc) <= REMEMBERED
    if recent and abs(clock.set_seconds) >= WORTH_SAYING_SECONDS:
        yield Problem(
            "clock-set",
            f"the clock of the box was set by {clock.set_seconds:+.0f} s while it ran",
            "if nobody set it on purpose, have the battery of the clock and the time server checked",
            Severity.NOTE,
        )
