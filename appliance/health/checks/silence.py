"""Devices that used to send and have gone quiet, each judged against its own rhythm.

Chose to count days on which the clinic was open, that is on which any device sent, because a holiday silences them all
and is no fault of any; a clinic with one device has no such witness, and its days are counted by the calendar. Quiet
is a silence longer than twice what nine in ten of its own gaps were: a panoramic that works daily is missed after
three days, a CBCT that works every other week after a month.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from itertools import pairwise
from statistics import median_low

from appliance.health.facts import Facts, Sender
from appliance.health.problem import Act, Problem, Severity, Verb

CODES = ("device-silent",)
FEWEST_DAYS = 5
"""Days on which a device must have sent before it is said to have a rhythm."""
SHORTEST = 2
"""A silence of so many days is never remarkable, unless the clinic says otherwise."""


def check(facts: Facts) -> Iterator[Problem]:
    """One problem for each device whose silence is out of its own order."""
    for sender in facts.senders:
        silence = quiet(sender, facts.senders, facts.today, facts.limits.device_silent_days)
        if silence is not None:
            yield Problem(
                "device-silent",
                f"{sender.name} usually sends, and has sent nothing for {silence} days",
                "see that it is switched on and connected, and send a test image",
                Severity.SOON,
                subject=sender.name,
                acts=(Act(Verb.SEE_DEVICES),),
            )


def quiet(sender: Sender, all_of_them: Sequence[Sender], today: date, shortest: int = SHORTEST) -> int | None:
    """For how many calendar days `sender` has been out of its order silent, or None if it isn't.

    A silence of `shortest` days is never remarkable. Days ahead of `today` are those of a clock that was set: they are not looked at.
    """
    days = [each for each in sender.days if each <= today]
    if len(days) < FEWEST_DAYS:
        return None
    others = sorted({each for one in all_of_them for each in one.days if one is not sender and each <= today})
    if others:
        counted = sorted({*others, *days})
        place = {each: number for number, each in enumerate(counted)}
        gaps = [place[after] - place[before] for before, after in pairwise(days)]
        silence = len(counted) - 1 - place[days[-1]]
    else:
        gaps = [(after - before).days for before, after in pairwise(days)]
        silence = (today - days[-1]).days
    long = rhythm(gaps)
    return (today - days[-1]).days if silence > max(shortest, 2 * long) else None


def rhythm(gaps: Sequence[int]) -> int:
    """The gap, in days, that nine in ten of `gaps` don't exceed; 1 for none."""
    if not gaps:
        return 1
    return sorted(gaps)[max(0, -(-len(gaps) * 9 // 10) - 1)]


def usual(gaps: Sequence[int]) -> int:
    """The gap, in days, between two days of sending as a person would tell it: the middle one; 1 for none."""
    return median_low(gaps) if gaps else 1
