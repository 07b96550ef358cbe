"""Signing in and out."""

from __future__ import annotations

from dataclasses import dataclass

from flask import Blueprint, g, redirect
from werkzeug.wrappers import Response

from appliance import identity
from appliance.catalog import people
from appliance.identity.permissions import Permission
from appliance.web import forms, security
from appliance.web.access import needs
from appliance.web.console import console, now
from appliance.web.pages import Page, page_of, show

blueprint = Blueprint("door", __name__)


@dataclass(frozen=True, slots=True)
class SignInPage(Page):
    """The form, with the login that was typed and what was wrong."""

    error: str
    login: str


@blueprint.get("/sign-in")
def form() -> Response:
    """The form; a box without an owner is claimed first."""
    if g.session is not None:
        return redirect("/", 303)
    with console().box.catalog.reading() as conn:
        if not people.anybody(conn):
            return redirect("/claim", 303)
    return _form("", "", 200)


@blueprint.post("/sign-in")
def sign_in() -> Response:
    """Open a session, or say as little as possible."""
    login, password = forms.text("login"), forms.secret("password")
    address, moment = security.address(), now()
    with console().box.catalog.reading() as conn:
        verdict = identity.examine(conn, login, password, address=address, now=moment)
    cookie = ""
    if not isinstance(verdict, identity.TooMany):
        with console().box.catalog.transaction() as tx:
            if isinstance(verdict, identity.Accepted):
                outcome = identity.accept(tx, verdict, address=address, agent=security.agent(), now=moment)
                if isinstance(outcome, str):
                    cookie = outcome
                    if g.session is not None:
                        people.end_session(tx, g.session.id)
                    name = verdict.person.login
                    console().record(tx, "user:login", name, name, {"address": address})
                else:
                    verdict = outcome
            if isinstance(verdict, identity.Rejected):
                identity.reject(tx, verdict.login, address=address, now=moment)
                console().record(tx, "user:login-fail", "sign-in", "visitor", {"address": address})
    match verdict:
        case identity.TooMany():
            return _form(g.words("door.too_many"), login, 429)
        case identity.Rejected():
            return _form(g.words("door.wrong"), login, 422)
        case _:
            return security.give_session(redirect("/", 303), cookie)


@blueprint.post("/sign-out")
@needs(Permission.USE_CONSOLE)
def sign_out() -> Response:
    """End the session, here and in the catalog."""
    with console().box.catalog.transaction() as tx:
        people.end_session(tx, forms.session().id)
        console().record(tx, "user:logout", forms.actor(), forms.actor())
    return security.take_session(redirect("/sign-in", 303))


def _form(error: str, login: str, status: int) -> Response:
    return show(
        "sign-in.html", page_of(SignInPage, title=g.words("door.title"), error=error, login=login), status
    )
