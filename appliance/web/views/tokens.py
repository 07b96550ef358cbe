"""Tokens for machines: one's own, or everybody's for those who manage people; made, shown once, taken back."""

from __future__ import annotations

from dataclasses import dataclass

from flask import Blueprint, Response, g, request
from werkzeug.wrappers import Response as AnyResponse

from appliance.catalog import api_tokens
from appliance.catalog.api_tokens import ApiToken
from appliance.errors import Refused, Unknown
from appliance.identity import tokens
from appliance.identity.permissions import Permission
from appliance.web import forms
from appliance.web.access import may, needs, permissions, reauthenticated
from appliance.web.console import Notice, console, now
from appliance.web.pages import Page, page_of, show

blueprint = Blueprint("tokens", __name__, url_prefix="/me/tokens")

DAYS = (30, 90, 180, 366)


@dataclass(frozen=True, slots=True)
class TokenLine:
    """A token; `state` is good, over or removed."""

    id: int
    name: str
    of: str
    scopes: tuple[str, ...]
    state: str
    until: str
    used: str


@dataclass(frozen=True, slots=True)
class ScopeChoice:
    """A permission that a token may have."""

    word: str
    label: str
    chosen: bool


@dataclass(frozen=True, slots=True)
class TokensPage(Page):
    """The list, the form with what was chosen, and the new token, once."""

    tokens: tuple[TokenLine, ...]
    everybody: bool
    scopes: tuple[ScopeChoice, ...]
    days: tuple[int, ...]
    name: str
    made: str
    error: str


@blueprint.get("")
@needs(Permission.USE_CONSOLE)
def listing() -> Response:
    """The page."""
    made = console().once.take(forms.session().id)
    return _page("", 200, made=made[0] if made and made[0].startswith(tokens.PREFIX) else "")


@blueprint.post("/add")
@needs(Permission.USE_CONSOLE)
@reauthenticated
def add() -> AnyResponse:
    """Make one."""
    name, scopes = forms.text("name"), frozenset(request.form.getlist("scope")[: len(Permission)])
    days = forms.whole(forms.text("days"), low=1, high=tokens.LONGEST_DAYS, default=DAYS[1])
    session = forms.session()
    try:
        with console().box.catalog.transaction() as tx:
            text, made = tokens.make(tx, session.person, name=name, scopes=scopes, days=days, now=now())
            details = {"of": session.person.login, "scopes": list(made.scopes)}
            console().record(tx, "token:add", f"token:{made.id}", forms.actor(), details)
    except Refused as refusal:
        return _page(forms.explain(refusal), 422, name=name, chosen=scopes)
    console().once.put(session.id, (text,))
    return forms.back_to("/me/tokens")


@blueprint.post("/<int:token_id>/remove")
@needs(Permission.USE_CONSOLE)
def remove(token_id: int) -> AnyResponse:
    """Take one back: of one's own, or of anybody for those who manage people."""
    with console().box.catalog.transaction() as tx:
        found = api_tokens.token(tx, token_id)
        if found is None or not (found.person_id == forms.session().person.id or _sees_all()):
            raise Unknown("there is no such token", hint="list the tokens again")
        gone = tokens.revoke(tx, token_id, by=forms.actor(), now=now())
        for each in gone:
            console().record(tx, "token:remove", f"token:{each.id}", forms.actor(), {"of": each.login})
    along = g.words("tokens.removed_along", n=len(gone) - 1) if len(gone) > 1 else ""
    forms.say(Notice("good", g.words("tokens.removed", name=found.name), along))
    return forms.back_to("/me/tokens")


def _sees_all() -> bool:
    return may(Permission.MANAGE_USERS)


def _page(
    error: str, status: int, *, name: str = "", chosen: frozenset[str] = frozenset(), made: str = ""
) -> Response:
    person, everybody, words = forms.session().person, _sees_all(), g.words
    with console().box.catalog.reading() as conn:
        found = api_tokens.tokens(conn, None if everybody else person.id)
    mine = permissions()
    page = page_of(
        TokensPage,
        title=words("tokens.title"),
        section="me",
        tokens=tuple(_line(each) for each in found),
        everybody=everybody,
        scopes=tuple(
            ScopeChoice(each.value, permission_words(each.value), each.value in chosen)
            for each in Permission
            if each in mine and each is not Permission.USE_CONSOLE
        ),
        days=DAYS,
        name=name,
        made=made,
        error=error,
    )
    return show("tokens.html", page, status)


def _line(each: ApiToken) -> TokenLine:
    words = g.words
    good = tokens.is_good(each, now())
    used = words.moment(each.last_used_utc)
    return TokenLine(
        id=each.id,
        name=each.name,
        of=each.login,
        scopes=tuple(permission_words(scope) for scope in each.scopes),
        state="good" if good else "removed" if each.revoked_utc is not None else "over",
        until=words.moment(each.expires_utc),
        used=f"{used}, {each.last_address}" if used and each.last_address else used,
    )


def permission_words(word: str) -> str:
    """A permission as a person reads it; a word that is none any more as it is."""
    key = f"scope.{word.replace(':', '.')}"
    return str(g.words(key)) if g.words.has(key) else word
