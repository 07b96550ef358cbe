"""The answers file of ``appliance setup``: TOML whose sections are the dataclasses below. Pure.

A key that is not known is refused with the nearest right one, because an answer that is ignored is a box that silently
is not what was asked for. No secret stands in the file: a key that ends in ``_file`` names the file that holds one, or
``-`` for standard input, of which one secret can be read.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from appliance.errors import Refused

EXAMPLE = """\
# appliance setup answers.toml — the setup wizard without a browser; run it as often as you like.
# Leave a section out, and its step is left for later. Secrets stay in files of their own (chmod 600), or "-".

[owner]                                # needed once, on a box that nobody has claimed
login = "marie"
name = "Marie Tremblay"
language = "fr"
password_file = "owner-password.txt"

[clinic]
name = "Clinique dentaire Tremblay"
address = "12, rue des Érables, Québec"
phone = "418 555-0199"
province = "QC"
time_zone = "America/Toronto"
privacy_officer_name = "Marie Tremblay"
privacy_officer_email = "marie@clinique.example"

[network]
host_name = "clinicbox"

[recovery]                             # first: appliance key show-recovery, and print it
key_file = "recovery-key.txt"          # what a person has typed from the paper

[cloud]
bucket = "my-clinic"
region = "ca-central-1"
access_key_id = "AKIA..."
secret_file = "cloud-secret.txt"
# endpoint_url = "https://s3.example.ca"
# canadian = true                      # I declare that this address keeps objects in Canada

# [disk]                               # or a copy in the clinic, or beside the bucket; only a bucket outlives a fire there
# path = "/media/backup"
#
# [server]                             # a NAS by SFTP
# address = "192.168.1.20"
# folder = "backup"
# user = "clinicbox"
# password_file = "nas-password.txt"
# fingerprint = "SHA256:..."           # of its key, as the server shows it itself
#
# [share]                              # a NAS or Windows by SMB
# address = "192.168.1.20"
# share = "backup"
# user = "clinicbox"
# password_file = "share-password.txt"

[[devices]]
ae_title = "PANO1"
address = "192.168.1.40"
name = "Panoramic, room 2"
# port = 104                           # if it answers DICOM echoes

[trial]
run = true                             # needs the appliance to run
"""


@dataclass(frozen=True, slots=True)
class OwnerAnswers:
    login: str
    name: str
    password_file: str
    language: str = "en"


@dataclass(frozen=True, slots=True)
class ClinicAnswers:
    name: str
    privacy_officer_name: str
    privacy_officer_email: str
    address: str = ""
    phone: str = ""
    province: str = "QC"
    time_zone: str = "machine"


@dataclass(frozen=True, slots=True)
class NetworkAnswers:
    host_name: str


@dataclass(frozen=True, slots=True)
class RecoveryAnswers:
    key_file: str


@dataclass(frozen=True, slots=True)
class CloudAnswers:
    bucket: str
    region: str
    access_key_id: str = ""
    secret_file: str = ""
    endpoint_url: str = ""
    canadian: bool = False


@dataclass(frozen=True, slots=True)
class DiskAnswers:
    path: str


@dataclass(frozen=True, slots=True)
class ServerAnswers:
    address: str
    folder: str
    user: str
    password_file: str
    fingerprint: str
    port: int = 22


@dataclass(frozen=True, slots=True)
class ShareAnswers:
    address: str
    share: str
    user: str
    password_file: str
    folder: str = ""
    domain: str = ""
    port: int = 445


@dataclass(frozen=True, slots=True)
class DeviceAnswers:
    ae_title: str
    address: str
    name: str = ""
    port: int = 0


@dataclass(frozen=True, slots=True)
class TrialAnswers:
    run: bool = True


@dataclass(frozen=True, slots=True)
class Answers:
    """Everything that was answered; None is left for later."""

    owner: OwnerAnswers | None = None
    clinic: ClinicAnswers | None = None
    network: NetworkAnswers | None = None
    recovery: RecoveryAnswers | None = None
    cloud: CloudAnswers | None = None
    disk: DiskAnswers | None = None
    server: ServerAnswers | None = None
    share: ShareAnswers | None = None
    devices: tuple[DeviceAnswers, ...] = ()
    trial: TrialAnswers | None = None

    @property
    def copies(self) -> bool:
        """Whether it is said where a copy goes."""
        return any((self.cloud, self.disk, self.server, self.share))


SECTIONS: Mapping[str, type[Any]] = {
    "owner": OwnerAnswers,
    "clinic": ClinicAnswers,
    "network": NetworkAnswers,
    "recovery": RecoveryAnswers,
    "cloud": CloudAnswers,
    "disk": DiskAnswers,
    "server": ServerAnswers,
    "share": ShareAnswers,
    "devices": DeviceAnswers,
    "trial": TrialAnswers,
}

A = TypeVar("A")


def parse(text: str) -> Answers:
    """The answers in `text`. Raises `Refused` naming the key, and what would be right."""
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Refused(f"the answers are not TOML: {error}", hint="correct that line") from error
    _check(found, SECTIONS, "")
    built: dict[str, Any] = {}
    for name, value in found.items():
        if name == "devices":
            if not isinstance(value, list):
                raise Refused("devices is not a list of sections", hint="write each as [[devices]]")
            built[name] = tuple(_built(DeviceAnswers, each, "devices.") for each in value)
        else:
            built[name] = _built(SECTIONS[name], value, f"{name}.")
    return Answers(**built)


def _built(kind: type[A], value: object, prefix: str) -> A:
    if not isinstance(value, Mapping):
        raise Refused(f"{prefix[:-1]} is not a section", hint=f"write it as [{prefix[:-1]}]")
    known = {each.name: each for each in fields(kind)}  # type: ignore[arg-type]  # a dataclass, by SECTIONS
    _check(value, known, prefix)
    for name, each in known.items():
        wanted = {"str": str, "int": int, "bool": bool}[str(each.type)]
        if name in value and type(value[name]) is not wanted:
            words = {str: "a text in quotes", int: "a whole number", bool: "true or false"}[wanted]
            raise Refused(f"{prefix}{name} is not {words}", hint="see: appliance setup --example")
    try:
        return kind(**value)
    except TypeError as error:
        missing = [name for name in known if name in str(error)]
        raise Refused(
            f"{prefix}{missing[0] if missing else '?'} is missing", hint="see: appliance setup --example"
        ) from error


def _check(found: Mapping[str, object], known: Mapping[str, object], prefix: str) -> None:
    for name in found:
        if name not in known:
            nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean {prefix}{nearest[0]}?" if nearest else f"known here: {', '.join(known)}"
            raise Refused(f"there is no answer {prefix}{name}", hint=hint)
