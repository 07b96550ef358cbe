"""Asking again who it is, before an act that does harm in the wrong hands; then the act goes on.

If the session was not confirmed within five minutes, the form that was sent is held (`appliance.web.held`), and a page
asks for the password or a second factor. That page sends its answer to the same address, with the ticket of the form,
and the view then sees the form as it was sent. Chosen over hidden fields, because a secret that was typed must not
travel back into a page; over remembering only the address, because nobody should have to type a form twice.

The decorator is `appliance.web.access.reauthenticated`. A session that was confirmed has a new cookie from then on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from flask import g, redirect, request
from werkzeug.exceptions import BadRequest
from werkzeug.wrappers import Response

from appliance import identity
from appliance.catalog.people import WebSession
from appliance.identity import confirming, limits, passkeys, policy
from appliance.identity.passkeys import Purpose
from appliance.web import forms, security
from appliance.web.console import console, now
from appliance.web.entrance import failed
from appliance.web.held import Held
from appliance.web.pages import Page, is_partial, page_of, show
from appliance.web.site import passkey_site

HELD_FIELD = "held"
PASSWORD_FIELD = "confirm_password"  # noqa: S105 -- the name of a field
CODE_FIELD = "confirm_code"
ANSWER_FIELD = "answer"
CONFIRM_ADDRESS = "/me/confirm"


@dataclass(frozen=True, slots=True)
class ConfirmPage(Page):
    """Who is it? `action` is where the answer goes, `held` the ticket of what waits there."""

    error: str
    action: str
    held: str
    login: str
    codes: bool
    passkeys: bool


def ask_first(view: Callable[[], Response]) -> Response:
    """Go on to `view` if whoever asks has proved lately who it is, or does so with this request; else ask.

    A token proves itself with every request.
    """
    if g.bearer is not None:
        return view()
    session, moment, ticket = forms.session(), now(), request.form.get(HELD_FIELD, "")
    if not ticket:
        if is_confirmed(session, moment):
            return view()
        return _ask(console().held.keep(Held(session.id, request.method, request.path, request.form)))
    held = console().held.find(ticket, session.id)
    if held is None or (held.method, held.path) != (request.method, request.path):
        raise BadRequest("what was asked for is no longer there")
    refusal = None if is_confirmed(session, moment) else _confirm(session, moment)
    if refusal is not None:
        return _ask(ticket, *refusal)
    console().held.drop(ticket)
    request.form = held.form
    return view()


def confirm_and_return() -> Response:
    """The same for a page that was only to be seen: confirm, then go to it."""
    session, moment, ticket = forms.session(), now(), request.form.get(HELD_FIELD, "")
    held = console().held.find(ticket, session.id)
    if held is None or held.method != "GET":
        raise BadRequest("what was asked for is no longer there")
    refusal = None if is_confirmed(session, moment) else _confirm(session, moment)
    if refusal is not None:
        return _ask(ticket, *refusal)
    console().held.drop(ticket)
    return redirect(held.path, 303)


def is_confirmed(session: WebSession, moment: datetime) -> bool:
    """Whether whoever is at `session` has proved lately who it is."""
    return confirming.is_fresh(session, moment)


def _confirm(session: WebSession, moment: datetime) -> tuple[str, int] | None:
    """Look at what the page was answered with. None if it proves who it is; else what to say, and the status."""
    password, code = forms.secret(PASSWORD_FIELD), forms.text(CODE_FIELD)
    answer, site = forms.document(ANSWER_FIELD), passkey_site()
    login, address, root = session.person.login, security.address(), console().box.root
    with console().box.catalog.reading() as conn:
        until = limits.wait_until(conn, login, address, moment)
        fits = until is None and confirming.password_fits(conn, session, password)
    with console().box.catalog.transaction() as tx:
        until = limits.wait_until(tx, login, address, moment)
        if until is not None:
            return g.words("door.too_many", at=g.words.moment(until)), 429
        if not fits and answer and site is not None:
            signed = passkeys.verify(
                tx,
                root,
                site,
                Purpose.CONFIRM,
                holder=session.id,
                answer=answer,
                person_id=session.person.id,
                now=moment,
            )
            fits = isinstance(signed, passkeys.Verified)
            if isinstance(signed, passkeys.Copied):
                console().record(tx, "user:passkey-block", login, login, {"address": address})
        elif not fits:
            fits = confirming.code_fits(tx, root, session, code, moment)
        if not fits:
            reject = identity.reject if password else identity.reject_factor
            reject(tx, login, address=address, now=moment)
            console().record(tx, "user:confirm-fail", login, login, {"address": address})
            failed(tx, login, login)
            return forms.wrong(
                "confirm_password" if password else "confirm_code", g.words("confirm.wrong")
            ), 422
        cookie = identity.renew(tx, session, moment)
        console().record(tx, "user:confirm", login, login, {"address": address})
        g.session = identity.find_session(tx, cookie, moment)
    security.give_new_cookie(cookie)
    return None


def _ask(ticket: str, error: str = "", status: int = 200) -> Response:
    session = forms.session()
    with console().box.catalog.reading() as conn:
        page = page_of(
            ConfirmPage,
            title=g.words("confirm.title"),
            error=error,
            action=CONFIRM_ADDRESS if request.method == "GET" else request.path,
            held=ticket,
            login=session.person.login,
            codes=policy.has_codes(conn, session.person.id),
            passkeys=bool(passkeys.usable(conn, session.person.id, passkey_site())),
        )
    answer = show("confirm.html", page, status)
    if is_partial():  # a part of a page cannot ask: the whole page does
        answer.headers["HX-Retarget"] = "body"
        answer.headers["HX-Reswap"] = "innerHTML"
    return answer
