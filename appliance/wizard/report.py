"""What the report of setting up says: gathered from the box at one moment, the same for the page and for the paper."""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pydicom
import pynetdicom

from appliance import __version__, certificates, health, settings
from appliance.box import Box
from appliance.catalog import database, destinations, people
from appliance.certificates import Installed
from appliance.model import DestinationSettings
from appliance.store import keys
from appliance.wizard import machines, progress, runs, trial
from appliance.wizard.checks import Finding
from appliance.wizard.machines import Standing
from appliance.wizard.progress import Progress
from appliance.wizard.runs import Run
from appliance.wizard.steps import Place
from appliance.wizard.trial import Seen


@dataclass(frozen=True, slots=True)
class Report:
    """Everything, unworded; no secret and no patient is in it."""

    at_utc: datetime
    who: str
    clinic: Mapping[str, Any]
    places: tuple[Place, ...]
    findings: tuple[Finding, ...]
    trial: Run | None
    seen: Seen | None
    machines: tuple[Standing, ...]
    destinations: tuple[DestinationSettings, ...]
    certificate: Installed | None
    recovery_confirmed: str
    seal: str
    people: tuple[tuple[str, str], ...]
    versions: tuple[tuple[str, str], ...]
    ae_title: str
    dicom_port: int
    problems: tuple[tuple[str, str], ...]
    progress: Progress


def gather(box: Box, findings: tuple[Finding, ...], who: str, now: datetime) -> Report:
    """The report of `box` at `now`, made by `who`."""
    problems = health.status(box, now).problems
    with box.catalog.reading() as conn:
        return Report(
            at_utc=now,
            who=who,
            clinic=settings.get_section(conn, "clinic"),
            places=progress.plan_of(box, conn).places,
            findings=findings,
            trial=runs.latest(box, conn, trial.RUN),
            seen=trial.was_seen(conn),
            machines=machines.standings(conn),
            destinations=tuple(destinations.destinations(conn)),
            certificate=certificates.installed(conn),
            recovery_confirmed="yes" if keys.recovery_confirmed(health.keys_folder(box)) else "no",
            seal=keys.guard(health.keys_folder(box)),
            people=tuple((each.name, each.role) for each in people.people(conn)),
            versions=versions(database.cipher_version(conn)),
            ae_title=box.config.ae_title,
            dicom_port=box.config.dicom.port,
            problems=tuple((each.words, each.fix) for each in problems),
            progress=progress.read(conn),
        )


def versions(cipher: str) -> tuple[tuple[str, str], ...]:
    """Name and version of what the box is made of; `cipher` is the catalog's."""
    return (
        ("Clinic Box", __version__),
        ("Python", ".".join(map(str, sys.version_info[:3]))),
        ("pynetdicom", pynetdicom.__version__),
        ("pydicom", pydicom.__version__),
        ("SQLCipher", cipher),
        (platform.system(), platform.release()),
    )
