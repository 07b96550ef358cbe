"""The machines that may send, and those seen at the door."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from flask import Blueprint, Response, g
from werkzeug.wrappers import Response as AnyResponse

from appliance.catalog import devices
from appliance.dicom import scu
from appliance.dicom.door import plain_address
from appliance.errors import ApplianceError, Refused, Unknown
from appliance.identity.permissions import Permission
from appliance.model import Device, ae_title
from appliance.web import forms
from appliance.web.access import needs, reauthenticated
from appliance.web.console import Notice, console, now
from appliance.web.pages import Page, is_partial, page_of, show

blueprint = Blueprint("devices", __name__, url_prefix="/devices")


@dataclass(frozen=True, slots=True)
class DeviceLine:
    """A machine that may send."""

    id: int
    ae_title: str
    address: str
    name: str
    port: str
    last_seen: str


@dataclass(frozen=True, slots=True)
class VisitorLine:
    """A machine that was refused."""

    ae_title: str
    address: str
    calls: int
    last_seen: str


@dataclass(frozen=True, slots=True)
class Typed:
    """What was typed into the form."""

    ae_title: str = ""
    address: str = ""
    name: str = ""
    port: str = ""


@dataclass(frozen=True, slots=True)
class DevicesPage(Page):
    """Both lists, this box's own settings for a machine's screen, and the form."""

    known: tuple[DeviceLine, ...]
    visitors: tuple[VisitorLine, ...]
    own_ae_title: str
    own_port: str
    error: str
    typed: Typed


@blueprint.get("")
@needs(Permission.VIEW_DEVICES)
def listing() -> Response:
    """The page, or its lists alone."""
    return _page()


@blueprint.post("/add")
@needs(Permission.MANAGE_DEVICES)
def add() -> AnyResponse:
    """Admit a machine by what its screen says."""
    typed = Typed(forms.text("ae_title"), forms.text("address"), forms.text("name"), forms.text("port"))
    try:
        device = Device(
            ae_title(typed.ae_title), ip_address(typed.address), _name(typed.name), forms.port(typed.port)
        )
        _admit(device)
    except Refused as refusal:
        return _page(forms.explain(refusal), typed, 422)
    return forms.back_to("/devices")


@blueprint.post("/admit")
@needs(Permission.MANAGE_DEVICES)
def admit() -> AnyResponse:
    """Admit a machine that was seen at the door."""
    title, address = ae_title(forms.text("ae_title")), ip_address(forms.text("address"))
    with console().box.catalog.reading() as conn:
        if not any((each.ae_title, each.address) == (title, address) for each in devices.visitors(conn)):
            raise Unknown("this machine is no longer at the door", hint="let it send again, then admit it")
    _admit(Device(title, address))
    return forms.back_to("/devices")


@blueprint.post("/<int:device_id>/remove")
@needs(Permission.MANAGE_DEVICES)
@reauthenticated
def remove(device_id: int) -> AnyResponse:
    """Let a machine send no more; what it sent stays."""
    device = _known(device_id)
    with console().box.catalog.transaction() as tx:
        devices.remove_device(tx, device.ae_title, device.address)
        console().record(tx, "device:remove", f"{device.ae_title}@{device.address}", forms.actor())
    forms.say(Notice("good", g.words("devices.removed", name=device.name or device.ae_title)))
    return forms.back_to("/devices")


@blueprint.post("/<int:device_id>/echo")
@needs(Permission.MANAGE_DEVICES)
def echo(device_id: int) -> AnyResponse:
    """Ask a machine whether it answers."""
    device = _known(device_id)
    if device.port is None:
        raise Refused("this machine's port is not known", hint="add it again with its port")
    own = console().box.config.ae_title
    with console().box.catalog.transaction() as tx:
        console().record(tx, "device:echo", f"{device.ae_title}@{device.address}", forms.actor())
    try:
        seconds = scu.echo(device.address, device.port, device.ae_title, own)
    except ApplianceError as error:
        forms.say_error(error)
    else:
        milliseconds = str(max(1, round(seconds * 1000)))
        forms.say(
            Notice("good", g.words("devices.answered", name=device.name or device.ae_title, ms=milliseconds))
        )
    return forms.back_to("/devices")


def _admit(device: Device) -> None:
    moment = now()
    with console().box.catalog.transaction() as tx:
        devices.add_device(tx, device, moment)
        subject = f"{device.ae_title}@{device.address}"
        console().record(tx, "device:add", subject, forms.actor(), {"name": device.name, "port": device.port})
    forms.say(Notice("good", g.words("devices.admitted", name=device.name or device.ae_title)))


def _page(error: str = "", typed: Typed | None = None, status: int = 200) -> Response:
    with console().box.catalog.reading() as conn:
        known, visitors, seen = devices.devices(conn), devices.visitors(conn), devices.last_seen(conn)
    config = console().box.config
    page = page_of(
        DevicesPage,
        title=g.words("devices.title"),
        section="devices",
        known=tuple(
            DeviceLine(
                each.id,
                each.ae_title,
                each.address,
                each.name,
                str(each.port or ""),
                g.words.moment(seen.get(each.id)),
            )
            for each in known
        ),
        visitors=tuple(
            VisitorLine(each.ae_title, each.address, each.calls, g.words.moment(each.last_seen_utc))
            for each in visitors
        ),
        own_ae_title=config.ae_title,
        own_port=str(config.dicom.port),
        error=error,
        typed=typed or Typed(),
    )
    return show("parts/device-lists.html" if is_partial() else "devices.html", page, status)


def _known(device_id: int) -> Device:
    with console().box.catalog.reading() as conn:
        for each in devices.devices(conn):
            if each.id == device_id:
                return each
    raise Unknown("there is no such device", hint="go back to the devices")


def ip_address(text: str) -> str:
    try:
        ipaddress.ip_address(text)
    except ValueError as error:
        raise Refused(
            "that is not an IP address",
            hint="use the address on the machine's own network screen, such as 192.168.1.40",
            field="address",
        ) from error
    return plain_address(text)


def _name(text: str) -> str:
    return " ".join(text.split())[:80]
