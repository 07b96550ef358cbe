"""Which copies somebody who has taken over the box could erase too, and what withstands that, in the words of a language.

The box lays copies on a disk, a file server or a share with rights that remove as well as write, and so does whoever is root on it.
Only a bucket that keeps and locks every version refuses its own key; whether it does, nobody knows without asking it, so a bucket is
never called safe here, only said what makes it so.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from appliance.model import CAN_BE_ERASED, DestinationKind
from appliance.replication.destinations.protection import Protection, State
from appliance.web.language import Words

WORDED: Final = {
    "versioning": "reach.versioning",
    "object lock": "reach.lock",
    "life cycle": "reach.life_cycle",
    "removal": "reach.removal",
}
"""The protections of a bucket, by name."""


@dataclass(frozen=True, slots=True)
class Reach:
    """Whether any copy may be out of reach: `tone` is empty where one may, `text` says which, and what helps."""

    tone: Literal["", "wait"]
    title: str
    text: str


def reach_of(archives: Iterable[tuple[str, DestinationKind]], words: Words) -> Reach | None:
    """What is to be said of these archives, by name and kind; None if there is none. Pure."""
    known = list(archives)
    near = [name for name, kind in known if kind in CAN_BE_ERASED]
    buckets = [name for name, kind in known if kind not in CAN_BE_ERASED]
    said = []
    if buckets:
        said.append(
            words(
                "reach.buckets",
                names=words.several(buckets),
                test=words("destinations.test"),
                destinations=words("nav.destinations"),
            )
        )
    if near:
        said.append(words("reach.near", names=words.several(near)))
    if near and not buckets:
        said.append(words("reach.remedy"))
    if not said:
        return None
    return Reach("" if buckets else "wait", words("reach.title" if buckets else "reach.none"), " ".join(said))


def seen(last: tuple[datetime, Sequence[Protection]] | None, words: Words) -> Reach | None:
    """What is to be said of a bucket that was asked for its protections, and when; None if it never answered. Pure."""
    if last is None:
        return None
    at, found = last
    lacks = lacking(found, words)
    text = f"{words('reach.looked', at=words.moment(at))} {lacks or words('reach.has_all')}"
    return Reach("wait" if lacks else "", words("reach.title"), text)


def lacking(found: Sequence[Protection], words: Words) -> str:
    """What a bucket was found to lack, or doesn't tell; empty if it has every protection. Pure."""
    said = [
        words(key, what=words.several([words(WORDED[each.name]) for each in those]))
        for key, state in (("reach.lacks", State.MISSING), ("reach.not_told", State.NOT_TOLD))
        if (those := [each for each in found if each.state is state])
    ]
    return " ".join([*said, words("reach.bucket_remedy")]) if said else ""
