"""Where boxes and whoever looks after them leave documents for each other: a folder, or a bucket. For the latter's side.

::

    boxes/BOX.json     the last heartbeat of each box (`appliance.fleet.heartbeat`), written by the box
    wanted/BOX.json    what is wanted of it (`appliance.fleet.wanted`), written here

A folder serves a machine that takes heartbeats by HTTPS and answers each with what is wanted of that box; a bucket needs no
machine at all.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from appliance.errors import OperatorNeeded, Unknown
from appliance.fleet import heartbeat, wanted

if TYPE_CHECKING:
    from appliance.replication.destinations.s3 import S3Destination

BOXES, WANTED = "boxes/", "wanted/"
SUFFIX = ".json"
MOST_BYTES = max(heartbeat.MOST_BYTES, wanted.MOST_BYTES) + 1


class Board(Protocol):
    """What both can do."""

    def read(self, name: str) -> bytes:
        """What lies under `name`, cut off behind `MOST_BYTES`, one more than any document has; empty if nothing does."""

    def write(self, name: str, data: bytes) -> None:
        """Lay `data` under `name`, whole or not at all."""

    def boxes(self) -> tuple[str, ...]:
        """The names of the boxes of which there is a heartbeat."""


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder of this machine."""

    path: Path

    def read(self, name: str) -> bytes:
        """See `Board`."""
        try:
            with (self.path / name).open("rb") as file:
                return file.read(MOST_BYTES)
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise _unusable(self.path, error) from error

    def write(self, name: str, data: bytes) -> None:
        """See `Board`."""
        final = self.path / name
        part = final.with_name(f".{final.name}.part")
        try:
            final.parent.mkdir(exist_ok=True)
            with part.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            part.replace(final)
        except OSError as error:
            raise _unusable(self.path, error) from error

    def boxes(self) -> tuple[str, ...]:
        """See `Board`."""
        return tuple(sorted(each.stem for each in (self.path / BOXES).glob(f"[!.]*{SUFFIX}")))


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket, and what the names of its objects begin with."""

    store: S3Destination
    prefix: str

    def read(self, name: str) -> bytes:
        """See `Board`."""
        try:
            return self.store.beginning(self.prefix + name, MOST_BYTES)
        except Unknown:
            return b""

    def write(self, name: str, data: bytes) -> None:
        """See `Board`."""
        self.store.put_document(self.prefix + name, data)

    def boxes(self) -> tuple[str, ...]:
        """See `Board`."""
        below = self.prefix + BOXES
        found = (each.key.removeprefix(below) for each in self.store.documents(below))
        return tuple(sorted(each.removesuffix(SUFFIX) for each in found if each.endswith(SUFFIX)))


def board(place: str, *, region: str = "ca-central-1", endpoint_url: str = "") -> Board:
    """The board at `place`: a folder, or ``s3://BUCKET/PREFIX`` with the cloud account of the environment."""
    if not place.startswith("s3://"):
        return Folder(Path(place))
    from appliance.replication.destinations.s3 import (
        S3Destination,
    )  # takes a second, and is asked for once a box

    bucket, _, prefix = place.removeprefix("s3://").strip("/").partition("/")
    return Bucket(S3Destination(bucket, region, endpoint_url), f"{prefix}/" if prefix else "")


def _unusable(path: Path, error: OSError) -> OperatorNeeded:
    return OperatorNeeded(
        f"{path} cannot be used ({error.strerror})", hint="name a folder that you may write to"
    )
