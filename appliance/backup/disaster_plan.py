"""The disaster recovery plan: what whoever finds the box gone must know, gathered from how this box really is.

It names places, machines, people and what the last restore drill measured; no secret (no key, no access key, not even its id)
and nothing of a patient is in it, because it is printed and lies in a drawer elsewhere. What cannot be known from the box (where
it stands, who has the recovery key, whom to call) the clinic says in its settings.

How long a restore from an archive would take is worked out from the last drill of that archive that passed, which fetched a whole backup
and brought a sample of images back over the very line that a restore would use. A drill of one says nothing of another: a disk on the table
is a hundred times as fast as a line to the cloud. Chose the slower of two ways of reckoning, by images and by bytes, and to add the pace at
which a restored box brings images home and the longest wait for what lies in deep archive, because a sample of small images says
little of large ones, and an estimate that is too long harms nobody.

An archive may hold backups and no image: a restore from there brings the images from the archives that the backup names, and so did its drill.
The plan names those with the times, which are theirs, and counts what lies in deep archive there.

After a theft or a fire the archives that are elsewhere come first: a disk, and a server that only the clinic's own network knows, burn with the
box. A public name or address says nothing of where a server stands, since the clinic's own can have one: only a known cloud is believed. What
is paused comes before what stands beside the box: of two disks used in turn it is the one that is unplugged and somewhere else.

Where an archive has no backup yet, the study manifests there are enough for a restore (`restoring`), though neither people nor settings come
back. It is named with what it has, after every backup; one that has neither is no way to restore.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from appliance import __version__, certificates
from appliance import settings as chosen
from appliance.backup import drill, homecoming, making
from appliance.backup.drill import Certificate
from appliance.box import Box
from appliance.catalog import Reading, destinations, devices, manifests, settings, stored, totals
from appliance.catalog.totals import Totals
from appliance.errors import ApplianceError
from appliance.lifecycle.storage_class import DEEP, Tier, hours_by
from appliance.model import DestinationKind, DestinationSettings, Device
from appliance.replication import recall
from appliance.store import keys
from appliance.store.keys import Guard
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

HOME_AT_ONCE: Final = 200
HOME_EVERY_SECONDS: Final = 30
"""How many images a restored box brings home at most (`homecoming.bringing_home`), and how often (duty ``recall``)."""

_INSIDE: Final = (".local", ".lan", ".home", ".internal", ".localdomain", ".home.arpa")
"""How the names end that only a network of one's own knows."""

_CLOUDS: Final = (
    ".amazonaws.com",
    ".api.aws",
    ".backblazeb2.com",
    ".wasabisys.com",
    ".cloud.ovh.net",
    ".googleapis.com",
    ".r2.cloudflarestorage.com",
    ".oraclecloud.com",
    ".cloud-object-storage.appdomain.cloud",
    ".digitaloceanspaces.com",
    ".linodeobjects.com",
    ".vultrobjects.com",
)
"""How the names end under which the providers of cloud storage answer, and nobody's own server."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a restore from an archive would take, in seconds: until its index is fetched and opened, and until all images are home.

    The box is in service some time after the index is open: what was kept since the backup is read, and the box starts. `all_home_seconds`
    is None where no image was measured, and has the wait for what lies in deep archive in it.
    """

    index_seconds: float
    all_home_seconds: float | None


@dataclass(frozen=True, slots=True)
class Tried:
    """The latest drill of an archive; `found` is None where it did not come to an end, the archive being away for instance.

    `reason` is what the drill has recorded as wrong, empty where nothing was. `has_reached` is whether it got as far as a backup: one that
    was damaged then has failed, and was not merely out of reach.
    """

    at_utc: datetime
    found: Certificate | None
    reason: str = ""
    has_reached: bool = True

    @property
    def passed(self) -> bool:
        return self.found is not None and self.found.passed


