"""The OpenAPI 3.1 document of the interface, made of its operations; and the same for people, on a help page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from flask import Blueprint, Flask, Response, current_app, g

from appliance import __version__
from appliance.identity.permissions import Permission
from appliance.web.access import needs
from appliance.web.api import problem, shape
from appliance.web.api.operation import MEDIA_TYPE, PREFIX, Operation, as_json
from appliance.web.pages import Page, page_of, show

ALWAYS = (400, 401, 403, 421, 429, 503)
"""What every operation may answer: its query, its caller, its name for us, too many at once, a busy box."""

TITLE = "Clinic edge appliance"
ABOUT = (
    "What the console and the command line can do, for programs on the clinic's network. A program sends a token "
    "(`Authorization: Bearer …`) whose scopes are permissions; a page of the console sends its session cookie, and "
    "for everything but GET the session's CSRF token. Names of patients are never in addresses."
)

blueprint = Blueprint("reference", __name__)


@dataclass(frozen=True, slots=True)
class FieldOfReference:
    """A property of a shape, for people."""

    name: str
    kind: str
    about: str
    is_required: bool


@dataclass(frozen=True, slots=True)
class EntryOfReference:
    """An operation, for people."""

    name: str
    method: str
    path: str
    about: str
    permission: str
    asks: tuple[FieldOfReference, ...]
    takes: tuple[FieldOfReference, ...]
    gives: tuple[FieldOfReference, ...]
    statuses: str


@dataclass(frozen=True, slots=True)
class ReferencePage(Page):
    """The interface by resource, and the codes of its problems."""

    resources: tuple[tuple[str, tuple[EntryOfReference, ...]], ...]
    codes: tuple[tuple[str, str], ...]


def mount(app: Flask, operations: Sequence[Operation]) -> None:
    """Serve the document of `operations`, and its page."""
    app.extensions["openapi"] = openapi(operations)
    app.register_blueprint(blueprint)


@blueprint.get(f"{PREFIX}/openapi.json")
@needs(Permission.USE_CONSOLE)
def described() -> Response:
    """The document."""
    return Response(as_json(current_app.extensions["openapi"]), content_type=MEDIA_TYPE)


@blueprint.get("/help/api/reference")
def reference() -> Response:
    """The document for people."""
    document = current_app.extensions["openapi"]
    entries: dict[str, list[EntryOfReference]] = {}
    for path, methods in document["paths"].items():
        for method, said in methods.items():
            entries.setdefault(said["tags"][0], []).append(_entry(document, method.upper(), path, said))
    page = page_of(
        ReferencePage,
        title=g.words("help.api"),
        section="help",
        resources=tuple((name, tuple(found)) for name, found in entries.items()),
        codes=tuple(problem.CODES.items()),
    )
    return show("help-api.html", page)


# --- the document ----------------------------------------------------------------------------------------------------


def openapi(operations: Sequence[Operation]) -> dict[str, Any]:
    """The OpenAPI document of `operations`."""
    components: dict[str, Any] = {"Problem": dict(problem.SCHEMA)}
    paths: dict[str, dict[str, Any]] = {}
    for each in operations:
        paths.setdefault(PREFIX + each.path, {})[each.method.lower()] = _described(each, components)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": TITLE,
            "version": __version__,
            "description": ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "This box."}],
        "tags": [{"name": name} for name in dict.fromkeys(each.resource for each in operations)],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A token made by a person, with scopes that are permissions.",
                },
                "session": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": "console_session",
                    "description": "The session of a browser. Over TLS the cookie's name begins with `__Host-`.",
                },
                "csrf": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "X-CSRF-Token",
                    "description": "The session's own token, as `GET /api/v1/me` gives it. Not needed with a token.",
                },
            },
        },
    }


def _described(each: Operation, components: dict[str, Any]) -> dict[str, Any]:
    is_unsafe = each.method != "GET"
    said: dict[str, Any] = {
        "operationId": each.name,
        "summary": each.about.partition(". ")[0].rstrip(".") + ".",
        "description": f"{each.about} Needs `{each.permission}`.",
        "tags": [each.resource],
        "security": [
            {"token": [str(each.permission)]},
            {"session": [], "csrf": []} if is_unsafe else {"session": []},
        ],
        "parameters": _parameters(each, components),
        "responses": _responses(each, components),
    }
    if each.takes is not None:
        said["requestBody"] = {
            "required": True,
            "content": {MEDIA_TYPE: {"schema": shape.schema(each.takes, components, coming_in=True)}},
        }
    return said


def _parameters(each: Operation, components: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": shape.schema(shape.Row, components, coming_in=True),
        }
        for name in each.numbers
    ]
    if each.asks is not None:
        asked = shape.record_schema(each.asks, components, coming_in=True)
        found += [
            {
                "name": name,
                "in": "query",
                "required": name in asked["required"],
                "schema": _without_null(said),
                **({"description": said["description"]} if "description" in said else {}),
            }
            for name, said in asked["properties"].items()
        ]
    if each.is_guarded:
        found.append(
            {
                "name": "If-Match",
                "in": "header",
                "required": True,
                "description": "The ETag of what was read, so that nobody else's change is lost.",
                "schema": {"type": "string", "examples": ["*"], "pattern": r'^(\*|"[0-9a-f]{24}")$'},
            }
        )
    return found


def _without_null(said: Mapping[str, Any]) -> dict[str, Any]:
    """A query parameter is there or not; it is never null."""
    if "anyOf" not in said:
        return dict(said)
    rest = [each for each in said["anyOf"] if each != {"type": "null"}]
    return {**{key: value for key, value in said.items() if key != "anyOf"}, **rest[0]}


def _responses(each: Operation, components: dict[str, Any]) -> dict[str, Any]:
    success: dict[str, Any] = {"description": HTTPStatus(each.status).phrase}
    if each.gives is not None:
        success["content"] = {MEDIA_TYPE: {"schema": shape.schema(each.gives, components, coming_in=False)}}
    if each.is_tagged:
        success["headers"] = {"ETag": {"description": "For If-Match.", "schema": {"type": "string"}}}
    statuses = {*ALWAYS, *each.refuses}
    statuses |= {404} if each.numbers else set()
    statuses |= {413, 415, 422} if each.takes is not None else set()
    statuses |= {412, 428} if each.is_guarded else set()
    return {str(each.status): success} | {
        str(status): {
            "description": HTTPStatus(status).phrase,
            "content": {problem.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in sorted(statuses)
    }


# --- for people ------------------------------------------------------------------------------------------------------


def _entry(document: Mapping[str, Any], method: str, path: str, said: Mapping[str, Any]) -> EntryOfReference:
    success = next(status for status in said["responses"] if status < "300")
    body = said.get("requestBody", {}).get("content", {}).get(MEDIA_TYPE, {}).get("schema", {})
    given = said["responses"][success].get("content", {}).get(MEDIA_TYPE, {}).get("schema", {})
    return EntryOfReference(
        name=said["operationId"],
        method=method,
        path=path,
        about=said["description"],
        permission=said["security"][0]["token"][0],
        asks=tuple(
            FieldOfReference(
                each["name"], _kind(each["schema"]), each["schema"].get("description", ""), each["required"]
            )
            for each in said["parameters"]
        ),
        takes=_fields(document, body),
        gives=_fields(document, given),
        statuses=", ".join(said["responses"]),
    )


def _fields(document: Mapping[str, Any], schema: Mapping[str, Any]) -> tuple[FieldOfReference, ...]:
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return tuple(
        FieldOfReference(name, _kind(each), each.get("description", ""), name in schema.get("required", ()))
        for name, each in schema.get("properties", {}).items()
    )


def _kind(schema: Mapping[str, Any]) -> str:
    """A schema in a word or two."""
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if "anyOf" in schema:
        return " or ".join(_kind(each) for each in schema["anyOf"])
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if schema.get("type") == "array":
        return f"list of {_kind(schema['items'])}"
    if schema.get("format") == "date-time":
        return "moment"
    bounds = f"{schema.get('minimum', '')}…{schema.get('maximum', '')}"
    return str(schema.get("type", "anything")) + (f" {bounds}" if bounds != "…" else "")
