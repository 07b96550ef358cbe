"""Reading forms and query strings strictly, and the messages that follow an act."""

from __future__ import annotations

import hmac
import math
from typing import Any

from flask import g, redirect, request
from werkzeug.datastructures import MultiDict
from werkzeug.wrappers import Response

from appliance.catalog.people import WebSession
from appliance.errors import ApplianceError, Refused
from appliance.web import access
from appliance.web.console import Notice, console
from appliance.web.language import explained

MOST_CHARACTERS = 500
MOST_CHOSEN = 100
MOST_DOCUMENT_CHARACTERS = 16_384


def text(name: str, default: str = "") -> str:
    """A field of the form, outer spaces removed. Raises `Refused` when it is absurdly long."""
    return _short(request.form, name, default).strip()


def long_text(name: str, most: int) -> str:
    """A field of several lines, of `most` characters. Raises `Refused`."""
    value = request.form.get(name, "")
    if len(value) > most or "\0" in value:
        raise Refused("a field holds more than it can", hint="shorten it and try again")
    return value


def several(name: str) -> tuple[str, ...]:
    """What was chosen of some boxes of one name. Raises `Refused` when it is absurdly much."""
    found = request.form.getlist(name)
    if len(found) > MOST_CHOSEN or any(len(each) > MOST_CHARACTERS or "\0" in each for each in found):
        raise Refused("a field holds more than it can", hint="shorten it and try again")
    return tuple(each.strip() for each in found)


def secret(name: str) -> str:
    """A field of the form as typed."""
    return _short(request.form, name, "")


def document(name: str) -> str:
    """A field that a script of ours has filled with JSON. Raises `Refused` when it is absurdly long."""
    return _short(request.form, name, "", most=MOST_DOCUMENT_CHARACTERS)


def asked(name: str, default: str = "") -> str:
    """A parameter of the address, outer spaces removed."""
    return _short(request.args, name, default).strip()


def _short(source: MultiDict[str, str], name: str, default: str, *, most: int = MOST_CHARACTERS) -> str:
    value = source.get(name, default)
    if len(value) > most or "\0" in value:
        raise Refused("a field holds more than it can", hint="shorten it and try again")
    return value


def whole(value: str, *, low: int, high: int, default: int) -> int:
    """`value` as a whole number held between bounds; the default when it is none."""
    try:
        return min(high, max(low, int(value)))
    except ValueError:
        return default


def decimal(value: str, *, low: float, high: float) -> float | None:
    """`value` as a number between bounds, or None."""
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) and low <= number <= high else None


def port(value: str) -> int | None:
    """A port number; None when the field is empty. Raises `Refused`."""
    if not value:
        return None
    if not value.isascii() or not value.isdecimal() or not 1 <= int(value) <= 65535:
        raise Refused(
            "that is not a port", hint="use a number from 1 to 65535, often 104 or 11112", field="port"
        )
    return int(value)


def session() -> WebSession:
    """The session of this request; views that need none don't ask."""
    found = g.session
    assert isinstance(found, WebSession)
    return found


def actor() -> str:
    """Who acts, as the audit names them: a person, also when a token of that person asks."""
    return access.person().login


def say(notice: Notice) -> None:
    """Show `notice` on the next page."""
    console().notices.add(session().id, notice)


def explain(error: ApplianceError) -> str:
    """What is wrong in a form that is shown again; the page then points at the field concerned (`pages.page_of`)."""
    return wrong(error.field, explained(g.words, error))


def wrong(field: str, said: str) -> str:
    """Point at `field`, "" for none, with what is `said` of it; gives that back."""
    g.wrong = (field, said)
    return said


def mark(seen: Any) -> str:
    """What changes when `seen` does: a form carries it back, so that two people don't undo each other unseen.

    Keyed, so that nobody who reads a page can try what a secret among `seen` might be.
    """
    return hmac.digest(console().box.audit_key, b"form " + repr(seen).encode(), "sha256").hex()[:24]


def mark_again(current: Any, status: int) -> str:
    """The mark of a form that is shown again with what was typed into it.

    It still compares with what was true when whoever types began; only who was told of a change (409) has seen `current`.
    """
    return (text("seen") if status == 422 else "") or mark(current)


class Overtaken(Refused):
    """Somebody else has changed meanwhile what a form was made of."""


def check_unchanged(current: Any) -> None:
    """Raises `Overtaken` if the form was made of something else than `current`."""
    if text("seen") not in ("", mark(current)):
        raise Overtaken(
            "somebody else has changed this meanwhile", hint="compare with what it is now, then save again"
        )


def status_of(refusal: Refused) -> int:
    """The HTTP status of a form that is shown again."""
    return 409 if isinstance(refusal, Overtaken) else 422


def say_error(error: ApplianceError) -> None:
    """Show what went wrong on the next page."""
    say(Notice("bad", g.words("said.failed"), explained(g.words, error)))


def back_to(address: str) -> Response:
    """After an act: the page again, by GET."""
    return redirect(address, 303)
