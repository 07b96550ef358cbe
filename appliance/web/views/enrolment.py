"""Setting up a second factor: by whoever is signed in, or by whoever must have one before being let in.

Both come by the same pages, because a person does the same: choose, show the new factor once, put the printed codes
away. Who it is comes from the session, or from the sign-in that has come half way; a session that was not confirmed
lately is asked to be first, for a factor added by a passer-by would be a way back in.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO

import segno
from flask import Blueprint, Response, current_app, g, redirect
from werkzeug.wrappers import Response as AnyResponse

from appliance import identity
from appliance.catalog import Transaction, second_factors
from appliance.catalog.people import Person
from appliance.errors import NotAuthorised, Refused, Unknown
from appliance.identity import (
    Proof,
    Stage,
    confirming,
    half_open,
    limits,
    one_time_codes,
    passkeys,
    policy,
    recovery_codes,
)
from appliance.identity.half_open import HalfOpen
from appliance.web import forms, security
from appliance.web.console import VISITOR, Notice, console, now
from appliance.web.entrance import arrived, failed, sign_in_cookie
from appliance.web.pages import Page, page_of, show
from appliance.web.site import passkey_site
from appliance.web.views.door import as_json, needed_site, wait_words
from appliance.web.views.second_factor import under_way

blueprint = Blueprint("enrolment", __name__, url_prefix="/enrol")


@dataclass(frozen=True, slots=True)
class Enrolling:
    """Who sets a factor up. `holder` is the digest of what that browser holds; `sign_in` is None for a session."""

    person: Person
    holder: str
    sign_in: HalfOpen | None


@dataclass(frozen=True, slots=True)
class ChoicePage(Page):
    """The ways there are: `codes` if that way is free; `passkeys` if this address allows them; `obliged` at the door."""

    error: str
    obliged: bool
    codes: bool
    passkeys: bool


@dataclass(frozen=True, slots=True)
class CodePage(Page):
    """The secret to be read by a telephone, or typed into it in groups of four."""

    error: str
    obliged: bool
    secret: str


@blueprint.get("")
def choice() -> AnyResponse:
    """The page on which one of them is chosen."""
    return _choice(_enrolling(), "", 200)


@blueprint.post("/code")
def begin_code() -> AnyResponse:
    """Draw a secret and show it."""
    who = _enrolling()
    with console().box.catalog.transaction() as tx:
        one_time_codes.begin(tx, console().box.root, who.person.id, now())
    return redirect("/enrol/code", 303)


@blueprint.get("/code")
def code() -> AnyResponse:
    """The secret, until a code has been shown."""
    return _code(_enrolling(), "", 200)


@blueprint.get("/code.svg")
def code_picture() -> Response:
    """The secret as a QR code."""
    found = _set_up(_enrolling())
    if found is None:
        raise Unknown("nothing waits to be set up", hint="go back to your account")
    picture = BytesIO()
    segno.make(found.address, error="m").save(
        picture, kind="svg", scale=6, border=4, xmldecl=False, svgclass=None, lineclass=None, light="#fff"
    )
    return current_app.response_class(picture.getvalue(), content_type="image/svg+xml")


@blueprint.post("/code/confirm")
def confirm_code() -> AnyResponse:
    """Let the codes count, if one of them is shown."""
    who, typed, moment = _enrolling(), forms.text("code"), now()
    root, address = console().box.root, security.address()
    cookie = ""
    with console().box.catalog.transaction() as tx:
        _still_may(tx, who)
        until = limits.wait_until(tx, who.person.login, address, moment)
        fits = until is None and one_time_codes.confirm(tx, root, who.person.id, typed, moment)
        if fits:
            cookie = _added(tx, who, Proof.ONE_TIME_CODE)
        elif until is None:
            sign_in = who.sign_in.id if who.sign_in is not None else ""
            identity.reject_factor(tx, who.person.login, address=address, now=moment, half_open_id=sign_in)
            failed(tx, who.person.login, VISITOR if sign_in else who.person.login)
    if until is not None:
        return _code(who, wait_words(until), 429)
    if not fits:
        return _code(who, g.words("factor.code_wrong"), 422)
    return _done(who, cookie)


@blueprint.post("/passkey/question")
def passkey_question() -> Response:
    """What a device is to make a passkey of."""
    site, who, moment = needed_site(), _enrolling(), now()
    with console().box.catalog.transaction() as tx:
        question = passkeys.ask_to_register(
            tx,
            console().box.root,
            who.person,
            site,
            holder=who.holder,
            now=moment,
            box_name=g.words("product"),
        )
    return as_json(question)


@blueprint.post("/passkey")
def passkey() -> AnyResponse:
    """Keep the passkey that the device has made."""
    site, who, moment = needed_site(), _enrolling(), now()
    name, answer = forms.text("name"), forms.document("answer")
    cookie = ""
    try:
        with console().box.catalog.transaction() as tx:
            _still_may(tx, who)
            made = passkeys.register(
                tx,
                who.person.id,
                site,
                holder=who.holder,
                name=name or g.words("enrol.passkey_unnamed"),
                answer=answer,
                now=moment,
            )
            if made:
                cookie = _added(tx, who, Proof.PASSKEY)
    except Refused as refusal:
        return _choice(who, forms.explain(refusal), 422)
    if not made:
        return _choice(who, g.words("enrol.passkey_failed"), 422)
    return _done(who, cookie)


def _enrolling() -> Enrolling:
    """Who it is. Raises `NotAuthorised` for anybody who has not come here by the pages before."""
    if g.session is not None:
        if not confirming.is_fresh(g.session, now(), within=confirming.LONG_ENOUGH_TO_ENROL):
            raise NotAuthorised(
                "it has been a while since you signed in", hint="go to your account and try again"
            )
        return Enrolling(g.session.person, g.session.id, None)
    sign_in = under_way(Stage.ENROLMENT_DUE)
    if sign_in is None:
        raise NotAuthorised("that is not the next step of signing in", hint="begin again with your password")
    return Enrolling(sign_in.person, sign_in.id, sign_in)


def _still_may(tx: Transaction, who: Enrolling) -> None:
    """At the door a first factor may be added, and no second one: of two who know the password, the first to finish
    has the account, and the other is as far as anybody with a password. Raises `NotAuthorised`."""
    if who.sign_in is None:
        return
    begun = half_open.find(tx, sign_in_cookie(), agent=security.agent(), now=now())
    if begun != who.sign_in or policy.has_second_factor(tx, who.person.id):
        raise NotAuthorised("that is not the next step of signing in", hint="begin again with your password")


def _added(tx: Transaction, who: Enrolling, proof: Proof) -> str:
    """Record the new factor, draw recovery codes if there are none, and let whoever was at the door in.

    Returns the cookie of the session that began, or nothing.
    """
    name, moment, address = who.person.login, now(), security.address()
    console().record(tx, "user:second-factor-add", name, name, {"kind": proof})
    cookie, holder = "", who.holder
    if who.sign_in is not None:
        agent = security.agent()
        cookie = identity.finish(tx, who.sign_in, Proof.NEW_FACTOR, address=address, agent=agent, now=moment)
        holder = identity.digest(cookie)
    if second_factors.recovery_codes_left(tx, who.person.id) == 0:
        codes = recovery_codes.draw(tx, console().box.root, who.person.id, moment)
        console().record(tx, "user:recovery-codes", name, name)
        console().once.put(holder, codes)
    if who.sign_in is not None:
        arrived(tx, cookie, who.person, Proof.NEW_FACTOR)
    notice = Notice("good", g.words("enrol.added"))
    console().notices.add(holder, notice)
    return cookie


def _done(who: Enrolling, cookie: str) -> AnyResponse:
    holder = identity.digest(cookie) if cookie else who.holder
    answer = redirect("/me/recovery-codes" if console().once.has(holder) else "/me", 303)
    return security.give_session(answer, cookie) if cookie else answer


def _set_up(who: Enrolling) -> one_time_codes.SetUp | None:
    with console().box.catalog.reading() as conn:
        return one_time_codes.set_up(
            conn, console().box.root, who.person.id, login=who.person.login, issuer=g.words("product")
        )


def _choice(who: Enrolling, error: str, status: int) -> Response:
    with console().box.catalog.reading() as conn:
        codes = not policy.has_codes(conn, who.person.id)
    page = page_of(
        ChoicePage,
        title=g.words("enrol.title"),
        error=error,
        obliged=who.sign_in is not None,
        codes=codes,
        passkeys=passkey_site() is not None,
    )
    return show("enrol.html", page, status)


def _code(who: Enrolling, error: str, status: int) -> AnyResponse:
    found = _set_up(who)
    if found is None:
        return redirect("/enrol", 303)
    groups = [found.secret[start : start + 4] for start in range(0, len(found.secret), 4)]
    page = page_of(
        CodePage,
        title=g.words("enrol.code_title"),
        error=error,
        obliged=who.sign_in is not None,
        secret=" ".join(groups),
    )
    return show("enrol-code.html", page, status)
