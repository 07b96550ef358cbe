"""How much there is: the figures of status, metrics and dashboard, from running counts, however much is kept.

Running counts say nothing of the rows themselves: whoever has to know that all of them are there counts them (`counted`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

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


@dataclass(frozen=True, slots=True)
class Counted:
    """How many rows there are; `bytes` is the sum of the instances' own sizes, before sealing."""

    studies: int
    series: int
    instances: int
    bytes: int


_PART: Final = 20_000
"""Row ids that are counted at once: some ten milliseconds."""
_COUNTED: Final = (
    ("SELECT max(id) FROM studies", "SELECT count(*), 0 FROM studies WHERE id > ? AND id <= ?"),
    ("SELECT max(id) FROM series", "SELECT count(*), 0 FROM series WHERE id > ? AND id <= ?"),
    (
        "SELECT max(id) FROM instances",
        "SELECT count(*), coalesce(sum(size_bytes), 0) FROM instances WHERE id > ? AND id <= ?",
    ),
)


def counted(conn: Reading, between: Callable[[], None] = lambda: None) -> Counted:
    """What there is, row by row, whatever the running counts say. Reads every page of instances: not for a page.

    `between` is called between two parts; it may take its time, and raise to stop.
    """
    rows, size = [0, 0, 0], 0
    for which, (last, query) in enumerate(_COUNTED):
        for start in range(0, int(conn.exec_driver_sql(last).scalar() or 0), _PART):
            count, more = conn.exec_driver_sql(query, (start, start + _PART)).one()
            rows[which] += int(count)
            size += int(more)
            between()
    studies, series, instances = rows
    return Counted(studies, series, instances, size)


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
