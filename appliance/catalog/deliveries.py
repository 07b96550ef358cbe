"""What is owed, to whom, and how it stands: the deliveries table and its timeline. The only writer of both, with
`appliance.catalog.moving`.

The states and what may follow what are `appliance.replication.delivery`; every statement here repeats the state that
it leaves, so that two processes can't both take a step. A claim counts the attempt and carries its number: an outcome
that comes back with another number belongs to a lease that ran out, and is dropped, except a receipt, which is proof.

The lists and timelines are `appliance.catalog.delivery_lists`; their names can be had from here too.

Functions take the transaction (or the reading) first and `now` as an aware UTC datetime; nobody commits here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import Row, Select, bindparam, delete, literal_column, or_, select, update

from appliance.catalog import counters
from appliance.catalog.columns import canonical_json, utc_text
from appliance.catalog.database import Reading, Transaction
from appliance.catalog.delivery_lists import (
    DeliveryEvent,
    DeliveryRow,
    QueueSummary,
    being_sent,
    delivery,
    events,
    holders,
    list_deliveries,
    waiting_summary,
)
from appliance.catalog.schema import deliveries, delivery_events, instances, series, studies
from appliance.errors import Unknown
from appliance.model import DeliveryId, DestinationId, InstanceId, KeyId, ObjectId, Owed, Uid
from appliance.replication.delivery import (
    FURTHEST_SECONDS,
    OPEN_STATES,
    Event,
    State,
    back_off,
    next_state,
    states_before,
)

__all__ = [
    "Claimed",
    "DeliveryEvent",
    "DeliveryRow",
    "QueueSummary",
    "being_sent",
    "cancel",
    "cancel_all",
    "claim",
    "confirm",
    "delivery",
    "events",
    "fail",
    "forget",
    "hold",
    "holders",
    "is_owed",
    "list_deliveries",
    "owe",
    "owe_many",
    "pause",
    "postpone",
    "release",
    "release_abandoned",
    "release_expired",
    "renew",
    "resume",
    "retry",
    "retry_failed",
    "waiting_summary",
    "wake",
    "with_work",
]

_OWE = (
    "INSERT INTO deliveries (destination, instance, state, priority, attempts, reason, created_utc, changed_utc)"
    " VALUES (?, ?, 'PENDING', ?, 0, '', ?, ?) ON CONFLICT (destination, instance) DO NOTHING"
)
_IDS_PER_STATEMENT = 500
Id = TypeVar("Id", bound=int)
_FURTHEST_LEASE_SECONDS = 24 * 3600
"""A lease that ends later was given before the clock was put back."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A delivery under lease, with what is needed to carry it out. `attempts` counts this one."""

    id: DeliveryId
    attempts: int
    priority: int
    instance: InstanceId
    study: int
    study_instance_uid: Uid
    series_instance_uid: Uid
    sop_instance_uid: Uid
    sop_class_uid: Uid
    transfer_syntax_uid: Uid
    object_id: ObjectId
    key_id: KeyId
    size_bytes: int
    sealed_bytes: int


# --- Owing and claiming ----------------------------------------------------------------------------------------------


def owe(tx: Transaction, instance_id: InstanceId, owed: Iterable[Owed], now: datetime) -> None:
    """Record that an instance is owed; what is already owed stays as it is."""
    owe_many(tx, [(instance_id, owed)], now)


def owe_many(
    tx: Transaction, obligations: Iterable[tuple[InstanceId, Iterable[Owed]]], now: datetime
) -> None:
    """`owe` for many instances in one statement: the form for a batch of arrivals."""
    text = utc_text(now)
    rows = [
        (each.destination_id, instance_id, each.priority, text, text)
        for instance_id, owed in obligations
        for each in owed
    ]
    if rows:
        tx.exec_driver_sql(_OWE, rows)


