"""Colleagues: each gets a link to choose a password; nobody ever knows another's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from flask import Response, g, request
from werkzeug.wrappers import Response as AnyResponse

from appliance import certificates, identity
from appliance.catalog import people
from appliance.errors import Refused
from appliance.identity import Role
from appliance.identity.permissions import Permission
from appliance.web import forms
from appliance.web.access import needs, reauthenticated
from appliance.web.console import console, now
from appliance.web.language import NAMES
from appliance.web.pages import show
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
from appliance.wizard.steps import Step

FIELDS = ("login", "name", "role", "language")


@dataclass(frozen=True, slots=True)
class PersonLine:
    """Somebody with an account."""

    name: str
    login: str
    role: str
    state: str


@dataclass(frozen=True, slots=True)
class UsersPage(SetupPage):
    """Who has an account, the form, and the link that was just made: it is shown this once."""

    people: tuple[PersonLine, ...]
    roles: tuple[tuple[str, str], ...]
    languages: tuple[tuple[str, str], ...]
    typed: Mapping[str, str]
    link: str
    link_for: str


@blueprint.get("/users")
@needs(Permission.MANAGE_USERS)
@in_turn(Step.USERS)
def users() -> Response:
    """The people, and the form for one more."""
    return _form(typed_before(Step.USERS))


@blueprint.post("/users")
@needs(Permission.MANAGE_USERS)
@in_turn(Step.USERS)
@reauthenticated
def invite() -> AnyResponse:
    """An account and its link, which this answer alone carries."""
    typed = keep_typed(Step.USERS, *FIELDS)
    try:
        if typed["role"] not in set(Role) or typed["role"] == Role.VENDOR_SUPPORT:
            raise Refused("there is no such role", hint="choose one from the list")
        with console().box.catalog.transaction() as tx:
            made = identity.invite(
                tx,
                login=typed["login"],
                name=typed["name"],
                role=Role(typed["role"]),
                language=typed["language"] if typed["language"] in NAMES else g.language,
                by=forms.actor(),
                now=now(),
            )
            subject = f"user:{made.person.login}"
            console().record(tx, "user:invite", subject, forms.actor(), {"role": typed["role"]})
    except Refused as refusal:
        return _form(typed, said(refusal))
    accepted(Step.USERS, {"invited": made.person.login})
    return _form({}, link=made.address(_console_address()), link_for=made.person.name)


def _console_address() -> str:
    """How colleagues reach the console: by the name of its certificate if it is used, else as it was reached now."""
    with console().box.catalog.reading() as conn:
        found = certificates.installed(conn)
    if found is not None and request.is_secure:
        return f"https://{found.names[-1]}"
    return request.host_url.rstrip("/")


def _form(typed: Mapping[str, str], error: str = "", link: str = "", link_for: str = "") -> Response:
    words = g.words
    with console().box.catalog.reading() as conn:
        known = people.people(conn)
    page = setup_page(
        UsersPage,
        Step.USERS,
        error=error,
        people=tuple(
            PersonLine(
                each.name,
                each.login,
                words(f"setup.role.{each.role}"),
                words("setup.users.active" if each.password_set else "setup.users.invited"),
            )
            for each in known
        ),
        roles=tuple(
            (each.value, words(f"setup.role.{each}")) for each in Role if each is not Role.VENDOR_SUPPORT
        ),
        languages=tuple(NAMES.items()),
        typed={"login": "", "name": "", "role": Role.PRACTITIONER.value, "language": g.language, **typed},
        link=link,
        link_for=link_for,
    )
    return show("setup/users.html", page, 422 if error else 200)
