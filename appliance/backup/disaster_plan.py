"""The disaster recovery plan: what whoever finds the box gone must know, gathered from how this box really is.

It names places, machines, people and what the last restore drill measured; no secret (no key, no access key, not even its id)
and nothing of a patient is in it, because it is printed and lies in a drawer elsewhere. What cannot be known from the box (where
it stands, who has the recovery key, whom to call) the clinic says in its settings.

How long a restore would take is worked out from the last drill that passed, which fetched a whole backup and brought a sample of
images back over the very line that a restore would use. Chose the slower of two ways of reckoning, by images and by bytes,
because a sample of small ones says little of large ones, and an estimate that is too long harms nobody.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from appliance import __version__, certificates
from appliance import settings as chosen
from appliance.backup import drill, making
from appliance.backup.drill import Certificate
from appliance.box import Box
from appliance.catalog import Reading, destinations, devices, settings, totals
from appliance.catalog.totals import Totals
from appliance.model import DestinationKind, DestinationSettings, Device
from appliance.store import keys
from appliance.system import System, system

NAMED: Final = (
    "bucket",
    "region",
    "endpoint_url",
    "ae_title",
    "host",
    "address",
    "port",
    "share",
    "path",
    "folder",
    "user",
    "domain",
    "host_key",
)
"""The options of a destination that say where it is, in this order; no other is printed."""


@dataclass(frozen=True, slots=True)
class Place:
    """A destination: where it is, and for an archive, when it last took a backup and passed a drill."""

    name: str
    kind: DestinationKind
    where: Mapping[str, str]
    is_archive: bool
    paused: bool
    backed_up_utc: datetime | None = None
    drilled: Certificate | None = None


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a restore would take, in seconds: until the box is in service, and until all its images are home."""

    in_service_seconds: float
    all_home_seconds: float | None


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that the plan says, unworded. `people` are the clinic's and the plan's own settings by key."""

    at_utc: datetime
    who: str
    version: str
    people: Mapping[str, str]
    ae_title: str
    dicom_port: int
    names: tuple[str, ...]
    addresses: tuple[str, ...]
    devices: tuple[Device, ...]
    places: tuple[Place, ...]
    kept: Totals
    recovery_confirmed: bool
    last_drill: Certificate | None
    estimate: Estimate | None
    system: System
    """Of this box: where there is a command line, a step may name it beside the console."""

    @property
    def archives(self) -> tuple[Place, ...]:
        """Where the box can be restored from, that with the newest backup first."""
        return tuple(
            sorted(
                (each for each in self.places if each.is_archive),
                key=lambda each: each.backed_up_utc.timestamp() if each.backed_up_utc else 0.0,
                reverse=True,
            )
        )


def gather(box: Box, who: str, now: datetime) -> Plan:
    """The plan of `box` at `now`, made for `who`."""
    with box.catalog.reading() as conn:
        drills = drill.certificates(conn, box)
        passed = next((each for each in drills if each.passed), None)
        kept = totals.totals(conn)
        installed = certificates.installed(conn)
        return Plan(
            at_utc=now,
            who=who,
            version=__version__,
            people={
                f"{section}.{name}": str(value)
                for section in ("clinic", "plan")
                for name, value in chosen.get_section(conn, section).items()
            },
            ae_title=str(box.config.ae_title),
            dicom_port=box.config.dicom.port,
            names=() if installed is None else installed.names,
            addresses=certificates.console_addresses(),
            devices=tuple(devices.devices(conn)),
            places=tuple(_place(conn, each, drills) for each in destinations.destinations(conn)),
            kept=kept,
            recovery_confirmed=keys.recovery_confirmed(box.config.data.absolute() / "keys"),
            last_drill=drills[0] if drills else None,
            estimate=None if passed is None else estimate(passed, kept.instances, kept.bytes),
            system=system(),
        )


def estimate(passed: Certificate, instances: int, size_bytes: int) -> Estimate:
    """What a restore of `instances` images of `size_bytes` would take, by what a drill that passed has measured."""
    if not passed.sampled or not passed.sampled_bytes:
        return Estimate(passed.catalog_seconds, None)
    by_image = passed.sample_seconds * instances / passed.sampled
    by_byte = passed.sample_seconds * size_bytes / passed.sampled_bytes
    return Estimate(passed.catalog_seconds, passed.catalog_seconds + max(by_image, by_byte))


def _place(conn: Reading, of: DestinationSettings, drills: Sequence[Certificate]) -> Place:
    is_archive = of.takes == "ciphertext"
    told: dict[str, Any] = settings.get(conn, f"{making.LAST}.{of.name}", {}) if is_archive else {}
    since = told.get("succeeded_utc")
    return Place(
        name=of.name,
        kind=of.kind,
        where={name: str(of.options[name]) for name in NAMED if of.options.get(name)},
        is_archive=is_archive,
        paused=of.paused,
        backed_up_utc=datetime.fromisoformat(since) if since else None,
        drilled=next((each for each in drills if each.archive == of.name and each.passed), None),
    )
