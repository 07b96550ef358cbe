"""What SQLite and SQLCipher complain of, in our terms.

The driver's texts name tables and columns, never values, and statements are never shown with their parameters, so
nothing of a patient ends up in a message. A mistake in our own SQL is left as it is: it is a defect, not an outage.
"""

from __future__ import annotations

from appliance.errors import ApplianceError, Corrupt, OperatorNeeded, OutOfResources, Transient

_NO_MEMORY, _READ_ONLY, _CORRUPT, _FULL, _CONSTRAINT, _NOT_A_DATABASE = 7, 8, 11, 13, 19, 26
_TAKEN_OR_GONE = ("UNIQUE constraint", "FOREIGN KEY constraint")  # the driver gives no extended codes
_LATER = {
    5: "the catalog is busy",
    6: "the catalog is busy",
    9: "a query of the catalog was interrupted",
    10: "the disk failed under the catalog",
    14: "the catalog cannot be opened just now",
    15: "the catalog is busy",
}
PASSES = "try it again in a moment, unless it was the box's own work, which it tries again itself"
"""What to do about a catalog that does not answer. Said to whoever asked for something, and in the log of a process that goes on."""
_UNUSABLE = frozenset({10, _CORRUPT, _NOT_A_DATABASE})


class Conflict(Transient):
    """Something with the same identity is recorded already, or what this refers to is gone.

    Roll the transaction back, look again, then decide.
    """


class Unanswered(Transient):
    """The catalog does not answer just now: others keep it busy, or the disk failed under it. Nobody else's fault."""


def result_code(error: BaseException) -> int | None:
    """The primary SQLite result code behind `error` (sqlite.org/rescode.html), None for other errors."""
    code = getattr(error, "sqlite_errorcode", None)
    return code & 0xFF if isinstance(code, int) else None


def ends_connection(code: int | None) -> bool:
    """Whether a connection that met this result code must not be used again."""
    return code in _UNUSABLE


def translated(error: BaseException) -> ApplianceError | None:
    """`error` of the driver as one of ours; None if it is a defect of this program."""
    code = result_code(error)
    if code in _LATER:
        return Unanswered(_LATER[code], hint=PASSES)
    if code in {_FULL, _NO_MEMORY}:
        return OutOfResources("no room left for the catalog", hint="free space on the data disk")
    if code == _CONSTRAINT and str(error).startswith(_TAKEN_OR_GONE):
        return Conflict("the catalog holds this already, or not what it refers to")
    if code in {_CORRUPT, _NOT_A_DATABASE}:
        return Corrupt(
            "the catalog is damaged", hint="stop the appliance and restore the catalog from a backup"
        )
    if code == _READ_ONLY:
        return OperatorNeeded(
            "the catalog cannot be written",
            hint="check that the data disk is not mounted read-only and that this user owns catalog.db",
        )
    return None
