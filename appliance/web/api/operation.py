"""One method on one path: what it takes, what it gives, who may. Declared once, it routes, checks and is described.

An operation's function gets the numbers of its path by name, and `query` and `body` if it declares them, already of
their kinds. It does the act with the same modules as the console's views and returns what it declares to give.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, NoReturn, get_type_hints

from flask import Response, g, request
from werkzeug.exceptions import PreconditionFailed, PreconditionRequired, UnsupportedMediaType

from appliance.errors import NotAuthorised
from appliance.identity.permissions import Permission
from appliance.web.access import needs
from appliance.web.api import shape
from appliance.web.api.shape import Fault, Malformed
from appliance.web.console import now
from appliance.web.reauthentication import is_confirmed

PREFIX = "/api/v1"
MEDIA_TYPE = "application/json"


@dataclass(frozen=True, slots=True)
class Operation:
    """A declared operation. `status` is that of success; `path` has its numbers in braces.

    `refuses` adds statuses that are possible beside those of every operation. `is_guarded` asks If-Match, and
    `is_tagged` answers an ETag that it takes. What `is_careful` asks a browser's session who it is, if it has not lately.
    """

    method: str
    path: str
    permission: Permission
    act: Callable[..., Any]
    gives: Any
    status: int
    takes: type[Any] | None
    asks: type[Any] | None
    refuses: tuple[int, ...]
    is_tagged: bool
    is_guarded: bool
    is_careful: bool

    @property
    def name(self) -> str:
        """The identifier of the operation, for programs that are generated from the document."""
        return self.act.__name__

    @property
    def resource(self) -> str:
        """The noun that it belongs to: the first word of its path."""
        return self.path.split("/")[1]

    @property
    def about(self) -> str:
        """Its function's docstring."""
        return " ".join((self.act.__doc__ or "").split())

    @property
    def numbers(self) -> tuple[str, ...]:
        """The names of the numbers in its path."""
        return tuple(re.findall(r"{(\w+)}", self.path))

    @property
    def rule(self) -> str:
        """Its path as Flask writes it."""
        return PREFIX + re.sub(r"{(\w+)}", r"<int:\1>", self.path)

    @property
    def endpoint(self) -> str:
        """Its name among the views."""
        return f"api.{self.name}"

    def view(self) -> Callable[..., Response]:
        """Itself as a view, with the permission that it needs declared."""

        def run(**numbers: int) -> Response:
            given: dict[str, Any] = dict(numbers)
            if any(number < 1 for number in numbers.values()):
                raise Malformed((Fault("/path", "numbers of rows begin with 1"),))
            given |= {"query": _query(self.asks)} if self.asks is not None else _no_query()
            if self.takes is not None:
                given["body"] = shape.read(self.takes, _body())
            if self.is_careful:
                confirmed()
            return self._answer(self.act(**given))

        run.__name__ = self.name
        return needs(self.permission)(run)

    def _answer(self, value: Any) -> Response:
        if self.status == 204:
            return Response(status=204)
        answer = Response(as_json(value), self.status, content_type=MEDIA_TYPE)
        if self.is_tagged:
            answer.headers["ETag"] = f'"{tag(value)}"'
        return answer


def operation(
    method: str,
    path: str,
    permission: Permission,
    *,
    gives: Any = None,
    status: int = 200,
    takes: type[Any] | None = None,
    asks: type[Any] | None = None,
    refuses: tuple[int, ...] = (),
    is_tagged: bool = False,
    is_guarded: bool = False,
    is_careful: bool = False,
) -> Callable[[Callable[..., Any]], Operation]:
    """Declare the function below as an operation."""

    def declare(act: Callable[..., Any]) -> Operation:
        return Operation(
            method,
            path,
            permission,
            act,
            gives,
            status,
            takes,
            asks,
            refuses,
            is_tagged,
            is_guarded,
            is_careful,
        )

    return declare


class Unconfirmed(NotAuthorised):
    """A browser's session must prove again who it is, as the console would ask."""

    def __init__(self) -> None:
        super().__init__(
            "this session must prove again who it is", hint="open /me/confirm, then send it again"
        )


def confirmed() -> None:
    """Raise `Unconfirmed` if a session asks that was not confirmed lately. A token has its scopes instead."""
    if g.session is not None and not is_confirmed(g.session, now()):
        raise Unconfirmed


def as_json(value: Any) -> str:
    """`value` as JSON text."""
    return json.dumps(shape.write(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def tag(value: Any) -> str:
    """What changes when `value` does."""
    return sha256(as_json(value).encode()).hexdigest()[:24]


def unchanged(value: Any) -> None:
    """Raise unless the request's If-Match (RFC 9110 section 13.1.1) is that of `value`, as it is now."""
    if "If-Match" not in request.headers:
        raise PreconditionRequired
    sent = request.if_match
    if not sent.star_tag and not sent.contains(tag(value)):
        raise PreconditionFailed


def _query(kind: type[Any]) -> Any:
    hints = get_type_hints(kind, include_extras=True)
    faults = [
        Fault(f"/query/{name}", "this is given twice")
        for name, values in request.args.lists()
        if len(values) > 1
    ]
    if faults:
        raise Malformed(tuple(faults))
    return shape.read(
        kind, {name: shape.from_text(hints.get(name, str), value) for name, value in request.args.items()}
    )


def _no_query() -> Mapping[str, Any]:
    if request.args:
        raise Malformed(tuple(Fault(f"/query/{name}", "this means nothing here") for name in request.args))
    return {}


def _body() -> Any:
    if request.mimetype != MEDIA_TYPE:
        raise UnsupportedMediaType
    try:
        return json.loads(
            request.get_data().decode("utf-8"), parse_constant=_no_number, object_pairs_hook=_each_once
        )
    except (ValueError, RecursionError) as error:
        raise Malformed((Fault("", "the body is not JSON", "send JSON in UTF-8, each key once"),)) from error


def _no_number(word: str) -> NoReturn:
    raise ValueError(word)


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is there twice")
    return found
