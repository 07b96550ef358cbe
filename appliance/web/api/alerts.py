"""Alerts: when a notice is raised and who hears of it, and who hears next of what is critical."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

from appliance.catalog import Reading, Transaction, alerts
from appliance.errors import Refused, Unknown
from appliance.identity.permissions import Permission
from appliance.identity.roles import Role
from appliance.notify import escalation, judging
from appliance.notify.kinds import RULES, Channel, Severity, Topic, changed, differences, rule_for
from appliance.web import forms
from appliance.web.api.operation import operation, unchanged
from appliance.web.api.shape import Shape
from appliance.web.console import console, now
from appliance.web.hearers import LISTENING, logins

Seconds = Annotated[int | None, Shape("In seconds.", example=3600, least=0, most=30 * 86_400)]


@dataclass(frozen=True, slots=True)
class Alert:
    """When a notice of this kind is raised, and who hears of it; in seconds."""

    kind: str
    topic: Topic
    severity: Severity
    enabled: bool
    delay_seconds: Annotated[int, Shape("How long the trouble must have stood.")]
    repeat_seconds: Annotated[int, Shape("How often it is said again while it stands; 0 for never.")]
    roles: tuple[str, ...]
    persons: Annotated[tuple[str, ...], Shape("Logins of people who hear of it beside those of the roles.")]
    channels: tuple[Channel, ...]
    source: Annotated[Literal["delivered", "clinic"], Shape("Whose rule it is.")]


@dataclass(frozen=True, slots=True)
class Alerts:
    """All rules."""

    items: tuple[Alert, ...]


@dataclass(frozen=True, slots=True)
class AlertChange:
    """What is to be otherwise of one rule. What is left out, or null, stays."""

    enabled: bool | None = None
    severity: Severity | None = None
    delay_seconds: Seconds = None
    repeat_seconds: Seconds = None
    roles: tuple[Role, ...] | None = None
    persons: tuple[str, ...] | None = None
    channels: tuple[Channel, ...] | None = None


@dataclass(frozen=True, slots=True)
class AlertsChange:
    """Changes by the kind of the alert; null lets a rule be as it was delivered. All of them are made, or none."""

    rules: Annotated[
        Mapping[str, AlertChange | None], Shape("By kind.", example={"disk-low": {"delay_seconds": 600}})
    ]


@dataclass(frozen=True, slots=True)
class EscalationStep:
    """So long after a critical notice was raised and nobody has acknowledged it, these hear of it, too."""

    after_minutes: Annotated[int, Shape("Minutes.", example=15, least=1, most=escalation.LONGEST_MINUTES)]
    roles: tuple[Role, ...]
    channels: tuple[Channel, ...]


@dataclass(frozen=True, slots=True)
class Escalation:
    """The steps, in the order of their minutes; none at all means that nobody hears next."""

    steps: Annotated[tuple[EscalationStep, ...], Shape(f"At most {escalation.MOST_STEPS}.")]


@operation("GET", "/alerts", Permission.VIEW_SETTINGS, gives=Alerts, is_tagged=True)
def list_alerts() -> Alerts:
    """List the rules of all alerts."""
    with console().box.catalog.reading() as conn:
        return _all(conn)


@operation(
    "PATCH",
    "/alerts",
    Permission.CHANGE_SETTINGS,
    gives=Alerts,
    takes=AlertsChange,
    is_tagged=True,
    is_guarded=True,
)
def change_alerts(body: AlertsChange) -> Alerts:
    """Change the rules of alerts, all or nothing."""
    with console().box.catalog.transaction() as tx:
        unchanged(_all(tx))
        for kind, change in body.rules.items():
            _change(tx, kind, change)
        return _all(tx)


@operation("GET", "/escalation", Permission.VIEW_SETTINGS, gives=Escalation, is_tagged=True)
def get_escalation() -> Escalation:
    """Get who hears next of what is critical, as long as nobody has acknowledged it."""
    with console().box.catalog.reading() as conn:
        return _escalation(conn)


@operation(
    "PUT",
    "/escalation",
    Permission.CHANGE_SETTINGS,
    gives=Escalation,
    takes=Escalation,
    is_tagged=True,
    is_guarded=True,
)
def change_escalation(body: Escalation) -> Escalation:
    """Change who hears next."""
    asked = [
        {
            "after_seconds": 60 * each.after_minutes,
            "roles": [str(role) for role in each.roles],
            "channels": [str(channel) for channel in each.channels],
        }
        for each in body.steps
    ]
    steps = escalation.parse(asked, roles=LISTENING)
    with console().box.catalog.transaction() as tx:
        unchanged(_escalation(tx))
        judging.change_chain(tx, steps, now())
        details = {"steps": escalation.as_value(steps)}
        console().record(tx, "escalation:change", judging.ESCALATION, forms.actor(), details)
        return _escalation(tx)


OPERATIONS = (list_alerts, change_alerts, get_escalation, change_escalation)


def _change(tx: Transaction, kind: str, change: AlertChange | None) -> None:
    if kind not in _kinds():
        raise Refused("there is no such alert", hint="list the alerts to see their kinds")
    kept: dict[str, Any] = {}
    if change is not None:
        asked = {**alerts.changes(tx).get(kind, {}), **_said(tx, change)}
        delivered = RULES[kind]
        kept = differences(changed(delivered, asked, roles=[*LISTENING, *delivered.roles]), asked)
    alerts.change_rule(tx, kind, kept, now())
    console().record(tx, "alert:change", kind, forms.actor(), kept)


def _said(conn: Reading, change: AlertChange) -> dict[str, Any]:
    """What `change` says, as it is kept."""
    given = {each.name: getattr(change, each.name) for each in fields(change)}
    said = {name: value for name, value in given.items() if value is not None}
    for name in {"roles", "channels"} & said.keys():
        said[name] = [str(each) for each in said[name]]
    if "severity" in said:
        said["severity"] = str(said["severity"])
    if "persons" in said:
        try:
            said["persons"] = logins(conn, said["persons"])
        except Unknown as error:  # what is in the address is there: it is what was sent that names nobody
            raise Refused(error.message, hint=error.hint) from error
    return said


def _kinds() -> list[str]:
    """Those that a clinic can change."""
    return [kind for kind in RULES if kind != "test"]


def _all(conn: Reading) -> Alerts:
    changes = alerts.changes(conn)
    return Alerts(tuple(_alert(kind, changes.get(kind)) for kind in _kinds()))


def _alert(kind: str, changes: Mapping[str, Any] | None) -> Alert:
    rule = rule_for(kind, changes)
    return Alert(
        kind=rule.kind,
        topic=rule.topic,
        severity=rule.severity,
        enabled=rule.enabled,
        delay_seconds=rule.delay_seconds,
        repeat_seconds=rule.repeat_seconds,
        roles=rule.roles,
        persons=rule.persons,
        channels=rule.channels,
        source="delivered" if changes is None else "clinic",
    )


def _escalation(conn: Reading) -> Escalation:
    return Escalation(
        tuple(
            EscalationStep(
                each.after_seconds // 60, tuple(Role(role) for role in each.roles), tuple(each.channels)
            )
            for each in judging.chain(conn)
        )
    )
