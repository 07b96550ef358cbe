"""What every request passes and every answer carries: host, session, CSRF; policy, cookies, caching.

Everything needs a session, and the permission that its view declares (`access.needs`), unless its endpoint is in `OPEN`:
a new view is closed until somebody says otherwise.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import socket
from hashlib import sha256
from urllib.parse import urlsplit

from flask import Flask, Response, g, redirect, request
from werkzeug.exceptions import BadRequest, Forbidden, MisdirectedRequest, Unauthorized
from werkzeug.wrappers import Response as WsgiResponse

from appliance import certificates
from appliance.catalog.people import WebSession
from appliance.errors import ApplianceError, Transient
from appliance.identity.sessions import SEEN_EVERY
from appliance.web import access, address_list, bearer, gate, pulses, rates
from appliance.web.console import VISITOR, console, now
from appliance.web.gate import Gate
from appliance.web.language import DEFAULT, NAMES, Languages

SESSION_COOKIE = "console_session"
VISIT_COOKIE = "console_visit"
SIGN_IN_COOKIE = "console_sign_in"
LANGUAGE_COOKIE = "console_language"
CSRF_FIELD = "csrf"
CSRF_HEADER = "X-CSRF-Token"

OPEN = frozenset(
    {
        "static",
        "reference.reference",
        "claim.form",
        "claim.redeem",
        "door.form",
        "door.sign_in",
        "help.contents",
        "help.topic",
        "language.choose",
        "door.passkey",
        "door.passkey_question",
        "welcome.form",
        "welcome.open_link",
        "welcome.choose",
        "second_factor.form",
        "second_factor.code",
        "second_factor.recovery_code",
        "second_factor.passkey",
        "second_factor.passkey_question",
        "enrolment.choice",
        "enrolment.begin_code",
        "enrolment.code",
        "enrolment.code_picture",
        "enrolment.confirm_code",
        "enrolment.passkey",
        "enrolment.passkey_question",
        "machine.deep",
        "machine.live",
        "machine.ready",
        "machine.metrics",
        "shell.manifest",
        "shell.offline",
        "shell.service_worker",
        "setup.home",
        "setup.language",
        "setup.admit_restorer",
        "setup.begin_restore",
        "setup.look_for_backups",
        "setup.restore",
        "setup.restore_elsewhere",
        "setup.welcome",
        "start.home",
        "trust.certificate",
        "trust.page",
    }
)
"""Endpoints that need no session. The machine's own endpoints have their own conditions, and those of the second
factor and of the enrolment need a sign-in that has come half way."""

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "font-src 'self'; manifest-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # with "no-referrer", forms would carry "Origin: null"
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
    "X-Robots-Tag": "noindex",
}


def guard(app: Flask) -> None:
    """Put the checks before every view of `app`, and the headers behind."""
    app.before_request(_choose_language)
    app.before_request(_check_host)
    app.before_request(_check_address)
    app.before_request(_check_session)
    app.before_request(_check_csrf)
    app.before_request(_check_permission)
    app.before_request(rates.check)
    app.after_request(_finish)


def _choose_language() -> None:
    g.session = None
    g.bearer = None
    g.visit = None
    speak()


def speak(person: str = "", *, endpoint: str | None = "") -> None:
    """Answer in the language asked for, else the person's own, this browser's last, its settings' best, the clinic's.

    `endpoint`, unless it is that of the request, says whose page follows: not all languages are offered everywhere.
    """
    g.language = Languages.choose(
        request.args.get("lang"),
        person,
        request.cookies.get(cookie_name(LANGUAGE_COOKIE)),
        accepted=request.headers.get("Accept-Language", ""),
        endpoint=request.endpoint if endpoint == "" else endpoint,
        otherwise=_language_of_the_clinic,
    )
    g.words = console().languages.words(g.language)


def _language_of_the_clinic() -> str:
    """What the settings say; the default where they can't be read, because the page that says so must be shown."""
    try:
        return _gate().language
    except ApplianceError:
        return DEFAULT


