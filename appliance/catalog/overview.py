"""What the console shows beside a list of studies, read in a few statements for the whole list. Writes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import func, select

from appliance.catalog.database import Reading
from appliance.catalog.schema import deliveries, destinations, instances, series
from appliance.model import InstanceId, Takes


@dataclass(frozen=True, slots=True)
class Tally:
    """How many deliveries of a study are in which state, for one way of taking: ciphertext or DICOM."""

    states: Mapping[str, int] = field(default_factory=dict)

    @property
    def owed(self) -> int:
        """All of them but those a person gave up."""
        return sum(count for state, count in self.states.items() if state != "CANCELLED")

    @property
    def confirmed(self) -> int:
        return self.states.get("CONFIRMED", 0)

    @property
    def failed(self) -> int:
        return self.states.get("FAILED", 0)


@dataclass(frozen=True, slots=True)
class Pulse:
    """Numbers that differ when the list of that name has changed."""

    studies: int
    deliveries: int
    devices: int
    destinations: int
    notices: int
    health: int = 0  # not from here: of whoever judges the box


def thumbnails(conn: Reading, study_ids: Sequence[int]) -> dict[int, InstanceId]:
    """The instance that stands for each study: its first with pixels, in the order of series and arrival."""
    query = (
        select(series.c.study, func.min(instances.c.id))
        .join(instances, instances.c.series == series.c.id)
        .where(series.c.study.in_(study_ids), instances.c.rows > 0)
        .group_by(series.c.study)
    )
    return {row[0]: InstanceId(row[1]) for row in conn.execute(query)}


def tallies(conn: Reading, study_ids: Sequence[int]) -> dict[int, dict[Takes, Tally]]:
    """Deliveries of each study that has any, by what their destination takes."""
    query = (
        select(series.c.study, destinations.c.takes, deliveries.c.state, func.count())
        .select_from(series)
        .join(instances, instances.c.series == series.c.id)
        .join(deliveries, deliveries.c.instance == instances.c.id)
        .join(destinations, destinations.c.id == deliveries.c.destination)
        .where(series.c.study.in_(study_ids))
        .group_by(series.c.study, destinations.c.takes, deliveries.c.state)
    )
    counts: dict[int, dict[Takes, dict[str, int]]] = {}
    for study, takes, state, count in conn.execute(query):
        counts.setdefault(study, {}).setdefault(takes, {})[state] = count
    return {
        study: {takes: Tally(states) for takes, states in by_takes.items()}
        for study, by_takes in counts.items()
    }


_PULSE = """
    SELECT
        (SELECT value FROM counters WHERE name = 'study_change'),
        (SELECT max(id) FROM delivery_events),
        (SELECT max(id) FROM deliveries),
        (SELECT count(*) FROM devices),
        (SELECT max(id) FROM devices),
        (SELECT count(*) FROM door),
        (SELECT sum(calls) FROM door),
        (SELECT json_group_array(json_array(id, paused, removed, breaker_failures)) FROM destinations),
        (SELECT max(change) FROM notices)
"""
"""One statement, because it is asked several times a second for as long as anybody looks."""


def pulse(conn: Reading) -> Pulse:
    """One cheap look at everything that the console follows live."""
    studies, events, owed, known, newest, callers, calls, places, told = conn.exec_driver_sql(_PULSE).one()
    return Pulse(
        studies=int(studies or 0),
        deliveries=mark(events, owed),
        devices=mark(known, newest, callers, calls),
        destinations=mark(places),
        notices=int(told or 0),
    )


def mark(*values: object) -> int:
    """A number that JavaScript can hold and that differs, in practice, when `values` do."""
    return hash(values) & ((1 << 48) - 1)
