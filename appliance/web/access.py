"""What a view needs of whoever asks for it: declared beside the route, judged before the view by `security`.

A view that declares nothing and isn't open is refused to everybody: forgetting is safe.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from flask import current_app, g, request

from appliance.errors import NotAuthorised
from appliance.identity.permissions import Permission, permissions_of
from appliance.web.console import console

V = TypeVar("V", bound=Callable[..., object])

_DECLARED = "needed_permission"


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


def permissions() -> frozenset[Permission]:
    """What whoever asks may do: at this moment, so a change of role holds from the next request on."""
    return permissions_of(g.session.person.role) if g.get("session") is not None else frozenset()


def may(permission: Permission) -> bool:
    """Whether whoever asks may do that."""
    return permission in permissions()


def check() -> None:
    """Let the request through to its view, or raise `NotAuthorised` and say so in the audit, once a minute."""
    endpoint = request.endpoint or ""
    needed = needed_by(current_app.view_functions[endpoint])
    if needed is not None and may(needed):
        return
    session, console_ = g.session, console()
    what = (session.id, endpoint)
    details = {"needs": needed or ""}
    console_.record_once(console_.refused, what, "access:refuse", endpoint, session.person.login, details)
    raise NotAuthorised("your role does not include this", hint="ask an owner of the box if you need it")
