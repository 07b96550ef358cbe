"""What opens a destination, by its kind: whether it needs a secret, and whether one that was given holds for another place. Pure.

A secret that was typed for one place is never sent to another one because somebody has changed an address: where what is
named here differs, it has to be typed again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from appliance.model import DestinationKind, DestinationSettings

BELONGS_TO: Final[Mapping[DestinationKind, tuple[str, ...]]] = {
    "s3": ("access_key_id",),
    "sftp": ("user", "login", "host_key"),
    "smb": ("address", "port", "user", "domain", "server_name"),
}
"""The options that a secret belongs to. An SFTP server is known by its key, wherever it is; one of SMB shows none."""


def needs_secret(settings: DestinationSettings) -> bool:
    """Whether it has to have a secret: a password, a private key, or what goes with an access key."""
    match settings.kind:
        case "s3":
            return bool(settings.options.get("access_key_id"))
        case "sftp" | "smb":
            return True
        case _:
            return False


def is_same(before: DestinationSettings, now: DestinationSettings) -> bool:
    """Whether the secret of `before` may be used for `now`."""
    which = BELONGS_TO.get(now.kind, ())
    return before.kind == now.kind and all(
        before.options.get(name) == now.options.get(name) for name in which
    )
