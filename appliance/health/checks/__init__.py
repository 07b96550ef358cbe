"""One check a file: a pure judgement over the facts, its codes beside it. The order here is that of equals on a page.

A new check is a file with `CODES` and `check`, a line below, a section in the help, and its cases in the tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from appliance.health.checks import (
    anchors,
    audit,
    audit_feed,
    backup_age,
    catalog,
    certificates,
    clock,
    damage,
    destructions,
    disk,
    drill_age,
    duplicates,
    freeze,
    heartbeats,
    holds,
    machine_seal,
    patient_conflicts,
    protections,
    queue_age,
    reachability,
    read_again_age,
    recovery_key,
    refused_deliveries,
    secure_boot,
    services,
    set_aside,
    setting_up,
    sign_ins,
    silence,
    updates,
    upkeep,
)
from appliance.health.facts import Facts
from appliance.health.problem import Problem

Check = Callable[[Facts], Iterator[Problem]]

_MODULES = (
    catalog,
    disk,
    services,
    set_aside,
    patient_conflicts,
    freeze,
    holds,
    destructions,
    damage,
    read_again_age,
    audit,
    anchors,
    protections,
    reachability,
    refused_deliveries,
    queue_age,
    recovery_key,
    machine_seal,
    secure_boot,
    backup_age,
    drill_age,
    certificates,
    sign_ins,
    audit_feed,
    upkeep,
    updates,
    heartbeats,
    silence,
    duplicates,
    clock,
    setting_up,
)

CHECKS: tuple[Check, ...] = tuple(module.check for module in _MODULES)
CODES: tuple[str, ...] = tuple(code for module in _MODULES for code in module.CODES)
"""Every code that a check can give."""
