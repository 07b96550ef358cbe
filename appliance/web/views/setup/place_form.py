"""The form of a place where sealed copies are: a bucket, a file server, a share or a disk; for copying there, and for restoring.

Nothing of it is remembered but what was typed, and never a secret. The fields of a share have names of their own, because
all four are on one page.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from flask import g

from appliance.model import DestinationSettings
from appliance.replication.destinations import sftp, smb
from appliance.web import forms
from appliance.wizard import places

FIELDS: Final = (
    *("kind", "bucket", "region", "access_key_id", "endpoint_url", "canadian", "path"),
    *("address", "port", "folder", "user", "fingerprint"),
    *("share_address", "share_port", "share", "share_folder", "share_user", "share_domain"),
)
PRESET: Final[Mapping[str, str]] = {
    **dict.fromkeys(FIELDS, ""),
    "kind": "bucket",
    "region": "ca-central-1",
    "port": str(sftp.PORT),
    "share_port": str(smb.PORT),
}


@dataclass(frozen=True, slots=True)
class DiskLine:
    """Somewhere mounted."""

    path: str
    words: str


def disk_lines() -> tuple[DiskLine, ...]:
    """What is mounted now, in words."""
    return tuple(
        DiskLine(each.path, g.words("restore.disk_used" if each.is_archive else "restore.disk_other"))
        for each in places.mounted()
    )


def place_of(typed: Mapping[str, str]) -> DestinationSettings:
    """The place that was typed, with the secret that was typed with it. Raises `Refused`."""
    match typed["kind"]:
        case "disk":
            return places.disk(typed["path"])
        case "server":
            return places.server(
                address=typed["address"],
                port=forms.port(typed["port"]) or sftp.PORT,
                folder=typed["folder"],
                user=typed["user"],
                secret=forms.secret("password").strip(),
            )
        case "share":
            return places.share(
                address=typed["share_address"],
                port=forms.port(typed["share_port"]) or smb.PORT,
                share=typed["share"],
                folder=typed["share_folder"],
                user=typed["share_user"],
                domain=typed["share_domain"],
                secret=forms.secret("share_password").strip(),
            )
        case _:
            return places.bucket(
                name=typed["bucket"],
                region=typed["region"],
                access_key_id=typed["access_key_id"],
                endpoint_url=typed["endpoint_url"],
                canadian=typed["canadian"] == "1",
                secret=forms.secret("secret").strip(),
            )


def typed_of(place: DestinationSettings) -> dict[str, str]:
    """A place that is kept, as it would be typed."""
    word = next(word for word, kind in places.KINDS.items() if kind == place.kind)
    prefix = "share_" if word == "share" else ""
    told = {
        name if name == "share" else f"{prefix}{name}": "1" if value is True else str(value)
        for name, value in place.options.items()
    }
    return {"kind": word, **{name: value for name, value in told.items() if name in FIELDS}}
