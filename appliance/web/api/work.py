"""What takes minutes: begun, answered at once (202), and asked how far it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal

from werkzeug.exceptions import Conflict

from appliance.web.api.shape import Shape
from appliance.web.background import in_background
from appliance.wizard import by_hand
from appliance.wizard.runs import Part, PartState, UnderWay


@dataclass(frozen=True, slots=True)
class Work:
    """How far the latest that was begun by hand is, or what it came to; `cause` says why it failed, or what is still to come."""

    state: Literal["never", "running", "done", "failed"]
    percent: Annotated[int | None, Shape("Of what is to be done, where that can be said.", least=0, most=100)]
    cause: str
    remedy: str
    at_utc: datetime | None


def begin(name: str, how: Callable[[], by_hand.Begun]) -> None:
    """Put it on record as running, then leave it to a thread. Raises `Conflict` when it is under way already."""
    try:
        in_background(name, how())
    except UnderWay as error:
        raise Conflict("this is under way already") from error


def work_of(part: Part | None) -> Work:
    """How far that is."""
    match part.state if part is not None else None:
        case None:
            return Work("never", None, "", "", None)
        case PartState.RUNNING | PartState.WAITING:
            assert part is not None
            percent = part.detail.get("percent")
            return Work("running", None if percent is None else int(percent), "", "", part.at_utc)
        case PartState.FAILED:
            assert part is not None
            return Work("failed", None, part.cause, part.hint, part.at_utc)
        case _:
            assert part is not None
            left, hint = (str(part.detail.get(each, "")) for each in (by_hand.LEFT, by_hand.LEFT_HINT))
            return Work("done", 100, left, hint, part.at_utc)
