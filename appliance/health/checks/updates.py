"""Updates: a version that was tried on this machine and left again, and one that waits; nobody sees either who doesn't look."""

from __future__ import annotations

from collections.abc import Iterator

from appliance.health.facts import Facts
from appliance.health.problem import Act, Problem, Severity, Verb

CODES = ("update-failed", "update-waiting")


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
                "update-waiting",
                f"version {version} is on the box, and waits for somebody to start it",
                "the disk asks for a PIN at each start, so no version starts by itself; between two patients, choose "
                "Restart now on the page of updates, and type the PIN at the box",
                Severity.NOTE,
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
