"""Who hears next of a critical notice that nobody has acknowledged. Pure.

The chain is a list of steps, each so long after the notice was raised and each louder: other people, then the clinic's
webhooks. Its last step is said again every `AGAIN_SECONDS` until somebody acknowledges or the trouble is over. Chosen
over one list with repeats, because a person who sleeps is not woken by a third message to the same inbox.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from appliance.errors import Refused
from appliance.notify.kinds import Channel

AGAIN_SECONDS = 3600
MOST_STEPS = 3
"""As many as the form of the console shows: more could be kept, and would be lost by who saves that."""
LONGEST_MINUTES = 24 * 60


@dataclass(frozen=True, slots=True)
class Step:
    """So long after a critical notice was raised, these hear of it, too, by these channels."""

    after_seconds: int
    roles: tuple[str, ...]
    persons: tuple[str, ...] = ()
    channels: tuple[Channel, ...] = (Channel.BELL, Channel.MAIL, Channel.WEBHOOK)


CHAIN: tuple[Step, ...] = (
    Step(15 * 60, ("owner",)),
    Step(45 * 60, ("owner", "privacy_officer", "practitioner", "technician")),
)
"""As delivered: the owners after a quarter of an hour, everybody who can act after three."""


def steps_due(
    chain: Sequence[Step], raised_utc: datetime, done: int, last_utc: datetime, now: datetime
) -> int:
    """How many steps are done once those due at `now` are; more than there are in `chain` for repeats of its last.

    `done` counts those done before, the last of them at `last_utc`.
    """
    if not chain:
        return done
    stood = now - raised_utc
    due = sum(1 for step in chain if stood >= timedelta(seconds=step.after_seconds))
    if due > done:
        return due
    if done >= len(chain) and now - last_utc >= timedelta(seconds=AGAIN_SECONDS):
        return done + 1
    return done


def step_for(chain: Sequence[Step], number: int) -> Step:
    """The step that is the `number`-th, from 1; beyond the end it is the last."""
    return chain[min(number, len(chain)) - 1]


def parse(value: Sequence[Mapping[str, Any]], *, roles: Sequence[str]) -> tuple[Step, ...]:
    """A chain from a form or the catalog. Raises `Refused`."""
    steps = []
    try:
        for each in value:
            channels = tuple(Channel(name) for name in each["channels"])
            step = Step(
                int(each["after_seconds"]), tuple(each["roles"]), tuple(each.get("persons", ())), channels
            )
            if not 60 <= step.after_seconds <= LONGEST_MINUTES * 60 or not channels:
                raise ValueError
            if not (step.roles or step.persons) or not set(step.roles) <= set(roles):
                raise ValueError
            steps.append(step)
    except (KeyError, TypeError, ValueError) as error:
        raise _not_a_chain() from error
    if len(steps) > MOST_STEPS or any(
        one.after_seconds >= other.after_seconds for one, other in pairwise(steps)
    ):
        raise _not_a_chain()
    return tuple(steps)


def as_value(chain: Sequence[Step]) -> list[dict[str, Any]]:
    """What `parse` reads again, JSON-able."""
    return [
        {
            "after_seconds": step.after_seconds,
            "roles": list(step.roles),
            "persons": list(step.persons),
            "channels": [str(each) for each in step.channels],
        }
        for step in chain
    ]


def _not_a_chain() -> Refused:
    return Refused(
        "those are not steps of an escalation",
        hint="give each step minutes that grow, somebody who hears, and a way to hear",
    )
