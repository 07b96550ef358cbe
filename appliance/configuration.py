"""The whole configuration as one document: to be kept beside the recovery key, or to set up another box alike.

::

    {"appliance_configuration": 1,
     "settings":     {"clinic.name": "…", …},                        every setting but the secrets
     "devices":      [{"ae_title": …, "address": …, "name": …, "port": …}],
     "destinations": [{"name": …, "kind": …, "options": {…}, "paused": …}],
     "rules":        [{"destination": …, "device": …, "modality": …, "priority": …}],
     "secrets":      ["destination cloud", …]}                       what has a secret that must be typed again

Chose JSON, because every tool reads it and the standard library writes it; rejected TOML, which it only reads.

Importing adds and changes, and never removes: what the document does not mention stays. It is all or nothing, and
`plan` says beforehand exactly what `apply` will do. A destination whose secret is not on this box arrives paused, until
somebody gives it.
"""

from __future__ import annotations

import difflib
import ipaddress
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, cast, get_args

from appliance import audit, settings
from appliance.box import Box
from appliance.catalog import Reading, Transaction, destinations, devices, rules
from appliance.errors import OperatorNeeded, Refused
from appliance.model import (
    AETitle,
    DestinationKind,
    DestinationSettings,
    Device,
    Rule,
    Takes,
    ae_title,
)
from appliance.replication import recall
from appliance.replication.destinations import access, build
from appliance.settings.registry import unknown_key

SCHEMA = 1
MARK = "appliance_configuration"
MOST_CHARACTERS = 40_000
_LISTS = ("devices", "destinations", "rules")
_PARTS = (MARK, "settings", *_LISTS, "secrets")
_DEVICE = ("ae_title", "address", "name", "port")
_DESTINATION = ("name", "kind", "options", "paused")
_RULE = ("destination", "device", "modality", "priority")

TAKES: Mapping[DestinationKind, Takes] = {
    "s3": "ciphertext",
    "dicom": "dicom",
    "folder": "dicom",
    "vault": "ciphertext",
    "sftp": "ciphertext",
    "smb": "ciphertext",
}
OPTIONS: Mapping[DestinationKind, Mapping[str, type]] = {
    "s3": {"bucket": str, "region": str, "access_key_id": str, "endpoint_url": str, "canadian": bool},
    "dicom": {"ae_title": str, "address": str, "port": int},
    "folder": {"path": str},
    "vault": {"path": str, "mark": str},
    "sftp": {
        "address": str,
        "port": int,
        "user": str,
        "folder": str,
        "login": str,
        "host_key": str,
        "public_key": str,
    },
    "smb": {
        "address": str,
        "port": int,
        "share": str,
        "folder": str,
        "user": str,
        "domain": str,
        "server_name": str,
    },
}
"""What may be said of each kind of destination."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that an import changes. `before` is empty for what is new; both are texts for people."""

    kind: str
    subject: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What an import does. `secrets` names what has to be given its secret afterwards."""

    differences: tuple[Difference, ...]
    secrets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A document, understood."""

    settings: Mapping[str, Any]
    devices: tuple[Device, ...]
    destinations: tuple[DestinationSettings, ...]
    rules: tuple[Rule, ...]


# --- out -------------------------------------------------------------------------------------------------------------


def export(reading: Reading) -> dict[str, Any]:
    """The configuration as a document that `json` can write. Holds no secret."""
    known = destinations.destinations(reading)
    with_secret = [each.key for each in settings.SETTINGS.values() if each.is_secret]
    return {
        MARK: SCHEMA,
        "settings": {
            key: settings.get(reading, key) for key, each in settings.SETTINGS.items() if not each.is_secret
        },
        "devices": [
            {"ae_title": each.ae_title, "address": each.address, "name": each.name, "port": each.port}
            for each in devices.devices(reading)
        ],
        "destinations": [
            {"name": each.name, "kind": each.kind, "options": dict(each.options), "paused": each.paused}
            for each in known
        ],
        "rules": [
            {
                "destination": each.destination,
                "device": each.device,
                "modality": each.modality,
                "priority": each.priority,
            }
            for each in rules.rules(reading)
        ],
        "secrets": [
            *(key for key in with_secret if settings.is_set(reading, key)),
            *(f"destination {each.name}" for each in known if each.secret),
        ],
    }


