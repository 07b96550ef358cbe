"""What became of each version that came to this box, the latest first. Pure.

The image says at each moment which version runs, which waits, and which were tried and left again; what is told here is how that
changed. Chose to look now and then over being told by whatever changes it; because the machine starts again in between, three times if
a version doesn't prove itself, and what was seen afterwards is what holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

MOST_KEPT = 50


class Outcome(StrEnum):
    """Where a version stands."""

    WAITS = "waits"
    STARTED = "started"
    CHOSEN = "chosen"  # somebody chose it in the loader's menu for every start: no newer one starts while that holds
    LEFT = "left"  # it did not prove itself, and the box went back to the one before
    REPLACED = "replaced"  # another took its place before it was started


@dataclass(frozen=True, slots=True)
class Update:
    """One version. `came_utc` is None for one that ran, or had been left, when the box first looked."""

    version: str
    outcome: Outcome
    since_utc: datetime
    came_utc: datetime | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """What the image says: which version runs, which waits (one at most), which were left; and which the firmware keeps for every start,
    where somebody has chosen one. Then none waits, and what had waited is not replaced."""

    running: str
    waiting: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    chosen: str = ""

    @property
    def runs(self) -> Outcome:
        """What has become of the one that runs."""
        return Outcome.CHOSEN if self.chosen == self.running else Outcome.STARTED


def noted(history: tuple[Update, ...], seen: Seen, now: datetime) -> tuple[Update, ...]:
    """`history` as it is after `seen`; the same if nothing has changed."""
    found = [
        replace(each, outcome=outcome, since_utc=now) if outcome else each
        for each, outcome in _judged(history, seen)
    ]
    known = {each.version for each in found}
    for version in seen.left:
        if version not in known | {seen.running}:
            found.insert(0, Update(version, Outcome.LEFT, now))
    if seen.running not in known:
        found.insert(0, Update(seen.running, seen.runs, now))
    for version in seen.waiting:
        if version not in known | {seen.running, *seen.left}:
            found.insert(0, Update(version, Outcome.WAITS, now, came_utc=now))
    return tuple(found[:MOST_KEPT])


def _judged(history: tuple[Update, ...], seen: Seen) -> Iterator[tuple[Update, Outcome | None]]:
    """Each version with what it has become; None if it is what it was."""
    for each in history:
        if each.version == seen.running:  # on the last of its tries it is among those that were left, too
            now_is = seen.runs
        elif each.version in seen.left:
            now_is = Outcome.LEFT
        elif each.version in seen.waiting:
            now_is = Outcome.WAITS
        else:
            was_replaced = each.outcome is Outcome.WAITS and not seen.chosen
            now_is = Outcome.REPLACED if was_replaced else each.outcome
        yield each, None if now_is is each.outcome else now_is
