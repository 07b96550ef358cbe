"""Deliveries: what is owed to destinations, what became of it, and the four decisions about one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from appliance.catalog import deliveries
from appliance.catalog.delivery_lists import DeliveryRow
from appliance.identity.permissions import Permission
from appliance.model import DeliveryId
from appliance.replication.delivery import State
from appliance.web import access, forms
from appliance.web.api.operation import operation
from appliance.web.api.shape import After, Limit, Next, Row, Shape
from appliance.web.console import console, now


@dataclass(frozen=True, slots=True)
class Delivery:
    """One obligation: this instance, to that destination."""

    id: Row
    destination: str
    state: State
    study_instance_uid: str
    sop_instance_uid: str
    attempts: int
    next_attempt_utc: datetime | None
    receipt: Annotated[Mapping[str, Any] | None, Shape("The proof that it was met.")]
    reason: Annotated[str, Shape("Why it waits or has failed.")]
    priority: int
    created_utc: datetime
    changed_utc: datetime


@dataclass(frozen=True, slots=True)
class Deliveries:
    """A page of deliveries, the latest first."""

    items: tuple[Delivery, ...]
    next: Next


@dataclass(frozen=True, slots=True)
class DeliveriesQuery:
    """Which deliveries."""

    state: State | None = None
    destination: Annotated[str | None, Shape("The name of a destination.", shortest=1, longest=64)] = None
    limit: Limit = 100
    after: After = None


@dataclass(frozen=True, slots=True)
class DeliveryEvent:
    """A step in the life of a delivery."""

    at_utc: datetime
    event: str
    state: State
    note: str


@dataclass(frozen=True, slots=True)
class DeliveryEvents:
    """Everything that happened to a delivery, the oldest first."""

    items: tuple[DeliveryEvent, ...]


@operation("GET", "/deliveries", Permission.VIEW_DELIVERIES, gives=Deliveries, asks=DeliveriesQuery)
def list_deliveries(query: DeliveriesQuery) -> Deliveries:
    """List deliveries, the latest first."""
    with console().box.catalog.reading() as conn:
        rows = deliveries.list_deliveries(
            conn,
            state=query.state,
            destination=query.destination,
            limit=query.limit + 1,
            before=None if query.after is None else DeliveryId(query.after),
        )
    shown = rows[: query.limit]
    with console().box.catalog.transaction() as tx:
        console().record(tx, "delivery:list", "api", forms.actor(), {"rows": len(shown)})
    return Deliveries(
        tuple(_delivery(row) for row in shown), shown[-1].id if len(rows) > query.limit else None
    )


@operation("GET", "/deliveries/{delivery_id}", Permission.VIEW_DELIVERIES, gives=Delivery)
def get_delivery(delivery_id: int) -> Delivery:
    """Get one delivery."""
    with console().box.catalog.reading() as conn:
        row = deliveries.delivery(conn, DeliveryId(delivery_id))
    with console().box.catalog.transaction() as tx:
        study = row.study_instance_uid
        console().record(tx, "delivery:list", f"delivery:{delivery_id}", forms.actor(), study=study)
    return _delivery(row)


@operation("GET", "/deliveries/{delivery_id}/events", Permission.VIEW_DELIVERIES, gives=DeliveryEvents)
def list_delivery_events(delivery_id: int) -> DeliveryEvents:
    """List everything that happened to a delivery, the oldest first."""
    with console().box.catalog.reading() as conn:
        row = deliveries.delivery(conn, DeliveryId(delivery_id))
        steps = deliveries.events(conn, row.id)
    return DeliveryEvents(
        tuple(DeliveryEvent(each.at_utc, each.event, each.state, each.note) for each in steps)
    )


@operation(
    "POST", "/deliveries/{delivery_id}/retry", Permission.ACT_ON_DELIVERIES, gives=Delivery, refuses=(422,)
)
def retry_delivery(delivery_id: int) -> Delivery:
    """Send a delivery on its way again, one that was given up or cancelled too."""
    return _decided(delivery_id, "retry")


@operation(
    "POST", "/deliveries/{delivery_id}/pause", Permission.ACT_ON_DELIVERIES, gives=Delivery, refuses=(422,)
)
def pause_delivery(delivery_id: int) -> Delivery:
    """Let a delivery wait until it is resumed."""
    return _decided(delivery_id, "pause")


@operation(
    "POST", "/deliveries/{delivery_id}/resume", Permission.ACT_ON_DELIVERIES, gives=Delivery, refuses=(422,)
)
def resume_delivery(delivery_id: int) -> Delivery:
    """Let a paused delivery go on."""
    return _decided(delivery_id, "resume")


@operation(
    "POST", "/deliveries/{delivery_id}/cancel", Permission.ACT_ON_DELIVERIES, gives=Delivery, refuses=(422,)
)
def cancel_delivery(delivery_id: int) -> Delivery:
    """Cancel a delivery: the instance is no longer owed there."""
    return _decided(delivery_id, "cancel")


OPERATIONS = (
    list_deliveries,
    get_delivery,
    list_delivery_events,
    retry_delivery,
    pause_delivery,
    resume_delivery,
    cancel_delivery,
)

_ACTS = {
    "retry": deliveries.retry,
    "pause": deliveries.pause,
    "resume": deliveries.resume,
    "cancel": deliveries.cancel,
}


def _decided(delivery_id: int, act: str) -> Delivery:
    number = DeliveryId(delivery_id)
    with console().box.catalog.transaction() as tx:
        study = deliveries.delivery(tx, number).study_instance_uid
        _ACTS[act](tx, number, now())
        console().record(tx, f"delivery:{act}", f"delivery:{delivery_id}", forms.actor(), study=study)
        return _delivery(deliveries.delivery(tx, number))


def _delivery(row: DeliveryRow) -> Delivery:
    """A delivery; of what it delivers, the UIDs are for those who may see every study and whose it is."""
    sees = access.sight()
    values = {name: getattr(row, name) for name in Delivery.__slots__}
    if not (sees.all_studies and sees.identified):
        values |= {"study_instance_uid": "", "sop_instance_uid": ""}
    return Delivery(**values)
