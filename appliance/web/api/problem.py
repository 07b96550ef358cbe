"""Errors as problem documents (RFC 9457): code for programs, cause and remedy for people, reference for support.

``type`` leads to the help page of the interface. The words are English, as all of the interface is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

from flask import Response

from appliance.web.api.shape import Fault

MEDIA_TYPE = "application/problem+json"

CODES: Mapping[str, str] = MappingProxyType(
    {
        "malformed": "What was sent has not the shape that is described",
        "stale": "The CSRF token is missing or another session's",
        "sign_in": "A session or a token is needed",
        "forbidden": "Whoever asks may not do this",
        "confirm": "The session must prove again who it is",
        "missing": "There is nothing here",
        "method": "This address does not take that method",
        "conflict": "It is not in a state in which this can be done",
        "changed": "It was changed since it was read",
        "too_large": "That was too much at once",
        "media_type": "The body is not of a kind that is taken here",
        "host": "The box is not known by this name",
        "refused": "It has the right shape and still cannot be done",
        "unconditional": "The header If-Match is missing",
        "too_many": "Too many requests",
        "full": "The disk is full",
        "later": "Try again in a moment",
        "damaged": "Something stored is damaged",
        "operator": "Somebody must see to the box",
        "unexpected": "Something went wrong in the box",
    }
)
"""Every code there is, with its title."""

SCHEMA: Mapping[str, Any] = MappingProxyType(
    {
        "type": "object",
        "description": "What went wrong (RFC 9457).",
        "properties": {
            "type": {
                "type": "string",
                "format": "uri-reference",
                "examples": ["/help/api/reference#malformed"],
            },
            "title": {"type": "string"},
            "status": {"type": "integer", "minimum": 400, "maximum": 599},
            "code": {"type": "string", "enum": list(CODES)},
            "detail": {"type": "string", "description": "The cause."},
            "remedy": {"type": "string", "description": "What to do about it."},
            "reference": {"type": "string", "description": "The number under which it is in the journal."},
            "faults": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "pointer": {"type": "string", "description": "A JSON Pointer into what was sent."},
                        "cause": {"type": "string"},
                        "remedy": {"type": "string"},
                    },
                    "required": ["pointer", "cause", "remedy"],
                },
            },
        },
        "required": ["type", "title", "status", "code", "detail", "remedy", "reference"],
    }
)


def answer(
    status: int,
    code: str,
    *,
    cause: str = "",
    remedy: str = "",
    reference: str,
    faults: tuple[Fault, ...] = (),
) -> Response:
    """The problem as an answer."""
    said: dict[str, Any] = {
        "type": f"/help/api/reference#{code}",
        "title": CODES.get(code, CODES["unexpected"]),
        "status": status,
        "code": code if code in CODES else "unexpected",
        "detail": cause or HTTPStatus(status).phrase,
        "remedy": remedy,
        "reference": reference,
    }
    if faults:
        said["faults"] = [asdict(each) for each in faults]
    return Response(json.dumps(said), status, content_type=MEDIA_TYPE)
