"""How much there is: the figures of status, metrics and dashboard."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import func, select

from appliance.catalog.database import Reading
from appliance.catalog.schema import deliveries, studies
from appliance.model import DestinationId


@dataclass(frozen=True, slots=True)
class Totals:
    """Counts over everything kept; `bytes` of the instances before sealing, `patient_conflicts` in studies."""

    studies: int
    instances: int
    bytes: int
    duplicates: int
    patient_conflicts: int


def totals(conn: Reading) -> Totals:
    """The figures now. Reads every study's row, none of the instances'."""
    row = conn.execute(
        select(
            func.count(),
            func.coalesce(func.sum(studies.c.instances), 0),
            func.coalesce(func.sum(studies.c.bytes), 0),
            func.coalesce(func.sum(studies.c.duplicates), 0),
            func.coalesce(func.sum(studies.c.patient_conflict), 0),
        ).select_from(studies)
    ).one()
    return Totals(*(int(each) for each in row))


def obligations(conn: Reading) -> Mapping[DestinationId, int]:
    """How many deliveries, of whatever state, each destination was ever owed."""
    counted = conn.execute(select(deliveries.c.destination, func.count()).group_by(deliveries.c.destination))
    return {DestinationId(row[0]): row[1] for row in counted}
