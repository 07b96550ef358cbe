"""The second step of signing in: a code of the telephone, a passkey, or a recovery code of the printed sheet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from flask import Blueprint, Response, g, redirect, request
from werkzeug.exceptions import Unauthorized
from werkzeug.wrappers import Response as AnyResponse

from appliance import identity
from appliance.catalog import Transaction, second_factors
from appliance.identity import (
    Proof,
    Stage,
    half_open,
    limits,
    one_time_codes,
    passkeys,
    policy,
    recovery_codes,
)
from appliance.identity.half_open import HalfOpen
from appliance.identity.passkeys import Purpose
from appliance.web import forms, security
from appliance.web.console import console, now
from appliance.web.entrance import arrived, failed, sign_in_cookie
from appliance.web.pages import Page, page_of, show
from appliance.web.site import passkey_site
from appliance.web.views.door import as_json, needed_site, wait_words

blueprint = Blueprint("second_factor", __name__, url_prefix="/sign-in")


@dataclass(frozen=True, slots=True)
class SecondFactorPage(Page):
    """The ways that this account has, and what was wrong."""

    error: str
    codes: bool
    passkeys: bool
    recovery: bool


Shown = Callable[[Transaction, HalfOpen], bool]


@blueprint.get("/second-factor")
def form() -> AnyResponse:
    """The form, for whoever's password was right."""
    sign_in = under_way(Stage.SECOND_FACTOR_DUE)
    return _begin_again() if sign_in is None else _form(sign_in, "", 200)


@blueprint.post("/second-factor")
def code() -> AnyResponse:
    """Enter with a one-time code."""
    typed, moment = forms.text("code"), now()
    root = console().box.root

    def fits(tx: Transaction, sign_in: HalfOpen) -> bool:
        return one_time_codes.accept(tx, root, sign_in.person.id, typed, moment)

    return _try(Proof.ONE_TIME_CODE, fits, g.words("factor.code_wrong"))


@blueprint.post("/recovery-code")
def recovery_code() -> AnyResponse:
    """Enter with a code of the printed sheet; it is used up."""
    typed, moment = forms.text("recovery_code"), now()
    root = console().box.root

    def fits(tx: Transaction, sign_in: HalfOpen) -> bool:
        if not recovery_codes.use(tx, root, sign_in.person.id, typed, moment):
            return False
        left = second_factors.recovery_codes_left(tx, sign_in.person.id)
        name = sign_in.person.login
        console().record(tx, "user:recovery-code-use", name, name, {"left": left})
        return True

    return _try(Proof.RECOVERY_CODE, fits, g.words("factor.recovery_wrong"))


@blueprint.post("/second-factor/passkey/question")
def passkey_question() -> AnyResponse:
    """What a passkey of this person is to sign."""
    site, sign_in, moment = needed_site(), under_way(Stage.SECOND_FACTOR_DUE), now()
    if sign_in is None:
        return _begin_again()
    with console().box.catalog.transaction() as tx:
        question = passkeys.ask_to_sign(
            tx, site, Purpose.SECOND_FACTOR, holder=sign_in.id, person_id=sign_in.person.id, now=moment
        )
    return as_json(question)


@blueprint.post("/second-factor/passkey")
def passkey() -> AnyResponse:
    """Enter with a passkey."""
    site, answer, moment = needed_site(), forms.document("answer"), now()
    root = console().box.root

    def fits(tx: Transaction, sign_in: HalfOpen) -> bool:
        signed = passkeys.verify(
            tx,
            root,
            site,
            Purpose.SECOND_FACTOR,
            holder=sign_in.id,
            answer=answer,
            person_id=sign_in.person.id,
            now=moment,
        )
        if isinstance(signed, passkeys.Copied):
            details = {"address": security.address()}
            console().record(tx, "user:passkey-block", sign_in.person.login, "visitor", details)
        return isinstance(signed, passkeys.Verified)

    return _try(Proof.PASSKEY, fits, g.words("door.passkey_wrong"))


def under_way(stage: Stage) -> HalfOpen | None:
    """The sign-in that this browser has begun, if it has come to `stage`."""
    cookie = sign_in_cookie()
    if not cookie:
        return None
    with console().box.catalog.reading() as conn:
        found = half_open.find(conn, cookie, agent=security.agent(), now=now())
    return found if found is not None and found.stage is stage else None


def _try(proof: Proof, fits: Shown, wrong: str) -> AnyResponse:
    """Finish the sign-in if `fits` says so, in the transaction that uses the proof up; count a failure if not."""
    sign_in = under_way(Stage.SECOND_FACTOR_DUE)
    if sign_in is None:
        return _begin_again()
    address, agent, moment = security.address(), security.agent(), now()
    name, cookie = sign_in.person.login, ""
    with console().box.catalog.transaction() as tx:
        until = limits.wait_until(tx, name, address, moment)
        found = half_open.find(tx, sign_in_cookie(), agent=agent, now=moment)
        if (
            until is None and found == sign_in
        ):  # it may have been finished, or used up, since it was looked for
            if fits(tx, sign_in):
                cookie = identity.finish(tx, sign_in, proof, address=address, agent=agent, now=moment)
                arrived(tx, cookie, sign_in.person, proof)
            else:
                identity.reject_factor(tx, name, address=address, now=moment, half_open_id=sign_in.id)
                details = {"address": address, "proof": proof}
                console().record(tx, "user:second-factor-fail", name, "visitor", details)
                failed(tx, name)
    if cookie:
        return security.give_session(redirect("/", 303), cookie)
    if found is None:
        return _begin_again()
    if until is not None:
        return _form(sign_in, wait_words(until), 429)
    return _form(sign_in, wrong, 422)


def _begin_again() -> AnyResponse:
    if request.path.endswith("/question"):  # a script asks
        raise Unauthorized
    return redirect("/sign-in", 303)


def _form(sign_in: HalfOpen, error: str, status: int) -> Response:
    person_id, site = sign_in.person.id, passkey_site()
    with console().box.catalog.reading() as conn:
        page = page_of(
            SecondFactorPage,
            title=g.words("factor.title"),
            error=error,
            codes=policy.has_codes(conn, person_id),
            passkeys=bool(passkeys.usable(conn, person_id, site)),
            recovery=second_factors.recovery_codes_left(conn, person_id) > 0,
        )
    return show("second-factor.html", page, status)
