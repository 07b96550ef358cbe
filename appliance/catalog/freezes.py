"""Times in which nothing that was kept is overwritten or removed, anywhere: the ransomware guard's state. The only writer.

Everything that writes over, prunes or destroys asks `in_force` (or `refuse`) in the step before it acts, from whichever
process: the answer is a row of the catalog, so it survives a restart and is one answer for all. What only adds, and what
reads, never asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Select, insert, select, update

from appliance.catalog.database import Reading, Transaction
from appliance.catalog.freeze_tables import freezes
from appliance.errors import Refused, Transient


class Why(StrEnum):
    """What began a freeze."""

    VANISHED = "vanished"  # sealed objects are gone from the disk
    ALTERED = "altered"  # they are there and are not what was written
    REPORTED = "reported"  # those who read objects found many damaged, one by one
    BY_HAND = "by-hand"  # a person wanted it


@dataclass(frozen=True, slots=True)
class Freeze:
    """One of them. `evidence` is counts; the two reasons are people's words and stay on the box.

    `begun_by` and `released_by` are logins, a command line, or a process of the box; `released_utc` None while in force.
    """

    id: int
    why: Why
    evidence: Mapping[str, int]
    reason: str
    begun_by: str
    begun_utc: datetime
    released_by: str
    released_utc: datetime | None
    release_reason: str


def in_force(reading: Reading) -> Freeze | None:
    """The freeze that is in force; None as long as everything goes its way."""
    row = reading.execute(_IN_FORCE).first()
    return None if row is None else _freeze(row)


def refuse(reading: Reading) -> None:
    """Raise `Transient` while a freeze is in force: what was wanted waits until a person has released it."""
    if in_force(reading) is not None:
        raise Transient(
            "nothing is overwritten or removed while the ransomware guard holds",
            hint="once its cause is known, release the ransomware guard",
        )


def begin(
    tx: Transaction, *, why: Why, evidence: Mapping[str, int], reason: str = "", by: str, now: datetime
) -> Freeze | None:
    """Begin a freeze; None if one is in force already."""
    if in_force(tx) is not None:
        return None
    tx.execute(
        insert(freezes).values(why=why, evidence=dict(evidence), reason=reason, begun_by=by, begun_utc=now)
    )
    return in_force(tx)


def release(tx: Transaction, *, reason: str, by: str, now: datetime) -> Freeze:
    """End the freeze in force; it. Raises `Refused` if there is none."""
    found = in_force(tx)
    if found is None:
        raise Refused("the ransomware guard holds nothing", hint="there is nothing to release")
    tx.execute(
        update(freezes)
        .where(freezes.c.id == found.id)
        .values(released_by=by, released_utc=now, release_reason=reason)
    )
    return found


def latest(reading: Reading, limit: int = 20) -> list[Freeze]:
    """Those that were, the latest first, the one in force among them."""
    return [_freeze(row) for row in reading.execute(_select().order_by(freezes.c.id.desc()).limit(limit))]


def _select() -> Select[Any]:
    return select(*(freezes.c[name] for name in Freeze.__slots__))


_IN_FORCE = _select().where(freezes.c.released_utc.is_(None))
"""Asked before every step that overwrites or removes: to build it costs more than to answer it."""


def _freeze(row: Any) -> Freeze:
    values = dict(zip(Freeze.__slots__, row, strict=True))
    return Freeze(**(values | {"why": Why(values["why"])}))