@dataclass(frozen=True, slots=True)
class Place:
    """A destination: where it is, and for an archive, when it last took a backup, its latest drill, and what a restore from it takes.

    `wait_hours` is how long is waited at most for what lies in deep archive; 0 where nothing is known to. `images_from` names the archives
    that its drill had the images from, where it holds none itself. `studies` is of how many a manifest lies there, counted where there
    is no backup.
    """

    name: str
    kind: DestinationKind
    where: Mapping[str, str]
    is_archive: bool
    paused: bool
    backed_up_utc: datetime | None = None
    tried: Tried | None = None
    estimate: Estimate | None = None
    wait_hours: int = 0
    images_from: tuple[str, ...] = ()
    studies: int = 0

    @property
    def is_elsewhere(self) -> bool:
        """Whether it is out of reach of a theft or a fire in the clinic: storage of a known cloud."""
        return self.kind == "s3" and (not self._host or self._host.endswith(_CLOUDS))

    @property
    def may_be_elsewhere(self) -> bool:
        """Whether it may be, and its address does not tell: a server of a public name or address, in the clinic or not."""
        return self.kind in {"s3", "sftp"} and not self.is_elsewhere and _is_outside(self._host)

    @property
    def _host(self) -> str:
        """Whom the box asks, in small letters; empty for a bucket at AWS itself."""
        if self.kind != "s3":
            return self.where.get("address", "").rstrip(".").lower()
        url = self.where.get("endpoint_url", "")
        return (urlsplit(url if "//" in url else f"//{url}").hostname or "").rstrip(".")


def _is_outside(host: str) -> bool:
    """Whether an address, or a name, is of the Internet rather than of a network of one's own."""
    try:
        return ipaddress.ip_address(host.strip("[]").partition("%")[0]).is_global
    except ValueError:
        name = host.rstrip(".").lower()
        return "." in name and not name.endswith(_INSIDE)


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
    seal: Guard | None
    """What keeps a stolen disk shut: who tells of the theft says whether it can be read. None where the seal is gone, and so opens nothing."""
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

    @property
    def ways(self) -> tuple[Place, ...]:
        """The archives that have a backup to restore from, that with the newest first, but for what is `set_aside`."""
        aside = self.set_aside
        return tuple(each for each in self.archives if each.backed_up_utc and each not in aside)

    @property
    def set_aside(self) -> tuple[Place, ...]:
        """The paused archives whose backup is older than the newest of those in use: it lacks what has come since."""
        newest = max(
            (each.backed_up_utc for each in self.archives if each.backed_up_utc and not each.paused),
            default=None,
        )
        return tuple(
            each
            for each in self.archives
            if newest and each.paused and each.backed_up_utc and each.backed_up_utc < newest
        )

    @property
    def written_down(self) -> tuple[Place, ...]:
        """The archives without a backup from whose study manifests the images come back, that with the most studies first."""
        found = [each for each in self.archives if not each.backed_up_utc and each.studies]
        return tuple(sorted(found, key=lambda each: each.studies, reverse=True))

    def are_elsewhere(self, names: Sequence[str]) -> bool:
        """Whether each of the places called so is out of reach of a theft or a fire; what is not known by that name any more is not."""
        safe = {each.name for each in self.places if each.is_elsewhere}
        return safe.issuperset(names)


def elsewhere_first(places: Sequence[Place]) -> tuple[Place, ...]:
    """`places` in the order in which they are tried after a theft or a fire, else as they are: where there is a backup first. Pure."""
    return tuple(sorted(places, key=_distance))


def _distance(of: Place) -> tuple[bool, bool, bool]:
    return of.backed_up_utc is None, not of.is_elsewhere, not (of.may_be_elsewhere or of.paused)


def gather(box: Box, who: str, now: datetime) -> Plan:
    """The plan of `box` at `now`, made for `who`."""
    folder = box.config.data.absolute() / "keys"
    with box.catalog.reading() as conn:
        drills = drill.certificates(conn, box)
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
            places=tuple(_place(conn, box, each, drills, kept) for each in destinations.destinations(conn)),
            kept=kept,
            recovery_confirmed=keys.recovery_confirmed(folder),
            seal=_guard(folder),
            system=system(),
        )


def _guard(folder: Path) -> Guard | None:
    """The plan is needed most where something is broken: what is wrong with the seal, health says."""
    try:
        return keys.guard(folder)
    except ApplianceError:
        return None


