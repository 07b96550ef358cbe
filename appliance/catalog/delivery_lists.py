"""Deliveries as they are shown: lists, timelines, and what has not arrived yet. Nothing is written here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, literal_column, select

from appliance.catalog.columns import utc_moment
from appliance.catalog.database import Reading
from appliance.catalog.schema import deliveries, delivery_events, destinations, instances, series, studies
from appliance.errors import Unknown
from appliance.model import DeliveryId, DestinationId, ObjectId, Uid
from appliance.replication.delivery import OPEN_STATES, State


@dataclass(frozen=True, slots=True)
class DeliveryRow:
    """A delivery as it is listed. `destination` is its name."""

    id: DeliveryId
    destination: str
    state: State
    study_instance_uid: Uid
    sop_instance_uid: Uid
    attempts: int
    next_attempt_utc: datetime | None
    receipt: Mapping[str, Any] | None
    reason: str
    priority: int
    created_utc: datetime
    changed_utc: datetime


@dataclass(frozen=True, slots=True)
class DeliveryEvent:
    """One step of a delivery's timeline."""

    at_utc: datetime
    event: str
    state: State
    note: str


@dataclass(frozen=True, slots=True)
class QueueSummary:
    """What is not delivered yet to one destination; `oldest_utc` is when the oldest open obligation arose."""

    destination_id: DestinationId
    destination: str
    counts: Mapping[State, int]
    oldest_utc: datetime | None


_ROWS = (
    select(
        deliveries.c.id,
        destinations.c.name.label("destination"),
        deliveries.c.state,
        studies.c.study_instance_uid,
        instances.c.sop_instance_uid,
        deliveries.c.attempts,
        deliveries.c.next_attempt_utc,
        deliveries.c.receipt,
        deliveries.c.reason,
        deliveries.c.priority,
        deliveries.c.created_utc,
        deliveries.c.changed_utc,
    )
    .select_from(deliveries)
    .join(destinations, destinations.c.id == deliveries.c.destination)
    .join(instances, instances.c.id == deliveries.c.instance)
    .join(series, series.c.id == instances.c.series)
    .join(studies, studies.c.id == series.c.study)
)


def list_deliveries(
    conn: Reading,
    *,
    state: State | None = None,
    destination: str | None = None,
    study: Uid | None = None,
    limit: int | None = None,
    before: DeliveryId | None = None,
) -> list[DeliveryRow]:
    """Deliveries, the latest first, that match what is given (`destination` is a name, `study` its instance UID).

    `before` is the last delivery of the page before.
    """
    query = _ROWS.order_by(deliveries.c.id.desc()).limit(limit)
    if state is not None:
        query = query.where(deliveries.c.state == state)
        if state is not State.CONFIRMED:
            query = query.where(deliveries.c.state != literal_column("'CONFIRMED'"))
    if destination is not None:
        query = query.where(destinations.c.name == destination)
    if study is not None:
        query = query.where(studies.c.study_instance_uid == study)
    if before is not None:
        query = query.where(deliveries.c.id < before)
    return [_delivery(row) for row in conn.execute(query)]


def delivery(conn: Reading, delivery_id: DeliveryId) -> DeliveryRow:
    """One delivery. Raises `Unknown`."""
    row = conn.execute(_ROWS.where(deliveries.c.id == delivery_id)).one_or_none()
    if row is None:
        raise Unknown(f"there is no delivery {delivery_id}", hint="list them to see their numbers")
    return _delivery(row)


def _delivery(row: Row[*tuple[Any, ...]]) -> DeliveryRow:
    values = dict(row._mapping)
    return DeliveryRow(**values | {"state": State(values["state"])})


def events(conn: Reading, delivery_id: DeliveryId) -> list[DeliveryEvent]:
    """The timeline of a delivery from the moment it arose, in order. Raises `Unknown`."""
    created = conn.execute(
        select(deliveries.c.created_utc).where(deliveries.c.id == delivery_id)
    ).scalar_one_or_none()
    if created is None:
        raise Unknown(f"there is no delivery {delivery_id}", hint="list them to see their numbers")
    rows = conn.execute(
        select(
            delivery_events.c.at_utc, delivery_events.c.event, delivery_events.c.state, delivery_events.c.note
        )
        .where(delivery_events.c.delivery == delivery_id)
        .order_by(delivery_events.c.id)
    )
    return [
        DeliveryEvent(created, "owe", State.PENDING, ""),
        *(DeliveryEvent(row.at_utc, row.event, State(row.state), row.note) for row in rows),
    ]


def waiting_summary(conn: Reading) -> list[QueueSummary]:
    """What is not delivered, per destination that isn't removed; destinations that owe nothing have empty counts."""
    counts: dict[int, dict[State, int]] = {}
    oldest: dict[int, str] = {}
    for destination_id, state, count, first in conn.exec_driver_sql(
        "SELECT destination, state, COUNT(*), MIN(created_utc) FROM deliveries"
        " WHERE state <> 'CONFIRMED' GROUP BY destination, state"
    ):
        counts.setdefault(destination_id, {})[State(state)] = count
        if State(state) in OPEN_STATES:
            oldest[destination_id] = min(first, oldest.get(destination_id, first))
    rows = conn.execute(
        select(destinations.c.id, destinations.c.name)
        .where(destinations.c.removed.is_(False))
        .order_by(destinations.c.name)
    )
    return [
        QueueSummary(
            DestinationId(row.id),
            row.name,
            counts.get(row.id, {}),
            utc_moment(oldest[row.id]) if row.id in oldest else None,
        )
        for row in rows
    ]


def holders(conn: Reading, object_id: ObjectId) -> list[DestinationId]:
    """Where an object is known to be, the latest receipt first."""
    rows = conn.exec_driver_sql(
        "SELECT d.destination FROM deliveries AS d JOIN instances AS i ON i.id = d.instance"
        " WHERE i.object_id = ? AND d.state = 'CONFIRMED' ORDER BY d.changed_utc DESC",
        (object_id,),
    )
    return [DestinationId(row[0]) for row in rows]


_BEING_SENT = (
    "SELECT 1 FROM deliveries AS d JOIN instances AS i ON i.id = d.instance JOIN series AS s ON s.id = i.series"
    " WHERE s.study = ? AND d.state = 'SENDING' LIMIT 1"
)


def being_sent(conn: Reading, study: int) -> bool:
    """Whether an image of this study (row id) is on its way at this moment."""
    return conn.exec_driver_sql(_BEING_SENT, (study,)).first() is not None