def _gate() -> Gate:
    """What this request is judged by: read when the first check asks, and the same for all of them."""
    if "gate" not in g:
        g.gate = gate.read(console().box.catalog, _cookie_of_session(), now())
    found: Gate = g.gate
    return found


def _cookie_of_session() -> str:
    """The session that this request shows, if sessions are looked at here."""
    if request.endpoint == "static" or bearer.is_borne():
        return ""
    if request.path.startswith("/api/") and "Authorization" in request.headers:
        return ""  # a program that shows a token is judged by it alone
    return request.cookies.get(cookie_name(SESSION_COOKIE), "")


def _check_host() -> None:
    """A page of another site that has its name point here (DNS rebinding) must not reach the console by that name."""
    name = urlsplit(f"//{request.host}").hostname or ""
    if is_our_name(name):
        return
    with console().box.catalog.reading() as conn:
        if name.rstrip(".").lower() not in certificates.host_names(conn):
            raise MisdirectedRequest


def is_our_name(name: str) -> bool:
    """Whether `name` may be ours: an address, localhost, or this machine's own name, alone or in its domain."""
    name = name.rstrip(".").lower()
    if name == "localhost":
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        own = socket.gethostname().lower()
        return name in {own, own.split(".")[0], f"{own.split('.')[0]}.local"}
    return True


def _check_address() -> None:
    if request.endpoint != "static":  # which says nothing about a box
        address_list.check(_gate().addresses)


def _check_session() -> WsgiResponse | None:
    if bearer.is_borne():
        bearer.admit()
        return None
    if _cookie_of_session():
        g.limits, g.session = _gate().limits, _gate().session
    if g.session is not None:
        speak(g.session.person.language)
        _see(g.session)
        return None
    if request.endpoint in OPEN or request.endpoint is None:  # None: there is no such page, and 404 says so
        return None
    return turn_away()


def turn_away() -> WsgiResponse:
    """The answer to somebody without a session: to the door, or 401 for what is not a page."""
    if request.headers.get("HX-Request"):
        answer = Response(status=401)
        if (
            request.headers.get("X-Refresh") != "live"
        ):  # a page that refreshes itself stays: something may be typed in it
            answer.headers["HX-Redirect"] = "/sign-in"
        return answer
    if request.path.startswith(("/api/", "/events", "/instances/", "/me/session")) or request.method not in (
        "GET",
        "HEAD",
    ):
        raise Unauthorized
    return redirect("/sign-in", 303)


def _see(session: WebSession) -> None:
    """Record a use, at most once a minute, and not for what a page does by itself."""
    if request.headers.get("X-Refresh") == "live" or request.path.startswith("/events"):
        return
    moment = now()
    if moment - session.seen_utc >= SEEN_EVERY:
        try:
            console().uses.append((session.id, moment))
        except Transient:
            return  # the catalog is busy with images: they come first, the next page records the use


def _check_csrf() -> None:
    if request.method in ("GET", "HEAD", "OPTIONS") or g.bearer is not None or request.endpoint is None:
        return  # of what there is not, 404 or 405 is the answer
    origin = request.headers.get("Origin")
    elsewhere = request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none")
    if elsewhere or (origin is not None and not _is_here(origin)):
        _record_forgery()
        raise Forbidden
    sent = request.headers.get(CSRF_HEADER) or request.form.get(CSRF_FIELD, "")
    if not hmac.compare_digest(sent.encode(), csrf_token().encode()):
        raise BadRequest("csrf")


def _record_forgery() -> None:
    """Another site had this browser send a request. Once a minute for each address, whoever sends."""
    console_ = console()
    actor = g.session.person.login if g.session is not None else VISITOR
    what = ("forged", address())
    console_.record_once(console_.refused, what, "access:forge", request.endpoint or "", actor)


def _is_here(origin: str) -> bool:
    try:
        return urlsplit(origin).netloc == request.host
    except ValueError:  # brackets that hold no address
        return False