def estimate(measured: Certificate, instances: int, size_bytes: int, wait_hours: int = 0) -> Estimate:
    """What a restore of `instances` images of `size_bytes` would take, by what a drill has measured; what lies deep comes within `wait_hours`.

    Pure. The box asks for all of that in one pass, and fetches it in another (`homecoming`).
    """
    if not measured.sampled or not measured.sampled_bytes:
        return Estimate(measured.catalog_seconds, None)
    by_image = measured.sample_seconds * instances / measured.sampled
    by_byte = measured.sample_seconds * size_bytes / measured.sampled_bytes
    between = -(-instances // HOME_AT_ONCE) * HOME_EVERY_SECONDS
    home = measured.catalog_seconds + max(by_image, by_byte) + between
    if wait_hours:
        home += between + wait_hours * 3600 + homecoming.AGAIN_AFTER.total_seconds()
    return Estimate(measured.catalog_seconds, home)


def _place(
    conn: Reading, box: Box, of: DestinationSettings, drills: Sequence[Certificate], kept: Totals
) -> Place:
    where = {name: str(of.options[name]) for name in NAMED if of.options.get(name)}
    if of.takes != "ciphertext":
        return Place(of.name, of.kind, where, is_archive=False, paused=of.paused)
    told: dict[str, Any] = settings.get(conn, f"{making.LAST}.{of.name}", {})
    since = told.get("succeeded_utc")
    tried, measured = _drilled(
        of.name, drill.last(conn, box, of.name), [each for each in drills if each.archive == of.name]
    )
    images_from = measured.sources if measured is not None else ()
    wait_hours = _wait_hours(conn, of, tried, measured)
    return Place(
        name=of.name,
        kind=of.kind,
        where=where,
        is_archive=True,
        paused=of.paused,
        backed_up_utc=datetime.fromisoformat(since) if since else None,
        tried=tried,
        estimate=None if measured is None else estimate(measured, kept.instances, kept.bytes, wait_hours),
        wait_hours=wait_hours,
        images_from=images_from,
        studies=0 if since else manifests.count_written(conn, of.id),
    )


def _drilled(
    name: str, told: Mapping[str, Any], drills: Sequence[Certificate]
) -> tuple[Tried | None, Certificate | None]:
    """The latest drill of the archive `name`, and the last that has measured something, by the record of how the latest went and the
    certificates of that name. Pure.

    Only those count that the record knows of: it begins anew where an archive moves or is added again under its old name. One that
    failed for nothing but that every image of it lies deep has measured the index.
    """
    if not told:
        return None, None
    found = {each.at_utc: each for each in drills}
    latest = found.get(told["at_utc"])
    tried = None
    if latest is not None or told["outcome"] != "succeeded":
        tried = Tried(
            at_utc=datetime.fromisoformat(told["at_utc"]),
            found=latest,
            reason=str(told.get("reason") or "").removeprefix(f"{name}: "),
            has_reached=latest is not None or (told.get("tried") or {}).get("at_utc") == told["at_utc"],
        )
    if latest is not None and latest.resting and latest.is_whole:
        return tried, latest
    return tried, found.get(told.get("succeeded_utc") or "")


def _wait_hours(
    conn: Reading, of: DestinationSettings, tried: Tried | None, measured: Certificate | None
) -> int:
    """How long is waited at most for what lies in deep archive, by the clinic's way of fetching it; 0 where nothing does.

    What the box has let sink counts beside the samples, which may have met none of it: in the archive itself, and in those that the
    samples came from where it holds no image.
    """
    samples = [each for each in (measured, None if tried is None else tried.found) if each is not None]
    names = {of.name, *(name for each in samples for name in each.sources)}
    asked = [each for each in destinations.destinations(conn) if each.name in names and each.kind == "s3"]
    met = any(each.resting for each in samples)
    if not met and not any(stored.bytes_by_tier(conn, each.id).get(Tier.DEEP) for each in asked):
        return 0
    return hours_by(recall.retrieval(conn), DEEP.wait_hours)
