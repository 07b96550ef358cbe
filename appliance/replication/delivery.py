"""The life of a delivery, how long it rests after a failure, and when a destination is left alone. Pure.

::

                     claim               confirm (from anywhere: a receipt is proof)
    PENDING ──────────────────▶ SENDING ───────────────▶ CONFIRMED
      ▲ ▲ ◀── expire, release ── │ │ │
      │ │                        │ │ └── refuse ──▶ FAILED ── retry ──▶ PENDING
      │ └── retry ── WAITING ◀───┘ │
      │              (postpone)    │     pause  (PENDING, SENDING, WAITING) ──▶ PAUSED
      └── resume ── PAUSED ◀───────┘     cancel (all but CONFIRMED) ──▶ CANCELLED ── retry ──▶ PENDING

    CONFIRMED ── move (the archive is another place from now on) ──▶ PENDING

WAITING returns to SENDING by a claim once its stored time has come. Nothing ever gives up: the only ends are
CONFIRMED (a receipt), FAILED (the receiver will not have this object as it is) and CANCELLED (a person said so), and
a person can take the last two back. A receipt is one of a place: it says nothing of another that an archive is moved to.

Chose one row per obligation with a lease over a queue of messages: a crash at any point leaves a row whose lease runs
out, so that the worst is a second send of the same bytes, and every destination makes a second send cost nothing.
Chose to let a receipt win over a pause or a cancellation that came while the bytes were under way: the object *is*
there, and saying otherwise would be false.

Two waits, because "the destination is down" and "this object has trouble" differ: while a destination is down, an
object that has failed rests `DOWN_SECONDS` and the circuit breaker lets one connection test through per interval, not
objects; once the destination is seen to work, each object comes back after its own growing `back_off`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType

from appliance.errors import Refused

FIRST_BACK_OFF_SECONDS = 2.0
LONGEST_BACK_OFF_SECONDS = 600.0
DOWN_SECONDS = 600.0
"""How long an object that failed rests, unless its destination is seen to work earlier."""

FIRST_BREAK_SECONDS = 1.0
LONGEST_BREAK_SECONDS = 600.0

FURTHEST_SECONDS = 3600.0
"""No wait is set further ahead than this; one that is was set by a clock that has since been put back, and is over."""


class State(StrEnum):
    """Where an obligation stands."""

    PENDING = "PENDING"
    SENDING = "SENDING"
    WAITING = "WAITING"
    PAUSED = "PAUSED"
    CONFIRMED = "CONFIRMED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class Event(StrEnum):
    """What can happen to an obligation."""

    CLAIM = "claim"
    CONFIRM = "confirm"
    POSTPONE = "postpone"
    REFUSE = "refuse"
    EXPIRE = "expire"
    RELEASE = "release"
    PAUSE = "pause"
    RESUME = "resume"
    RETRY = "retry"
    CANCEL = "cancel"
    MOVE = "move"


TRANSITIONS: Mapping[State, Mapping[Event, State]] = MappingProxyType(
    {
        State.PENDING: {
            Event.CLAIM: State.SENDING,
            Event.CONFIRM: State.CONFIRMED,
            Event.PAUSE: State.PAUSED,
            Event.CANCEL: State.CANCELLED,
        },
        State.SENDING: {
            Event.CONFIRM: State.CONFIRMED,
            Event.POSTPONE: State.WAITING,
            Event.REFUSE: State.FAILED,
            Event.EXPIRE: State.PENDING,
            Event.RELEASE: State.PENDING,
            Event.PAUSE: State.PAUSED,
            Event.CANCEL: State.CANCELLED,
        },
        State.WAITING: {
            Event.CLAIM: State.SENDING,
            Event.CONFIRM: State.CONFIRMED,
            Event.RETRY: State.PENDING,
            Event.PAUSE: State.PAUSED,
            Event.CANCEL: State.CANCELLED,
        },
        State.PAUSED: {
            Event.CONFIRM: State.CONFIRMED,
            Event.RESUME: State.PENDING,
            Event.CANCEL: State.CANCELLED,
        },
        State.CONFIRMED: {Event.MOVE: State.PENDING},
        State.FAILED: {
            Event.CONFIRM: State.CONFIRMED,
            Event.RETRY: State.PENDING,
            Event.CANCEL: State.CANCELLED,
        },
        State.CANCELLED: {
            Event.CONFIRM: State.CONFIRMED,
            Event.RETRY: State.PENDING,
        },
    }
)
"""State → event → next state; what isn't here can't happen."""

OPEN_STATES = frozenset({State.PENDING, State.SENDING, State.WAITING, State.PAUSED})
"""The states in which something is still owed."""


def next_state(state: State, event: Event) -> State:
    """Where `event` takes a delivery in `state`. Raises `Refused` if that can't happen."""
    try:
        return TRANSITIONS[state][event]
    except KeyError as error:
        raise Refused(f"a delivery that is {state} cannot {event}") from error


