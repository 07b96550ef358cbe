"""Rules: what is owed to which destination, of what arrives from now on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

from appliance.catalog import destinations, rules
from appliance.configuration import rule_of
from appliance.errors import Unknown
from appliance.identity.permissions import Permission
from appliance.model import Rule as Kept
from appliance.web import forms
from appliance.web.api.operation import operation
from appliance.web.api.shape import Row, Shape
from appliance.web.console import console


@dataclass(frozen=True, slots=True)
class Rule:
    """Instances that match are owed to the destination; null matches everything."""

    id: Row
    destination: str
    device: str | None
    modality: str | None
    priority: int


@dataclass(frozen=True, slots=True)
class Rules:
    """All rules, in the order in which they were made."""

    items: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class NewRule:
    """What is owed to which destination."""

    destination: Annotated[str, Shape("The name of a destination.", example="cloud", shortest=1, longest=64)]
    device: Annotated[
        str | None,
        Shape(
            "Only from machines of this AE title.",
            example="PANO1",
            shortest=1,
            longest=16,
            pattern=r"^[!-\[\]-~]+$",
        ),
    ] = None
    modality: Annotated[
        str | None,
        Shape("Only of this modality.", example="PX", shortest=1, longest=16, pattern=r"^[A-Z0-9_]+$"),
    ] = None
    priority: Annotated[int, Shape("A higher one leaves first.", least=-100, most=100)] = 0


@operation("GET", "/rules", Permission.VIEW_DESTINATIONS, gives=Rules)
def list_rules() -> Rules:
    """List the rules."""
    with console().box.catalog.reading() as conn:
        return Rules(tuple(_rule(each) for each in rules.rules(conn)))


@operation("GET", "/rules/{rule_id}", Permission.VIEW_DESTINATIONS, gives=Rule)
def get_rule(rule_id: int) -> Rule:
    """Get one rule."""
    with console().box.catalog.reading() as conn:
        return _rule(_known(rules.rules(conn), rule_id))


@operation("POST", "/rules", Permission.MANAGE_RULES, gives=Rule, takes=NewRule, status=201, refuses=(404,))
def add_rule(body: NewRule) -> Rule:
    """Add a rule. It holds for what arrives from now on."""
    wanted = rule_of(body.destination, body.device, body.modality, body.priority)
    with console().box.catalog.transaction() as tx:
        place = destinations.destination(tx, wanted.destination)
        if place is None:
            raise Unknown("there is no such destination", hint="list the destinations to see their names")
        wanted = replace(wanted, destination_id=place.id)
        number = rules.add_rule(tx, wanted)
        matched = {"device": wanted.device or "", "modality": wanted.modality or ""}
        console().record(tx, "rule:add", wanted.destination, forms.actor(), matched)
    return _rule(replace(wanted, id=number))


@operation("DELETE", "/rules/{rule_id}", Permission.MANAGE_RULES, status=204)
def remove_rule(rule_id: int) -> None:
    """Remove a rule. What it made owed stays owed."""
    with console().box.catalog.transaction() as tx:
        found = _known(rules.rules(tx), rule_id)
        rules.remove_rule(tx, found.id)
        console().record(tx, "rule:remove", found.destination, forms.actor(), {"rule": rule_id})


OPERATIONS = (list_rules, get_rule, add_rule, remove_rule)


def _known(kept: tuple[Kept, ...], rule_id: int) -> Kept:
    for each in kept:
        if each.id == rule_id:
            return each
    raise Unknown("there is no such rule", hint="list the rules to see their numbers")


def _rule(each: Kept) -> Rule:
    return Rule(each.id, each.destination, each.device or None, each.modality or None, each.priority)
