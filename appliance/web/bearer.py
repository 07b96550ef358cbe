"""Machines that show a token: ``Authorization: Bearer …`` under ``/api/`` and at ``/metrics``, and nowhere else.

A request with a token is judged by the token alone: its cookies are not looked at, so no page of a browser can borrow
it, and it needs no CSRF token. Wrong tokens count as failures: five times the same, so that a program with a token
that is over doesn't lock its machine out, and forty of whatever kind from one address.
"""

from __future__ import annotations

from flask import g, request
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import TooManyRequests, Unauthorized

from appliance import identity
from appliance.catalog import api_tokens
from appliance.errors import Transient
from appliance.identity import limits, tokens
from appliance.identity.sessions import SEEN_EVERY
from appliance.web.console import VISITOR, console, now

METRICS = "/metrics"


def is_borne() -> bool:
    """Whether this request shows a token where one is looked at."""
    scheme, _, shown = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        return False
    if request.path == METRICS:  # a file of the data folder is another way there, which its view knows
        return shown.strip().startswith(tokens.PREFIX)
    return request.path.startswith("/api/")


def admit() -> None:
    """Let `g.bearer` be who asks. Raises `Unauthorized`, and `TooManyRequests` after too many wrong ones."""
    shown = request.headers["Authorization"].partition(" ")[2].strip()
    address, moment = request.remote_addr or "", now()
    kept_under = f"token {tokens.digest(shown)[:16]}"
    with console().box.catalog.reading() as conn:
        until = limits.wait_until(conn, kept_under, address, moment)
        bearer = tokens.find(conn, shown, moment) if until is None else None
    if until is not None:
        raise TooManyRequests(retry_after=until)
    if bearer is None:
        with console().box.catalog.transaction() as tx:
            identity.reject(tx, kept_under, address=address, now=moment)
            console().record(tx, "token:fail", "api", VISITOR)
        raise Unauthorized(www_authenticate=WWWAuthenticate("bearer", {"error": "invalid_token"}))
    g.bearer = bearer
    used = bearer.token.last_used_utc
    if used is None or abs(moment - used) >= SEEN_EVERY or bearer.token.last_address != address:
        try:
            with console().box.catalog.transaction() as tx:
                api_tokens.use(tx, bearer.token.id, address, moment)
        except Transient:
            return  # the catalog is busy with images: they come first, the next request records the use
