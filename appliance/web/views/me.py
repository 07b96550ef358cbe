"""One's own account: second factors, recovery codes, sessions, password."""

from __future__ import annotations

from dataclasses import dataclass, replace

from flask import Blueprint, Response, g, jsonify, redirect
from werkzeug.wrappers import Response as AnyResponse

from appliance import identity
from appliance.catalog import emergencies, people, second_factors
from appliance.catalog.people import WebSession
from appliance.errors import Refused, Unknown
from appliance.identity import passkeys, policy, recovery_codes
from appliance.identity.passkeys import Purpose
from appliance.identity.permissions import Permission
from appliance.web import forms, reauthentication
from appliance.web.access import may, needs, reauthenticated
from appliance.web.activity import ActivityLine, lately
from appliance.web.console import Notice, console, now
from appliance.web.entrance import device_words
from appliance.web.pages import Page, page_of, show
from appliance.web.site import passkey_site
from appliance.web.views.door import as_json, needed_site

blueprint = Blueprint("me", __name__, url_prefix="/me")

HANDLE_CHARACTERS = 16


@dataclass(frozen=True, slots=True)
class PasskeyLine:
    """A passkey; `trouble` says why it does not work here, if it doesn't."""

    id: int
    name: str
    added: str
    used: str
    trouble: str


@dataclass(frozen=True, slots=True)
class SessionLine:
    """A session; `handle` names it in forms."""

    handle: str
    device: str
    address: str
    began: str
    seen: str
    proof: str
    current: bool


@dataclass(frozen=True, slots=True)
class AccountPage(Page):
    """Everything about oneself. `protected`: a password alone does not open the account."""

    name: str
    login: str
    role: str
    protected: bool
    obliged: bool
    codes: bool
    passkeys: tuple[PasskeyLine, ...]
    recovery_left: int
    recovery_few: bool
    sessions: tuple[SessionLine, ...]
    activity: tuple[ActivityLine, ...]
    emergencies: int
    error: str


@dataclass(frozen=True, slots=True)
class RecoveryPage(Page):
    """The codes, once; for paper."""

    codes: tuple[str, ...]
    login: str
    day: str


@blueprint.get("")
@needs(Permission.USE_CONSOLE)
def account() -> Response:
    """The page."""
    return _page("", 200)


@blueprint.get("/confirm")
@needs(Permission.USE_CONSOLE)
@reauthenticated
def confirmed() -> AnyResponse:
    """Say who it is, for a program of this browser that was told to let its person do so."""
    return redirect("/me", 303)


@blueprint.post("/confirm")
@needs(Permission.USE_CONSOLE)
def confirm() -> AnyResponse:
    """Say who it is, then go to the page that asked."""
    return reauthentication.confirm_and_return()


@blueprint.post("/confirm/question")
@needs(Permission.USE_CONSOLE)
def confirm_question() -> Response:
    """What a passkey of this person is to sign, to say who it is."""
    site, session = needed_site(), forms.session()
    with console().box.catalog.transaction() as tx:
        question = passkeys.ask_to_sign(
            tx, site, Purpose.CONFIRM, holder=session.id, person_id=session.person.id, now=now()
        )
    return as_json(question)


# --- second factors --------------------------------------------------------------------------------------------------


@blueprint.post("/second-factor/add")
@needs(Permission.USE_CONSOLE)
@reauthenticated
def add_factor() -> AnyResponse:
    """To the pages on which one is set up."""
    return redirect("/enrol", 303)


@blueprint.post("/codes/remove")
@needs(Permission.USE_CONSOLE)
@reauthenticated
def remove_codes() -> AnyResponse:
    """Let the telephone's codes open nothing any more."""
    person = forms.session().person
    with console().box.catalog.transaction() as tx:
        if policy.has_codes(tx, person.id):
            _refuse_last(policy.may_remove_one(tx, person))
        if second_factors.remove_one_time_secret(tx, person.id):
            console().record(
                tx, "user:second-factor-remove", person.login, person.login, {"kind": "one-time-code"}
            )
    forms.say(Notice("good", g.words("me.codes_removed")))
    return forms.back_to("/me")


@blueprint.post("/passkeys/<int:passkey_id>/remove")
@needs(Permission.USE_CONSOLE)
@reauthenticated
def remove_passkey(passkey_id: int) -> AnyResponse:
    """Let a passkey open nothing any more."""
    person = forms.session().person
    with console().box.catalog.transaction() as tx:
        _refuse_last(policy.may_remove_one(tx, person))
        if not second_factors.remove_passkey(tx, person.id, passkey_id):
            raise Unknown("there is no such passkey", hint="go back to your account")
        console().record(tx, "user:second-factor-remove", person.login, person.login, {"kind": "passkey"})
    forms.say(Notice("good", g.words("me.passkey_removed")))
    return forms.back_to("/me")


def _refuse_last(may: bool) -> None:
    if not may:
        raise Refused(
            "your role must have a second factor", hint="add another one first, then remove this one"
        )


@blueprint.post("/recovery-codes")
@needs(Permission.USE_CONSOLE)
@reauthenticated
def draw_codes() -> AnyResponse:
    """New codes; the sheet that was printed before is void."""
    session = forms.session()
    with console().box.catalog.transaction() as tx:
        codes = recovery_codes.draw(tx, console().box.root, session.person.id, now())
        console().record(tx, "user:recovery-codes", session.person.login, session.person.login)
    console().once.put(session.id, codes)
    return forms.back_to("/me/recovery-codes")


