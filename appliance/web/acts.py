"""What the console offers beside a problem: the address and the words of each act, for those who may do it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlencode

from appliance.health import Act, Problem, Verb
from appliance.identity.permissions import Permission
from appliance.web.access import may
from appliance.web.language import Words


@dataclass(frozen=True, slots=True)
class Offer:
    """A link (`get`) or a button (`post`)."""

    method: Literal["get", "post"]
    address: str
    label: str


@dataclass(frozen=True, slots=True)
class _Way:
    needs: Permission
    method: Literal["get", "post"]
    address: Callable[[Act, Problem], str]


def _listed(state: str) -> Callable[[Act, Problem], str]:
    def address(act: Act, problem: Problem) -> str:
        del act
        wanted = {"state": state, "destination": problem.subject}
        return f"/deliveries?{urlencode({name: value for name, value in wanted.items() if value})}"

    return address


def _at(page: str) -> Callable[[Act, Problem], str]:
    return lambda act, problem: page  # noqa: ARG005 - the same for all


def _destination(verb: str) -> Callable[[Act, Problem], str]:
    return lambda act, problem: f"/destinations/{act.destination}/{verb}"  # noqa: ARG005 - by number, not by name


_P = Permission
WAYS: Mapping[Verb, _Way] = {
    Verb.RESUME: _Way(_P.ACT_ON_DELIVERIES, "post", _destination("resume")),
    Verb.RETRY: _Way(_P.ACT_ON_DELIVERIES, "post", _destination("retry")),
    Verb.TEST: _Way(_P.ACT_ON_DELIVERIES, "post", _destination("test")),
    Verb.SEE_DESTINATIONS: _Way(_P.VIEW_DESTINATIONS, "get", _at("/destinations")),
    Verb.SEE_REFUSED: _Way(_P.VIEW_DELIVERIES, "get", _listed("FAILED")),
    Verb.SEE_WAITING: _Way(_P.VIEW_DELIVERIES, "get", _listed("")),
    Verb.SEE_DEVICES: _Way(_P.VIEW_DEVICES, "get", _at("/devices")),
    Verb.SEE_GUARD: _Way(_P.VIEW_HEALTH, "get", _at("/guard")),
    Verb.SEE_UPDATES: _Way(_P.VIEW_HEALTH, "get", _at("/updates")),
    Verb.SEE_HEARTBEATS: _Way(_P.ADMIT_SUPPORT, "get", _at("/support/heartbeat")),
    Verb.SEE_RETENTION: _Way(_P.MANAGE_RETENTION, "get", _at("/retention")),
    Verb.SEE_TIERS: _Way(_P.VIEW_HEALTH, "get", _at("/tiers")),
    Verb.SEE_STUDIES: _Way(_P.VIEW_STUDIES, "get", _at("/studies")),
}


def offers(problem: Problem, words: Words) -> tuple[Offer, ...]:
    """What whoever reads the page may do about `problem`."""
    return tuple(
        Offer(way.method, way.address(act, problem), words(f"act.{act.verb}"))
        for act in problem.acts
        if may((way := WAYS[act.verb]).needs)
    )
