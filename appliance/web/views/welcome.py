"""The other end of a link: its holder learns whose account it is for, and chooses a password.

The link's secret comes behind the ``#`` of the address, so this page is the same for everybody until a script, or the
person, puts it into the form. What it opens is a form, not the console: the password that is chosen does, and the
second factor, if the account has one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from flask import Blueprint, g
from werkzeug.wrappers import Response

from appliance import identity
from appliance.catalog import people
from appliance.catalog.people import Person
from appliance.errors import Refused, Transient
from appliance.identity import limits
from appliance.web import forms, security
from appliance.web.console import VISITOR, console, now
from appliance.web.pages import Page, page_of, show

blueprint = Blueprint("welcome", __name__, url_prefix="/welcome")


@dataclass(frozen=True, slots=True)
class WelcomePage(Page):
    """The question for the code, the form for the password of `name`, or, once `done`, the way to the door."""

    error: str
    code: str
    name: str
    login: str
    done: bool


@blueprint.get("")
def form() -> Response:
    """The question for the code, which a script answers with what the address holds."""
    return _page()


@blueprint.post("")
def open_link() -> Response:
    """Show whose link it is, and ask for a password."""
    code = forms.secret("code").strip()
    try:
        person = _holder(code, now())
    except Refused as refusal:
        return _page(forms.explain(refusal), status=422)
    security.speak(person.language)
    return _page(code=code, person=person)


@blueprint.post("/password")
def choose() -> Response:
    """Set the password, once."""
    code, password, moment = forms.secret("code").strip(), forms.secret("password"), now()
    try:
        person = _holder(code, moment)
    except Refused as refusal:
        return _page(forms.explain(refusal), status=422)
    security.speak(person.language)
    if password != forms.secret("again"):
        return _page(forms.wrong("again", g.words("claim.passwords_differ")), code, person, status=422)
    try:
        identity.check_password(password, login=person.login, name=person.name)
        kept = identity.hash_password(password)  # slow on purpose, so outside the transaction
        with console().box.catalog.transaction() as tx:
            person = identity.redeem_link(tx, code, kept, moment)
            console().record(tx, "user:password", f"user:{person.login}", person.login)
    except (Refused, Transient) as refusal:
        return _page(forms.explain(refusal), code, person, status=422)
    return _page(person=person, done=True)


def _holder(code: str, moment: datetime) -> Person:
    """Whose link `code` is. Raises `Refused`; tries that fail count like failed sign-ins from this address."""
    address = security.address()
    with console().box.catalog.reading() as conn:
        if limits.wait_until(conn, f"link:{address}", address, moment) is not None:
            raise Refused(
                "too many tries from this computer", hint="wait a quarter of an hour, then try again"
            )
        try:
            return identity.link_holder(conn, code, moment)
        except Refused as refusal:
            refused = refusal
    with console().box.catalog.transaction() as tx:
        people.add_failure(tx, f"link:{address}", address, moment)
        console().record(tx, "user:link-fail", "link", VISITOR)
    raise refused


def _page(
    error: str = "", code: str = "", person: Person | None = None, *, done: bool = False, status: int = 200
) -> Response:
    page = page_of(
        WelcomePage,
        title=g.words("welcome.done" if done else "welcome.title"),
        error=error,
        code=code,
        name=person.name if person else "",
        login=person.login if person else "",
        done=done,
    )
    return show("welcome.html", page, status)
