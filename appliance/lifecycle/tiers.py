"""Which studies may leave this disk, because an archive has them proven whole, and which stay whatever happens. Pure.

::

    pins      why a study stays: one reason is enough
    wanted    how many bytes should be made free, by the choice of the clinic and the water marks
    plan      the studies that leave: none that is pinned, those untouched longest first, no more than are wanted

This is a judgement of what may be *asked* for. What then leaves is decided anew in the transaction that writes it down, after
every image has been read back from its archive (`appliance.lifecycle.eviction`).

Chose whole studies over single images, because a study is what somebody opens, and half of one here is a surprise. A study
counts as touched by its latest image and by whoever opened it last; an hour that lies in the future counts as now, so that a
clock that was set pins and never frees.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final


class Eviction(StrEnum):
    """When studies leave, in the clinic's words: setting ``tiers.eviction``."""

    OFF = "off"  # never: what every box begins with
    WHEN_NEEDED = "when-needed"  # only while the disk has less room than the water mark
    BY_AGE = "by-age"  # whenever nothing pins them


class Pin(StrEnum):
    """Why a study stays on this box."""

    RECENT = "recent"  # an image came lately
    USED = "used"  # somebody opened it lately
    NEWEST = "newest"  # it is among the patient's latest
    HELD = "held"  # a legal hold or a request for access
    DESTRUCTION = "destruction"  # its destruction is asked for
    OWED = "owed"  # an image is not yet where it is owed
    DOUBTED = (
        "doubted"  # a person has to look: another patient is named, or an image came twice with other bytes
    )
    COPIES = "copies"  # too few archives have every image of it


ALWAYS_THERE: Final = frozenset({"s3"})
"""The kinds of archive that can be asked at any hour: one at least must have what is not here. A disk is carried home."""


@dataclass(frozen=True, slots=True)
class Choices:
    """What the clinic has chosen: the settings of ``tiers``."""

    eviction: Eviction
    keep_days: int
    unused_days: int
    newest_studies: int
    copies: int
    low_percent: int
    enough_percent: int
    always_there: frozenset[str] = ALWAYS_THERE


@dataclass(frozen=True, slots=True)
class StudyFacts:
    """A study, as far as it matters here.

    `here` of its images are on this disk, sealed in `here_bytes`; `copies` is in how many archives every one of them has a
    receipt and the study its manifest, of which `kinds`; `rank` is 0 for the patient's latest study.
    """

    id: int
    here: int
    here_bytes: int
    last_received_utc: datetime
    last_used_utc: datetime | None
    rank: int
    is_held: bool
    is_asked_for: bool
    is_owed: bool
    is_doubted: bool
    copies: int
    kinds: frozenset[str]

    @property
    def touched_utc(self) -> datetime:
        """When it last changed or was last opened."""
        return max(self.last_received_utc, self.last_used_utc or self.last_received_utc)


@dataclass(frozen=True, slots=True)
class Space:
    """Bytes of the data disk, as an unprivileged process may use them."""

    total_bytes: int
    free_bytes: int


@dataclass(frozen=True, slots=True)
class Plan:
    """The studies that leave, in that order, and how many bytes were `wanted`; `pinned` counts those that stay, by reason."""

    leaving: tuple[StudyFacts, ...]
    wanted_bytes: int
    pinned: dict[Pin, int]

    @property
    def leaving_bytes(self) -> int:
        """What becomes free."""
        return sum(each.here_bytes for each in self.leaving)

    @property
    def is_short(self) -> bool:
        """Whether too much is pinned for what is wanted."""
        return self.leaving_bytes < self.wanted_bytes


def is_enough(copies: int, kinds: Iterable[str], choices: Choices) -> bool:
    """Whether so many archives, of these kinds, carry what is not here."""
    return copies >= max(1, choices.copies) and not choices.always_there.isdisjoint(kinds)


def pins(study: StudyFacts, choices: Choices, now: datetime) -> frozenset[Pin]:
    """Every reason why a study stays; none if it may leave."""
    received = now - study.last_received_utc
    used = None if study.last_used_utc is None else now - study.last_used_utc
    holds = {
        Pin.RECENT: received < timedelta(days=choices.keep_days),
        Pin.USED: used is not None and used < timedelta(days=choices.unused_days),
        Pin.NEWEST: study.rank < choices.newest_studies,
        Pin.HELD: study.is_held,
        Pin.DESTRUCTION: study.is_asked_for,
        Pin.OWED: study.is_owed,
        Pin.DOUBTED: study.is_doubted,
        Pin.COPIES: not is_enough(study.copies, study.kinds, choices),
    }
    return frozenset(pin for pin, stands in holds.items() if stands)


def wanted(space: Space, choices: Choices) -> int:
    """How many bytes should become free now: 0 above the low water mark, else enough to reach the high one."""
    if choices.eviction is Eviction.OFF or 100 * space.free_bytes >= choices.low_percent * space.total_bytes:
        return 0
    return max(0, choices.enough_percent * space.total_bytes // 100 - space.free_bytes)


def plan(studies: Iterable[StudyFacts], choices: Choices, space: Space, now: datetime) -> Plan:
    """What leaves. With `Eviction.BY_AGE` all that nothing pins; with `Eviction.WHEN_NEEDED` until enough is free."""
    need = wanted(space, choices)
    free: list[StudyFacts] = []
    pinned = dict.fromkeys(Pin, 0)
    for each in studies:
        reasons = pins(each, choices, now)
        for reason in reasons:
            pinned[reason] += 1
        if not reasons and each.here:
            free.append(each)
    free.sort(key=lambda each: (each.touched_utc, each.id))
    leaving: Sequence[StudyFacts] = ()
    if choices.eviction is Eviction.BY_AGE:
        leaving = free
    elif choices.eviction is Eviction.WHEN_NEEDED:
        leaving = _until(free, need)
    return Plan(tuple(leaving), need, pinned)


def _until(free: Sequence[StudyFacts], need_bytes: int) -> list[StudyFacts]:
    chosen: list[StudyFacts] = []
    so_far = 0
    for each in free:
        if so_far >= need_bytes:
            break
        chosen.append(each)
        so_far += each.here_bytes
    return chosen