@blueprint.get("/recovery-codes")
@needs(Permission.USE_CONSOLE)
def recovery_sheet() -> AnyResponse:
    """The codes that were just drawn, once."""
    session = forms.session()
    codes = console().once.take(session.id)
    if not codes:
        return redirect("/me", 303)
    page = page_of(
        RecoveryPage,
        title=g.words("recovery.title"),
        codes=codes,
        login=session.person.login,
        day=g.words.moment(now()),
    )
    return show("recovery-codes.html", page)


# --- sessions and password -------------------------------------------------------------------------------------------


@blueprint.get("/session")
@needs(Permission.USE_CONSOLE)
def session_state() -> Response:
    """How long this session lasts, for the page that warns before its end. Asking is no use of it.

    Whoever has signed in anew in another window gets the token that the forms of the first one need from now on.
    """
    session, moment, limits = forms.session(), now(), g.limits
    ends, last = identity.ends_utc(session, limits), identity.last_end_utc(session, limits)
    return jsonify(
        {
            "login": session.person.login,
            "left_seconds": max(0, int((ends - moment).total_seconds())),
            "can_stay": last - moment > limits.idle or last > ends,
            "csrf": session.csrf,
        }
    )


@blueprint.post("/session/stay")
@needs(Permission.USE_CONSOLE)
def stay() -> Response:
    """Somebody is there: the session goes on, to its absolute end at most."""
    session, moment = forms.session(), now()
    with console().box.catalog.transaction() as tx:
        people.see_session(tx, session.id, moment)
    g.session = replace(session, seen_utc=moment)
    return session_state()


@blueprint.post("/sessions/end")
@needs(Permission.USE_CONSOLE)
def end_session() -> AnyResponse:
    """End one of one's sessions."""
    session, handle = forms.session(), forms.text("handle")
    with console().box.catalog.transaction() as tx:
        for each in people.sessions_of(tx, session.person.id):
            if each.id != session.id and handle_of(each) == handle:
                people.end_session(tx, each.id)
                console().record(
                    tx, "session:end", session.person.login, forms.actor(), {"address": each.address}
                )
    forms.say(Notice("good", g.words("me.session_ended")))
    return forms.back_to("/me")


@blueprint.post("/sessions/end-others")
@needs(Permission.USE_CONSOLE)
def end_other_sessions() -> AnyResponse:
    """End all of them but this one."""
    session = forms.session()
    with console().box.catalog.transaction() as tx:
        ended = people.end_other_sessions(tx, session.person.id, session.id)
        console().record(tx, "session:end", session.person.login, forms.actor(), {"count": ended})
    forms.say(Notice("good", g.words("me.sessions_ended", n=ended)))
    return forms.back_to("/me")


@blueprint.post("/password")
@needs(Permission.USE_CONSOLE)
@reauthenticated
def change_password() -> AnyResponse:
    """Another password; other sessions end."""
    session, password = forms.session(), forms.secret("password")
    if password != forms.secret("again"):
        return _page(forms.wrong("again", g.words("claim.passwords_differ")), 422)
    try:
        identity.check_password(password, login=session.person.login, name=session.person.name)
    except Refused as refusal:
        return _page(forms.explain(refusal), 422)
    kept = identity.hash_password(password)
    with console().box.catalog.transaction() as tx:
        people.set_password(tx, session.person.id, kept, now())
        people.end_other_sessions(tx, session.person.id, session.id)
        console().record(tx, "user:reset", session.person.login, forms.actor())
    forms.say(Notice("good", g.words("me.password_changed")))
    return forms.back_to("/me")


def _page(error: str, status: int) -> Response:
    session, site, words = forms.session(), passkey_site(), g.words
    person = session.person
    with console().box.catalog.reading() as conn:
        found = second_factors.passkeys_of(conn, person.id)
        left = second_factors.recovery_codes_left(conn, person.id)
        live = identity.live_sessions(conn, person.id, now())
        protected = policy.has_second_factor(conn, person.id)
        page = page_of(
            AccountPage,
            title=words("me.title"),
            section="me",
            name=person.name,
            login=person.login,
            role=words(f"role.{person.role}") if words.has(f"role.{person.role}") else person.role,
            protected=protected,
            obliged=policy.is_obliged(conn, person),
            codes=policy.has_codes(conn, person.id),
            passkeys=tuple(_passkey_line(each, site) for each in found),
            recovery_left=left,
            recovery_few=protected and left <= recovery_codes.FEW,
            sessions=tuple(session_line(each, session.id) for each in live),
            activity=lately(conn, person),
            emergencies=emergencies.waiting(conn) if may(Permission.RECORD_INCIDENTS) else 0,
            error=error,
        )
    return show("me.html", page, status)


def _passkey_line(each: second_factors.Passkey, site: passkeys.Site | None) -> PasskeyLine:
    words, trouble = g.words, ""
    if each.blocked_utc is not None:
        trouble = words("me.passkey_blocked")
    elif site is None or site.host != each.host:
        trouble = words("me.passkey_elsewhere", host=each.host)
    return PasskeyLine(
        each.id, each.name, words.moment(each.created_utc), words.moment(each.last_used_utc), trouble
    )


def session_line(each: WebSession, current: str) -> SessionLine:
    """A session in words."""
    words = g.words
    return SessionLine(
        handle=handle_of(each),
        device=device_words(words, each.agent),
        address=each.address,
        began=words.moment(each.created_utc),
        seen=words.moment(each.seen_utc),
        proof=words(f"proof.{each.proof}") if words.has(f"proof.{each.proof}") else "",
        current=each.id == current,
    )


def handle_of(session: WebSession) -> str:
    """What names a session in a form: a part of its digest, which opens nothing."""
    return session.id[:HANDLE_CHARACTERS]
