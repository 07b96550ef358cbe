"""What the clinic decides of alerts: their rules, who hears next of what is critical."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from flask import Blueprint, Response, g
from werkzeug.wrappers import Response as AnyResponse

from appliance.catalog import alerts
from appliance.errors import Refused, Unknown
from appliance.identity.permissions import Permission
from appliance.notify import escalation, judging
from appliance.notify.escalation import Step
from appliance.notify.kinds import RULES, AlertRule, Channel, Severity, changed, differences, rule_for
from appliance.web import forms
from appliance.web.access import needs
from appliance.web.console import Notice, console, now
from appliance.web.hearers import LISTENING, logins
from appliance.web.language import Words
from appliance.web.pages import Page, page_of, show

blueprint = Blueprint("alerts", __name__, url_prefix="/notices")

STEPS = escalation.MOST_STEPS


@dataclass(frozen=True, slots=True)
class RuleLine:
    """A rule as its form shows it; `open` when it was sent and not kept."""

    kind: str
    title: str
    topic: str
    severity: str
    severity_words: str
    tone: str
    enabled: bool
    delay_minutes: str
    repeat_hours: str
    roles: tuple[str, ...]
    persons: str
    channels: tuple[str, ...]
    is_changed: bool
    seen: str
    open: bool = False


@dataclass(frozen=True, slots=True)
class StepLine:
    """A step of the escalation; `minutes` is empty for one that isn't there."""

    minutes: str
    roles: tuple[str, ...]
    channels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AlertsPage(Page):
    """All rules, and the escalation; `faults` what somebody else has made meanwhile of what was typed, where that was so."""

    rules: tuple[RuleLine, ...]
    steps: tuple[StepLine, ...]
    roles: tuple[str, ...]
    severities: tuple[str, ...]
    channels: tuple[str, ...]
    seen: str
    faults: tuple[tuple[str, str, str], ...]
    error: str
    tab: str = "alerts"


@blueprint.get("/alerts")
@needs(Permission.VIEW_SETTINGS)
def rules() -> Response:
    """All rules, by topic."""
    return _rules()


@blueprint.post("/alerts/<kind>")
@needs(Permission.CHANGE_SETTINGS)
def change_rule(kind: str) -> AnyResponse:
    """Change one rule, or let it follow the delivered one again."""
    if kind not in RULES:
        raise Unknown("there is no such alert", hint="go back to the alerts")
    moment = now()
    delivered = RULES[kind]
    changes: dict[str, Any] = {}
    try:
        if forms.text("reset") != "1":
            asked: dict[str, Any] = {
                "enabled": forms.text("enabled") == "1",
                "severity": forms.text("severity"),
                "delay_seconds": _seconds(forms.text("delay_minutes"), 60, delivered.delay_seconds),
                "repeat_seconds": _seconds(forms.text("repeat_hours"), 3600, delivered.repeat_seconds),
                "roles": [str(role) for role in LISTENING if forms.text(f"role.{role}") == "1"],
                "persons": _logins(forms.text("persons")),
                "channels": [str(each) for each in Channel if forms.text(f"channel.{each}") == "1"],
            }
            rule = changed(delivered, asked, roles=[*LISTENING, *delivered.roles])
            changes = differences(rule, asked)
        with console().box.catalog.transaction() as tx:
            forms.check_unchanged(alerts.changes(tx).get(kind))
            alerts.change_rule(tx, kind, changes, moment)
            console().record(tx, "alert:change", kind, forms.actor(), changes)
    except Refused as refusal:
        return _rules(forms.explain(refusal), forms.status_of(refusal), kind=kind)
    forms.say(Notice("good", g.words("alerts.kept")))
    return forms.back_to("/notices/alerts")


@blueprint.post("/escalation")
@needs(Permission.CHANGE_SETTINGS)
def change_escalation() -> AnyResponse:
    """Change who hears next of what nobody has acknowledged."""
    moment = now()
    typed = []
    for number in range(STEPS):
        minutes = forms.text(f"{number}.minutes")
        if minutes:
            typed.append(
                {
                    "after_seconds": forms.whole(minutes, low=0, high=10**6, default=0) * 60,
                    "roles": [str(role) for role in LISTENING if forms.text(f"{number}.role.{role}") == "1"],
                    "channels": [
                        str(each) for each in Channel if forms.text(f"{number}.channel.{each}") == "1"
                    ],
                }
            )
    try:
        steps = escalation.parse(typed, roles=LISTENING)
        with console().box.catalog.transaction() as tx:
            forms.check_unchanged(escalation.as_value(judging.chain(tx)))
            judging.change_chain(tx, steps, moment)
            details = {"steps": escalation.as_value(steps)}
            console().record(tx, "escalation:change", judging.ESCALATION, forms.actor(), details)
    except Refused as refusal:
        return _rules(forms.explain(refusal), forms.status_of(refusal), steps=_typed_steps())
    forms.say(Notice("good", g.words("alerts.escalation_kept")))
    return forms.back_to("/notices/alerts")


