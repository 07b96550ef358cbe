"""Dataclasses as JSON, from JSON, and as JSON Schema (2020-12): one declaration says all three.

A field is ``Annotated[type, Shape(…)]`` where its bounds matter. Understood are str, int, float, bool, datetime (out),
`Any`, tuples of one kind, mappings from text, literals, `StrEnum`, other dataclasses, and each of them or None.
Fields without a default are required of what comes in; of what goes out, all are.
"""

from __future__ import annotations

import dataclasses
import re
import types
from collections.abc import Mapping
from dataclasses import MISSING, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from appliance.errors import Refused

LONGEST_TEXT = 500
TEXT = r"^[^\u0000-\u001f\u007f-\u009f\u2028\u2029]*$"
"""Text on one line, as ECMA-262 and Python both read it."""

MOST = 2**53 - 1
"""The greatest whole number that every JSON reader keeps exact (RFC 8259 section 6)."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a field is about, and its bounds. `pattern` is anchored, and means the same in ECMA-262 and in Python."""

    about: str = ""
    example: Any = None
    least: int | None = None
    most: int | None = None
    shortest: int = 0
    longest: int = LONGEST_TEXT
    pattern: str = TEXT
    is_secret: bool = False


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong at one place; `pointer` is a JSON Pointer (RFC 6901) into what was sent."""

    pointer: str
    cause: str
    remedy: str = ""


class Malformed(Refused):
    """What was sent has not the shape that is described. Holds every fault, not only the first."""

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        super().__init__("what was sent has not the shape that is described", hint=faults[0].remedy)
        self.faults = faults


Row = Annotated[int, Shape("The number of a row; never used twice.", example=1, least=1, most=MOST)]
Limit = Annotated[int, Shape("How many at most.", example=50, least=1, most=500)]
After = Annotated[
    int | None, Shape("The identifier of the last item that was seen; the page after it.", least=1, most=MOST)
]
Next = Annotated[
    int | None, Shape("What to pass as `after` for the next page; null when this was the last.", least=1)
]


# --- JSON Schema -----------------------------------------------------------------------------------------------------


def schema(kind: Any, components: dict[str, Any], *, coming_in: bool) -> dict[str, Any]:
    """`kind` as JSON Schema. Dataclasses become references into `components`, which is filled."""
    kind, shape = _parted(kind)
    said = _schema(kind, shape or Shape(), components, coming_in)
    if shape is not None and "$ref" not in said:
        said |= {"description": shape.about} if shape.about else {}
        said |= {"examples": [shape.example]} if shape.example is not None else {}
    return said


def _schema(kind: Any, shape: Shape, components: dict[str, Any], coming_in: bool) -> dict[str, Any]:
    if own := getattr(kind, "json_schema", None):
        return dict(own())
    if (options := _optional(kind)) is not None:
        inner = _schema(options, shape, components, coming_in)
        return {"anyOf": [inner, {"type": "null"}]}
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return {"type": "string", "enum": [str(each) for each in kind]}
    if kind is str:
        said: dict[str, Any] = {"type": "string"}
        if coming_in:
            said |= {"maxLength": shape.longest, "pattern": shape.pattern}
            said |= {"minLength": shape.shortest} if shape.shortest else {}
        return said | ({"writeOnly": True} if shape.is_secret else {})
    if kind is bool:
        return {"type": "boolean"}
    if kind is int:
        said = {"type": "integer"}
        said |= {"minimum": shape.least} if shape.least is not None else {}
        return said | ({"maximum": shape.most} if shape.most is not None else {})
    if kind is float:
        return {"type": "number"}
    if kind is datetime:
        return {"type": "string", "format": "date-time"}
    if kind is Any:
        return {}
    if get_origin(kind) is Literal:
        return {"type": "string", "enum": list(get_args(kind))}
    if get_origin(kind) is tuple:
        return {"type": "array", "items": schema(get_args(kind)[0], components, coming_in=coming_in)}
    if get_origin(kind) is Mapping or kind is Mapping:
        values = get_args(kind)[1] if get_args(kind) else Any
        return {
            "type": "object",
            "additionalProperties": schema(values, components, coming_in=coming_in) or True,
        }
    if get_origin(kind) in (Union, types.UnionType):
        return {"anyOf": [_schema(each, shape, components, coming_in) for each in get_args(kind)]}
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        if kind.__name__ not in components:
            components[kind.__name__] = {}  # before its fields: one may hold its own kind
            components[kind.__name__] = record_schema(kind, components, coming_in=coming_in)
        return {"$ref": f"#/components/schemas/{kind.__name__}"}
    raise TypeError(f"{kind} has no shape")


def record_schema(kind: type[Any], components: dict[str, Any], *, coming_in: bool) -> dict[str, Any]:
    """A dataclass itself, not a reference to it."""
    hints = get_type_hints(kind, include_extras=True)
    names = [each.name for each in dataclasses.fields(kind)]
    required = [each.name for each in dataclasses.fields(kind) if not coming_in or not _has_default(each)]
    return {
        "type": "object",
        "description": " ".join((kind.__doc__ or "").split()),
        "properties": {name: schema(hints[name], components, coming_in=coming_in) for name in names},
        "required": required,
        "additionalProperties": False,
    }


# --- from JSON -------------------------------------------------------------------------------------------------------


def read(kind: Any, value: Any) -> Any:
    """`value`, as the `json` module gives it, as `kind`. Raises `Malformed` with every fault."""
    faults: list[Fault] = []
    found = _read(kind, value, "", faults)
    if faults:
        raise Malformed(tuple(faults))
    return found


def _read(kind: Any, value: Any, at: str, faults: list[Fault]) -> Any:
    kind, shape = _parted(kind)
    shape = shape or Shape()
    if own := getattr(kind, "from_json", None):
        return own(value, at, faults)
    if (options := _optional(kind)) is not None:
        return None if value is None else _read(Annotated[options, shape], value, at, faults)
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        words = [str(each) for each in kind]
        if not isinstance(value, str) or value not in words:
            return _wrong(faults, at, "this is none of the words", f"use one of {', '.join(words)}")
        return kind(value)
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            return _wrong(faults, at, "this is none of the words", f"use one of {', '.join(get_args(kind))}")
        return value
    if kind is str:
        return _text(value, shape, at, faults)
    if kind is bool:
        return value if isinstance(value, bool) else _wrong(faults, at, "this is neither true nor false")
    if kind is int:
        return _whole(value, shape, at, faults)
    if kind is Any:
        return value
    if get_origin(kind) is tuple:
        if not isinstance(value, list):
            return _wrong(faults, at, "this is not a list")
        return tuple(_read(get_args(kind)[0], each, f"{at}/{i}", faults) for i, each in enumerate(value))
    if get_origin(kind) is Mapping:
        if not isinstance(value, dict):
            return _wrong(faults, at, "this is not an object")
        return {
            key: _read(get_args(kind)[1], each, f"{at}/{_escaped(key)}", faults)
            for key, each in value.items()
        }
    if get_origin(kind) in (Union, types.UnionType):
        for each in get_args(kind):
            tried: list[Fault] = []
            found = _read(Annotated[each, shape], value, at, tried)
            if not tried:
                return found
        return _wrong(faults, at, "this is none of the kinds of value that stand here")
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _record(kind, value, at, faults)
    raise TypeError(f"{kind} is not read")


def _wrong(faults: list[Fault], at: str, cause: str, remedy: str = "") -> Any:
    """Note a fault; what stands there instead of a value is never used."""
    faults.append(Fault(at, cause, remedy))


def _record(kind: type[Any], value: Any, at: str, faults: list[Fault]) -> Any:
    if not isinstance(value, dict):
        return _wrong(faults, at, "this is not an object")
    hints = get_type_hints(kind, include_extras=True)
    found: dict[str, Any] = {}
    for each in dataclasses.fields(kind):
        if each.name in value:
            found[each.name] = _read(hints[each.name], value[each.name], f"{at}/{each.name}", faults)
        elif not _has_default(each):
            faults.append(Fault(f"{at}/{each.name}", "this is missing", "add it"))
    faults += [
        Fault(f"{at}/{_escaped(key)}", "this means nothing here", f"known here: {', '.join(hints)}")
        for key in value
        if key not in hints
    ]
    return None if faults else kind(**found)


def _text(value: Any, shape: Shape, at: str, faults: list[Fault]) -> Any:
    if not isinstance(value, str):
        return _wrong(faults, at, "this is not a text")
    if not shape.shortest <= len(value) <= shape.longest:
        faults.append(
            Fault(
                at,
                "this text is too short or too long",
                f"use {shape.shortest} to {shape.longest} characters",
            )
        )
    elif not _is_unicode(value) or not re.fullmatch(shape.pattern.removeprefix("^").removesuffix("$"), value):
        faults.append(Fault(at, "this text has not the form that is described"))
    return value


def _whole(value: Any, shape: Shape, at: str, faults: list[Fault]) -> Any:
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # 1.0 is an integer to JSON Schema
    if not isinstance(value, int) or isinstance(value, bool):
        return _wrong(faults, at, "this is not a whole number")
    if (shape.least is not None and value < shape.least) or (shape.most is not None and value > shape.most):
        faults.append(
            Fault(at, "this number is out of bounds", f"give a number from {shape.least} to {shape.most}")
        )
    return value


def from_text(kind: Any, text: str) -> Any:
    """A query parameter as the JSON value that `read` takes for `kind`; text that is no number stays text."""
    kind, _ = _parted(kind)
    kind = _optional(kind) or kind
    if kind is int and re.fullmatch(r"-?[0-9]{1,18}", text, re.ASCII):
        return int(text)
    if kind is bool and text in ("true", "false"):
        return text == "true"
    return text


# --- to JSON ---------------------------------------------------------------------------------------------------------


def write(value: Any) -> Any:
    """`value` as what the `json` module writes: moments in UTC, nothing left out."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: write(getattr(value, each.name)) for each in dataclasses.fields(value)}
    match value:
        case datetime():
            return f"{value.astimezone(UTC).isoformat(timespec='microseconds').removesuffix('+00:00')}Z"
        case StrEnum():
            return str(value)
        case Mapping():
            return {str(key): write(each) for key, each in value.items()}
        case tuple() | list():
            return [write(each) for each in value]
        case _:
            return value


def _parted(kind: Any) -> tuple[Any, Shape | None]:
    if get_origin(kind) is Annotated:
        inner, *notes = get_args(kind)
        return inner, next((each for each in reversed(notes) if isinstance(each, Shape)), None)
    return kind, None


def _optional(kind: Any) -> Any:
    """What a kind is when it is not None; None if it can't be."""
    if get_origin(kind) not in (Union, types.UnionType) or type(None) not in get_args(kind):
        return None
    rest = [each for each in get_args(kind) if each is not type(None)]
    return rest[0] if len(rest) == 1 else Union[tuple(rest)]  # noqa: UP007 -- made at run time


def _has_default(each: dataclasses.Field[Any]) -> bool:
    return each.default is not MISSING or each.default_factory is not MISSING


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _escaped(key: object) -> str:
    return str(key).replace("~", "~0").replace("/", "~1")
