"""Updates: a version that was tried on this machine and left again, one that waits, one that is kept, and none that comes; nobody sees it who doesn't look."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from appliance.health.facts import Facts
from appliance.health.looks import REFUSALS
from appliance.health.problem import Act, Problem, Severity, Verb

LAPSED = timedelta(days=30)
"""An order holds for a month at most, so for two nothing has come that was signed since: its vendor, or what lies between, says nothing."""
UNTOLD = timedelta(minutes=15)
"""The image says which versions there are in the first minutes of a start, or not before the next."""
CODES = (
    "update-failed",
    "update-waiting",
    "update-by-hand",
    "version-chosen",
    "updates-unseen",
    "order-lapsed",
)


def check(facts: Facts) -> Iterator[Problem]:
    """What was left is said until a newer version takes its place: the box is sound, but it stays behind."""
    for version in facts.left_versions:
        yield Problem(
            "update-failed",
            f"version {version} did not work here: the box has gone back to the one before by itself",
            "nothing is lost and nothing has to be done here; tell support, which makes another",
            Severity.SOON,
            acts=(Act(Verb.SEE_UPDATES),),
        )
    for version in facts.waiting_versions:
        if facts.asks_pin:
            yield Problem(
                "update-by-hand",
                f"version {version} is on the box, and waits for somebody to start it",
                "the disk asks for a PIN at each start, so no version starts by itself; between two patients, choose "
                "Restart now on the page of updates, and stay at the box with the PIN until the console has answered for a minute",
                Severity.SOON,
                acts=(Act(Verb.SEE_UPDATES),),
            )
            continue
        yield Problem(
            "update-waiting",
            f"version {version} is on the box, and starts the next time that the box does",
            "the box starts it by itself, in the hours that were chosen for it, while no image comes or goes; to have it at once, "
            "switch the box off and on again between two patients",
            Severity.NOTE,
            acts=(Act(Verb.SEE_UPDATES),),
        )
    if facts.chosen_version:
        yield Problem(
            "version-chosen",
            f"version {facts.chosen_version} was chosen in the machine's menu for every start, so no newer one starts",
            "if nobody wants that any more, undo it at the box with a screen and a keyboard, as the help says; until then the box stays behind",
            Severity.SOON,
            acts=(Act(Verb.SEE_UPDATES),),
        )
    if not facts.versions_are_told and facts.runs_for is not None and facts.runs_for >= UNTOLD:
        yield Problem(
            "updates-unseen",
            "the box cannot find out which versions are on its disk, so no newer one comes",
            "images come and go as before; tell support before anybody switches the box off: what it starts from may be damaged",
            Severity.SOON,
            acts=(Act(Verb.SEE_UPDATES),),
        )
    elif facts.looked is not None and (times := facts.looked.refused) >= REFUSALS:
        yield Problem(
            "updates-unseen",
            f"what is offered at the address of updates was not signed by the vendor, {times} times since the last look that went well",
            "nothing of it was taken; tell support: its server, or what lies between, is not as it should be",
            Severity.SOON,
            acts=(Act(Verb.SEE_UPDATES),),
        )
    elif facts.looked is not None and (days := facts.looked.unseen_days(facts.at_utc, facts.runs_for)):
        yield Problem(
            "updates-unseen",
            f"the box has not been able to look for a new version for {days} days",
            "see that it reaches the internet; if it does, tell support, since nothing may lie at the vendor's address; a version can also be brought on a USB stick",
            Severity.SOON,
            acts=(Act(Verb.SEE_UPDATES),),
        )
    if facts.held_to is not None and facts.at_utc - (until := facts.held_to[1]) > LAPSED:
        yield Problem(
            "order-lapsed",
            f"the vendor's order that holds this box to version {facts.held_to[0]} ran out on {until:%Y-%m-%d}, and no newer one has come",
            "ask the vendor for a newer one; until then the box takes no newer version, unless heartbeats are withdrawn",
            Severity.SOON,
            acts=(Act(Verb.SEE_UPDATES),),
        )
