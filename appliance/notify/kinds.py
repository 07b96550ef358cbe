"""What a person can be told of: the kinds of notices, and the rule by which each is raised, as one readable table. Pure.

Chosen: a notice is named by its *kind*, and what leaves the box (e-mail, webhook, the pop-up of a browser) is the fixed
title of the kind with its subject, an identifier such as a destination's name. Because: a title that is fixed cannot
name a patient. Rejected: sending the words of the problem, which are safe today and only as long as everybody who ever
writes a health check remembers it; they are shown in the console, to people who have signed in.

A clinic may change each rule (`AlertRule`), kind by kind; what it hasn't changed follows the table, so that a better
default arrives with an update.

A version that is left again leaves notices of kinds that the one before does not know. They have the rule and the title of
``other`` there, or one such notice would end every alarm of the box.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from appliance.errors import Refused


class Severity(StrEnum):
    """How much a notice wants: to be acknowledged now, to be dealt with, to be known."""

    CRITICAL = "critical"
    WARNING = "warning"
    INFORMATION = "information"


RANK: Mapping[Severity, int] = MappingProxyType(
    {Severity.CRITICAL: 2, Severity.WARNING: 1, Severity.INFORMATION: 0}
)


class Topic(StrEnum):
    """What a notice is about, as a person chooses what to hear of."""

    STORAGE = "storage"
    DELIVERY = "delivery"
    BACKUP = "backup"
    MACHINE = "machine"
    ACCESS = "access"
    PATIENTS = "patients"
    DEVICES = "devices"


class Channel(StrEnum):
    """How a notice reaches somebody. `WEBHOOK` is the clinic's, not a person's: chat, SMS gateways, other systems."""

    BELL = "bell"
    MAIL = "mail"
    WEBHOOK = "webhook"


ALL_CHANNELS = (Channel.BELL, Channel.MAIL, Channel.WEBHOOK)
OWNERS = ("owner",)
PRIVACY = ("owner", "privacy_officer")
UPKEEP = ("owner", "technician")
CLINIC = ("owner", "practitioner", "technician")

OTHER = "other"
"""The kind of what nobody foresaw, and of what only another version knows."""

_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
LONGEST_SECONDS = 30 * _DAY


@dataclass(frozen=True, slots=True)
class AlertRule:
    """When a notice of `kind` is raised, and who hears of it.

    `delay_seconds`: how long the trouble must have stood. `calm_seconds`: how long it must have been gone before it is
    over; less than that is flapping, and counts as standing. `repeat_seconds`: how often it is said again while it
    stands, 0 for never. `roles` and `persons` (logins) hear of it, by those of `channels` that they have chosen.
    """

    kind: str
    topic: Topic
    severity: Severity
    delay_seconds: int = 0
    calm_seconds: int = 120
    repeat_seconds: int = _DAY
    roles: tuple[str, ...] = UPKEEP
    persons: tuple[str, ...] = ()
    channels: tuple[Channel, ...] = ALL_CHANNELS
    enabled: bool = True


_C, _W, _I = Severity.CRITICAL, Severity.WARNING, Severity.INFORMATION

RULES: Mapping[str, AlertRule] = MappingProxyType(
    {
        rule.kind: rule
        for rule in (
            AlertRule("disk-full", Topic.STORAGE, _C, roles=CLINIC, repeat_seconds=_HOUR),
            AlertRule("disk-low", Topic.STORAGE, _W, delay_seconds=_MINUTE, calm_seconds=10 * _MINUTE),
            AlertRule("mass-loss", Topic.STORAGE, _C, roles=PRIVACY, calm_seconds=0, repeat_seconds=_HOUR),
            AlertRule("guard-by-hand", Topic.STORAGE, _W, roles=PRIVACY, calm_seconds=0),
            AlertRule("damaged", Topic.STORAGE, _C, roles=PRIVACY),
            AlertRule("bucket-altered", Topic.ACCESS, _C, roles=("owner", "privacy_officer", "technician")),
            AlertRule("protection-lost", Topic.ACCESS, _W),
            AlertRule("set-aside", Topic.STORAGE, _C),
            AlertRule("catalog", Topic.STORAGE, _C, repeat_seconds=_HOUR),
            AlertRule("catalog-damaged", Topic.STORAGE, _C),
            AlertRule("disk-unreadable", Topic.STORAGE, _C),
            AlertRule("read-again-late", Topic.STORAGE, _W, delay_seconds=_HOUR, repeat_seconds=7 * _DAY),
            AlertRule("destination-down", Topic.DELIVERY, _W, delay_seconds=5 * _MINUTE, calm_seconds=2 * _MINUTE),
            AlertRule("delivery-late", Topic.DELIVERY, _W, calm_seconds=5 * _MINUTE),
            AlertRule("delivery-failed", Topic.DELIVERY, _W),
            AlertRule("destination-paused", Topic.DELIVERY, _I, delay_seconds=_HOUR, repeat_seconds=0),
            AlertRule("backup-late", Topic.BACKUP, _W, roles=OWNERS, delay_seconds=_HOUR),
            AlertRule("drill-late", Topic.BACKUP, _W, roles=OWNERS, delay_seconds=_HOUR, repeat_seconds=7 * _DAY),
            AlertRule("recovery-key", Topic.BACKUP, _W, roles=OWNERS, delay_seconds=_HOUR, repeat_seconds=_DAY),
            AlertRule("recovery-slot", Topic.BACKUP, _W, roles=OWNERS),
            AlertRule("process-stopped", Topic.MACHINE, _C, delay_seconds=30, calm_seconds=30, repeat_seconds=_HOUR),
            AlertRule("process-weak", Topic.MACHINE, _W, delay_seconds=5 * _MINUTE),
            AlertRule("job", Topic.MACHINE, _W, delay_seconds=5 * _MINUTE, calm_seconds=15 * _MINUTE),
            AlertRule("clock", Topic.MACHINE, _W, delay_seconds=5 * _MINUTE),
            AlertRule("certificate", Topic.MACHINE, _W, calm_seconds=_HOUR),
            AlertRule("machine-seal", Topic.MACHINE, _I, roles=OWNERS, delay_seconds=_DAY, repeat_seconds=0),
            AlertRule("setup", Topic.MACHINE, _I, roles=OWNERS, delay_seconds=_DAY, repeat_seconds=0),
            AlertRule("message-failed", Topic.MACHINE, _W, roles=OWNERS, channels=(Channel.BELL,)),
            AlertRule("update-failed", Topic.MACHINE, _W, delay_seconds=_MINUTE, repeat_seconds=7 * _DAY),
            AlertRule("update-waiting", Topic.MACHINE, _I, delay_seconds=_MINUTE, repeat_seconds=0),
            AlertRule("update-by-hand", Topic.MACHINE, _W, delay_seconds=_MINUTE, repeat_seconds=7 * _DAY),
            AlertRule("updates-unseen", Topic.MACHINE, _W, delay_seconds=_MINUTE, repeat_seconds=7 * _DAY),
            AlertRule("heartbeats-stopped", Topic.MACHINE, _W, delay_seconds=_MINUTE, repeat_seconds=7 * _DAY),
            AlertRule(OTHER, Topic.MACHINE, _W, delay_seconds=_MINUTE),
            AlertRule("audit-altered", Topic.ACCESS, _C, roles=PRIVACY),
            AlertRule("break-glass", Topic.ACCESS, _C, roles=PRIVACY),
            AlertRule("failed-sign-ins", Topic.ACCESS, _W, roles=PRIVACY, calm_seconds=_HOUR),
            AlertRule("destruction-asked", Topic.PATIENTS, _W, roles=PRIVACY),
            AlertRule("destruction-approved", Topic.PATIENTS, _W, roles=PRIVACY),
            AlertRule("destruction-ended", Topic.PATIENTS, _I, roles=PRIVACY),
            AlertRule("destruction-found", Topic.PATIENTS, _I, roles=PRIVACY),
            AlertRule("study-returned", Topic.PATIENTS, _W, roles=PRIVACY),
            AlertRule("patient-conflict", Topic.PATIENTS, _W, roles=CLINIC),
            AlertRule("duplicates", Topic.PATIENTS, _W, roles=CLINIC, repeat_seconds=7 * _DAY),
            AlertRule("device-silent", Topic.DEVICES, _W, calm_seconds=0),
            AlertRule("unknown-device", Topic.DEVICES, _I, calm_seconds=0, repeat_seconds=0),
            AlertRule("test", Topic.MACHINE, _I, repeat_seconds=0),
        )
    }
)  # fmt: skip
"""Every kind, with its rule as delivered."""

OF_ACCOUNTS: Mapping[str, AlertRule] = MappingProxyType(
    {
        rule.kind: rule
        for rule in (
            AlertRule("account-changed", Topic.ACCESS, _W, roles=(), channels=(Channel.BELL, Channel.MAIL)),
            AlertRule("account-opened", Topic.ACCESS, _W, roles=(), channels=(Channel.BELL, Channel.MAIL)),
            AlertRule("account-tried", Topic.ACCESS, _W, roles=(), channels=(Channel.BELL, Channel.MAIL)),
        )
    }
)
"""What the person concerned is told about the own account: no clinic can switch it off, and nobody else hears of it."""

_OF_CODE: Mapping[str, str] = MappingProxyType(
    {
        "box": "catalog",
        "audit": "audit-altered",
        "audit-rolled-back": "audit-altered",
        "version-chosen": "updates-unseen",
        "order-lapsed": "updates-unseen",
        "index-unread": "read-again-late",
        "bucket-unasked": "read-again-late",
        "bucket-unlisted": "read-again-late",
        "bucket-lacks": "damaged",
        "manifests-unread": "damaged",
        "protection-untold": "protection-lost",
        "no-devices": "setup",
        "no-rules": "setup",
    }
)
_OF_WORD: tuple[tuple[str, str], ...] = (
    ("-stopped", "process-stopped"),
    ("-weak", "process-weak"),
    ("disk-full", "disk-full"),
    ("disk", "disk-low"),
    ("storage", "disk-low"),
    ("backup", "backup-late"),
    ("drill", "drill-late"),
    ("certificate", "certificate"),
    ("clock", "clock"),
    ("sign-in", "failed-sign-ins"),
    ("log-in", "failed-sign-ins"),
    ("silent", "device-silent"),
    ("silence", "device-silent"),
    ("queue", "delivery-late"),
)


def kind_of(code: str) -> str:
    """The kind of a problem of `appliance.health`. One that nobody foresaw is ``other``: it is never left unsaid."""
    if code in RULES:
        return code
    if code in _OF_CODE:
        return _OF_CODE[code]
    return next((kind for word, kind in _OF_WORD if word in code), OTHER)


def rule_for(kind: str, changes: Mapping[str, Any] | None = None) -> AlertRule:
    """The rule of `kind` with what the clinic has changed; a change that is no longer understood is left out.

    A kind that only another version knows has that of ``other``.
    """
    rule = RULES.get(kind) or replace(RULES[OTHER], kind=kind)
    if not changes:
        return rule
    try:
        return changed(rule, changes)
    except Refused:
        return rule


def severity_of(word: str) -> Severity:
    """The severity that a notice bears; a warning where only another version knows it."""
    return Severity(word) if word in tuple(Severity) else Severity.WARNING


def topic_of(word: str) -> Topic:
    """The same of its topic; of the machine where only another version knows it."""
    return Topic(word) if word in tuple(Topic) else Topic.MACHINE


def changed(rule: AlertRule, changes: Mapping[str, Any], *, roles: Collection[str] = ()) -> AlertRule:
    """`rule` with `changes` of a form or a file, each checked; `roles` are those there are, unless empty.

    Raises `Refused` for what a rule can't be. A critical notice always rings the bell.
    """
    values: dict[str, Any] = {}
    for name, value in changes.items():
        match name:
            case "enabled" if isinstance(value, bool):
                values[name] = value
            case "severity" if value in tuple(Severity):
                values[name] = Severity(value)
            case "delay_seconds" | "calm_seconds" | "repeat_seconds" if _is_seconds(value):
                values[name] = value
            case "roles" | "persons" if _are_words(value):
                values[name] = tuple(value)
            case "channels" if _are_words(value) and set(value) <= set(Channel):
                values[name] = tuple(each for each in Channel if each in value)
            case _:
                raise Refused("that is not a rule for an alert", hint="use the choices that the page offers")
    new = replace(rule, **values)
    if roles and not set(new.roles) <= set(roles):
        raise Refused("that is not a rule for an alert", hint="use the choices that the page offers")
    if new.enabled and not (new.roles or new.persons):
        raise Refused("nobody would hear of this", hint="choose at least one role, or switch the alert off")
    if new.severity is Severity.CRITICAL and Channel.BELL not in new.channels:
        raise Refused("a critical alert must ring the bell", hint="keep the bell, or choose another severity")
    return new


def differences(rule: AlertRule, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `changes`, as a form or a program sends them, that make another rule of the delivered one; to be kept.

    `rule` is the delivered one with all of `changes`.
    """
    delivered = RULES[rule.kind]
    return {name: value for name, value in changes.items() if getattr(rule, name) != getattr(delivered, name)}


def _is_seconds(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LONGEST_SECONDS


def _are_words(value: object) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(each, str) and each for each in value)
