"""The people who have an account: invite, change, deactivate, give a new password by a link."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, g, request
from werkzeug.wrappers import Response

from appliance import identity
from appliance.catalog import Transaction, account_links, grants, people
from appliance.catalog.people import Person
from appliance.errors import NotAuthorised, Refused, Unknown
from appliance.identity import MadeLink, Role
from appliance.identity.permissions import Permission
from appliance.web import access, forms, invitations
from appliance.web.access import may, needs, reauthenticated
from appliance.web.console import Notice, console, now
from appliance.web.language import Languages, Words
from appliance.web.pages import Page, page_of, show
from appliance.web.sharing import GrantLine, grant_lines

blueprint = Blueprint("users", __name__, url_prefix="/users")

TONES = {"active": "good", "invited": "wait", "deactivated": ""}


@dataclass(frozen=True, slots=True)
class UserLine:
    """A person as the list shows them; texts are ready to show."""

    id: int
    name: str
    login: str
    role: str
    state: str
    tone: str
    last_sign_in: str


@dataclass(frozen=True, slots=True)
class UsersPage(Page):
    """Everybody who has, or had, an account."""

    lines: tuple[UserLine, ...]


@dataclass(frozen=True, slots=True)
class Choices:
    """What a form about a person offers: word and label, and of a role what it is."""

    roles: tuple[tuple[str, str, str], ...]
    languages: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Typed:
    """What was typed into the form, or is recorded."""

    login: str = ""
    name: str = ""
    role: str = Role.ASSISTANT.value
    language: str = ""


@dataclass(frozen=True, slots=True)
class InvitePage(Page):
    """The form of an invitation; `mail` says whether the box can send it."""

    choices: Choices
    typed: Typed
    mail: bool
    error: str


@dataclass(frozen=True, slots=True)
class UserPage(Page):
    """One person: what is recorded, what may be done about it, and the studies granted.

    `seen` is what the form was made of; `faults` what somebody else has made of it meanwhile, where it was.
    `link` says until when a link is good that was not used, `self` that whoever reads is this person.
    """

    line: UserLine
    choices: Choices
    typed: Typed
    seen: str
    faults: tuple[tuple[str, str, str], ...]
    error: str
    active: bool
    invited: bool
    link: str
    sessions: int
    grants: tuple[GrantLine, ...]
    by_grant: bool
    may_reset: bool
    mail: bool
    self: bool


@blueprint.get("")
@needs(Permission.VIEW_USERS)
def listing() -> Response:
    """Everybody, those who may enter first."""
    with console().box.catalog.reading() as conn:
        found = people.people(conn)
    lines = sorted((_line(person, g.words) for person in found), key=lambda line: line.tone == "")
    return show(
        "users.html", page_of(UsersPage, title=g.words("users.title"), section="users", lines=tuple(lines))
    )


@blueprint.get("/invite")
@needs(Permission.MANAGE_USERS)
def form() -> Response:
    """The form of an invitation."""
    return _form(Typed(language=g.language))


@blueprint.post("/invite")
@needs(Permission.MANAGE_USERS)
@reauthenticated
def invite() -> Response:
    """Record the person, and show the link once."""
    typed = _typed()
    try:
        with console().box.catalog.transaction() as tx:
            link = identity.invite(
                tx,
                login=typed.login,
                name=typed.name,
                role=_role(typed.role),
                language=_language(typed.language),
                by=forms.actor(),
                now=now(),
            )
            sent = invitations.send(tx, link, request.host_url) if forms.text("mail") == "1" else False
            details = {"role": link.person.role, "mail": sent}
            console().record(tx, "user:invite", f"user:{link.person.login}", forms.actor(), details)
    except Refused as refusal:
        return _form(typed, forms.explain(refusal), 422)
    _say_link(link, sent)
    return forms.back_to(f"/users/{link.person.id}")


@blueprint.get("/<int:user_id>")
@needs(Permission.VIEW_USERS)
def user(user_id: int) -> Response:
    """One person."""
    return _page(user_id)


@blueprint.post("/<int:user_id>")
@needs(Permission.MANAGE_USERS)
@reauthenticated
def change(user_id: int) -> Response:
    """Record another login, name, role or language."""
    typed = _typed()
    try:
        with console().box.catalog.transaction() as tx:
            before = identity.known_person(tx, user_id)
            forms.check_unchanged(_seen(before))
            differs = identity.change_account(
                tx,
                user_id,
                login=typed.login,
                name=typed.name,
                role=_role(typed.role),
                language=_language(typed.language),
                now=now(),
            )
            if differs:
                console().record(tx, "user:change", f"user:{before.login}", forms.actor(), differs)
    except Unknown:
        raise
    except Refused as refusal:
        return _page(user_id, typed, forms.explain(refusal), forms.status_of(refusal))
    forms.say(Notice("good", g.words("user.changed" if differs else "user.unchanged")))
    return forms.back_to(f"/users/{user_id}" if may(Permission.VIEW_USERS) else "/")


@blueprint.post("/<int:user_id>/deactivate")
@needs(Permission.MANAGE_USERS)
@reauthenticated
def deactivate(user_id: int) -> Response:
    """Keep a person out from now on."""
    return _act(user_id, "user:deactivate", identity.deactivate, "user.deactivated")


@blueprint.post("/<int:user_id>/reactivate")
@needs(Permission.MANAGE_USERS)
@reauthenticated
def reactivate(user_id: int) -> Response:
    """Let a person in again."""
    return _act(user_id, "user:reactivate", identity.reactivate, "user.reactivated")


@blueprint.post("/<int:user_id>/end-sessions")
@needs(Permission.RESET_USERS)
def end_sessions(user_id: int) -> Response:
    """Sign a person out everywhere."""

    def end(tx: Transaction, person_id: int, _: object) -> Person:
        person = identity.known_person(tx, person_id)
        people.end_sessions_of(tx, person_id)
        return person

    return _act(user_id, "user:end-sessions", end, "user.sessions_ended")


@blueprint.post("/<int:user_id>/link")
@needs(Permission.RESET_USERS)
@reauthenticated
def link(user_id: int) -> Response:
    """Make a link to choose a password by, and show it once."""
    try:
        with console().box.catalog.transaction() as tx:
            identity.check_may_reset(access.permissions(), identity.known_person(tx, user_id).role)
            made = identity.make_link(tx, user_id, by=forms.actor(), now=now())
            sent = invitations.send(tx, made, request.host_url) if forms.text("mail") == "1" else False
            console().record(tx, "user:link", f"user:{made.person.login}", forms.actor(), {"mail": sent})
    except (Unknown, NotAuthorised):
        raise
    except Refused as refusal:
        forms.say_error(refusal)
    else:
        _say_link(made, sent)
    return forms.back_to(f"/users/{user_id}")


def _act(user_id: int, word: str, act: Callable[[Transaction, int, Any], Person], said: str) -> Response:
    try:
        with console().box.catalog.transaction() as tx:
            person = act(tx, user_id, now())
            console().record(tx, word, f"user:{person.login}", forms.actor())
    except Unknown:
        raise
    except Refused as refusal:
        forms.say_error(refusal)
    else:
        forms.say(Notice("good", g.words(said, name=person.name)))
    return forms.back_to(f"/users/{user_id}")


def _say_link(link: MadeLink, sent: bool) -> None:
    """Show a link on the next page, once."""
    words = g.words
    key = "user.link_reset" if link.person.password_set else "user.link_invite"
    text = words("user.link_text", until=words.moment(link.expires_utc))
    if sent:
        text = f"{words('user.link_sent', address=link.person.login)} {text}"
    forms.say(Notice("good", words(key, name=link.person.name), text, link.address(request.host_url)))


def _typed() -> Typed:
    return Typed(forms.text("login"), forms.text("name"), forms.text("role"), forms.text("language"))


def _role(text: str) -> Role:
    for role in Role:
        if role.value == text:
            return role
    raise Refused("there is no such role", hint="choose one of the list")


def _language(text: str) -> str:
    if text not in {code for code, _ in _languages()}:
        raise Refused("the console does not speak that language", hint="choose one of the list")
    return text


def _languages() -> tuple[tuple[str, str], ...]:
    return tuple((manner.code, manner.name) for manner in Languages.offered())


def _choices(words: Words) -> Choices:
    return Choices(
        roles=tuple((role.value, words(f"role.{role}"), words(f"role.{role}.about")) for role in Role),
        languages=_languages(),
    )


def _line(person: Person, words: Words) -> UserLine:
    return UserLine(
        id=person.id,
        name=person.name,
        login=person.login,
        role=words(f"role.{person.role}") if words.has(f"role.{person.role}") else person.role,
        state=words(f"user.state.{person.state}"),
        tone=TONES[person.state],
        last_sign_in=words.moment(person.last_sign_in_utc),
    )


def _form(typed: Typed, error: str = "", status: int = 200) -> Response:
    with console().box.catalog.reading() as conn:
        mail = invitations.can_send(conn)
    page = page_of(
        InvitePage,
        title=g.words("users.invite"),
        section="users",
        choices=_choices(g.words),
        typed=typed,
        mail=mail,
        error=error,
    )
    return show("user-invite.html", page, status)


def _seen(person: Person) -> Typed:
    """What the form of a person is made of."""
    return Typed(person.login, person.name, person.role, person.language)


def _meanwhile(typed: Typed, person: Person, words: Words) -> tuple[tuple[str, str, str], ...]:
    """What is recorded where it isn't what was typed: the field, its label, and what is true now."""
    names = {manner.code: manner.name for manner in Languages.offered()}
    lines = (
        ("name", "users.name", typed.name, person.name, person.name),
        ("login", "users.login", typed.login, person.login, person.login),
        ("role", "users.role", typed.role, person.role, words(f"role.{person.role}")),
        ("language", "frame.language", typed.language, person.language, names.get(person.language, "")),
    )
    return tuple(
        (f"field-{field}", words(label), words("settings.is_now", value=said or words("settings.empty")))
        for field, label, wanted, true, said in lines
        if wanted != true
    )