def _check_permission() -> None:
    """Whoever is signed in may ask for this. Last, so that only requests of the console's own pages are audited."""
    if request.endpoint not in OPEN and request.endpoint is not None:
        access.check()
        if g.session is not None:
            pulses.note()


def csrf_token() -> str:
    """What a form of this browser must carry: its session's own token, or one bound to its visit cookie."""
    if g.session is not None:
        return str(g.session.csrf)
    visit = request.cookies.get(cookie_name(VISIT_COOKIE)) or g.visit
    if visit is None:
        visit = g.visit = secrets.token_urlsafe(24)
    return hmac.new(console().visit_key, visit.encode(), sha256).hexdigest()


def _finish(answer: Response) -> Response:
    answer.headers.update(HEADERS)
    answer.headers.pop("Server", None)
    if request.is_secure:
        answer.headers["Strict-Transport-Security"] = "max-age=31536000; includeSubDomains"
    if "Cache-Control" not in answer.headers:
        answer.headers["Cache-Control"] = "no-store"
    if g.get("visit") is not None:
        _set_cookie(answer, VISIT_COOKIE, g.visit)
    if g.get("new_cookie") is not None:
        _keep(answer, SESSION_COOKIE, g.new_cookie)
    if request.args.get("lang") in NAMES:
        keep_language(answer, request.args["lang"])
    return answer


def keep_language(answer: WsgiResponse, code: str) -> WsgiResponse:
    """Let the browser remember a language, for its pages before anybody has signed in."""
    _set_cookie(answer, LANGUAGE_COOKIE, code, max_age=365 * 86400)
    return answer


def cookie_name(name: str) -> str:
    """`name` as browsers keep it: over TLS with the prefix by which they hold it to this host, path / and Secure."""
    return f"__Host-{name}" if request.is_secure else name


def _set_cookie(answer: WsgiResponse, name: str, value: str, max_age: int | None = None) -> None:
    answer.set_cookie(
        cookie_name(name),
        value,
        max_age=max_age,
        httponly=True,
        samesite="Strict",
        secure=request.is_secure,
        path="/",
    )


def give_session(answer: WsgiResponse, cookie: str) -> WsgiResponse:
    """Let the browser keep its session, until it closes; what it held while signing in is over."""
    _keep(answer, SESSION_COOKIE, cookie)
    if cookie_name(SIGN_IN_COOKIE) in request.cookies:
        _forget(answer, SIGN_IN_COOKIE)
    return answer


def give_new_cookie(cookie: str) -> None:
    """Let the browser keep another cookie for its session, whatever this request is answered with."""
    g.new_cookie = cookie


def take_session(answer: WsgiResponse) -> WsgiResponse:
    """Let the browser forget its session, and what it kept of the console: pictures in its cache before all."""
    answer.headers["Clear-Site-Data"] = '"cache", "storage"'
    _forget(answer, SESSION_COOKIE)
    return answer


def give_sign_in(answer: WsgiResponse, cookie: str) -> WsgiResponse:
    """Let the browser keep a sign-in that has come half way: good for the next step, and for nothing else."""
    _keep(answer, SIGN_IN_COOKIE, cookie)
    return answer


def _keep(answer: WsgiResponse, name: str, value: str) -> None:
    answer.set_cookie(
        cookie_name(name), value, httponly=True, samesite="Strict", secure=request.is_secure, path="/"
    )


def _forget(answer: WsgiResponse, name: str) -> None:
    answer.delete_cookie(
        cookie_name(name), httponly=True, samesite="Strict", secure=request.is_secure, path="/"
    )


def visitor() -> str:
    """The name of this browser before anybody has signed in: the digest of its visit cookie."""
    return sha256(b"visitor " + csrf_token().encode()).hexdigest()


def address() -> str:
    """Where the request comes from."""
    return request.remote_addr or ""


def agent() -> str:
    """The browser, as it names itself."""
    return request.headers.get("User-Agent", "")[:200]
