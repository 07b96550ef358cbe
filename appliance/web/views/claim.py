"""The claim of a new box: its code becomes an owner's account, once."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from flask import Blueprint, g, redirect, request
from werkzeug.wrappers import Response

from appliance import identity, settings
from appliance.catalog import people
from appliance.errors import Refused
from appliance.web import forms, security
from appliance.web.console import console, now
from appliance.web.pages import show
from appliance.web.views.setup.frame import SetupPage, setup_page
from appliance.wizard.steps import Step

blueprint = Blueprint("claim", __name__)


@dataclass(frozen=True, slots=True)
class ClaimPage(SetupPage):
    """The form of the claim, with what was typed but the secrets, and what was wrong with it.

    Where the way here `is_encrypted`, the page says what to compare: the digits in the browser with those on the box's screen. Chose not
    to write the fingerprint on the page, in words or digits: whoever sits in between passes the page on as it is, and it would agree.
    """

    name: str
    login: str
    is_encrypted: bool


@blueprint.get("/claim")
def form() -> Response:
    """The form, as long as there is no owner."""
    with console().box.catalog.reading() as conn:
        if people.anybody(conn):
            return redirect("/sign-in", 303)
    return _form("")


@blueprint.post("/claim")
def redeem() -> Response:
    """Make the owner, count a wrong code, or say that it is too late."""
    name, login = forms.text("name"), forms.text("login")
    password, code = forms.secret("password"), forms.text("code")
    if password != forms.secret("again"):
        return _form(forms.wrong("again", g.words("claim.passwords_differ")), name, login)
    address, moment = security.address(), now()
    cookie = ""
    try:
        with console().box.catalog.transaction() as tx:
            outcome = identity.redeem(
                tx,
                console().box.root,
                code,
                login=login,
                name=name,
                password=password,
                language=g.language,
                now=moment,
            )
            if isinstance(outcome, identity.Owner):
                person = outcome.person
                cookie = identity.open_session(
                    tx,
                    person.id,
                    address=address,
                    agent=security.agent(),
                    now=moment,
                    proof=identity.Proof.CLAIM,
                )
                with suppress(Refused):  # a language that the box cannot speak by itself yet
                    change = {"language.default": g.language}
                    settings.change(tx, console().box.audit_key, change, actor=person.login, now=moment)
                console().record(tx, "user:claim", person.login, person.login, {"address": address})
            elif isinstance(outcome, identity.WrongCode):
                details = {"address": address, "tries_left": outcome.tries_left}
                console().record(tx, "user:claim-fail", "claim", "visitor", details)
    except Refused as refusal:
        return _form(forms.explain(refusal), name, login)
    match outcome:
        case identity.Owner():
            return security.give_session(redirect("/setup", 303), cookie)
        case identity.WrongCode(tries_left=0) | identity.ClaimClosed(owned=False):
            return _form(forms.wrong("code", g.words("claim.used_up")), name, login)
        case identity.WrongCode(tries_left=left):
            return _form(forms.wrong("code", g.words("claim.wrong_code", n=left)), name, login)
        case _:
            return redirect("/sign-in", 303)


def _form(error: str, name: str = "", login: str = "") -> Response:
    page = setup_page(
        ClaimPage, Step.CLAIM, error=error, name=name, login=login, is_encrypted=request.is_secure
    )
    return show("setup/claim.html", page, 422 if error else 200)
