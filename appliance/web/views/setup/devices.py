"""The machines: what to type on their screens, who knocks, the call both ways, and the first image as it comes."""

from __future__ import annotations

from dataclasses import dataclass

from flask import Response, g
from werkzeug.wrappers import Response as AnyResponse

from appliance import certificates
from appliance.catalog import devices as catalog
from appliance.errors import Refused, Unknown
from appliance.identity.permissions import Permission
from appliance.model import Device, ae_title
from appliance.web import forms
from appliance.web.access import needs
from appliance.web.console import Notice, console, now
from appliance.web.pages import is_partial, show
from appliance.web.views import devices as console_devices
from appliance.web.views.setup.frame import (
    SetupPage,
    accepted,
    blueprint,
    in_turn,
    keep_typed,
    said,
    setup_page,
    typed_before,
)
from appliance.wizard import machines
from appliance.wizard.machines import FIELDS, PRESETS, Standing
from appliance.wizard.steps import Step


@dataclass(frozen=True, slots=True)
class Light:
    """One thing proven of a machine, or not yet."""

    tone: str
    words: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class MachineLine:
    """A machine that may send. `study` and `picture` are row ids of its newest image, empty without one."""

    id: int
    name: str
    where: str
    has_port: str
    lights: tuple[Light, ...]
    study: str
    picture: str


@dataclass(frozen=True, slots=True)
class CallerLine:
    """A machine at the door."""

    ae_title: str
    address: str
    last_seen: str


@dataclass(frozen=True, slots=True)
class PresetPart:
    """One maker's program: what is known of it, and from where."""

    name: str
    title: str
    about: str
    source: str


@dataclass(frozen=True, slots=True)
class MachinesPage(SetupPage):
    """Everything of this step. `rows` are what to type: what it is, the value, and what a screen may call it."""

    rows: tuple[tuple[str, str, str], ...]
    presets: tuple[PresetPart, ...]
    callers: tuple[CallerLine, ...]
    machines: tuple[MachineLine, ...]
    typed: dict[str, str]


@blueprint.get("/devices")
@needs(Permission.MANAGE_DEVICES)
@in_turn(Step.DEVICES)
def machines_page() -> Response:
    """The page, or its live part alone."""
    return _form()


@blueprint.post("/devices/admit")
@needs(Permission.MANAGE_DEVICES)
@in_turn(Step.DEVICES)
def admit_machine() -> AnyResponse:
    """Admit a machine from the door, or by what its screen says; then call it back if its port is known."""
    typed = keep_typed(Step.DEVICES, "ae_title", "address", "name", "port")
    box, actor, moment = console().box, forms.actor(), now()
    try:
        device = Device(
            ae_title(typed["ae_title"]),
            console_devices.ip_address(typed["address"]),
            machines.plain_name(typed["name"]),
            forms.port(typed["port"]),
        )
    except Refused as refusal:
        return _form(said(refusal))
    with box.catalog.transaction() as tx:
        added = machines.admit(tx, box, device, actor, moment)
    accepted(Step.DEVICES, {"device": f"{device.ae_title}@{device.address}"})
    forms.say(Notice("good", g.words("devices.admitted", name=device.name or device.ae_title)))
    if added.port is not None:
        machines.call(box, added, actor, now())
    return forms.back_to("/setup/devices")


@blueprint.post("/devices/<int:device_id>/call")
@needs(Permission.MANAGE_DEVICES)
@in_turn(Step.DEVICES)
def call_machine(device_id: int) -> AnyResponse:
    """C-ECHO to a machine."""
    with console().box.catalog.reading() as conn:
        device = next((each for each in catalog.devices(conn) if each.id == device_id), None)
    if device is None:
        raise Unknown("there is no such device", hint="go back to the devices")
    machines.call(console().box, device, forms.actor(), now())
    return forms.back_to("/setup/devices")


def _form(error: str = "") -> Response:
    box, words = console().box, g.words
    with box.catalog.reading() as conn:
        known, callers = machines.standings(conn), catalog.visitors(conn)
    own = {
        "remote_ae": str(box.config.ae_title),
        "host": " / ".join(each for each in certificates.own_addresses() if ":" not in each)
        or words("preset.unknown_address"),  # by IPv4 alone: the port of DICOM is not held by IPv6
        "port": str(box.config.dicom.port),
        "own_ae": words("preset.own_ae_value"),
    }
    page = setup_page(
        MachinesPage,
        Step.DEVICES,
        error=error,
        rows=tuple(
            (words(f"preset.field.{field}"), own[field], words(f"preset.look.{field}")) for field in FIELDS
        ),
        presets=tuple(
            PresetPart(name, words(f"preset.{name}"), words(f"preset.{name}.about"), source)
            for name, source in PRESETS.items()
        ),
        callers=tuple(
            CallerLine(each.ae_title, each.address, words.moment(each.last_seen_utc)) for each in callers[:20]
        ),
        machines=tuple(_line(each) for each in known),
        typed={**dict.fromkeys(("ae_title", "address", "name", "port"), ""), **typed_before(Step.DEVICES)},
    )
    if is_partial():
        return show("setup/parts/machines.html", page)
    return show("setup/devices.html", page, 422 if error else 200)


def _line(standing: Standing) -> MachineLine:
    words, device, call, image = g.words, standing.device, standing.call, standing.image
    if standing.called_us_utc is not None:
        heard = Light("good", words("machine.called", at=words.moment(standing.called_us_utc)))
    else:
        heard = Light("wait", words("machine.not_called"), words("machine.not_called.hint"))
    if device.port is None:
        answers = Light("", words("machine.no_port"))
    elif call is None:
        answers = Light("wait", words("machine.not_tried"))
    elif call.ms is not None:
        answers = Light("good", words("machine.answered", ms=str(call.ms)))
    else:
        answers = Light("bad", words.cause(call.cause), words.cause(call.hint) if call.hint else "")
    if image is None:
        pictured = Light("wait", words("machine.no_image"), words("machine.no_image.hint"))
    else:
        pictured = Light("good", words("machine.image", at=words.moment(image.received_utc)))
    return MachineLine(
        id=device.id,
        name=device.name or device.ae_title,
        where=f"{device.ae_title} · {device.address}" + (f":{device.port}" if device.port else ""),
        has_port="yes" if device.port else "no",
        lights=(heard, answers, pictured),
        study=str(image.study_id) if image else "",
        picture=str(image.id) if image and image.rows else "",
    )
