"""Who may do what: the table itself, for everybody to read."""

from __future__ import annotations

from dataclasses import dataclass

from flask import Blueprint, Response, g

from appliance.identity import Role
from appliance.identity.permissions import TABLE, Permission
from appliance.web import forms
from appliance.web.access import needs
from appliance.web.pages import Page, page_of, show

blueprint = Blueprint("roles", __name__)


@dataclass(frozen=True, slots=True)
class RoleColumn:
    """A role: its name, what it is, and whether it is the reader's own."""

    name: str
    about: str
    own: bool


@dataclass(frozen=True, slots=True)
class PermissionRow:
    """A permission in words, and whether each role has it."""

    words: str
    held: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class RolesPage(Page):
    """`appliance.identity.permissions.TABLE`, row by row."""

    roles: tuple[RoleColumn, ...]
    rows: tuple[PermissionRow, ...]


@blueprint.get("/roles")
@needs(Permission.USE_CONSOLE)
def table() -> Response:
    """The table, as it is enforced."""
    words, own = g.words, forms.session().person.role
    page = page_of(
        RolesPage,
        title=words("roles.title"),
        section="users",
        roles=tuple(
            RoleColumn(words(f"role.{role}"), words(f"role.{role}.about"), role.value == own) for role in Role
        ),
        rows=tuple(
            PermissionRow(words(f"permission.{each}"), tuple(each in TABLE[role] for role in Role))
            for each in Permission
        ),
    )
    return show("roles.html", page)