def hold(
    tx: Transaction,
    destination_id: DestinationId,
    instance_id: InstanceId,
    receipt: Mapping[str, Any],
    now: datetime,
) -> None:
    """Record that a destination holds an instance, as an archive that was read back has shown; what was owed is met."""
    text = utc_text(now)
    changed = tx.exec_driver_sql(
        "INSERT INTO deliveries (destination, instance, state, priority, attempts, reason, receipt, created_utc,"
        " changed_utc) VALUES (?, ?, 'CONFIRMED', 0, 0, '', ?, ?, ?) ON CONFLICT (destination, instance) DO UPDATE SET"
        " state = 'CONFIRMED', reason = '', receipt = excluded.receipt, next_attempt_utc = NULL,"
        " lease_until_utc = NULL, changed_utc = excluded.changed_utc WHERE state <> 'CONFIRMED' RETURNING id",
        (destination_id, instance_id, canonical_json(dict(receipt)), text, text),
    ).first()
    if changed is not None:
        counters.add(tx, f"{counters.CONFIRMED}{destination_id}")


def with_work(conn: Reading, now: datetime) -> frozenset[DestinationId]:
    """The destinations, neither paused nor removed, that something could be sent to at `now`. Cheap: asked all the time."""
    rows = conn.exec_driver_sql(
        "SELECT id FROM destinations AS d WHERE removed = 0 AND paused = 0 AND ("
        " EXISTS (SELECT 1 FROM deliveries WHERE destination = d.id AND state = 'PENDING')"
        " OR EXISTS (SELECT 1 FROM deliveries WHERE destination = d.id AND state = 'WAITING'"
        " AND (next_attempt_utc <= ? OR next_attempt_utc > ?)))",
        _over(now),
    )
    return frozenset(DestinationId(row[0]) for row in rows)


def claim(
    tx: Transaction, destination_id: DestinationId, *, now: datetime, lease_seconds: float, limit: int
) -> list[Claimed]:
    """Take up to `limit` deliveries that are due, most urgent first, then oldest; they are ours for `lease_seconds`."""
    pending = tx.exec_driver_sql(
        "SELECT id, priority FROM deliveries WHERE destination = ? AND state = 'PENDING'"
        " ORDER BY priority DESC, id LIMIT ?",
        (destination_id, limit),
    ).all()
    rested = tx.exec_driver_sql(
        "SELECT id, priority FROM deliveries WHERE destination = ? AND state = 'WAITING'"
        " AND (next_attempt_utc <= ? OR next_attempt_utc > ?) ORDER BY next_attempt_utc LIMIT ?",
        (destination_id, *_over(now), limit),
    ).all()
    chosen = [row[0] for row in sorted([*pending, *rested], key=lambda row: (-row[1], row[0]))[:limit]]
    if not chosen:
        return []
    tx.execute(
        update(deliveries)
        .where(deliveries.c.id.in_(chosen))
        .values(
            state=State.SENDING,
            attempts=deliveries.c.attempts + 1,
            next_attempt_utc=None,
            lease_until_utc=now + timedelta(seconds=lease_seconds),
            changed_utc=now,
        )
    )
    _write_events(tx, [(DeliveryId(each), State.SENDING, "") for each in chosen], Event.CLAIM, now)
    claimed = [_claimed(row) for row in tx.execute(_CLAIMED.where(deliveries.c.id.in_(chosen)))]
    return sorted(claimed, key=lambda each: (-each.priority, each.id))


_CLAIMED = (
    select(
        deliveries.c.id,
        deliveries.c.attempts,
        deliveries.c.priority,
        deliveries.c.instance,
        studies.c.id.label("study"),
        studies.c.study_instance_uid,
        series.c.series_instance_uid,
        instances.c.sop_instance_uid,
        instances.c.sop_class_uid,
        instances.c.transfer_syntax_uid,
        instances.c.object_id,
        instances.c.key_id,
        instances.c.size_bytes,
        instances.c.sealed_bytes,
    )
    .select_from(deliveries)
    .join(instances, instances.c.id == deliveries.c.instance)
    .join(series, series.c.id == instances.c.series)
    .join(studies, studies.c.id == series.c.study)
)


