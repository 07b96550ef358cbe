"""How far away each study may lie in each bucket, by the tags that the box has set there. The only writer of the table.

A row is written before the first tag is set, without `settled_utc`, which comes once every image of the study has its tag. Where a
run ended in the middle of a study, `said_to` is the last image that has its tag, and the next run goes on behind it; what a cut has
left half done is begun anew. A study without a row has no tags, and lies where it was put. An image that was
delivered once more since has lost its tag: the row counts as unsettled.

`deepest` is how far down the bucket may have moved it: no bucket moves anything up again.

A backup knows nothing of the tags that were set after it, so a restored box doubts them all (`doubt_all`): a row that was never settled
stands for every study that a bucket may have, even one that the backup thinks was never tagged, and the next run says all of it
anew. Such a row says of nothing that it lies below hot: without days that the clinic has chosen, it costs no request.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from appliance.catalog import destructions, evictions, holds
from appliance.catalog.columns import utc_moment, utc_text
from appliance.catalog.database import Reading, Transaction
from appliance.lifecycle.storage_class import Tier, deepest
from appliance.lifecycle.tier_policy import CloudFacts
from appliance.model import DestinationId, InstanceId, ObjectId


@dataclass(frozen=True, slots=True)
class Tagged:
    """What was said of a study in a bucket, and whether every image of it has that tag."""

    tier: Tier
    deepest: Tier
    is_settled: bool


UNTAGGED: Final = Tagged(Tier.HOT, Tier.HOT, is_settled=True)

# The studies that may have to move: long untouched, or tagged before.
_NEXT: Final = """
SELECT t.id FROM studies AS t WHERE t.id > ? AND (t.last_received_utc < ? OR EXISTS
    (SELECT 1 FROM tier_tags AS g WHERE g.study = t.id))
 ORDER BY t.id LIMIT ?
"""
_FACTS: Final = """
SELECT t.id, t.study_instance_uid, t.last_received_utc, t.patient_conflict OR t.duplicates,
       (SELECT count(*) FROM studies AS o WHERE o.patient = t.patient
           AND (o.study_date > t.study_date OR (o.study_date = t.study_date AND o.id > t.id))) AS rank,
       EXISTS (SELECT 1 FROM series AS s JOIN instances AS i ON i.series = s.id JOIN deliveries AS d ON d.instance = i.id
           WHERE s.study = t.id AND d.state NOT IN ('CONFIRMED', 'CANCELLED')),
       EXISTS (SELECT 1 FROM evictions AS e WHERE e.study = t.id AND e.wanted_utc IS NOT NULL)
 FROM studies AS t WHERE t.id IN (SELECT value FROM json_each(?)) ORDER BY t.id
"""
_TAGGED: Final = """
SELECT g.study, g.tier, g.deepest, g.settled_utc IS NOT NULL AND NOT EXISTS
    (SELECT 1 FROM series AS s JOIN instances AS i ON i.series = s.id JOIN deliveries AS d ON d.instance = i.id
      WHERE s.study = g.study AND d.destination = g.destination AND d.changed_utc >= g.settled_utc)
 FROM tier_tags AS g WHERE g.destination = ? AND g.study IN (SELECT value FROM json_each(?))
