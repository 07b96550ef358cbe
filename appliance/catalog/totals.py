"""How much there is: the figures of status, metrics and dashboard, from running counts, however much is kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import func, select

from appliance.catalog import counters
from appliance.catalog.database import Reading
from appliance.catalog.schema import metadata
from appliance.model import DestinationId


@dataclass(frozen=True, slots=True)
class Totals:
    """Counts over everything kept; `bytes` of the instances before sealing, `patient_conflicts` in studies."""

    studies: int
    instances: int
    bytes: int
    duplicates: int
    patient_conflicts: int


# Literal, as the partial index has it; it holds those studies only.
_CONFLICTS = "SELECT count(*) FROM studies WHERE patient_conflict = 1"


def totals(conn: Reading) -> Totals:
    """The figures now."""
    kept = counters.counters(conn)
    return Totals(
        studies=kept.get(counters.STUDIES, 0),
        instances=kept.get(counters.INSTANCES, 0),
        bytes=kept.get(counters.BYTES, 0),
        duplicates=kept.get(counters.DUPLICATES, 0),
        patient_conflicts=int(conn.exec_driver_sql(_CONFLICTS).scalar_one()),
    )


def row_counts(conn: Reading) -> dict[str, int]:
    """How many rows each table has; counts them one by one."""
    return {
        table.name: int(conn.execute(select(func.count()).select_from(table)).scalar_one())
        for table in metadata.sorted_tables
    }


def confirmed(conn: Reading) -> Mapping[DestinationId, int]:
    """How many deliveries each destination has confirmed; those with none may be absent."""
    return {
        DestinationId(int(name.removeprefix(counters.CONFIRMED))): value
        for name, value in counters.counters(conn).items()
        if name.startswith(counters.CONFIRMED)
    }
