"""When so much of what is kept is gone or altered that it is no accident: the ransomware guard's judgement. Pure.

The box counts, every few minutes, a sample of its sealed objects (`appliance.lifecycle.census`); whoever reads an object for
another reason (scrub, courier, verification) and finds it damaged is counted too. Nothing that the box does on purpose makes
an object that the catalog knows of disappear or change: it is received before it is recorded, destroyed after its row is gone,
and what was never brought home after a restore is not expected. So what is missing or altered is a loss, and the question is
only how much of it is usual here.

Chose shares over counts, because a hundred of a thousand is an attack and a hundred of a million a bad sector; a least count,
because one of three films on a new box is a third; and the own usual share with a ceiling, because a disk that rots slowly must
not cry every day, and whoever encrypts slowly must not become usual. Rejected: names and kinds of files, entropy, known
extensions (every object here looks like noise, which is the point of sealing), and rates of reception or of requests to
destroy, which a busy clinic has honestly.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

LEAST: Final = 3
"""Fewer objects than this are never a mass."""

MARGIN: Final = 0.02
"""How much more of what was looked at must be lost than is usual."""

MOST_USUAL: Final = 0.03
"""What the guard gets used to by itself at most: so more than `MARGIN` + `MOST_USUAL` always trips it."""

SLOWLY: Final = 1 / 1000
"""By how much one count moves what is usual: at one every five minutes, half the way takes two and a half days."""

REPORTED_OF: Final = 190_000
"""Reports of a day are held to so many objects at most: only so many reports are counted (`freezing.MOST_REPORTS`) that the share of a larger box
could never be reached, and thousands within a day are a mass on any."""


class Kind(StrEnum):
    """Which sort of loss tripped the guard; the words of `catalog.freezes.Why`."""

    VANISHED = "vanished"
    ALTERED = "altered"
    REPORTED = "reported"


@dataclass(frozen=True, slots=True)
class Count:
    """One count of a sample: of `looked` objects, how many were not there; of `opened`, how many did not open.

    `altered` have another length or another beginning than they were given.
    """

    looked: int
    missing: int = 0
    altered: int = 0
    opened: int = 0
    unreadable: int = 0


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known at one moment: the counts of the window, and of `kept` objects those that others `reported` damaged.

    `known` are those that no archive had whole when the box was restored: they were lost before, and are a share of those that are
    `expected` here; 0 of these says that all are that are kept.
    """

    counts: tuple[Count, ...]
    kept: int
    reported: int = 0
    known: int = 0
    expected: int = 0


@dataclass(frozen=True, slots=True)
class Usual:
    """The share that is lost here on an ordinary day; `accepted` when a person said at the last release that it is known."""

    share: float = 0.0
    accepted: float = 0.0

    @property
    def level(self) -> float:
        """The share that is no news."""
        return max(min(self.share, MOST_USUAL), self.accepted)


def judge(evidence: Evidence, usual: Usual) -> Kind | None:
    """The loss that is a mass, if one is; of several, the one that says most of what happened."""
    newest = evidence.counts[-1] if evidence.counts else Count(0)
    opened, unreadable = _opened(evidence.counts)
    expected = evidence.expected or evidence.kept
    level = max(usual.level, evidence.known / expected if expected else 0.0)
    for kind, lost, looked in (
        (Kind.VANISHED, newest.missing, newest.looked),
        (Kind.ALTERED, newest.altered, newest.looked),
        (Kind.ALTERED, unreadable, opened),
        (Kind.VANISHED, newest.missing + newest.altered, newest.looked),
        (Kind.REPORTED, evidence.reported, min(evidence.kept, REPORTED_OF)),
    ):
        if lost >= LEAST and lost > (level + MARGIN) * looked:
            return kind
    return None


def used_to(usual: Usual, counts: tuple[Count, ...]) -> Usual:
    """What is usual after the newest of `counts`, which tripped nothing.

    What a person accepted stays accepted until half of it is mended: a sample wavers, and must not wear it away.
    """
    found = lost_share(counts)
    share = usual.share + SLOWLY * (found - usual.share)
    return Usual(share, found if found < usual.accepted / 2 else usual.accepted)


def accepted(counts: tuple[Count, ...]) -> Usual:
    """What is usual from now on, after a person has released the guard: what was lost is known, and no news again."""
    found = lost_share(counts)
    return Usual(share=min(found, MOST_USUAL), accepted=found)


def lost_share(counts: tuple[Count, ...]) -> float:
    """Which part is lost, by the worse of the two ways of looking."""
    if not counts:
        return 0.0
    newest = counts[-1]
    opened, unreadable = _opened(counts)
    gone = (newest.missing + newest.altered) / newest.looked if newest.looked else 0.0
    return max(gone, unreadable / opened if opened else 0.0)


def _opened(counts: tuple[Count, ...]) -> tuple[int, int]:
    return sum(each.opened for each in counts), sum(each.unreadable for each in counts)
