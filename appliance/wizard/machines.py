"""The machines that may send, with what is proven of each: it has called us, we have called it, an image came.

What our own call came to is kept in the setting ``setup-echo`` of the catalog: by the device's row id, ``at`` and
either ``ms`` or ``cause`` and ``hint``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final

from appliance import audit
from appliance.box import Box
from appliance.catalog import Reading, Transaction, devices, instances, settings
from appliance.catalog.instances import InstanceRow
from appliance.dicom import scu
from appliance.dicom.scu import Timeouts
from appliance.errors import ApplianceError, Refused
from appliance.model import Device
from appliance.wizard.trial import CALLING

_SETTING: Final = "setup-echo"
_TIMEOUTS: Final = Timeouts(
    connect_seconds=5.0, acse_seconds=10.0, network_seconds=10.0, response_seconds=10.0
)

LONGEST_NAME: Final = 80

FIELDS: Final = ("remote_ae", "host", "port", "own_ae")
"""What a machine's DICOM screen asks for, in order. Each stands under the names that makers give it
(``preset.look.FIELD``): these change between versions, and no menu is named here that its maker has not published."""

PRESETS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "romexis": "Planmeca, DICOM Conformance Statement, Romexis 6.1",
        "sidexis": "Sirona, SIDICOM WLS, Konfigurationsanleitung",
        "cliniview": "Instrumentarium Dental, CLINIVIEW 11 DICOM Conformance Statement, D529800 rev. 3",
        "dbswin": "Dürr Dental, DICOM Conformance Statement, DBSWIN, D1070525 rev. C",
        "carestream": "",
        "ezdent": "",
        "dtx": "",
        "practice": "",
        "medical": "",
        "other": "",
    }
)
"""Imaging programs of dental and medical clinics here, and the public document from which ``preset.NAME.about`` is
taken. Where it is empty, none was found that says how it sends, and the page says that instead of guessing."""


@dataclass(frozen=True, slots=True)
class Call:
    """What our C-ECHO to a machine came to: milliseconds, or a cause."""

    at_utc: datetime
    ms: int | None = None
    cause: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Standing:
    """A machine and what is proven of it."""

    device: Device
    called_us_utc: datetime | None
    call: Call | None
    image: InstanceRow | None


def standings(reading: Reading) -> tuple[Standing, ...]:
    """Every machine that may send, but the sender of the test study."""
    seen = devices.last_seen(reading)
    calls = settings.get(reading, _SETTING, {})
    return tuple(
        Standing(
            device=each,
            called_us_utc=seen.get(each.id),
            call=_call(calls.get(str(each.id))),
            image=instances.latest_from(reading, each.ae_title, each.address),
        )
        for each in devices.devices(reading)
        if each.ae_title != CALLING
    )


def plain_name(typed: str) -> str:
    """A machine's name as it is kept: on one line, without doubled spaces, and not endless."""
    return " ".join(typed.split())[:LONGEST_NAME]


def admit(tx: Transaction, box: Box, device: Device, actor: str, now: datetime) -> Device:
    """Let a machine send; one that may already takes the new name and port."""
    added = devices.add_device(tx, device, now)
    details = {"name": device.name, "port": device.port}
    entry = audit.Entry("device:add", f"{device.ae_title}@{device.address}", actor, details)
    audit.append(tx, box.audit_key, [entry], now)
    return added


def call(box: Box, device: Device, actor: str, now: datetime) -> Call:
    """C-ECHO to a machine; what it came to is kept, and never raised. Raises `Refused` when its port isn't known."""
    if device.port is None:
        raise Refused("this machine's port is not known", hint="add it again with its port")
    try:
        seconds = scu.echo(
            device.address, device.port, device.ae_title, box.config.ae_title, timeouts=_TIMEOUTS
        )
        found = Call(now, ms=max(1, round(seconds * 1000)))
    except ApplianceError as error:
        found = Call(now, cause=error.message, hint=error.hint)
    kept = {"at": now.isoformat(), "ms": found.ms, "cause": found.cause, "hint": found.hint}
    with box.catalog.transaction() as tx:
        calls: dict[str, Any] = settings.get(tx, _SETTING, {})
        settings.put(tx, _SETTING, {**calls, str(device.id): kept}, now)
        outcome = audit.Outcome.FAILED if found.ms is None else audit.Outcome.DONE
        subject = f"{device.ae_title}@{device.address}"
        audit.append(tx, box.audit_key, [audit.Entry("device:echo", subject, actor, outcome=outcome)], now)
    return found


def _call(kept: Mapping[str, Any] | None) -> Call | None:
    if kept is None:
        return None
    return Call(datetime.fromisoformat(kept["at"]), kept["ms"], kept["cause"], kept["hint"])
