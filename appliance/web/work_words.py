"""How far that is which somebody has begun by hand, in words: for every page that shows such work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from appliance.web.language import Words
from appliance.wizard.runs import INTERRUPTED, Part, PartState


@dataclass(frozen=True, slots=True)
class Progress:
    """What was begun by hand. `state` is none, running, done or failed; `percent` is below 0 where it isn't known."""

    state: Literal["none", "running", "done", "failed"]
    percent: int
    words: str
    cause: str


def progress_of(part: Part | None, running: str, words: Words) -> Progress:
    """How far the latest of its kind is; `running` is the sentence for one that goes on."""
    match part.state if part is not None else None:
        case None:
            return Progress("none", -1, "", "")
        case PartState.RUNNING | PartState.WAITING:
            assert part is not None
            percent = int(part.detail.get("percent", -1))
            said = words(running)
            if percent >= 0:
                said = words("backups.at_percent", what=said, percent=percent)
            return Progress("running", percent, said, "")
        case PartState.FAILED:
            assert part is not None
            if part.cause == INTERRUPTED:
                return Progress("failed", -1, words("backups.interrupted"), words("backups.interrupted_hint"))
            cause = sentences(words, part.cause, part.hint)
            return Progress("failed", -1, words("backups.failed_at", at=words.moment(part.at_utc)), cause)
        case _:
            assert part is not None
            return Progress("done", 100, words("backups.done_at", at=words.moment(part.at_utc)), "")


def sentences(words: Words, *causes: str) -> str:
    """Causes and hints one after the other, each with its full stop; some are questions, and empty ones are left out."""
    said = [words.cause(each) for each in causes if each]
    return " ".join(each if each.endswith("?") else f"{each}." for each in said)