def _claimed(row: Row[*tuple[Any, ...]]) -> Claimed:
    return Claimed(**row._mapping)


def renew(tx: Transaction, held: Sequence[DeliveryId], *, now: datetime, lease_seconds: float) -> None:
    """Lengthen the leases of what is still being sent."""
    for some in _slices(held):
        tx.execute(
            update(deliveries)
            .where(deliveries.c.id.in_(some), deliveries.c.state == State.SENDING)
            .values(lease_until_utc=now + timedelta(seconds=lease_seconds))
        )


def is_owed(conn: Reading, destination_id: DestinationId, object_id: ObjectId) -> bool:
    """Whether a sealed object is still to be delivered to a destination."""
    row = conn.execute(
        select(deliveries.c.id)
        .join(instances, instances.c.id == deliveries.c.instance)
        .where(
            instances.c.object_id == object_id,
            deliveries.c.destination == destination_id,
            deliveries.c.state.in_(sorted(OPEN_STATES)),
        )
    ).first()
    return row is not None


# --- Outcomes --------------------------------------------------------------------------------------------------------


_CONFIRM = (
    update(deliveries)
    .where(
        deliveries.c.id == bindparam("delivery"), deliveries.c.state.in_(sorted(states_before(Event.CONFIRM)))
    )
    .values(
        state=State.CONFIRMED,
        receipt=bindparam("proof", type_=deliveries.c.receipt.type),
        reason="",
        next_attempt_utc=None,
        lease_until_utc=None,
        changed_utc=bindparam("at_utc", type_=deliveries.c.changed_utc.type),
    )
    .returning(deliveries.c.destination)
)
"""Once for every image and place: to build it costs more than to carry it out."""


def confirm(tx: Transaction, delivery_id: DeliveryId, receipt: Mapping[str, Any], now: datetime) -> bool:
    """Record the proof. False if it was confirmed before: the first receipt stays."""
    destination = tx.execute(
        _CONFIRM, {"delivery": delivery_id, "proof": dict(receipt), "at_utc": now}
    ).scalar_one_or_none()
    if destination is None:
        return False
    _write_events(tx, [(delivery_id, State.CONFIRMED, "")], Event.CONFIRM, now)
    counters.add(tx, f"{counters.CONFIRMED}{destination}")
    return True


def postpone(
    tx: Transaction,
    delivery_id: DeliveryId,
    attempts: int,
    *,
    reason: str,
    next_attempt_utc: datetime,
    now: datetime,
) -> bool:
    """Rest until `next_attempt_utc`, for a `reason` in plain words without patient data. False if the lease was lost."""
    return _outcome(tx, delivery_id, attempts, Event.POSTPONE, reason, now, next_attempt_utc=next_attempt_utc)


def fail(tx: Transaction, delivery_id: DeliveryId, attempts: int, *, reason: str, now: datetime) -> bool:
    """The receiver will not have it. False if the lease was lost."""
    return _outcome(tx, delivery_id, attempts, Event.REFUSE, reason, now)


def _outcome(
    tx: Transaction,
    delivery_id: DeliveryId,
    attempts: int,
    event: Event,
    reason: str,
    now: datetime,
    *,
    next_attempt_utc: datetime | None = None,
) -> bool:
    state = next_state(State.SENDING, event)
    done = tx.execute(
        update(deliveries)
        .where(
            deliveries.c.id == delivery_id,
            deliveries.c.state == State.SENDING,
            deliveries.c.attempts == attempts,
        )
        .values(
            state=state,
            reason=reason,
            next_attempt_utc=next_attempt_utc,
            lease_until_utc=None,
            changed_utc=now,
        )
    )
    if done.rowcount:
        _write_events(tx, [(delivery_id, state, reason)], event, now)
    return bool(done.rowcount)