def _rules(
    error: str = "", status: int = 200, *, kind: str = "", steps: tuple[StepLine, ...] | None = None
) -> Response:
    """The page; the rule `kind` and `steps` are as they were typed."""
    with console().box.catalog.reading() as conn:
        changes, chain = alerts.changes(conn), judging.chain(conn)
    lines = {
        each: _rule_line(rule_for(each, changes.get(each)), changes.get(each))
        for each in RULES
        if each != "test"
    }
    true_steps, made_of = _step_lines(chain), escalation.as_value(chain)
    faults: tuple[tuple[str, str, str], ...] = ()
    if kind in lines:
        true_rule = lines[kind]
        lines[kind] = replace(_typed_rule(true_rule), seen=forms.mark_again(changes.get(kind), status))
        faults = _rule_meanwhile(lines[kind], true_rule, g.words) if status == 409 else ()
    elif steps is not None and status == 409:
        faults = _steps_meanwhile(steps, true_steps, g.words)
    page = page_of(
        AlertsPage,
        title=g.words("notices.title"),
        rules=tuple(lines.values()),
        steps=true_steps if steps is None else steps,
        roles=LISTENING,
        severities=tuple(Severity),
        channels=tuple(Channel),
        seen=forms.mark(made_of) if steps is None else forms.mark_again(made_of, status),
        faults=faults,
        error=error,
    )
    return show("notice-alerts.html", page, status)


def _typed_rule(line: RuleLine) -> RuleLine:
    """`line` with what was typed in its place."""
    return replace(
        line,
        enabled=forms.text("enabled") == "1",
        severity=forms.text("severity"),
        delay_minutes=forms.text("delay_minutes"),
        repeat_hours=forms.text("repeat_hours"),
        roles=tuple(str(role) for role in LISTENING if forms.text(f"role.{role}") == "1"),
        persons=forms.text("persons"),
        channels=tuple(str(each) for each in Channel if forms.text(f"channel.{each}") == "1"),
        open=True,
    )


def _typed_steps() -> tuple[StepLine, ...]:
    return tuple(
        StepLine(
            forms.text(f"{number}.minutes"),
            tuple(str(role) for role in LISTENING if forms.text(f"{number}.role.{role}") == "1"),
            tuple(str(each) for each in Channel if forms.text(f"{number}.channel.{each}") == "1"),
        )
        for number in range(STEPS)
    )


def _rule_meanwhile(typed: RuleLine, true: RuleLine, words: Words) -> tuple[tuple[str, str, str], ...]:
    """What is recorded of a rule where it isn't what was typed: the control, its label, and what is true now."""

    def on(line: RuleLine) -> str:
        return str(words("settings.yes" if line.enabled else "settings.no"))

    def roles(line: RuleLine) -> str:
        return str(words.several([words(f"role.{each}") for each in LISTENING if each in line.roles]))

    def by(line: RuleLine) -> str:
        return str(words.several([words(f"channel.{each}") for each in Channel if each in line.channels]))

    pairs = (
        ("enabled", "alerts.enabled", on(typed), on(true)),
        ("severity", "notices.severity", typed.severity, true.severity),
        ("delay", "alerts.delay", typed.delay_minutes, true.delay_minutes),
        ("repeat", "alerts.repeat", typed.repeat_hours, true.repeat_hours),
        ("roles", "alerts.who", roles(typed), roles(true)),
        ("persons", "alerts.persons", typed.persons, true.persons),
        ("channels", "alerts.how", by(typed), by(true)),
    )
    return tuple(
        (
            f"{typed.kind}-{part}",
            words(label),
            _is_now(true.severity_words if part == "severity" else said, words),
        )
        for part, label, mine, said in pairs
        if mine != said
    )


def _steps_meanwhile(
    typed: tuple[StepLine, ...], true: tuple[StepLine, ...], words: Words
) -> tuple[tuple[str, str, str], ...]:
    """The same for the escalation, a step each."""
    return tuple(
        (f"step-{number}", words("alerts.step", number=number), _is_now(_step_said(now_, words), words))
        for number, (mine, now_) in enumerate(zip(typed, true, strict=True), 1)
        if _step_said(mine, words) != _step_said(now_, words)
    )


def _step_said(step: StepLine, words: Words) -> str:
    if not step.minutes:
        return ""
    roles = words.several([words(f"role.{each}") for each in LISTENING if each in step.roles])
    by = words.several([words(f"channel.{each}") for each in Channel if each in step.channels])
    return str(words("alerts.step_said", minutes=step.minutes, roles=roles, channels=by))


def _is_now(said: str, words: Words) -> str:
    return str(words("settings.is_now", value=said or words("settings.empty")))


def _rule_line(rule: AlertRule, kept: Mapping[str, Any] | None) -> RuleLine:
    tone = {Severity.CRITICAL: "bad", Severity.WARNING: "wait"}.get(rule.severity, "")
    return RuleLine(
        kind=rule.kind,
        title=g.words(f"notice.{rule.kind}"),
        topic=rule.topic,
        severity=rule.severity,
        severity_words=g.words(f"severity.{rule.severity}"),
        tone=tone,
        enabled=rule.enabled,
        delay_minutes=f"{rule.delay_seconds / 60:g}",
        repeat_hours=f"{rule.repeat_seconds / 3600:g}",
        roles=rule.roles,
        persons=", ".join(rule.persons),
        channels=tuple(rule.channels),
        is_changed=kept is not None,
        seen=forms.mark(kept),
    )


def _step_lines(chain: Sequence[Step]) -> tuple[StepLine, ...]:
    lines = [
        StepLine(f"{step.after_seconds // 60}", step.roles, tuple(step.channels)) for step in chain[:STEPS]
    ]
    empty = StepLine("", (), tuple(Channel))
    return tuple(lines + [empty] * (STEPS - len(lines)))


def _seconds(typed: str, unit: int, default: int) -> int:
    number = forms.decimal(typed.replace(",", "."), low=0, high=10**6)
    return default if number is None else round(number * unit)


def _logins(typed: str) -> list[str]:
    with console().box.catalog.reading() as conn:
        return logins(conn, typed.split(","))
