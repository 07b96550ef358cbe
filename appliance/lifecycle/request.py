"""The states of a request to destroy, and of each study in it. Pure.

::

    open ──approve──▶ approved ──finish──▶ carried-out
      │                  │
      ├──withdraw────────┼───────────────▶ withdrawn
      ├──empty───────────┤
      └──expire──────────┴───────────────▶ expired

What is not in the table cannot happen: nothing leads out of the three on the right, and nothing to ``carried-out`` but
through ``approved``. A study that is left out of a request never comes back into it: it can be asked for again.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from types import MappingProxyType

from appliance.errors import Refused


class State(StrEnum):
    """Where a request stands."""

    OPEN = "open"
    APPROVED = "approved"
    CARRIED_OUT = "carried-out"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"


class Event(StrEnum):
    """What can happen to a request."""

    APPROVE = "approve"  # by another person than who asked
    WITHDRAW = "withdraw"  # by either
    EXPIRE = "expire"  # nobody approved it, or carried it out, in time; or the box was restored meanwhile
    FINISH = "finish"  # the last study that stood in it was destroyed
    EMPTY = "empty"  # every study was left out of it


class ItemState(StrEnum):
    """Where a study of a request stands."""

    STANDING = "standing"
    LEFT_OUT = "left-out"
    CARRIED_OUT = "carried-out"


class Method(StrEnum):
    """What is to be done with the studies."""

    DESTROY = "destroy"
    ANONYMISE = "anonymise"


TRANSITIONS: Mapping[State, Mapping[Event, State]] = MappingProxyType(
    {
        State.OPEN: MappingProxyType(
            {
                Event.APPROVE: State.APPROVED,
                Event.WITHDRAW: State.WITHDRAWN,
                Event.EMPTY: State.WITHDRAWN,
                Event.EXPIRE: State.EXPIRED,
            }
        ),
        State.APPROVED: MappingProxyType(
            {
                Event.FINISH: State.CARRIED_OUT,
                Event.WITHDRAW: State.WITHDRAWN,
                Event.EMPTY: State.WITHDRAWN,
                Event.EXPIRE: State.EXPIRED,
            }
        ),
        State.CARRIED_OUT: MappingProxyType({}),
        State.WITHDRAWN: MappingProxyType({}),
        State.EXPIRED: MappingProxyType({}),
    }
)

STANDS = timedelta(days=30)
"""How long a request waits for its approval, and as long again to be carried out: what is older is looked at anew."""


def after(state: State, event: Event) -> State:
    """The state that `event` leads to. Raises `Refused` for what cannot happen to a request in `state`."""
    try:
        return TRANSITIONS[state][event]
    except KeyError:
        raise Refused(
            f"this request is {state}, and that can no longer be done to it", hint="look at the request again"
        ) from None
