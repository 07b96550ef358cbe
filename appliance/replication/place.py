"""Where an archive is, told from its options: whether two are one place, and what a person calls it. Pure.

A disk is known by its mark, wherever it is mounted, and a bucket of AWS by its name and region, whichever of the addresses of AWS it is
asked at. Of another server nothing tells that two addresses are one machine's: what lies there may have been copied, each file with
its name. So two addresses are two places.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from appliance.model import DestinationKind

_OPTIONS: Final = (
    "bucket",
    "endpoint_url",
    "region",
    "path",
    "mark",
    "address",
    "port",
    "share",
    "folder",
    "user",
)
"""The options of an archive that say where it is."""

_OF_AWS: Final = ".amazonaws.com"
_ON_PREMISES: Final = "outposts"
"""In the host of a store of AWS that stands at a customer's: its buckets are its own."""


def place_of(options: Mapping[str, Any]) -> str:
    """Where an archive is, in a word that is compared with another. A disk is known by its mark, wherever it is mounted."""
    known = {name: options.get(name) for name in _OPTIONS}
    known["endpoint_url"] = _endpoint(known["endpoint_url"])
    return str(known["mark"] or json.dumps([known[name] for name in _OPTIONS]))


def is_same_place(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether an archive is where it was, by its options before and after."""
    return place_of(one) == place_of(other)


def where(kind: DestinationKind, options: Mapping[str, Any]) -> str:
    """Where an archive is, for people, in no language; nothing in it is secret."""

    def told(name: str) -> str:
        return str(options.get(name) or "")

    match kind:
        case "s3":
            return f"{told('bucket')} · {told('endpoint_url') or told('region')}"
        case "sftp":
            return f"{told('address')} · {told('folder')}"
        case "smb":
            return "\\".join(("", "", *filter(None, (told("address"), told("share"), told("folder")))))
        case _:
            return told("path")


def _endpoint(url: Any) -> Any:
    """An address of a store as it is compared: None for the ones of AWS, which all lead to the same bucket."""
    if not isinstance(url, str) or not url.strip():
        return None
    try:
        parts = urlsplit(url.strip())
    except ValueError:
        return url
    host = parts.hostname or ""
    if host.endswith(_OF_AWS) and _ON_PREMISES not in host:
        return None
    return parts._replace(netloc=parts.netloc.lower(), path=parts.path.rstrip("/")).geturl()
