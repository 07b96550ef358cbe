"""The judgement: facts through every check, in one answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from appliance import __version__
from appliance.box import Box
from appliance.errors import ApplianceError
from appliance.health.checks import CHECKS
from appliance.health.facts import Facts, Queue
from appliance.health.gathering import gather
from appliance.health.problem import Problem, Severity, ordered

UNOPENED = "box"
"""The code of a box that can't be opened: no check can say it, because there is nothing to ask."""


@dataclass(frozen=True, slots=True)
class Status:
    """The box at one moment. Figures are None when the box can't be opened. Sizes in bytes."""

    ready: bool
    at_utc: datetime
    version: str
    problems: tuple[Problem, ...]
    studies: int | None = None
    instances: int | None = None
    bytes: int | None = None
    free_bytes: int | None = None
    processes: Mapping[str, bool] | None = None
    queues: tuple[Queue, ...] = ()


def closed(error: ApplianceError, now: datetime) -> Status:
    """The status of a box that couldn't be opened because of `error`."""
    problem = Problem(
        UNOPENED, f"the box cannot be opened: {error.message}", error.hint or "call support", Severity.BLOCKS
    )
    return Status(ready=False, at_utc=now, version=__version__, problems=(problem,))


def status(box: Box, now: datetime) -> Status:
    """The status of `box` at `now`. Doesn't raise for what it judges: a catalog that fails is a problem found."""
    return status_of(gather(box, now))


def status_of(facts: Facts) -> Status:
    """The status that `facts` amount to."""
    problems = judge(facts)
    kept = facts.contents if facts.catalog is None else None
    return Status(
        ready=not any(problem.blocks for problem in problems),
        at_utc=facts.at_utc,
        version=__version__,
        problems=problems,
        studies=kept.studies if kept else None,
        instances=kept.instances if kept else None,
        bytes=kept.bytes if kept else None,
        free_bytes=facts.disk.free_bytes if facts.disk else None,
        processes=facts.processes if facts.catalog is None else None,
        queues=facts.queues,
    )


def judge(facts: Facts) -> tuple[Problem, ...]:
    """What every check finds, the most pressing first."""
    return ordered([problem for check in CHECKS for problem in check(facts)])
