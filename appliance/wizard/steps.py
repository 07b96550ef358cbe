"""The steps of setting up: their order, what may be left for later, which may be opened now. Pure.

Two things are known of a step: whether the box itself shows that it is done (its *evidence*: an owner exists, the
recovery key was typed back), and whether somebody has chosen to do it later. Chose evidence over a mark "done"
because a mark goes on saying so when the thing is undone: a destination that is removed opens its step again.

A step may be opened when every step before it is done or left for later, so that nobody tests what isn't set up. Once
all were, any may be opened again. Before the claim only the first three exist at all: whoever stands on the LAN learns
nothing else and can change nothing.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

__all__ = ["BEFORE_CLAIM", "DEFERRABLE", "Place", "Plan", "State", "Step", "plan"]


class Step(StrEnum):
    """In their order."""

    WELCOME = "welcome"
    LANGUAGE = "language"
    CLAIM = "claim"
    CLINIC = "clinic"
    NETWORK = "network"
    ACCOUNT = "account"
    RECOVERY = "recovery"
    STORAGE = "storage"
    DEVICES = "devices"
    USERS = "users"
    TRIAL = "trial"
    REPORT = "report"


BEFORE_CLAIM: Final = (Step.WELCOME, Step.LANGUAGE, Step.CLAIM)

DEFERRABLE: Final = frozenset({Step.NETWORK, Step.ACCOUNT, Step.STORAGE, Step.DEVICES, Step.USERS})
"""What a box can do without for a day. Not the recovery key: without it a dead machine is lost for good."""


class State(StrEnum):
    """Of a step."""

    LOCKED = "locked"
    OPEN = "open"
    LATER = "later"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Place:
    """A step as it stands. A step that is done may still not be opened: what comes before it is undone."""

    step: Step
    state: State
    may_open: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """All steps, in order, and where to go on; None when there is nothing left to do."""

    places: tuple[Place, ...]
    current: Step | None

    def place(self, step: Step) -> Place:
        """One step."""
        return next(each for each in self.places if each.step is step)

    def may_open(self, step: Step) -> bool:
        """Whether the page of `step` may be shown."""
        return self.place(step).may_open

    def after(self, step: Step) -> Step | None:
        """Where *Continue* on `step` leads: the next one that is not done, else simply the next one."""
        following = [each for each in self.places if list(Step).index(each.step) > list(Step).index(step)]
        undone = [each.step for each in following if each.state is State.OPEN]
        if undone:
            return undone[0]
        return following[0].step if following else None

    @property
    def finished(self) -> int:
        """How many steps are done or left for later."""
        return sum(each.state in (State.DONE, State.LATER) for each in self.places)


def plan(done: Collection[Step], later: Collection[Step]) -> Plan:
    """What the box shows as `done` and what was left for `later`, as a plan.

    `Step.CLAIM` in `done` is the claim itself: without it, everything behind it is locked whatever else is said.
    """
    claimed = Step.CLAIM in done
    places: list[Place] = []
    reached = True
    current: Step | None = None
    for step in Step:
        if step in BEFORE_CLAIM:
            state = State.DONE if claimed or step in done else State.OPEN
            places.append(Place(step, state, may_open=True))
            if not claimed:
                current = current or (step if state is State.OPEN else None)
            continue
        if not claimed:
            places.append(Place(step, State.LOCKED, may_open=False))
            continue
        if step in done:
            state = State.DONE
        elif step in later and step in DEFERRABLE:
            state = State.LATER
        else:
            state = State.OPEN if reached else State.LOCKED
        places.append(Place(step, state, may_open=reached))
        if reached and state is State.OPEN:
            current, reached = step, False
    return Plan(tuple(places), current)
