"""The ransomware guard: while it holds, nothing is overwritten or removed, and only a person lets that go on."""

from __future__ import annotations

from collections.abc import Iterator

from appliance.health.facts import Facts
from appliance.health.problem import Act, Problem, Severity, Verb

CODES = ("mass-loss", "guard-by-hand")
BY_HAND = "by-hand"
WORDS = {
    "vanished": "many stored images are gone from this box at once: nothing is overwritten or removed any more",
    "altered": "many stored images are no longer what was written: nothing is overwritten or removed any more",
    "reported": "many stored images were found damaged in a day: nothing is overwritten or removed any more",
}


def check(facts: Facts) -> Iterator[Problem]:
    """What the box found by itself wants somebody now; what a person began is only not to be forgotten."""
    frozen = facts.frozen
    if frozen is None:
        return
    acts = (Act(Verb.SEE_GUARD),)
    if frozen.why == BY_HAND:
        yield Problem(
            "guard-by-hand",
            "the ransomware guard holds, because a person wanted it: nothing is overwritten or removed",
            "find out what made somebody think of it, then release the guard",
            Severity.SOON,
            acts=acts,
        )
        return
    yield Problem(
        "mass-loss",
        WORDS[frozen.why],
        "unplug the computers that look strange, call support, and release the guard only when the cause is known",
        Severity.NOW,
        acts=acts,
    )
