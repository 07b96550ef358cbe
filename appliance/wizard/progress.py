"""What was answered so far, kept the moment it is given: a reload, a restart or a power cut loses nothing.

Answers live where they belong (settings, devices, destinations); kept here are only what was left for later, what was
typed and not yet accepted, and when setting up was finished. Evidence is read from the box itself, never remembered.

The setting ``setup`` of the catalog, JSON: ``later`` (step → hour), ``drafts`` (step → field → text, never a secret),
``finished`` (hour and who), ``seen`` (who has looked at the test image, and when).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from appliance import certificates, health
from appliance import settings as operator
from appliance.box import Box
from appliance.catalog import Reading, Transaction, destinations, devices, people, rules, settings
from appliance.identity import policy
from appliance.identity.roles import Role
from appliance.store import keys
from appliance.wizard import runs, trial
from appliance.wizard.steps import Plan, Step, plan

_SETTING: Final = "setup"


@dataclass(frozen=True, slots=True)
class Finished:
    """Setting up was finished by `who`."""

    at_utc: datetime
    who: str


@dataclass(frozen=True, slots=True)
class Progress:
    """What is kept of setting up."""

    later: Mapping[Step, datetime] = field(default_factory=dict)
    drafts: Mapping[Step, Mapping[str, str]] = field(default_factory=dict)
    finished: Finished | None = None

    def draft(self, step: Step) -> Mapping[str, str]:
        """What was typed on `step` and not accepted yet."""
        return self.drafts.get(step, {})


def read(reading: Reading) -> Progress:
    """The progress of this box; of a blank one, nothing."""
    kept = settings.get(reading, _SETTING, {})
    known = {each.value: each for each in Step}
    finished = kept.get("finished")
    return Progress(
        later={
            known[word]: datetime.fromisoformat(at)
            for word, at in kept.get("later", {}).items()
            if word in known
        },
        drafts={known[word]: typed for word, typed in kept.get("drafts", {}).items() if word in known},
        finished=Finished(datetime.fromisoformat(finished["at"]), finished["who"]) if finished else None,
    )


def leave_for_later(tx: Transaction, step: Step, now: datetime) -> None:
    """Go on without `step`; it stays on the list."""
    _change(tx, now, lambda kept: kept["later"].update({step.value: now.isoformat()}))


def take_up(tx: Transaction, step: Step, now: datetime) -> None:
    """`step` is not left for later any more, and what was typed is accepted."""

    def change(kept: dict[str, Any]) -> None:
        kept["later"].pop(step.value, None)
        kept["drafts"].pop(step.value, None)

    _change(tx, now, change)


def keep_draft(tx: Transaction, step: Step, typed: Mapping[str, str], now: datetime) -> None:
    """Keep what was typed on `step` until it is accepted. Never give it a secret."""
    _change(tx, now, lambda kept: kept["drafts"].update({step.value: dict(typed)}))


def finish(tx: Transaction, who: str, now: datetime) -> None:
    """Setting up is finished."""
    _change(tx, now, lambda kept: kept.update(finished={"at": now.isoformat(), "who": who}))


def plan_of(box: Box, reading: Reading) -> Plan:
    """Where setting up `box` stands."""
    return plan(evidence(box, reading), read(reading).later.keys())


def evidence(box: Box, reading: Reading) -> frozenset[Step]:
    """The steps that the box itself shows to be done."""
    if not people.anybody(reading):
        return frozenset()
    done = {Step.WELCOME, Step.LANGUAGE, Step.CLAIM}
    if operator.get(reading, "clinic.name") and operator.get(reading, "clinic.privacy_officer_name"):
        done.add(Step.CLINIC)
    if certificates.installed(reading) is not None:
        done.add(Step.NETWORK)
    if any(
        each.role == Role.OWNER and policy.has_second_factor(reading, each.id)
        for each in people.people(reading)
    ):
        done.add(Step.ACCOUNT)
    if keys.recovery_confirmed(health.keys_folder(box)):
        done.add(Step.RECOVERY)
    fed = {each.destination_id for each in rules.rules(reading)}
    if any(each.takes == "ciphertext" and each.id in fed for each in destinations.destinations(reading)):
        done.add(Step.STORAGE)
    if any(each.ae_title != trial.CALLING for each in devices.devices(reading)):
        done.add(Step.DEVICES)
    if len(people.people(reading)) > 1:
        done.add(Step.USERS)
    found = runs.latest(box, reading, trial.RUN)
    if found is not None and found.passed and trial.kept(reading) is not None and trial.was_seen(reading):
        done.add(Step.TRIAL)
    if read(reading).finished is not None:
        done.add(Step.REPORT)
    return frozenset(done)


def _change(tx: Transaction, now: datetime, change: Any) -> None:
    kept: dict[str, Any] = {"later": {}, "drafts": {}} | settings.get(tx, _SETTING, {})
    change(kept)
    settings.put(tx, _SETTING, kept, now)
