"""The whole configuration as one document: exported, previewed, imported. See `appliance.configuration`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from appliance import configuration
from appliance.identity.permissions import Permission
from appliance.web import forms
from appliance.web.address_list import keep_a_way_in
from appliance.web.api.operation import operation
from appliance.web.api.shape import Fault, Shape
from appliance.web.console import console, now


@dataclass(frozen=True, slots=True)
class Document:
    """A configuration, as it was exported."""

    content: Mapping[str, Any]

    @classmethod
    def json_schema(cls) -> dict[str, Any]:
        """The outline; what is inside is checked when it is planned."""
        records = {"type": "array", "items": {"type": "object"}}
        return {
            "type": "object",
            "description": " ".join((cls.__doc__ or "").split()),
            "properties": {
                configuration.MARK: {"const": configuration.SCHEMA},
                "settings": {"type": "object"},
                "devices": records,
                "destinations": records,
                "rules": records,
                "secrets": {"type": "array", "items": {"type": "string"}},
            },
            "required": [configuration.MARK],
            "additionalProperties": False,
            "examples": [{configuration.MARK: configuration.SCHEMA, "settings": {"clinic.name": "Émard"}}],
        }

    @classmethod
    def from_json(cls, value: Any, at: str, faults: list[Fault]) -> Document | None:
        """Any object; `appliance.configuration` says what is wrong with it."""
        if not isinstance(value, dict):
            faults.append(Fault(at, "this is not an object"))
            return None
        return cls(value)


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that an import changes; `before` is empty for what is new."""

    kind: Annotated[str, Shape("setting, device, destination or rule")]
    subject: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What an import changes, and what has to be given its secret afterwards."""

    differences: tuple[Difference, ...]
    secrets: tuple[str, ...]


@operation("GET", "/configuration", Permission.CHANGE_SETTINGS, gives=Document)
def export_configuration() -> Mapping[str, Any]:
    """Export settings, devices, destinations and rules. No secret, nothing of patients."""
    with console().box.catalog.reading() as conn:
        document = configuration.export(conn)
    with console().box.catalog.transaction() as tx:
        console().record(tx, "configuration:export", "box", forms.actor())
    return document


@operation(
    "POST", "/configuration/preview", Permission.CHANGE_SETTINGS, gives=Plan, takes=Document, refuses=(404,)
)
def preview_configuration(body: Document) -> Plan:
    """Say what importing a configuration would change, without changing it."""
    document = configuration.read(configuration.compact(body.content))
    with console().box.catalog.reading() as conn:
        return _plan(configuration.plan(conn, console().box, document))


@operation(
    "POST",
    "/configuration/import",
    Permission.CHANGE_SETTINGS,
    gives=Plan,
    takes=Document,
    refuses=(404,),
    is_careful=True,
)
def import_configuration(body: Document) -> Plan:
    """Import a configuration, all of it or nothing. Nothing is ever removed."""
    document = configuration.read(configuration.compact(body.content))
    with console().box.catalog.transaction() as tx:
        done = configuration.apply(tx, console().box, document, actor=forms.actor(), now=now())
        keep_a_way_in(tx)
        return _plan(done)


OPERATIONS = (export_configuration, preview_configuration, import_configuration)


def _plan(found: configuration.Plan) -> Plan:
    return Plan(
        tuple(Difference(each.kind, each.subject, each.before, each.after) for each in found.differences),
        found.secrets,
    )