def _page(user_id: int, typed: Typed | None = None, error: str = "", status: int = 200) -> Response:
    moment = now()
    with console().box.catalog.reading() as conn:
        person = identity.known_person(conn, user_id)
        unused = account_links.of(conn, user_id)
        sessions = len(identity.live_sessions(conn, user_id, moment))
        granted = grant_lines(grants.of_user(conn, user_id), moment, g.words)
        mail = invitations.can_send(conn, person.login)
    page = page_of(
        UserPage,
        title=person.name,
        section="users",
        line=_line(person, g.words),
        choices=_choices(g.words),
        typed=typed or _seen(person),
        seen=forms.mark(_seen(person)) if typed is None else forms.mark_again(_seen(person), status),
        faults=_meanwhile(typed, person, g.words) if typed is not None and status == 409 else (),
        error=error,
        active=person.active,
        invited=person.state == "invited",
        link=g.words.moment(unused.expires_utc) if unused is not None and moment < unused.expires_utc else "",
        sessions=sessions,
        grants=granted,
        by_grant=identity.needs_grants(person) or bool(granted),
        may_reset=_may_reset(person),
        mail=mail,
        self=person.id == forms.session().person.id,
    )
    return show("user.html", page, status)


def _may_reset(person: Person) -> bool:
    try:
        identity.check_may_reset(access.permissions(), person.role)
    except NotAuthorised:
        return False
    return person.active
