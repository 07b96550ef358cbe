"""The PIN that the box's own disk asks for at each start: whether it does, choosing one, and taking it away. And whether the box's
screen shows the disk's recovery key, which no answer of this interface ever holds."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal

from appliance import disk_key, disk_pin
from appliance.identity.permissions import Permission
from appliance.web import forms
from appliance.web.api.operation import operation
from appliance.web.api.shape import Shape
from appliance.web.console import console, now


@dataclass(frozen=True, slots=True)
class DiskPin:
    """How the disk opens at a start. No PIN is told."""

    state: Annotated[
        Literal["elsewhere", "none", "wanted", "unfinished"],
        Shape(
            "`elsewhere`: this machine has no such disk. `unfinished`: the last change was cut, and what opened the disk before does."
        ),
    ]
    latest: Annotated[
        Literal["never", "running", "done", "key", "chip", "refused"],
        Shape(
            "What became of what was asked for last, since the box started. `key`: what was typed is not the disk's recovery key. "
            "`chip`: the TPM2 or the disk did not take it. `refused`: the system did not."
        ),
    ]


@dataclass(frozen=True, slots=True)
class NewDiskPin:
    """The PIN, and the proof that it may be forgotten."""

    pin: Annotated[str, Shape("6 to 12 digits, neither all the same nor a run.", longest=12, is_secret=True)]
    disk_recovery_key: Annotated[
        str,
        Shape(
            "Eight groups of eight letters; the box's screen showed it until the box had an owner.",
            longest=200,
            is_secret=True,
        ),
    ]


@dataclass(frozen=True, slots=True)
class DiskKeyShown:
    """Whether the box's own screen shows the recovery key of its disk. The key itself is told nowhere else."""

    until_utc: Annotated[datetime | None, Shape("null while it isn't shown.")]


@operation("GET", "/disk-pin", Permission.MANAGE_KEYS, gives=DiskPin)
def get_disk_pin() -> DiskPin:
    """Get whether the disk asks for a PIN at a start, and what became of the latest change."""
    return _disk_pin()


@operation(
    "POST",
    "/disk-pin",
    Permission.MANAGE_KEYS,
    gives=DiskPin,
    status=202,
    takes=NewDiskPin,
    refuses=(422,),
    is_careful=True,
)
def choose_disk_pin(body: NewDiskPin) -> DiskPin:
    """Let the disk ask for a PIN at each start, or for another one. From then on somebody must be at the box whenever it starts.

    422 for what is no PIN or no recovery key, on a machine without such a disk, and while a change is under way. Whether the
    recovery key is the disk's is found out afterwards: `latest` says it.
    """
    entry = console().entry("pin:choose", disk_pin.SUBJECT, forms.actor())
    disk_pin.choose(console().box, entry, body.pin, body.disk_recovery_key, now())
    return _disk_pin()


@operation(
    "POST",
    "/disk-pin/remove",
    Permission.MANAGE_KEYS,
    gives=DiskPin,
    status=202,
    refuses=(422,),
    is_careful=True,
)
def remove_disk_pin() -> DiskPin:
    """Let the disk open by this machine alone again. 422 on a machine without such a disk, and while a change is under way."""
    entry = console().entry("pin:remove", disk_pin.SUBJECT, forms.actor())
    disk_pin.remove(console().box, entry, now())
    return _disk_pin()


@operation("GET", "/disk-key", Permission.MANAGE_KEYS, gives=DiskKeyShown)
def get_disk_key() -> DiskKeyShown:
    """Get whether the box's screen shows the recovery key of its disk, and until when."""
    with console().box.catalog.reading() as conn:
        return DiskKeyShown(disk_key.shown_until(conn, now()))


@operation(
    "POST",
    "/disk-key/show",
    Permission.MANAGE_KEYS,
    gives=DiskKeyShown,
    status=200,
    refuses=(422,),
    is_careful=True,
)
def show_disk_key() -> DiskKeyShown:
    """Let the box's screen show the recovery key of its disk for ten minutes, to whoever stands before it.

    422 on a machine without such a disk.
    """
    entry = console().entry("disk:show-key", disk_pin.SUBJECT, forms.actor())
    return DiskKeyShown(disk_key.show(console().box, entry, now()))


@operation("POST", "/disk-key/hide", Permission.MANAGE_KEYS, gives=DiskKeyShown, status=200)
def hide_disk_key() -> DiskKeyShown:
    """Take it off the screen before its time. Twice is as once."""
    entry = console().entry("disk:hide-key", disk_pin.SUBJECT, forms.actor())
    disk_key.hide(console().box, entry, now())
    return DiskKeyShown(None)


OPERATIONS = (get_disk_pin, choose_disk_pin, remove_disk_pin, get_disk_key, show_disk_key, hide_disk_key)


def _disk_pin() -> DiskPin:
    found = disk_pin.seen()
    if found is None:
        return DiskPin("elsewhere", "never")
    if disk_pin.is_under_way(found):
        return DiskPin(found.state.value, "running")
    return DiskPin(found.state.value, found.ended.value if found.ended else "never")
