"""Reading everything again: promised within thirty days, so that what rots is found while somebody else has it still; asking the buckets
for what is not here, looking each of them through, and reading each archive to its end.

A pass takes ten days on a box that is always on, and thirty on one that is on for working hours. Chose a limit that no clinic sets,
because it is a promise and no habit; three days more than promised, because a pass ends when it ends. Judged by whichever process
judges the box, so that a jobs process that has stopped reading is told of by another one (`appliance.watch`).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from appliance.health.facts import Facts
from appliance.health.problem import Problem, Severity

CODES = ("index-unread", "read-again-late", "bucket-unasked", "bucket-unlisted")
LATE = timedelta(days=33)
AHEAD = timedelta(hours=1)


def check(facts: Facts) -> Iterator[Problem]:
    """Pages of the index that could not be checked are said at once, a pass when it is late."""
    last = facts.read_again
    if facts.catalog is not None or last is None:
        return
    for each in facts.looked_through:
        if facts.at_utc - each.since_utc > LATE:
            yield Problem(
                "bucket-unlisted",
                f"{each.destination} has not been looked through for {(facts.at_utc - each.since_utc).days} days:"
                " whether every copy is still there is not known",
                "see that the cloud storage can be reached and is not paused: it is looked through again by itself",
                Severity.SOON,
                subject=each.destination,
            )
    if last.unchecked:
        yield Problem(
            "index-unread",
            f"the index could not be read through, and is not checked ({last.unchecked})",
            "make room on the disk of the box; it is tried again every day",
            Severity.SOON,
        )
    if last.unasked and last.asked_utc is not None and facts.at_utc - last.asked_utc > LATE:
        yield Problem(
            "bucket-unasked",
            f"{last.unasked} images that are in cloud storage alone were last asked for there"
            f" {(facts.at_utc - last.asked_utc).days} days ago or earlier",
            "see that the cloud storage can be reached and is not paused: they are asked for again by themselves",
            Severity.SOON,
        )
    age = facts.at_utc - last.since_utc
    if age < -AHEAD:
        yield Problem(
            "read-again-late",
            "when everything was last read again bears a date that is still to come: its age is not known",
            "check the clock of the box",
            Severity.SOON,
        )
    elif age > LATE:
        yield Problem(
            "read-again-late",
            f"everything stored has waited for {age.days} days to be read to its end for the first time"
            if last.never
            else f"everything stored was last read again {age.days} days ago",
            "let the box be on for longer; call support if it stays for ten days",
            Severity.SOON,
        )
    else:
        yield from _not_read_through(facts)


def _not_read_through(facts: Facts) -> Iterator[Problem]:
    """Archives that were away, paused or refused whenever their turn came. Of one that could not be listed either that is said already."""
    said = {each.destination for each in facts.looked_through if facts.at_utc - each.since_utc > LATE}
    for each in facts.read_through:
        if facts.at_utc - each.since_utc > LATE and each.destination not in said:
            yield Problem(
                "read-again-late",
                f"{each.destination} has not been read to its end for {(facts.at_utc - each.since_utc).days} days:"
                " whether everything there is whole is not known",
                "leave it connected and switched on for ten days, and see that it is not paused: it is read again by itself",
                Severity.SOON,
                subject=each.destination,
            )
