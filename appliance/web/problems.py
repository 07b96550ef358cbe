"""Errors as HTTP: one table, one page with cause, action and reference number; under ``/api`` a problem document.

========================  ======  =========================================
error                     status  sentence (``problem.*`` of the languages)
========================  ======  =========================================
`NotAuthorised`           403     forbidden
`Unknown`                 404     missing
`Malformed`               400     malformed (only under ``/api``)
`Refused`                 422     refused
`OutOfResources`          507     full
`Transient`               503     later
`Corrupt`                 500     damaged
`OperatorNeeded`          503     operator
anything else             500     unexpected
========================  ======  =========================================

The reference number is in the journal with the error's kind and place. An unexpected error's own text is not: it may
hold a patient's name.
"""

from __future__ import annotations

import logging
import math
import secrets
from dataclasses import dataclass
from datetime import datetime

from flask import Flask, Response, g, request
from werkzeug.exceptions import Conflict, HTTPException, MethodNotAllowed, TooManyRequests

from appliance.errors import (
    ApplianceError,
    Corrupt,
    NotAuthorised,
    OperatorNeeded,
    OutOfResources,
    Refused,
    Transient,
    Unknown,
)
from appliance.logs import places
from appliance.settings import NotAccepted
from appliance.web import security
from appliance.web.api import problem
from appliance.web.api.operation import Unconfirmed
from appliance.web.api.shape import Fault, Malformed
from appliance.web.console import now
from appliance.web.pages import Page, page_of, show

log = logging.getLogger(__name__)

TABLE: tuple[tuple[type[ApplianceError], int, str], ...] = (
    (NotAuthorised, 403, "forbidden"),
    (Unknown, 404, "missing"),
    (Refused, 422, "refused"),
    (OutOfResources, 507, "full"),
    (Transient, 503, "later"),
    (Corrupt, 500, "damaged"),
    (OperatorNeeded, 503, "operator"),
)
_BY_STATUS = {400: "stale", 401: "sign_in", 403: "forbidden", 404: "missing", 405: "missing", 413: "too_large",
              421: "host", 422: "refused", 429: "pace", 503: "later"}  # fmt: skip


_CODES = {
    405: "method",
    409: "conflict",
    412: "changed",
    415: "media_type",
    428: "unconditional",
    429: "too_many",
}
"""Statuses that programs tell apart, though pages do not."""


@dataclass(frozen=True, slots=True)
class ProblemPage(Page):
    """What went wrong: `kind` names the sentences, `cause` and `hint` are the error's own words, if it has any.

    It `may_repeat` where nothing was sent and the same page is only to be asked for again, later.
    """

    status: int
    kind: str
    cause: str
    hint: str
    reference: str
    may_repeat: bool


def mount(app: Flask) -> None:
    """Answer errors of `app` by the table."""
    app.register_error_handler(ApplianceError, _ours)
    app.register_error_handler(HTTPException, _of_http)
    app.register_error_handler(Exception, _unexpected)


def status_of(error: ApplianceError) -> tuple[int, str]:
    """The HTTP status and the kind of `error`."""
    if isinstance(error, Malformed):  # only of what programs send: no page shows it
        return 400, "malformed"
    if isinstance(error, Unconfirmed):
        return 403, "confirm"
    for kind, status, word in TABLE:
        if isinstance(error, kind):
            return status, word
    return 500, "unexpected"


def _ours(error: ApplianceError) -> Response:
    status, kind = status_of(error)
    reference = _reference()
    level = logging.ERROR if status >= 500 else logging.INFO
    told = (type(error).__name__, request.endpoint, error)
    log.log(level, "%s at %s: %s", *told, extra={"reference": reference})
    return _answer(status, kind, error.message, error.hint, reference, _faults(error))


def _faults(error: ApplianceError) -> tuple[Fault, ...]:
    """Each thing that is wrong, where an error names several."""
    match error:
        case Malformed():
            return error.faults
        case NotAccepted():
            return tuple(Fault(f"/{key}", each.message, each.hint) for key, each in error.refusals.items())
        case _:
            return ()


def _of_http(error: HTTPException) -> Response:
    if error.response is not None and isinstance(error.response, Response):
        return error.response
    status = error.code or 500
    cause, hint = "", ""
    if isinstance(error, TooManyRequests):
        cause, hint = _of_pace(error)
    elif isinstance(error, Conflict):
        cause, hint = str(error.description), "wait until it has ended"
    answer = _answer(status, _BY_STATUS.get(status, "unexpected"), cause, hint, _reference())
    for name, value in error.get_headers():
        if name in ("WWW-Authenticate", "Retry-After"):
            answer.headers[name] = value
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        answer.headers["Allow"] = ", ".join(sorted(error.valid_methods))
    return answer


def _of_pace(error: TooManyRequests) -> tuple[str, str]:
    """That it was too often, and when to come back, as far as that is known."""
    back = error.retry_after
    seconds = (back - now()).total_seconds() if isinstance(back, datetime) else float(back or 0)
    cause = "more was asked for than is allowed in that time"
    if seconds <= 0:
        return cause, "wait a minute, then try again"
    if seconds <= 90:
        return cause, f"try again in {max(1, math.ceil(seconds))} seconds"
    return cause, f"try again in {math.ceil(seconds / 60)} minutes"


def _unexpected(error: Exception) -> Response:
    reference = _reference()
    where = " < ".join(places(error))
    told = (type(error).__name__, request.endpoint, where)
    log.error("%s at %s in %s", *told, extra={"reference": reference})
    return _answer(500, "unexpected", "", "", reference)


def _reference() -> str:
    return secrets.token_hex(4).upper()


def _answer(
    status: int, kind: str, cause: str, hint: str, reference: str, faults: tuple[Fault, ...] = ()
) -> Response:
    if request.path.startswith("/api/"):
        code = _CODES.get(status, kind)
        answer = problem.answer(status, code, cause=cause, remedy=hint, reference=reference, faults=faults)
        if status == 401:
            answer.headers["WWW-Authenticate"] = "Bearer"  # `bearer` says more, where a token was wrong
    else:
        security.speak(g.session.person.language if g.session is not None else "", endpoint=None)
        words = g.words
        page = page_of(
            ProblemPage,
            title=words(f"problem.{kind}.title"),
            status=status,
            kind=kind,
            cause=words.cause(cause) if cause else "",
            hint=words.cause(hint) if hint else "",
            reference=reference,
            may_repeat=request.method == "GET" and status in (429, 503),
        )
        answer = show("problem.html", page)
    answer.status_code = status
    if status in (503, 507):
        answer.headers["Retry-After"] = "10"
    return answer
