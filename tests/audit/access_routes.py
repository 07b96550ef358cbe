"""The routes of signing in and of one's own account, and what calling each must leave in the audit."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from appliance.catalog import api_tokens, people, second_factors
from appliance.identity import Role
from tests.audit.walk import Act, Nothing, Step, World
from tests.web.conftest import PASSWORD, csrf_of, sign_in
from tests.web.second_factor import add_enrolled, add_person, code, half_open, send, show_code

FORM = "a form without anything in it that is recorded"
DEVICE = "needs a device that signs; tests/web/test_passkeys.py has one in a real browser"
ASKED = "asks the device of whoever comes to sign something; what comes of it has a row"


def _newcomer(world: World, role: Role = Role.ASSISTANT) -> Any:
    """A browser in which somebody of that role has just signed in."""
    login, client = f"new{world.next()}", world.app.test_client()
    add_person(world.box, login, role)
    assert sign_in(client, login=login).status_code == 303
    return client


def _protected(world: World) -> tuple[Any, str, str]:
    """A browser in which somebody with one-time codes is signed in, the secret, and the login."""
    login = f"safe{world.next()}"
    secret, _ = add_enrolled(world.box, login, Role.ASSISTANT)
    browser = half_open(world.app, login)
    assert show_code(browser, code(secret)).headers["Location"] == "/"
    return browser, secret, login


def _wrong_code(world: World) -> Any:
    login = f"safe{world.next()}"
    add_enrolled(world.box, login, Role.ASSISTANT)
    return show_code(half_open(world.app, login), "000000")


def _recovery(world: World) -> Any:
    login = f"safe{world.next()}"
    _, codes = add_enrolled(world.box, login, Role.ASSISTANT)
    browser = half_open(world.app, login)
    return send(browser, "/sign-in/recovery-code", "/sign-in/second-factor", recovery_code=codes[0])


def _confirm_code(world: World) -> Any:
    browser = _newcomer(world)
    send(browser, "/enrol/code", "/enrol")
    found = re.search(r"data-secret>([A-Z2-7 ]+)<", browser.get("/enrol/code").get_data(as_text=True))
    assert found is not None
    return send(browser, "/enrol/code/confirm", "/enrol/code", code=code(found[1].replace(" ", "")))


def _draw(world: World) -> Any:
    return send(_newcomer(world), "/me/recovery-codes", "/me")


def _remove_passkey(world: World) -> Any:
    browser, _, login = _protected(world)
    with world.box.catalog.transaction() as tx:
        person = people.person(tx, login)
        assert person is not None
        second_factors.add_passkey(
            tx,
            person.id,
            credential_id=login.encode(),
            public_key=b"key",
            host="localhost",
            name="token",
            sign_count=0,
            transports=(),
            now=datetime.now(UTC),
        )
        (made,) = second_factors.passkeys_of(tx, person.id)
    return send(browser, f"/me/passkeys/{made.id}/remove", "/me")


def _end_session(world: World) -> Any:
    login, here = f"new{world.next()}", world.app.test_client()
    add_person(world.box, login, Role.ASSISTANT)
    for client in (here, world.app.test_client()):
        sign_in(client, login=login)
    (handle,) = re.findall(r'name="handle" value="(\w+)"', here.get("/me").get_data(as_text=True))
    return send(here, "/me/sessions/end", "/me", handle=handle)


def _number(world: World, login: str) -> int:
    with world.box.catalog.reading() as conn:
        person = people.person(conn, login)
    assert person is not None
    return person.id


def _end_of_another(world: World) -> Any:
    login = f"new{world.next()}"
    person = add_person(world.box, login, Role.ASSISTANT)
    sign_in(world.app.test_client(), login=login)
    page = f"/users/{person.id}/access"
    (handle,) = re.findall(r'name="handle" value="(\w+)"', world.get(page).get_data(as_text=True))
    return world.post(f"/users/{person.id}/sessions/end", handle=handle)


def _password(world: World) -> Any:
    new = "cinq renards sous un parapluie"
    return send(_newcomer(world), "/me/password", "/me", password=new, again=new)


def _add_token(world: World, browser: Any) -> Any:
    return send(browser, "/me/tokens/add", "/me/tokens", name="night", days="30", scope="health:view")


def _remove_token(world: World) -> Any:
    browser = _newcomer(world)
    _add_token(world, browser)
    with world.box.catalog.reading() as conn:
        number = api_tokens.tokens(conn)[0].id
    return send(browser, f"/me/tokens/{number}/remove", "/me/tokens")


def _passkey_of_nobody(world: World) -> Any:
    client = world.app.test_client()
    token = csrf_of(client.get("/sign-in").get_data(as_text=True))
    return client.post("/sign-in/passkey", data={"csrf": token, "answer": "{}"})


def _wrong_confirmation(world: World) -> Any:
    from tests.web.second_factor import age_confirmation

    login, client = f"new{world.next()}", world.app.test_client()
    add_person(world.box, login, Role.ASSISTANT)
    sign_in(client, PASSWORD, login)
    age_confirmation(world.box, login)
    asked = send(client, "/me/second-factor/add", "/me").get_data(as_text=True)
    (held,) = re.findall(r'name="held" value="([^"]+)"', asked)
    form = {"csrf": csrf_of(asked), "held": held, "confirm_password": "wrong"}
    return client.post("/me/second-factor/add", data=form)


def _emergency(world: World) -> tuple[Any, Any]:
    """Somebody who is shown studies one by one opens one; that browser, and the answer."""
    from appliance.catalog import studies

    with world.box.catalog.reading() as conn:
        number = studies.find(conn, limit=1)[0].patient_id
    browser = _newcomer(world, Role.REFERRER)
    reason = "no answer from the clinic, cannot wait"
    return browser, send(browser, "/emergency", "/emergency", number=number, reason=reason)


def _review(world: World) -> Any:
    from appliance.catalog import emergencies

    _emergency(world)
    with world.box.catalog.reading() as conn:
        latest = emergencies.latest(conn)[0].id
    return world.post(f"/emergency/reviews/{latest}", finding="confirmed")


ACCESS_ROUTES: Mapping[str, Step] = {
    "POST /sign-in/passkey": Act(["user:login-fail"], _passkey_of_nobody),
    "POST /sign-in/passkey/question": Nothing(ASKED),
    "GET /sign-in/second-factor": Nothing(FORM, lambda w: w.get("/sign-in/second-factor")),
    "POST /sign-in/second-factor": Act(["user:second-factor-fail"], _wrong_code),
    "POST /sign-in/second-factor/passkey": Nothing(DEVICE),
    "POST /sign-in/second-factor/passkey/question": Nothing(ASKED),
    "POST /sign-in/recovery-code": Act(["user:recovery-code-use", "user:login"], _recovery),
    "GET /enrol": Nothing(FORM, lambda w: w.get("/enrol")),
    "POST /enrol/code": Nothing(
        "draws a secret that counts for nothing until it is confirmed",
        lambda w: send(_newcomer(w), "/enrol/code", "/enrol"),
    ),
    "GET /enrol/code": Nothing("one's own secret, before it counts", lambda w: w.get("/enrol/code")),
    "GET /enrol/code.svg": Nothing("one's own secret, before it counts", lambda w: w.get("/enrol/code.svg")),
    "POST /enrol/code/confirm": Act(["user:second-factor-add", "user:recovery-codes"], _confirm_code),
    "POST /enrol/passkey": Nothing(DEVICE),
    "POST /enrol/passkey/question": Nothing(ASKED),
    "GET /emergency": Nothing(FORM, lambda w: w.get("/emergency")),
    "POST /emergency": Act(["access:break-glass"], lambda w: _emergency(w)[1]),
    "GET /emergency/reviews": Nothing(
        "who opened which study number and why; no patient", lambda w: w.get("/emergency/reviews")
    ),
    "POST /emergency/reviews/<int:emergency_id>": Act(["access:review"], _review),
    "GET /users/<int:user_id>/access": Nothing(
        "where a colleague is signed in; no patient", lambda w: w.get("/users/1/access")
    ),
    "POST /users/<int:user_id>/sessions/end": Act(["session:end"], _end_of_another),
    "POST /users/<int:user_id>/remove-second-factor": Act(
        ["user:second-factor-remove"],
        lambda w: w.post(f"/users/{_number(w, _protected(w)[2])}/remove-second-factor"),
    ),
    "GET /me": Nothing("one's own account", lambda w: w.get("/me")),
    "GET /me/confirm": Nothing(FORM, lambda w: w.get("/me/confirm")),
    "POST /me/confirm": Nothing("goes on to a page that asked who it is, and has a row by `user:confirm`"),
    "POST /me/confirm/question": Nothing(ASKED),
    "POST /me/second-factor/add": Act(["user:confirm-fail"], _wrong_confirmation),
    "POST /me/codes/remove": Act(
        ["user:second-factor-remove"], lambda w: send(_protected(w)[0], "/me/codes/remove", "/me")
    ),
    "POST /me/passkeys/<int:passkey_id>/remove": Act(["user:second-factor-remove"], _remove_passkey),
    "POST /me/recovery-codes": Act(["user:recovery-codes"], _draw),
    "GET /me/recovery-codes": Nothing(
        "one's own codes, which were drawn with a row", lambda w: w.get("/me/recovery-codes")
    ),
    "GET /me/session": Nothing("how long one's own session lasts", lambda w: w.get("/me/session")),
    "POST /me/session/stay": Nothing(
        "the use of a session, as any page is one", lambda w: w.post("/me/session/stay")
    ),
    "POST /me/sessions/end": Act(["session:end"], _end_session),
    "POST /me/sessions/end-others": Act(
        ["session:end"], lambda w: send(_newcomer(w), "/me/sessions/end-others", "/me")
    ),
    "POST /me/password": Act(["user:reset"], _password),
    "GET /me/tokens": Nothing("names and scopes of tokens, no patient", lambda w: w.get("/me/tokens")),
    "POST /me/tokens/add": Act(["token:add"], lambda w: _add_token(w, _newcomer(w, Role.TECHNICIAN))),
    "POST /me/tokens/<int:token_id>/remove": Act(["token:remove"], _remove_token),
}
