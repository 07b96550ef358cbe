"""Devices: the machines that may send, and those that were seen at the door."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from appliance.catalog import Reading, Transaction, devices
from appliance.configuration import device_of
from appliance.dicom import scu
from appliance.dicom.door import plain_address
from appliance.errors import Refused, Unknown
from appliance.identity.permissions import Permission
from appliance.model import Device as Kept
from appliance.web import forms
from appliance.web.api.operation import operation, unchanged
from appliance.web.api.shape import Row, Shape
from appliance.web.console import console, now

ADDRESS = (
    r"^(((25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])[.]){3}(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
    r"|([0-9a-f]{1,4}:){7}[0-9a-f]{1,4}|([0-9a-f]{1,4}:){1,5}:[0-9a-f]{1,4})$"
)
Title = Annotated[
    str,
    Shape("Its AE title (PS3.5 6.2).", example="PANO1", shortest=1, longest=16, pattern=r"^[!-\[\]-~]+$"),
]
Label = Annotated[str, Shape("As people call it.", example="Room 2", longest=64, pattern=r"^[ -~]*$")]
Port = Annotated[int | None, Shape("Where it listens, if it does.", example=104, least=1, most=65535)]


@dataclass(frozen=True, slots=True)
class Device:
    """A machine that may send: AE title and address together."""

    id: Row
    ae_title: str
    address: str
    name: str
    port: int | None
    last_seen_utc: datetime | None


@dataclass(frozen=True, slots=True)
class Devices:
    """All machines that may send."""

    items: tuple[Device, ...]


@dataclass(frozen=True, slots=True)
class NewDevice:
    """A machine to be admitted."""

    ae_title: Title
    address: Annotated[
        str, Shape("Its IP address.", example="192.168.1.40", shortest=2, longest=39, pattern=ADDRESS)
    ]
    name: Label = ""
    port: Port = None


@dataclass(frozen=True, slots=True)
class DeviceChange:
    """Another name or port; AE title and address are what a machine is."""

    name: Label = ""
    port: Port = None


@dataclass(frozen=True, slots=True)
class Visitor:
    """A caller that was refused because nobody has admitted it."""

    ae_title: str
    address: str
    first_seen_utc: datetime
    last_seen_utc: datetime
    calls: int


@dataclass(frozen=True, slots=True)
class Door:
    """Who was seen at the door, the latest first."""

    items: tuple[Visitor, ...]


@dataclass(frozen=True, slots=True)
class Echo:
    """A machine's answer to C-ECHO."""

    seconds: Annotated[float, Shape("How long it took.", example=0.012)]


@operation("GET", "/devices", Permission.VIEW_DEVICES, gives=Devices)
def list_devices() -> Devices:
    """List the machines that may send."""
    with console().box.catalog.reading() as conn:
        return Devices(tuple(_shown(conn, each) for each in devices.devices(conn)))


@operation("GET", "/devices/{device_id}", Permission.VIEW_DEVICES, gives=Device, is_tagged=True)
def get_device(device_id: int) -> Device:
    """Get one machine."""
    with console().box.catalog.reading() as conn:
        return _shown(conn, _known(conn, device_id))


@operation(
    "POST", "/devices", Permission.MANAGE_DEVICES, gives=Device, takes=NewDevice, status=201, refuses=(422,)
)
def add_device(body: NewDevice) -> Device:
    """Admit a machine, one that was seen at the door or another."""
    wanted = device_of(body.ae_title, plain_address(body.address), body.name, body.port)
    with console().box.catalog.transaction() as tx:
        if any(
            (each.ae_title, each.address) == (wanted.ae_title, wanted.address) for each in devices.devices(tx)
        ):
            raise Refused("that machine is admitted already", hint="change it instead")
        added = _put(tx, wanted, "device:add")
        return _shown(tx, added)


@operation(
    "PUT",
    "/devices/{device_id}",
    Permission.MANAGE_DEVICES,
    gives=Device,
    takes=DeviceChange,
    is_tagged=True,
    is_guarded=True,
)
def change_device(device_id: int, body: DeviceChange) -> Device:
    """Change the name and port of a machine."""
    with console().box.catalog.transaction() as tx:
        before = _known(tx, device_id)
        unchanged(_shown(tx, before))
        wanted = device_of(before.ae_title, before.address, body.name, body.port)
        return _shown(tx, _put(tx, wanted, "device:change"))


@operation("DELETE", "/devices/{device_id}", Permission.MANAGE_DEVICES, status=204, is_careful=True)
def remove_device(device_id: int) -> None:
    """Let a machine send no more; what it sent stays."""
    with console().box.catalog.transaction() as tx:
        found = _known(tx, device_id)
        devices.remove_device(tx, found.ae_title, found.address)
        console().record(tx, "device:remove", f"{found.ae_title}@{found.address}", forms.actor())


@operation("POST", "/devices/{device_id}/echo", Permission.MANAGE_DEVICES, gives=Echo, refuses=(422,))
def echo_device(device_id: int) -> Echo:
    """Ask a machine whether it answers (C-ECHO, PS3.4 A.4). It waits for the other side."""
    with console().box.catalog.reading() as conn:
        found = _known(conn, device_id)
    if found.port is None:
        raise Refused("this machine's port is not known", hint="add it again with its port")
    with console().box.catalog.transaction() as tx:
        console().record(tx, "device:echo", f"{found.ae_title}@{found.address}", forms.actor())
    own = console().box.config.ae_title
    return Echo(round(scu.echo(found.address, found.port, found.ae_title, own), 6))


@operation("GET", "/door", Permission.VIEW_DEVICES, gives=Door)
def list_visitors() -> Door:
    """List the callers that were refused because nobody has admitted them."""
    with console().box.catalog.reading() as conn:
        found = devices.visitors(conn)
    return Door(
        tuple(
            Visitor(each.ae_title, each.address, each.first_seen_utc, each.last_seen_utc, each.calls)
            for each in found
        )
    )


OPERATIONS = (
    list_devices,
    get_device,
    add_device,
    change_device,
    remove_device,
    echo_device,
    list_visitors,
)


def _put(tx: Transaction, wanted: Kept, action: str) -> Kept:
    kept = devices.add_device(tx, wanted, now())
    subject = f"{kept.ae_title}@{kept.address}"
    console().record(tx, action, subject, forms.actor(), {"name": kept.name, "port": kept.port})
    return kept


def _known(conn: Reading, device_id: int) -> Kept:
    for each in devices.devices(conn):
        if each.id == device_id:
            return each
    raise Unknown("there is no such device", hint="list the devices to see their numbers")


def _shown(conn: Reading, each: Kept) -> Device:
    seen = devices.last_seen(conn).get(each.id)
    return Device(each.id, each.ae_title, each.address, each.name, each.port, seen)
