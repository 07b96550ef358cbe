"""Tokens: what programs show instead of a password. The text of one is in the answer that made it and nowhere else.

A token never makes another that may do more, or lasts longer, than itself: else one that was lent for a day, or for a
list, would be as good as its maker for a year.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal

from flask import g

from appliance.catalog import Reading, api_tokens
from appliance.catalog.api_tokens import ApiToken
from appliance.errors import Unknown
from appliance.identity import tokens
from appliance.identity.permissions import Permission
from appliance.web import access, forms
from appliance.web.access import may
from appliance.web.api.operation import operation
from appliance.web.api.shape import Row, Shape
from appliance.web.console import console, now


@dataclass(frozen=True, slots=True)
class Token:
    """A token; nothing in it opens anything."""

    id: Row
    login: Annotated[str, Shape("In whose name it asks.")]
    name: Annotated[str, Shape("Which program uses it.")]
    scopes: Annotated[tuple[str, ...], Shape("What it may do, as far as its person may.")]
    state: Literal["good", "over", "removed"]
    created_utc: datetime
    expires_utc: datetime
    last_used_utc: datetime | None
    last_address: str


@dataclass(frozen=True, slots=True)
class Tokens:
    """One's own tokens, or everybody's for those who manage people; the latest first, with those that are over."""

    items: tuple[Token, ...]


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token to make in one's own name."""

    name: Annotated[
        str,
        Shape(
            "Which program will use it.",
            example="night report",
            shortest=1,
            longest=tokens.MOST_NAME_CHARACTERS,
        ),
    ]
    scopes: Annotated[
        tuple[Permission, ...],
        Shape("Some of what one may do oneself; as few as its program needs.", example=["health:view"]),
    ]
    days: Annotated[int, Shape("How long it is good.", example=90, least=1, most=tokens.LONGEST_DAYS)] = 90


@dataclass(frozen=True, slots=True)
class MadeToken:
    """A new token with its text."""

    token: Token
    text: Annotated[str, Shape("To send as a bearer token (RFC 6750). It is not shown again.")]


@operation("GET", "/tokens", Permission.USE_CONSOLE, gives=Tokens)
def list_tokens() -> Tokens:
    """List tokens."""
    own = None if may(Permission.MANAGE_USERS) else access.person().id
    with console().box.catalog.reading() as conn:
        return Tokens(tuple(_token(each) for each in api_tokens.tokens(conn, own)))


@operation("GET", "/tokens/{token_id}", Permission.USE_CONSOLE, gives=Token)
def get_token(token_id: int) -> Token:
    """Get one token."""
    with console().box.catalog.reading() as conn:
        return _token(_known(conn, token_id))


@operation(
    "POST",
    "/tokens",
    Permission.USE_CONSOLE,
    gives=MadeToken,
    takes=NewToken,
    status=201,
    refuses=(422,),
    is_careful=True,
)
def make_token(body: NewToken) -> MadeToken:
    """Make a token. Its text is answered once. One made with a token may do no more, and lasts no longer."""
    with console().box.catalog.transaction() as tx:
        text, made = tokens.make(
            tx,
            access.person(),
            name=body.name,
            scopes=body.scopes,
            days=body.days,
            now=now(),
            within=g.bearer,
        )
        details = {"of": made.login, "scopes": list(made.scopes)}
        console().record(tx, "token:add", f"token:{made.id}", forms.actor(), details)
    return MadeToken(_token(made), text)


@operation("DELETE", "/tokens/{token_id}", Permission.USE_CONSOLE, status=204)
def remove_token(token_id: int) -> None:
    """Take a token back, and all that were made with it: they open nothing from the next request on."""
    with console().box.catalog.transaction() as tx:
        found = _known(tx, token_id)
        for each in tokens.revoke(tx, found.id, by=forms.actor(), now=now()):
            console().record(tx, "token:remove", f"token:{each.id}", forms.actor(), {"of": each.login})


OPERATIONS = (list_tokens, get_token, make_token, remove_token)


def _known(conn: Reading, token_id: int) -> ApiToken:
    found = api_tokens.token(conn, token_id)
    if found is None or not (found.person_id == access.person().id or may(Permission.MANAGE_USERS)):
        raise Unknown("there is no such token", hint="list the tokens again")
    return found


def _token(each: ApiToken) -> Token:
    good = tokens.is_good(each, now())
    return Token(
        id=each.id,
        login=each.login,
        name=each.name,
        scopes=each.scopes,
        state="good" if good else "removed" if each.revoked_utc is not None else "over",
        created_utc=each.created_utc,
        expires_utc=each.expires_utc,
        last_used_utc=each.last_used_utc,
        last_address=each.last_address,
    )
