"""DIMSE status: how each error is told to the sender (PS3.4 B.2.3, PS3.7 annex C).

One of the three tables by which errors leave the appliance. Only 0x0000 lets a modality delete its copy, so it is
sent for nothing that is not durable, and no warning (B0xx) is ever used: nothing is coerced or dropped.
"""

from __future__ import annotations

from typing import Final

from appliance.dicom.header import Missing
from appliance.errors import ApplianceError, Mismatch, NotAuthorised, NotUnderstood, OutOfResources, Refused

SUCCESS: Final = 0x0000
PROCESSING_FAILURE: Final = 0x0110
SOP_CLASS_NOT_SUPPORTED: Final = 0x0122
NOT_AUTHORISED: Final = 0x0124
UNRECOGNIZED_OPERATION: Final = 0x0211
OUT_OF_RESOURCES: Final = 0xA700
DATA_SET_DOES_NOT_MATCH_SOP_CLASS: Final = 0xA900
CANNOT_UNDERSTAND: Final = 0xC000

_TABLE: Final[tuple[tuple[type[ApplianceError], int], ...]] = (  # the first that matches
    (Mismatch, DATA_SET_DOES_NOT_MATCH_SOP_CLASS),
    (NotAuthorised, NOT_AUTHORISED),
    (NotUnderstood, CANNOT_UNDERSTAND),
    (Refused, CANNOT_UNDERSTAND),
    (OutOfResources, OUT_OF_RESOURCES),
    (ApplianceError, PROCESSING_FAILURE),  # Transient, Corrupt, OperatorNeeded: send it again later
)


def status_of(error: ApplianceError) -> int:
    """The status that answers a C-STORE which ended in `error`."""
    return next(status for kind, status in _TABLE if isinstance(error, kind))


def comment_of(error: ApplianceError) -> str:
    """(0000,0902) Error Comment for `error`: at most 64 plain characters. Its hint is for our operator, not for the peer."""
    plain = "".join(c if c.isascii() and c.isprintable() and c != "\\" else " " for c in error.message)
    return " ".join(plain.split())[:64].rstrip()


def offending_element_of(error: ApplianceError) -> int | None:
    """The tag for (0000,0901) Offending Element, where one is to blame."""
    return error.tag if isinstance(error, Missing) else None