"""


def next_studies(reading: Reading, after: int, before_utc: datetime, limit: int) -> list[int]:
    """The next studies (row ids) that were tagged, or whose latest image came before a moment; `after` is the last one of the slice
    before, 0 begins.
    """
    rows = reading.exec_driver_sql(_NEXT, (after, utc_text(before_utc), limit))
    return [int(row[0]) for row in rows]


def too_low(reading: Reading, limit: int) -> list[int]:
    """Studies (row ids) with a tag below hot that somebody has need of since: wanted back, held, or asked to be destroyed."""
    rows = reading.exec_driver_sql(
        "SELECT DISTINCT study FROM tier_tags WHERE tier <> 'hot' OR settled_utc IS NULL ORDER BY study"
    )
    low = [int(row[0]) for row in rows]
    wanted = reading.exec_driver_sql("SELECT study FROM evictions WHERE wanted_utc IS NOT NULL")
    held = reading.execute(holds.held_studies()).scalars()
    needed = (
        {int(row[0]) for row in wanted}
        | {int(each) for each in held}
        | destructions.studies_asked_for(reading)
    )
    return [each for each in low if each in needed][:limit]


def facts_of(reading: Reading, study_ids: Sequence[int]) -> dict[int, CloudFacts]:
    """What keeps these studies near or lets them go, as it is now; those that are gone are left out."""
    rows = reading.exec_driver_sql(_FACTS, (json.dumps(list(study_ids)),)).all()
    held = holds.held_among(reading, study_ids)
    asked = destructions.studies_asked_for(reading)
    return {
        int(study): CloudFacts(
            last_received_utc=utc_moment(str(received)),
            last_used_utc=evictions.last_used(reading, str(uid)),
            rank=int(rank),
            is_held=int(study) in held,
            is_asked_for=int(study) in asked,
            is_owed=bool(owed),
            is_doubted=bool(doubted),
            is_wanted=bool(wanted),
        )
        for study, uid, received, doubted, rank, owed, wanted in rows
    }


def tagged(reading: Reading, destination: DestinationId, study_ids: Sequence[int]) -> dict[int, Tagged]:
    """What was said of these studies in a bucket; those of which nothing was said are left out."""
    rows = reading.exec_driver_sql(_TAGGED, (destination, json.dumps(list(study_ids))))
    return {
        int(study): Tagged(Tier(tier), Tier(down), is_settled=bool(settled))
        for study, tier, down, settled in rows
    }


def objects_in(reading: Reading, destination: DestinationId, study: int) -> list[tuple[InstanceId, ObjectId]]:
    """The objects of a study that a bucket has a receipt for, in the order in which they are tagged."""
    rows = reading.exec_driver_sql(
        "SELECT i.id, i.object_id FROM series AS s JOIN instances AS i ON i.series = s.id"
        " JOIN deliveries AS d ON d.instance = i.id AND d.destination = ? AND d.state = 'CONFIRMED'"
        " WHERE s.study = ? ORDER BY i.id",
        (destination, study),
    )
    return [(InstanceId(row[0]), ObjectId(row[1])) for row in rows]


def begin(tx: Transaction, destination: DestinationId, study: int, tier: Tier, now: datetime) -> InstanceId:
    """Write down that the images of a study are about to be tagged; after which of them to go on, if a run ended among them (0: none).

    A study that was destroyed meanwhile gets no row.
    """
    half = tx.exec_driver_sql(
        "SELECT said_to FROM tier_tags"
        " WHERE study = ? AND destination = ? AND tier = ? AND settled_utc IS NULL AND said_to > 0",
        (study, destination, tier),
    ).scalar()
    if half:
        return InstanceId(half)
    before = tagged(tx, destination, [study]).get(study, UNTAGGED)
    tx.exec_driver_sql(
        "INSERT INTO tier_tags (study, destination, tier, deepest, changed_utc, settled_utc, said_to)"
        " SELECT t.id, ?, ?, ?, ?, NULL, 0 FROM studies AS t WHERE t.id = ?"
        " ON CONFLICT (study, destination) DO UPDATE SET tier = excluded.tier, deepest = excluded.deepest,"
        " changed_utc = excluded.changed_utc, settled_utc = NULL, said_to = 0",
        (destination, tier, deepest(before.deepest, tier), utc_text(now), study),
    )
    return InstanceId(0)


def reach(tx: Transaction, destination: DestinationId, study: int, instance: InstanceId) -> None:
    """Write down that the images of a study have their tag up to one of them, and that a run has ended there."""
    tx.exec_driver_sql(
        "UPDATE tier_tags SET said_to = ? WHERE study = ? AND destination = ? AND settled_utc IS NULL",
        (instance, study, destination),
    )


def settle(tx: Transaction, destination: DestinationId, study: int) -> None:
    """Write down that every image of a study has its tag that was in the bucket when it was begun."""
    tx.exec_driver_sql(
        "UPDATE tier_tags SET settled_utc = changed_utc, said_to = 0 WHERE study = ? AND destination = ?",
        (study, destination),
    )


def forget(tx: Transaction, destination: DestinationId) -> None:
    """It is another bucket from now on: nothing was said of anything there."""
    tx.exec_driver_sql("DELETE FROM tier_tags WHERE destination = ?", (destination,))


def doubt_all(tx: Transaction, destination: DestinationId, now: datetime) -> None:
    """It is not known which tags a bucket has: every study that was ever on the way to it is to be said anew."""
    tx.exec_driver_sql(
        "UPDATE tier_tags SET settled_utc = NULL, said_to = 0 WHERE destination = ?", (destination,)
    )
    tx.exec_driver_sql(
        "INSERT INTO tier_tags (study, destination, tier, deepest, changed_utc)"
        " SELECT DISTINCT s.study, d.destination, 'hot', 'hot', ? FROM deliveries AS d"
        " JOIN instances AS i ON i.id = d.instance JOIN series AS s ON s.id = i.series"
        " WHERE d.destination = ? AND d.state <> 'CANCELLED' ON CONFLICT (study, destination) DO NOTHING",
        (utc_text(now), destination),
    )


def take_back(tx: Transaction, destination: DestinationId) -> None:
    """A bucket took no tag of what was begun: it lies where it lay, as far as is known."""
    tx.exec_driver_sql(
        "UPDATE tier_tags SET tier = 'hot', deepest = 'hot', said_to = 0"
        " WHERE destination = ? AND settled_utc IS NULL",
        (destination,),
    )


def has_any_settled(reading: Reading, destination: DestinationId) -> bool:
    """Whether a bucket has ever taken the tags of a whole study."""
    found = reading.exec_driver_sql(
        "SELECT 1 FROM tier_tags WHERE destination = ? AND settled_utc IS NOT NULL LIMIT 1", (destination,)
    )
    return found.first() is not None


def is_anything_low(reading: Reading) -> bool:
    """Whether any study was said to lie below hot, or is half said since one was."""
    found = reading.exec_driver_sql(
        "SELECT 1 FROM tier_tags WHERE tier <> 'hot' OR (settled_utc IS NULL AND deepest <> 'hot') LIMIT 1"
    )
    return found.first() is not None
