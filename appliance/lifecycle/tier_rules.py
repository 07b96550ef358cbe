"""Whether a bucket moves what the box tells it to: without a rule for a tag, days that the clinic has chosen move nothing.

Asked when somebody tests a destination, and by the runs that set tags (`tagging`) while something was amiss; kept, so that a page
can say it without waiting for the bucket. What is kept is what the bucket does; whether that is enough is judged by the days that
are chosen when it is read.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from appliance.box import Box
from appliance.catalog import Reading, destinations, settings
from appliance.lifecycle import storage
from appliance.lifecycle.storage_class import DOWNWARDS, Tier
from appliance.model import DestinationSettings
from appliance.replication.destinations import bucket_policy
from appliance.replication.destinations.archive import Tiered

_KEPT: Final = "tier_rules"


@dataclass(frozen=True, slots=True)
class Missing:
    """The tiers that the clinic wants images to go to, and a bucket has no rule for; `is_told` is False where it doesn't say so."""

    tiers: tuple[Tier, ...]
    is_told: bool

    @property
    def rules(self) -> str:
        """What is to be added to the life cycle of the bucket, as JSON in S3's own words."""
        return json.dumps(bucket_policy.moving_rules(self.tiers), indent=2)


def look(box: Box, place: DestinationSettings, archive: object, now: datetime) -> Missing | None:
    """Ask a bucket what it moves, keep the answer, and say what is missing; None if nothing is, or nothing is wanted.

    Raises what the bucket raises.
    """
    with box.catalog.reading() as reading:
        wanted = storage.ages(reading).tiers
    if not wanted or not isinstance(archive, Tiered):
        return None
    moves = archive.moves()
    told = {"at": address(place), "moves": None if moves is None else sorted(moves)}
    with box.catalog.transaction() as tx:
        names = {each.name for each in destinations.destinations(tx)}
        kept = _kept(tx)
        found = {name: each for name, each in kept.items() if name in names} | {place.name: told}
        if found != kept and place.name in names:
            settings.put(tx, _KEPT, found, now)
    return _missing(wanted, told["moves"])


def missing(reading: Reading, place: DestinationSettings) -> Missing | None:
    """What was missing when the bucket was asked last, for the days that are chosen now; None if nothing, or it was never asked."""
    told = _kept(reading).get(place.name)
    if told is None or told["at"] != address(place):
        return None
    return _missing(storage.ages(reading).tiers, told["moves"])


def address(place: DestinationSettings) -> str:
    """Where a bucket is, without who may enter."""
    return " ".join(str(place.options.get(each, "")) for each in ("endpoint_url", "region", "bucket"))


def _missing(wanted: frozenset[Tier], moves: Sequence[str] | None) -> Missing | None:
    lacking = tuple(each for each in DOWNWARDS if each in wanted and each not in (moves or ()))
    return Missing(lacking, is_told=moves is not None) if lacking else None


def _kept(reading: Reading) -> dict[str, Any]:
    found = settings.get(reading, _KEPT)
    return found if isinstance(found, dict) else {}
