"""The places where sealed copies are, as the setup's forms and its file of answers name them: to lay copies there, or to restore from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from appliance.errors import Refused
from appliance.model import DestinationKind, DestinationSettings
from appliance.replication.destinations.vault import VaultDestination

KINDS: Final[Mapping[str, DestinationKind]] = {
    "bucket": "s3",
    "server": "sftp",
    "share": "smb",
    "disk": "vault",
}
"""The words for a bucket, a file server, a share, and a disk or share that is mounted."""

_MOUNTED_BELOW: Final = ("/media", "/mnt", "/run/media", "/srv")


@dataclass(frozen=True, slots=True)
class Mounted:
    """A folder on a disk or a share, and whether it holds what a box has laid there."""

    path: str
    is_archive: bool


def mounted() -> tuple[Mounted, ...]:
    """What is mounted that could hold sealed copies: those that do first."""
    roots = {
        Path(each.mountpoint)
        for each in psutil.disk_partitions(all=True)
        if any(
            each.mountpoint.startswith(f"{below}/") or each.mountpoint == below for below in _MOUNTED_BELOW
        )
    }
    found = [each for root in roots for each in _folders(root)]
    return tuple(sorted(found, key=lambda each: (not each.is_archive, each.path)))


def _folders(root: Path) -> list[Mounted]:
    """The mount point itself, and those folders right below it that a box has used."""
    try:
        inside = [each for each in sorted(root.iterdir())[:200] if each.is_dir()]
    except OSError:  # it is there and can't be read: not for this
        return []
    below = [Mounted(str(each), is_archive=True) for each in inside if _is_archive(each)]
    return below or [Mounted(str(root), _is_archive(root))]


def _is_archive(folder: Path) -> bool:
    try:
        return bool(VaultDestination.mark_of(folder)) or (folder / "keys" / "root.recovery").is_file()
    except OSError:
        return False


def bucket(
    *, name: str, region: str, access_key_id: str, endpoint_url: str, canadian: bool, secret: str
) -> DestinationSettings:
    """A bucket in Canada. Raises `Refused`."""
    if not name or not region:
        raise Refused("a field is empty that must not be", hint="fill in all the fields")
    options: dict[str, str | int | bool] = {"bucket": name, "region": region}
    if access_key_id:
        options["access_key_id"] = access_key_id
    if endpoint_url:
        options["endpoint_url"] = endpoint_url
    if canadian:
        options["canadian"] = True
    return DestinationSettings("cloud", "s3", "ciphertext", options, secret)


def disk(path: str) -> DestinationSettings:
    """A disk or a share that is mounted, with its mark if it has one. Raises `Refused`."""
    if not path.startswith("/"):
        raise Refused(
            "that is no folder of this box",
            hint="choose the disk from the list, or type its whole path",
            field="path",
        )
    options: dict[str, str | int | bool] = {"path": path}
    if mark := VaultDestination.mark_of(Path(path)):
        options["mark"] = mark
    return DestinationSettings("disk", "vault", "ciphertext", options)


def server(*, address: str, port: int, folder: str, user: str, secret: str) -> DestinationSettings:
    """A file server that the box comes in at by a password; nobody has compared its key yet. Raises `Refused`."""
    if not (address and folder and user):
        raise Refused("a field is empty that must not be", hint="fill in all the fields")
    options: dict[str, str | int | bool] = {
        "address": address,
        "port": port,
        "folder": folder,
        "user": user,
        "login": "password",
    }
    return DestinationSettings("nas", "sftp", "ciphertext", options, secret)


def share(
    *, address: str, port: int, share: str, folder: str, user: str, domain: str, secret: str
) -> DestinationSettings:
    """A share of a file server. Raises `Refused`."""
    if not (address and share and user):
        raise Refused("a field is empty that must not be", hint="fill in all the fields")
    told = {"address": address, "share": share, "folder": folder, "user": user, "domain": domain}
    options: dict[str, str | int | bool] = {name: value for name, value in told.items() if value}
    options["port"] = port
    return DestinationSettings("share", "smb", "ciphertext", options, secret)
