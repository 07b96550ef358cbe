"""What a check finds: a problem with its code, its words, its fix, how soon somebody must act, and what helps at once."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How soon a person must act, the most pressing first."""

    BLOCKS = "blocks"
    """Images can't be received, kept or delivered while it lasts: the box isn't ready."""
    NOW = "acts-now"
    """Nothing is lost yet, but today somebody must look."""
    SOON = "soon"
    """This week."""
    NOTE = "note"
    """Good to know; nothing has to be done."""


class Verb(StrEnum):
    """What the console can offer beside a problem; it knows the addresses."""

    RESUME = "resume"
    RETRY = "retry"
    TEST = "test"
    SEE_DESTINATIONS = "see-destinations"
    SEE_REFUSED = "see-refused"
    SEE_WAITING = "see-waiting"
    SEE_DEVICES = "see-devices"
    SEE_STUDIES = "see-studies"
    SEE_GUARD = "see-guard"
    SEE_UPDATES = "see-updates"
    SEE_HEARTBEATS = "see-heartbeats"
    SEE_RETENTION = "see-retention"
    SEE_TIERS = "see-tiers"


@dataclass(frozen=True, slots=True)
class Act:
    """A button or a link that helps. `destination` is the row it is about, where it is about one."""

    verb: Verb
    destination: int | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that a person should know of.

    `subject` is the destination, job, device or certificate concerned, where several may have the same problem.
    No text here names a patient, a study or an object.
    """

    code: str
    words: str
    fix: str
    severity: Severity = Severity.SOON
    subject: str = ""
    acts: tuple[Act, ...] = ()

    @property
    def blocks(self) -> bool:
        """Whether the box isn't ready while it lasts."""
        return self.severity is Severity.BLOCKS


def ordered(problems: list[Problem]) -> tuple[Problem, ...]:
    """The most pressing first; among equals, in the order of the checks."""
    ranks = list(Severity)
    return tuple(sorted(problems, key=lambda problem: ranks.index(problem.severity)))
