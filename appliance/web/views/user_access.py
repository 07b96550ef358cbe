"""Where another person is signed in and with what, for those who look after accounts: end it, or take it away."""

from __future__ import annotations

from dataclasses import dataclass

from flask import Blueprint, Response, g
from werkzeug.wrappers import Response as AnyResponse

from appliance import identity
from appliance.catalog import half_open, people, second_factors
from appliance.errors import NotAuthorised
from appliance.identity import policy
from appliance.identity.permissions import Permission
from appliance.web import access, forms
from appliance.web.access import needs, reauthenticated
from appliance.web.console import Notice, console, now
from appliance.web.pages import Page, page_of, show
from appliance.web.views.me import SessionLine, handle_of, session_line

blueprint = Blueprint("user_access", __name__, url_prefix="/users")


@dataclass(frozen=True, slots=True)
class UserAccessPage(Page):
    """Sessions and second factors of the user `id`; `may_end` and `may_remove` what whoever reads it may do."""

    id: int
    name: str
    sessions: tuple[SessionLine, ...]
    codes: bool
    passkeys: tuple[str, ...]
    recovery_left: int
    obliged: bool
    may_end: bool
    may_remove: bool


@blueprint.get("/<int:user_id>/access")
@needs(Permission.VIEW_USERS)
def show_access(user_id: int) -> Response:
    """The page."""
    session, moment = forms.session(), now()
    with console().box.catalog.reading() as conn:
        person = identity.known_person(conn, user_id)
        live = identity.live_sessions(conn, user_id, moment)
        page = page_of(
            UserAccessPage,
            title=g.words("user_access.title", name=person.name),
            section="users",
            id=person.id,
            name=person.name,
            sessions=tuple(session_line(each, session.id) for each in live),
            codes=policy.has_codes(conn, person.id),
            passkeys=tuple(each.name for each in second_factors.passkeys_of(conn, person.id)),
            recovery_left=second_factors.recovery_codes_left(conn, person.id),
            obliged=policy.is_obliged(conn, person),
            may_end=_may_reset(person.role),
            may_remove=access.may(Permission.MANAGE_USERS) and person.id != session.person.id,
        )
    return show("user-access.html", page)


@blueprint.post("/<int:user_id>/sessions/end")
@needs(Permission.RESET_USERS)
def end_session(user_id: int) -> AnyResponse:
    """End one session of a person."""
    handle = forms.text("handle")
    with console().box.catalog.transaction() as tx:
        person = identity.known_person(tx, user_id)
        identity.check_may_reset(access.permissions(), person.role)
        for each in people.sessions_of(tx, person.id):
            if handle_of(each) == handle and each.id != forms.session().id:
                people.end_session(tx, each.id)
                details = {"address": each.address, "why": "ended by another person"}
                console().record(tx, "session:end", f"user:{person.login}", forms.actor(), details)
    forms.say(Notice("good", g.words("me.session_ended")))
    return forms.back_to(f"/users/{user_id}/access")


@blueprint.post("/<int:user_id>/remove-second-factor")
@needs(Permission.MANAGE_USERS)
@reauthenticated
def remove_second_factor(user_id: int) -> AnyResponse:
    """Take codes, passkeys and recovery codes of a person who has lost them; sessions end."""
    with console().box.catalog.transaction() as tx:
        person = identity.known_person(tx, user_id)
        if person.id == forms.session().person.id:
            raise NotAuthorised(
                "one's own second factor is removed under one's own account", hint="go back to your account"
            )
        details = {
            "codes": second_factors.remove_one_time_secret(tx, person.id),
            "passkeys": second_factors.remove_passkeys(tx, person.id),
        }
        second_factors.remove_recovery_codes(tx, person.id)
        people.end_sessions_of(tx, person.id)
        half_open.remove_of(tx, person.id)
        console().record(tx, "user:second-factor-remove", f"user:{person.login}", forms.actor(), details)
    forms.say(Notice("good", g.words("user_access.removed", name=person.name)))
    return forms.back_to(f"/users/{user_id}/access")


def _may_reset(role: str) -> bool:
    try:
        identity.check_may_reset(access.permissions(), role)
    except NotAuthorised:
        return False
    return True
