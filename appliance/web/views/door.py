"""Signing in with a password or a passkey, and out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from flask import Blueprint, Response, current_app, g, redirect
from werkzeug.exceptions import TooManyRequests
from werkzeug.wrappers import Response as AnyResponse

from appliance import identity
from appliance.catalog import people
from appliance.errors import Refused
from appliance.identity import Proof, Stage, limits, passkeys
from appliance.identity.passkeys import Purpose
from appliance.identity.permissions import Permission
from appliance.web import forms, security
from appliance.web.access import needs
from appliance.web.console import console, now
from appliance.web.entrance import arrived, failed
from appliance.web.pages import Page, page_of, show
from appliance.web.site import passkey_site

blueprint = Blueprint("door", __name__)

NEXT_PAGE = {Stage.SECOND_FACTOR_DUE: "/sign-in/second-factor", Stage.ENROLMENT_DUE: "/enrol"}
BY_PASSKEY = "passkey"
"""Stands for the login among failures where a passkey alone was shown: whose it is, is not known then."""


@dataclass(frozen=True, slots=True)
class SignInPage(Page):
    """The form, with the login that was typed and what was wrong; `passkeys` when this address allows them."""

    error: str
    login: str
    passkeys: bool


@blueprint.get("/sign-in")
def form() -> AnyResponse:
    """The form; a box without an owner is claimed first."""
    if g.session is not None:
        return redirect("/", 303)
    with console().box.catalog.reading() as conn:
        if not people.anybody(conn):
            return redirect("/claim", 303)
    return _form("", "", 200)


@blueprint.post("/sign-in")
def sign_in() -> AnyResponse:
    """Open a session, go on to what is due, or say as little as possible."""
    login, password = forms.text("login"), forms.secret("password")
    address, agent, moment = security.address(), security.agent(), now()
    with console().box.catalog.reading() as conn:
        verdict = identity.examine(conn, login, password, address=address, now=moment)
    outcome: str | identity.Due | identity.Rejected | identity.TooMany
    with console().box.catalog.transaction() as tx:
        if isinstance(verdict, identity.Accepted):
            outcome = identity.accept(tx, verdict, address=address, agent=agent, now=moment)
        else:
            outcome = verdict
        match outcome:
            case str():
                assert isinstance(verdict, identity.Accepted)
                arrived(tx, outcome, verdict.person, Proof.PASSWORD)
            case identity.Rejected():
                identity.reject(tx, outcome.login, address=address, now=moment)
                console().record(tx, "user:login-fail", "sign-in", "visitor", {"address": address})
                failed(tx, outcome.login)
    match outcome:
        case identity.TooMany(until=until):
            return _form(wait_words(until), login, 429)
        case identity.Rejected():
            return _form(forms.wrong("password", g.words("door.wrong")), login, 422)
        case identity.Due(stage, cookie):
            return security.give_sign_in(redirect(NEXT_PAGE[stage], 303), cookie)
        case cookie:
            return security.give_session(redirect("/", 303), cookie)


@blueprint.post("/sign-in/passkey/question")
def passkey_question() -> Response:
    """What a passkey of anybody is to sign."""
    site = needed_site()
    if not console().questions.allows(security.address()):
        raise TooManyRequests
    moment = now()
    with console().box.catalog.transaction() as tx:
        question = passkeys.ask_to_sign(
            tx, site, Purpose.SIGN_IN, holder=security.visitor(), person_id=None, now=moment
        )
    return as_json(question)


@blueprint.post("/sign-in/passkey")
def passkey() -> AnyResponse:
    """Open a session for whoever's passkey has signed."""
    site, answer = needed_site(), forms.document("answer")
    address, agent, moment = security.address(), security.agent(), now()
    cookie = ""
    with console().box.catalog.transaction() as tx:
        until = limits.wait_until(tx, BY_PASSKEY, address, moment)
        if until is None:
            signed = passkeys.verify(
                tx,
                console().box.root,
                site,
                Purpose.SIGN_IN,
                holder=security.visitor(),
                answer=answer,
                person_id=None,
                now=moment,
            )
            person = people.person_by_id(tx, signed.passkey.person_id) if signed is not None else None
            if isinstance(signed, passkeys.Copied) and person is not None:
                console().record(tx, "user:passkey-block", person.login, "visitor", {"address": address})
            elif person is not None and person.active:
                cookie = identity.enter(tx, person, Proof.PASSKEY, address=address, agent=agent, now=moment)
                arrived(tx, cookie, person, Proof.PASSKEY)
            if not cookie:
                identity.reject(tx, BY_PASSKEY, address=address, now=moment)
                console().record(tx, "user:login-fail", "sign-in", "visitor", {"address": address})
    if until is not None:
        return _form(wait_words(until), "", 429)
    if not cookie:
        return _form(g.words("door.passkey_wrong"), "", 422)
    return security.give_session(redirect("/", 303), cookie)


@blueprint.post("/sign-out")
@needs(Permission.USE_CONSOLE)
def sign_out() -> AnyResponse:
    """End the session, here and in the catalog."""
    with console().box.catalog.transaction() as tx:
        people.end_session(tx, forms.session().id)
        console().record(tx, "user:logout", forms.actor(), forms.actor())
    return security.take_session(redirect("/sign-in", 303))


# --- what the other pages of signing in share ------------------------------------------------------------------------


def wait_words(until: datetime) -> str:
    """That there were too many failures, and when to try again."""
    return str(g.words("door.too_many", at=g.words.moment(until)))


def needed_site() -> passkeys.Site:
    """The site of this request, for passkeys. Raises `Refused` where there can be none."""
    site = passkey_site()
    if site is None:
        raise Refused(
            "passkeys do not work at this address",
            hint="open the console by its name and with https, or use an authenticator app",
        )
    return site


def as_json(text: str) -> Response:
    """JSON that is text already."""
    return current_app.response_class(text, content_type="application/json")


def _form(error: str, login: str, status: int) -> Response:
    page = page_of(
        SignInPage,
        title=g.words("door.title"),
        error=error,
        login=login,
        passkeys=passkey_site() is not None,
    )
    return show("sign-in.html", page, status)