def states_before(event: Event) -> tuple[State, ...]:
    """The states that `event` is possible in, in the table's order."""
    return tuple(state for state, events in TRANSITIONS.items() if event in events)


def back_off(attempts: int, jitter: float) -> float:
    """Seconds until an object that failed `attempts` times (≥ 1) is tried again at a destination that works.

    Doubles from 2 s to 10 min and stays there for ever; `jitter` ∈ [0, 1) takes off up to half, so that a thousand
    objects that failed together do not come back together.
    """
    longest = min(LONGEST_BACK_OFF_SECONDS, FIRST_BACK_OFF_SECONDS * 2.0 ** min(max(attempts, 1) - 1, 30))
    return longest * (1.0 - 0.5 * jitter)


def rest_while_down(jitter: float) -> float:
    """Seconds that an object rests after its destination failed, unless woken: 10 min and up to a tenth more."""
    return DOWN_SECONDS * (1.0 + 0.1 * jitter)


def is_over(until_utc: datetime, now: datetime) -> bool:
    """Whether a wait has ended, by the clock or because the clock was put back."""
    return until_utc <= now or until_utc > now + timedelta(seconds=FURTHEST_SECONDS)


@dataclass(frozen=True, slots=True)
class Breaker:
    """The circuit breaker of one destination.

    Closed: `failures` is 0. Open: nothing is sent before `open_until_utc`; then one connection test is made. If it
    succeeds, `open_until_utc` is None and objects are sent again, while `failures` stays until one arrives: a
    destination that passes the test and fails the objects is left alone for longer and longer.
    """

    failures: int = 0
    open_until_utc: datetime | None = None
    reason: str = ""

    def lets_send(self) -> bool:
        """Whether objects may be sent now."""
        return self.open_until_utc is None

    def test_is_due(self, now: datetime) -> bool:
        """Whether it is time for the connection test of an open breaker."""
        return self.open_until_utc is not None and is_over(self.open_until_utc, now)


def break_seconds(failures: int, jitter: float) -> float:
    """How long a destination is left alone after `failures` (≥ 1) in a row: 1 s doubling to 10 min, less ≤ a tenth."""
    longest = min(LONGEST_BREAK_SECONDS, FIRST_BREAK_SECONDS * 2.0 ** min(max(failures, 1) - 1, 30))
    return longest * (1.0 - 0.1 * jitter)


def after_failure(breaker: Breaker, reason: str, now: datetime, jitter: float) -> Breaker:
    """The breaker once a send or a connection test has failed with `reason` (plain words, no patient data).

    Sends that were under way together when the destination went down count once: a breaker that is still open keeps
    its time.
    """
    if breaker.open_until_utc is not None and not is_over(breaker.open_until_utc, now):
        return breaker
    failures = breaker.failures + 1
    return Breaker(failures, now + timedelta(seconds=break_seconds(failures, jitter)), reason)


def after_test(breaker: Breaker) -> Breaker:
    """The breaker once its connection test has succeeded: objects may go, the count stays."""
    return Breaker(breaker.failures, None, breaker.reason)


CLOSED = Breaker()
"""The breaker once an object has arrived."""