def written(document: Mapping[str, Any]) -> str:
    """A document as the text of a file."""
    return json.dumps(document, ensure_ascii=False, indent=2) + "\n"


def compact(document: Mapping[str, Any]) -> str:
    """A document as the shortest text that `read` takes."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


# --- in --------------------------------------------------------------------------------------------------------------


def read(text: str) -> dict[str, Any]:
    """The document in the text of a file. Raises `Refused` for anything else."""
    if len(text) > MOST_CHARACTERS:
        raise Refused(
            "this file is too large to be a configuration", hint="choose the file that was exported"
        )
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Refused("this file is not a configuration", hint="choose the file that was exported") from error
    if not isinstance(document, dict) or MARK not in document:
        raise Refused("this file is not a configuration", hint="choose the file that was exported")
    if document[MARK] != SCHEMA:
        raise Refused(
            "this configuration was written by other software than this",
            hint="export it again from a box with this version",
        )
    return document


def plan(reading: Reading, box: Box, document: Mapping[str, Any]) -> Plan:
    """What `apply` would do with a document that `read` gave. Raises `Refused`."""
    wanted = _understood(box, document)
    _check_rules(reading, wanted)
    differences: list[Difference] = []
    for key, normal in settings.check(reading, wanted.settings).items():
        kind, now = settings.setting(key).kind, settings.get(reading, key)
        if normal != now:
            differences.append(Difference("setting", key, kind.write(now), kind.write(normal)))
    here = {(each.ae_title, each.address): each for each in devices.devices(reading)}
    for device in wanted.devices:
        found = here.get((device.ae_title, device.address))
        if found is None or (found.name, found.port) != (device.name, device.port):
            subject = f"{device.ae_title}@{device.address}"
            differences.append(
                Difference("device", subject, "" if found is None else _of_device(found), _of_device(device))
            )
    secrets: list[str] = []
    for destination in wanted.destinations:
        before = destinations.destination(reading, destination.name)
        after = _with_secret(before, destination)
        if before is None or (before.options, before.paused) != (after.options, after.paused):
            said = "" if before is None else _of_destination(before)
            differences.append(Difference("destination", destination.name, said, _of_destination(after)))
        if _lacks_secret(after):
            secrets.append(f"destination {destination.name}")
    kept = {_rule_key(each) for each in rules.rules(reading)}
    differences += [
        Difference("rule", rule.destination, "", _of_rule(rule))
        for rule in wanted.rules
        if _rule_key(rule) not in kept
    ]
    secrets += [
        key
        for key in document.get("secrets", ())
        if key in settings.SETTINGS and not settings.is_set(reading, key)
    ]
    return Plan(tuple(differences), tuple(secrets))


def apply(tx: Transaction, box: Box, document: Mapping[str, Any], *, actor: str, now: datetime) -> Plan:
    """Make the configuration what a document says, all of it or nothing. Gives what was changed.

    Raises `Refused`, and then the transaction must not be kept.
    """
    planned = plan(tx, box, document)
    wanted = _understood(box, document)
    settings.change(tx, box.audit_key, wanted.settings, actor=actor, now=now)
    entries: list[audit.Entry] = []
    changed = {(each.kind, each.subject) for each in planned.differences}
    for device in wanted.devices:
        if ("device", f"{device.ae_title}@{device.address}") in changed:
            devices.add_device(tx, device, now)
            shown = {"name": device.name, "port": device.port}
            entries.append(audit.Entry("device:add", f"{device.ae_title}@{device.address}", actor, shown))
    entries += [
        _put_destination(tx, destination, actor)
        for destination in wanted.destinations
        if ("destination", destination.name) in changed
    ]
    kept = {_rule_key(each) for each in rules.rules(tx)}
    ids = {each.name: each.id for each in destinations.destinations(tx)}
    for rule in wanted.rules:
        if _rule_key(rule) not in kept:
            rules.add_rule(tx, replace(rule, destination_id=ids[rule.destination]))
            matched = {"device": rule.device or "", "modality": rule.modality or ""}
            entries.append(audit.Entry("rule:add", rule.destination, actor, matched))
    entries.append(
        audit.Entry("configuration:import", "box", actor, {"differences": len(planned.differences)})
    )
    audit.append(tx, box.audit_key, entries, now)
    return planned


def _put_destination(tx: Transaction, wanted: DestinationSettings, actor: str) -> audit.Entry:
    before = destinations.destination(tx, wanted.name)
    after = _with_secret(before, wanted)
    shown = {"kind": after.kind, **after.options}
    if before is None:
        destinations.add(tx, after)
        return audit.Entry("destination:add", after.name, actor, shown)
    recall.let_move(tx, before, after.options)
    destinations.change(tx, before.name, after.options, after.secret)
    if after.paused != before.paused:
        (destinations.pause if after.paused else destinations.resume)(tx, after.name)
    return audit.Entry("destination:change", after.name, actor, shown)


def _with_secret(before: DestinationSettings | None, wanted: DestinationSettings) -> DestinationSettings:
    """`wanted` with the secret that this box has for the same access key; paused if it has none and needs one."""
    if before is not None and before.kind != wanted.kind:
        raise Refused(
            "a destination of that name is of another kind here", hint="rename one of the two, then try again"
        )
    same_key = before is not None and access.is_same(before, wanted)
    after = replace(wanted, secret=before.secret if before is not None and same_key else "")
    return replace(after, paused=True) if _lacks_secret(after) else after


def _lacks_secret(destination: DestinationSettings) -> bool:
    return access.needs_secret(destination) and not destination.secret


# --- understanding ---------------------------------------------------------------------------------------------------


def _understood(box: Box, document: Mapping[str, Any]) -> _Wanted:
    _only_keys(document, _PARTS)
    wanted = document.get("settings", {})
    if not isinstance(wanted, Mapping):
        raise _wrong("settings")
    for key in wanted:
        if key not in settings.SETTINGS:
            raise unknown_key(str(key), settings.SETTINGS)
        if settings.SETTINGS[key].is_secret:
            raise Refused("a configuration holds no secrets", hint="take it out, and type it in the settings")
    secrets = document.get("secrets", [])
    if not isinstance(secrets, list) or not all(isinstance(each, str) for each in secrets):
        raise _wrong("secrets")
    lists = {name: _records(document, name) for name in _LISTS}
    return _Wanted(
        settings={key: value for key, value in wanted.items() if value is not None},
        devices=tuple(_device(each) for each in lists["devices"]),
        destinations=tuple(_destination(each, box) for each in lists["destinations"]),
        rules=tuple(_rule(each) for each in lists["rules"]),
    )


def _records(document: Mapping[str, Any], name: str) -> Sequence[Mapping[str, Any]]:
    found = document.get(name, [])
    if not isinstance(found, list) or len(found) > 1000 or not all(isinstance(each, dict) for each in found):
        raise _wrong(name)
    return found


def _device(record: Mapping[str, Any]) -> Device:
    _only_keys(record, _DEVICE)
    return device_of(
        record.get("ae_title", ""), record.get("address", ""), record.get("name", ""), record.get("port")
    )


def device_of(title: Any, address: Any, name: Any = "", port: Any = None) -> Device:
    """A device as the four values say. Raises `Refused`."""
    if not (isinstance(title, str) and isinstance(address, str) and isinstance(name, str)):
        raise _wrong("devices")
    try:
        place = str(ipaddress.ip_address(address))
    except ValueError:
        raise Refused("that is not an IP address", hint="such as 192.168.1.40") from None
    if len(name) > 64 or not name.isprintable():
        raise Refused("that is not a name for a device", hint="use up to 64 letters, digits or dashes")
    return Device(ae_title(title), place, name, None if port is None else _port(port))


def _port(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 65535:
        raise Refused("that is not a port", hint="use a number from 1 to 65535, often 104 or 11112")
    return value


def _destination(record: Mapping[str, Any], box: Box) -> DestinationSettings:
    _only_keys(record, _DESTINATION)
    found = destination_of(record.get("name"), record.get("kind"), record.get("options"))
    if not isinstance(record.get("paused", False), bool):
        raise _wrong("destinations")
    try:
        build(replace(found, secret="later") if access.needs_secret(found) else found, box)
    except OperatorNeeded as error:  # of what is kept; this is still a document
        raise Refused(error.message, hint=error.hint) from error
    return replace(found, paused=bool(record.get("paused", False)))


def destination_of(name: Any, kind: Any, options: Any, secret: str = "") -> DestinationSettings:
    """A destination as the values say, its options only as far as their types. Raises `Refused`."""
    if (
        not isinstance(name, str)
        or not 1 <= len(name) <= 64
        or not name.isprintable()
        or name != name.strip()
    ):
        raise Refused("that is not a name for a destination", hint="use up to 64 letters, digits or dashes")
    if kind not in get_args(DestinationKind):
        raise Refused(
            "there is no such kind of destination",
            hint="use one of s3, dicom, folder, vault, sftp, smb",
        )
    chosen = cast(DestinationKind, kind)
    if not isinstance(options, Mapping):
        raise _wrong("destinations")
    _only_keys(options, OPTIONS[chosen])
    for key, value in options.items():
        if type(value) is not OPTIONS[chosen][key]:
            raise _wrong(key)
        if isinstance(value, str) and (len(value) > 500 or not value.isprintable()):
            raise _wrong(key)
    return DestinationSettings(
        name=name, kind=chosen, takes=TAKES[chosen], options=dict(options), secret=secret
    )


def _rule(record: Mapping[str, Any]) -> Rule:
    _only_keys(record, _RULE)
    return rule_of(
        record.get("destination"), record.get("device"), record.get("modality"), record.get("priority", 0)
    )


def rule_of(destination: Any, device: Any, modality: Any, priority: Any = 0) -> Rule:
    """A rule as the values say; which destination has that name is seen when it is added. Raises `Refused`."""
    if not isinstance(destination, str) or not destination:
        raise _wrong("rules")
    title: AETitle | None = None
    if device:
        if not isinstance(device, str):
            raise _wrong("rules")
        title = ae_title(device)
    if modality and not (
        isinstance(modality, str)
        and len(modality) <= 16
        and modality.isascii()
        and modality.replace(" ", "").replace("_", "").isalnum()
        and modality == modality.upper().strip()
    ):
        raise Refused("that is not a modality", hint="use its code, such as PX, IO or CT")
    if not isinstance(priority, int) or isinstance(priority, bool) or not -100 <= priority <= 100:
        raise Refused("that is not a priority", hint="use a number from -100 to 100")
    return Rule(
        destination_id=cast(Any, 0), destination=destination, takes="dicom",
        device=title, modality=modality or None, priority=priority,
    )  # fmt: skip


def _check_rules(reading: Reading, wanted: _Wanted) -> None:
    named = {each.name for each in wanted.destinations}
    named |= {each.name for each in destinations.destinations(reading)}
    for rule in wanted.rules:
        if rule.destination not in named:
            raise Refused(
                "a rule names a destination that there is not", hint="add the destination to the document"
            )


def _only_keys(record: Mapping[str, Any], known: Iterable[str]) -> None:
    names = list(known)
    for key in record:
        if key not in names:
            nearest = difflib.get_close_matches(str(key), names, n=1, cutoff=0.5)
            hint = f"did you mean {nearest[0]}?" if nearest else f"known here: {', '.join(names)}"
            raise Refused("the configuration holds a word that means nothing", hint=hint)


def _wrong(name: str) -> Refused:
    return Refused(f"the configuration is wrong at {name}", hint="export one again to see the form")


# --- words for people ------------------------------------------------------------------------------------------------


def _rule_key(rule: Rule) -> tuple[object, ...]:
    return (rule.destination, rule.device or None, rule.modality or None, rule.priority)


def _of_device(device: Device) -> str:
    return " · ".join(part for part in (device.name, "" if device.port is None else str(device.port)) if part)


def _of_destination(destination: DestinationSettings) -> str:
    said = ", ".join(f"{key} {value}" for key, value in destination.options.items() if value != "")
    return f"{destination.kind} · {said}" + (" · paused" if destination.paused else "")


def _of_rule(rule: Rule) -> str:
    return f"{rule.device or '*'} · {rule.modality or '*'} · {rule.priority}"