def release(tx: Transaction, held: Sequence[tuple[DeliveryId, int]], *, now: datetime) -> None:
    """Give back claims (id, attempts) that were not acted on; the attempt does not count."""
    for delivery_id, attempts in held:
        done = tx.execute(
            update(deliveries)
            .where(
                deliveries.c.id == delivery_id,
                deliveries.c.state == State.SENDING,
                deliveries.c.attempts == attempts,
            )
            .values(
                state=State.PENDING, attempts=deliveries.c.attempts - 1, lease_until_utc=None, changed_utc=now
            )
        )
        if done.rowcount:
            _write_events(tx, [(delivery_id, State.PENDING, "")], Event.RELEASE, now)


def release_expired(tx: Transaction, now: datetime) -> int:
    """Take back what nobody has renewed: its courier is gone. How many there were."""
    return _expire(
        tx,
        select(deliveries.c.id).where(
            deliveries.c.state == literal_column("'SENDING'"),
            or_(
                deliveries.c.lease_until_utc < now,
                deliveries.c.lease_until_utc > now + timedelta(seconds=_FURTHEST_LEASE_SECONDS),
            ),
        ),
        now,
    )


def under_way(reading: Reading, now: datetime) -> bool:
    """Whether anything is being sent at `now`."""
    sending = deliveries.c.state == literal_column("'SENDING'")
    held = deliveries.c.lease_until_utc.between(now, now + timedelta(seconds=_FURTHEST_LEASE_SECONDS))
    return reading.execute(select(deliveries.c.id).where(sending, held).limit(1)).first() is not None


def release_abandoned(tx: Transaction, now: datetime) -> int:
    """Take back every lease at once: for the only courier of a box, when it starts. How many there were."""
    return _expire(tx, select(deliveries.c.id).where(deliveries.c.state == literal_column("'SENDING'")), now)


def _expire(tx: Transaction, lost: Select[int], now: datetime) -> int:
    ids = [DeliveryId(row[0]) for row in tx.execute(lost)]
    for some in _slices(ids):
        tx.execute(
            update(deliveries)
            .where(deliveries.c.id.in_(some))
            .values(state=State.PENDING, lease_until_utc=None, changed_utc=now)
        )
        _write_events(tx, [(each, State.PENDING, "") for each in some], Event.EXPIRE, now)
    return len(ids)


def wake(
    tx: Transaction, destination_id: DestinationId, *, now: datetime, jitter: Callable[[], float]
) -> int:
    """Let what waits come back after its own back-off: its destination works. How many times were moved forward."""
    rows = tx.execute(
        select(
            deliveries.c.id, deliveries.c.attempts, deliveries.c.changed_utc, deliveries.c.next_attempt_utc
        ).where(
            deliveries.c.destination == destination_id,
            deliveries.c.state == literal_column("'WAITING'"),
            deliveries.c.next_attempt_utc > now,
        )
    ).all()
    moved = [
        {"row": row.id, "sooner": sooner}
        for row in rows
        if (sooner := row.changed_utc + timedelta(seconds=back_off(row.attempts, jitter())))
        < row.next_attempt_utc
    ]
    if moved:
        tx.execute(
            update(deliveries)
            .where(deliveries.c.id == bindparam("row"))
            .values(next_attempt_utc=bindparam("sooner")),
            moved,
        )
    return len(moved)


# --- What a person may do --------------------------------------------------------------------------------------------


def pause(tx: Transaction, delivery_id: DeliveryId, now: datetime) -> State:
    """Hold a delivery back. Raises `Refused` if it is done, `Unknown` if there is none."""
    return _decide(tx, delivery_id, Event.PAUSE, now)


def resume(tx: Transaction, delivery_id: DeliveryId, now: datetime) -> State:
    """Let a paused delivery go on. Raises like `pause`."""
    return _decide(tx, delivery_id, Event.RESUME, now)


