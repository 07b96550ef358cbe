"""How far away a study may lie in the cloud: by how long nobody has opened it, and by what keeps it near. Pure.

Whoever holds a study, asks for its destruction, still owes it somewhere, has doubts about it or wants it here may need it today:
it stays hot, whatever its age. A patient's latest studies are opened when the patient comes back: they never go where it takes
hours. An hour that lies in the future counts as now, so that a clock that was set keeps and never sinks.

Nothing comes up again by itself: no bucket moves an object to a nearer class. A study that was opened goes no further down.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from appliance.lifecycle.storage_class import Ages, Tier


@dataclass(frozen=True, slots=True)
class CloudFacts:
    """A study, as far as it matters here; `rank` is 0 for the patient's latest study, `is_wanted` if it is being brought home."""

    last_received_utc: datetime
    last_used_utc: datetime | None
    rank: int
    is_held: bool
    is_asked_for: bool
    is_owed: bool
    is_doubted: bool
    is_wanted: bool

    @property
    def touched_utc(self) -> datetime:
        """When it last changed or was last opened."""
        return max(self.last_received_utc, self.last_used_utc or self.last_received_utc)


def tier_of(study: CloudFacts, ages: Ages, newest_studies: int, now: datetime) -> Tier:
    """The tier that a study may lie in; `newest_studies` of each patient never lie deep."""
    if study.is_held or study.is_asked_for or study.is_owed or study.is_doubted or study.is_wanted:
        return Tier.HOT
    untouched = now - study.touched_utc
    reached = Tier.HOT
    for days, tier in ages.steps:
        if untouched >= timedelta(days=days) and not (tier is Tier.DEEP and study.rank < newest_studies):
            reached = tier
    return reached
