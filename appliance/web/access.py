"""What a view needs of whoever asks for it: declared beside the route, judged before the view by `security`.

A view that declares nothing and isn't open is refused to everybody: forgetting is safe.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from flask import current_app, g, request
from werkzeug.wrappers import Response

from appliance.catalog.people import Person
from appliance.catalog.sight import Sight
from appliance.catalog.sight import study as study_row
from appliance.errors import NotAuthorised, Unknown
from appliance.identity.permissions import Permission, permissions_of
from appliance.identity.tokens import Bearer
from appliance.web.console import console, now

V = TypeVar("V", bound=Callable[..., object])

P = ParamSpec("P")
NOBODY = 0
"""No user's row id: nothing is granted to it."""

_DECLARED = "needed_permission"
_ASKS = "asks_who_it_is"


def needs(permission: Permission) -> Callable[[V], V]:
    """Show the view to those only who have `permission`. Goes below the route: ``@blueprint.get(…)``, ``@needs(…)``."""

    def declare(view: V) -> V:
        setattr(view, _DECLARED, permission)
        return view

    return declare


def needed_by(view: Callable[..., object]) -> Permission | None:
    """What `view` declares; None if it declares nothing."""
    found = getattr(view, _DECLARED, None)
    return found if isinstance(found, Permission) else None


def reauthenticated(view: Callable[P, Response]) -> Callable[P, Response]:
    """Let only somebody reach the view who has proved within five minutes who it is; ask whoever has not, then go on.

    Goes below ``@needs(…)``. What was sent is not lost meanwhile: see `appliance.web.reauthentication`.
    """

    @functools.wraps(view)
    def asking(*arguments: P.args, **named: P.kwargs) -> Response:
        from appliance.web.reauthentication import ask_first  # its pages look here for what may be done

        return ask_first(lambda: view(*arguments, **named))

    setattr(asking, _ASKS, True)
    return asking


def is_reauthenticated(view: Callable[..., object]) -> bool:
    """Whether `view` asks again who it is."""
    return bool(getattr(view, _ASKS, False))


def permissions() -> frozenset[Permission]:
    """What whoever asks may do: at this moment, so a change of role holds from the next request on."""
    if g.get("bearer") is not None:
        bearer: Bearer = g.bearer
        return bearer.permissions
    return permissions_of(g.session.person.role) if g.get("session") is not None else frozenset()


def person() -> Person:
    """Whoever asks, in a session or by a token. Only where one of them is."""
    asks = g.bearer if g.get("bearer") is not None else g.session
    found = asks.person
    assert isinstance(found, Person)
    return found


def visit() -> str:
    """What all requests of one session, or by one token, have in common: for what is noted once for each."""
    return f"token {g.bearer.token.id}" if g.bearer is not None else str(g.session.id)


def may(permission: Permission) -> bool:
    """Whether whoever asks may do that."""
    return permission in permissions()


def sight() -> Sight:
    """How far whoever asks may see: what every query for studies is asked with."""
    granted = permissions()
    sees = Permission.VIEW_STUDIES in granted
    return Sight(
        person_id=person().id if sees else NOBODY,
        at=now(),
        all_studies=sees and Permission.ALL_STUDIES in granted,
        veil=None if Permission.IDENTIFY_PATIENTS in granted else console().veil,
    )


def not_there(kind: str, number: int) -> Unknown:
    """The answer for a study or an image that whoever asks may not see: the same as for one that never was.

    If it was asked by somebody who doesn't see all studies, the audit says so.
    """
    if not may(Permission.ALL_STUDIES):
        asks, console_ = person(), console()
        console_.record_once(
            console_.refused,
            (visit(), kind, number),
            "access:refuse",
            f"{kind}:{number}",
            asks.login,
        )
    return Unknown(f"there is no such {kind}", hint="go back to the studies")


def check_study(study_id: int) -> None:
    """Raise what `not_there` gives, if whoever asks may not see that study.

    Before a transaction, never within: the refusal's row in the audit is a transaction of its own.
    """
    with console().box.catalog.reading() as conn:
        row = study_row(conn, sight(), study_id)
    if row is None:
        raise not_there("study", study_id)


def check() -> None:
    """Let the request through to its view, or raise `NotAuthorised` and say so in the audit, once a minute."""
    endpoint = request.endpoint or ""
    needed = needed_by(current_app.view_functions[endpoint])
    if needed is not None and may(needed):
        return
    asks, console_ = person(), console()
    what = (visit(), endpoint)
    details = {"needs": needed or ""}
    console_.record_once(console_.refused, what, "access:refuse", endpoint, asks.login, details)
    if g.bearer is not None:
        raise NotAuthorised("this token may not do that", hint="make one with the scope that is needed")
    raise NotAuthorised("your role does not include this", hint="ask an owner of the box if you need it")
