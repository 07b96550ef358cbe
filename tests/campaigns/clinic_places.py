"""What a world of random histories consists of: images, disks as our own account has them, and the blank clinic it begins as."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from appliance.backup import snapshot
from appliance.box import Box, open_box
from appliance.catalog import destinations, rules
from appliance.config import Config, CourierConfig
from appliance.lifecycle.request import Method
from appliance.model import DestinationSettings, KeyId, ObjectId, Rule, Uid
from appliance.replication.destinations import Archive, Document, prepare
from appliance.store import keys
from tests.boxes import config_in
from tests.instances import Instance

SHELVES = ("usb", "nas")
KEEP = timedelta(days=35)
SIDE = 16
"""Of each image, in pixels: large enough that no two images show the same."""
ERA = timedelta(days=61 * 366)
"""How far a jump of years goes: everything that was here before is due then, whatever its rule."""


@dataclass(frozen=True)
class Kept:
    """An image that was kept of a study without whoever it is of, as it was found: from then on it is an image like any other."""

    study: int
    study_instance_uid: Uid
    sop_instance_uid: Uid
    data_set: bytes


@dataclass(frozen=True)
class Image:
    """An acknowledged image, as it lies under one name; `first` if it was the first of its UID."""

    object_id: ObjectId
    key_id: KeyId
    sent: Instance | Kept
    era: int = 0
    first: bool = False

    @property
    def study(self) -> int:
        return self.sent.study

    @cached_property
    def data_set(self) -> bytes:
        """What was sent, made once: it is compared again and again."""
        return self.sent.data_set


@dataclass(frozen=True)
class Remembered:
    """What a backup remembers, by our own account."""

    images: frozenset[ObjectId]
    holds: dict[int, frozenset[int]]
    receipts: dict[str, set[ObjectId]]
    owed: dict[str, set[ObjectId]]
    gone: frozenset[ObjectId]
    known: frozenset[str]
    away: frozenset[ObjectId]
    owing: dict[KeyId, frozenset[str]]


@dataclass(frozen=True)
class Request:
    """What two people have decided to destroy, as it was then, and until when that stands."""

    studies: dict[int, frozenset[ObjectId]]
    until: datetime
    method: Method


@dataclass
class Shelf:
    """A disk: which objects lie on it whole, which its manifests name, what is destroyed there, which backups it has, and the
    numbers of the papers that may open it: that under which it was last delivered to, those of the backups since, and that of each box
    that was cut while it wrote there.
    One that was pulled out may name more, those that are `vague`. `spared`: the keys whose
    destruction has reached it, so that what lay there beside came back. `ended`: those that the box in service knows as destroyed, and
    that can't be opened there any more since all its certificates are complete. `apart`: a root key lies there that the box in service never had, since it came back from the other disk, which
    had been away when the key was rotated. Such a disk may be another box's to it: it says so, and lays nothing there; or the box
    knows it again, by a manifest from before the rotation or since there is none, and then it takes manifests as it gives receipts."""

    plugged: bool = True
    papers: set[int] = field(default_factory=lambda: {0})
    whole: set[ObjectId] = field(default_factory=set)
    named: set[ObjectId] = field(default_factory=set)
    vague: set[ObjectId] = field(default_factory=set)
    apart: bool = False
    buried: set[KeyId] = field(default_factory=set)
    done: set[KeyId] = field(default_factory=set)
    ended: set[KeyId] = field(default_factory=set)
    spared: set[KeyId] = field(default_factory=set)
    backups: dict[str, Remembered] = field(default_factory=dict)


def prepare_template(folder: Path) -> None:
    """Make the blank clinic that every world begins as a copy of, once: a new box costs half a second."""
    if (folder / "template").exists():
        return
    here = folder / "world"
    for name in SHELVES:
        (here / name).mkdir(parents=True)
    box = open_box(config_of(here / "box-0"))
    paper = keys.show_recovery(here / "box-0" / "keys", box.root)
    keys.check_recovery(here / "box-0" / "keys", box.root, str(paper))
    for name in SHELVES:
        add_shelf(box, here, name)
    box.close()
    (folder / "paper").write_text(str(paper))
    here.rename(folder / "template")


def copied(objects: Mapping[str, set[ObjectId]]) -> dict[str, set[ObjectId]]:
    """Objects by shelf, as they are now."""
    return {name: set(each) for name, each in objects.items()}


def config_of(data: Path) -> Config:
    return replace(config_in(data), courier=CourierConfig(workers_per_destination=0))


def place_of(here: Path, name: str) -> DestinationSettings:
    return prepare(DestinationSettings(name, "vault", "ciphertext", {"path": str(here / name)}))


def add_shelf(box: Box, here: Path, name: str) -> None:
    place = place_of(here, name)
    with box.catalog.transaction() as tx:
        number = destinations.add(tx, place)
        rules.add_rule(tx, Rule(number, name, place.takes))


class WithoutBackups:
    """An archive whose backups nobody finds: only its manifests are left."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive

    def documents(self, prefix: str) -> Iterator[Document]:
        if prefix != snapshot.PREFIX:
            yield from self._archive.documents(prefix)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._archive, name)


def flip(path: Path, at: int) -> None:
    """Turn one bit of a file over."""
    data = bytearray(path.read_bytes())
    place = at % (8 * len(data))
    data[place // 8] ^= 1 << place % 8
    path.write_bytes(data)