def retry(tx: Transaction, delivery_id: DeliveryId, now: datetime) -> State:
    """Try a waiting, failed or cancelled delivery now. Raises like `pause`."""
    return _decide(tx, delivery_id, Event.RETRY, now)


def cancel(tx: Transaction, delivery_id: DeliveryId, now: datetime) -> State:
    """Give an obligation up. Raises like `pause`."""
    return _decide(tx, delivery_id, Event.CANCEL, now)


def _decide(tx: Transaction, delivery_id: DeliveryId, event: Event, now: datetime) -> State:
    found = tx.execute(select(deliveries.c.state).where(deliveries.c.id == delivery_id)).scalar_one_or_none()
    if found is None:
        raise Unknown(f"there is no delivery {delivery_id}", hint="list them to see their numbers")
    state = next_state(State(found), event)
    tx.execute(
        update(deliveries)
        .where(deliveries.c.id == delivery_id)
        .values(state=state, next_attempt_utc=None, lease_until_utc=None, changed_utc=now)
    )
    _write_events(tx, [(delivery_id, state, "")], event, now)
    return state


def cancel_all(tx: Transaction, destination_id: DestinationId, now: datetime) -> int:
    """Give up everything still owed to a destination that goes away. How many there were."""
    return _decide_all(tx, destination_id, OPEN_STATES, Event.CANCEL, now)


def retry_failed(tx: Transaction, destination_id: DestinationId, now: datetime) -> int:
    """Try again everything that a destination refused. How many there were."""
    return _decide_all(tx, destination_id, {State.FAILED}, Event.RETRY, now)


def _decide_all(
    tx: Transaction, destination_id: DestinationId, states: Iterable[State], event: Event, now: datetime
) -> int:
    rows = tx.execute(
        select(deliveries.c.id).where(
            deliveries.c.destination == destination_id,
            deliveries.c.state != literal_column("'CONFIRMED'"),
            deliveries.c.state.in_(sorted(states)),
        )
    )
    ids = [DeliveryId(row[0]) for row in rows]
    for each in ids:
        _decide(tx, each, event, now)
    return len(ids)


def forget(tx: Transaction, instance_ids: Sequence[InstanceId]) -> Mapping[DestinationId, int]:
    """Forget what these instances are owed and every receipt of them; how many receipts there were, by destination."""
    receipts: dict[DestinationId, int] = {}
    for some in _slices(instance_ids, 50):
        rows = tx.execute(
            select(deliveries.c.id, deliveries.c.destination, deliveries.c.state).where(
                deliveries.c.instance.in_(some)
            )
        ).all()
        for row in rows:
            confirmed = State(row.state) is State.CONFIRMED
            receipts[row.destination] = receipts.get(row.destination, 0) + confirmed
        tx.execute(delete(delivery_events).where(delivery_events.c.delivery.in_([row.id for row in rows])))
        tx.execute(delete(deliveries).where(deliveries.c.instance.in_(some)))
    for destination, count in receipts.items():
        counters.add(tx, f"{counters.CONFIRMED}{destination}", -count)
    return receipts


def _write_events(
    tx: Transaction, steps: Sequence[tuple[DeliveryId, State, str]], event: Event, now: datetime
) -> None:
    text = utc_text(now)
    tx.exec_driver_sql(
        "INSERT INTO delivery_events (delivery, at_utc, event, state, note) VALUES (?, ?, ?, ?, ?)",
        [(delivery_id, text, str(event), str(state), note) for delivery_id, state, note in steps],
    )


def _over(now: datetime) -> tuple[str, str]:
    """The two bounds outside of which a wait is over (`appliance.replication.delivery.is_over`)."""
    return utc_text(now), utc_text(now + timedelta(seconds=FURTHEST_SECONDS))


def _slices(ids: Sequence[Id], most: int = _IDS_PER_STATEMENT) -> Iterable[Sequence[Id]]:
    for first in range(0, len(ids), most):
        yield ids[first : first + most]
