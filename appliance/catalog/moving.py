"""An archive is another place from now on: what is known of the first says nothing of the other."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import delete, select, update

from appliance.catalog import counters, tombstones
from appliance.catalog.columns import utc_text
from appliance.catalog.database import Transaction
from appliance.catalog.tombstone_tables import destruction_places
from appliance.catalog.tombstones import PlaceState
from appliance.model import DestinationId
from appliance.replication.delivery import Event, State, next_state


def owe_anew(tx: Transaction, destination_id: DestinationId, now: datetime) -> int:
    """Owe everything again that a destination has confirmed: it is another place from now on. How many receipts count no more."""
    text = utc_text(now)
    tx.exec_driver_sql(
        "INSERT INTO delivery_events (delivery, at_utc, event, state, note)"
        " SELECT id, ?, ?, ?, '' FROM deliveries WHERE destination = ? AND state = 'CONFIRMED' ORDER BY id",
        (text, str(Event.MOVE), str(next_state(State.CONFIRMED, Event.MOVE)), destination_id),
    )
    done = tx.exec_driver_sql(
        "UPDATE deliveries SET state = 'PENDING', receipt = NULL, attempts = 0, reason = '', changed_utc = ?"
        " WHERE destination = ? AND state = 'CONFIRMED'",
        (text, destination_id),
    )
    counters.add(tx, f"{counters.CONFIRMED}{destination_id}", -done.rowcount)
    return done.rowcount


def hand_over(
    tx: Transaction,
    destination_id: DestinationId,
    to: DestinationId,
    now: datetime,
    *,
    only_unfinished: bool = False,
) -> None:
    """Let what an archive has done and owes be another row's, since that is the row of the same place now; or only what it still owes.

    Where both have a part in one certificate, it is done when both are.
    """
    unfinished = (PlaceState.OWED, PlaceState.LAID)
    states = unfinished if only_unfinished else tuple(PlaceState)
    rows = tx.execute(
        select(destruction_places).where(
            destruction_places.c.destination == destination_id, destruction_places.c.state.in_(states)
        )
    ).all()
    theirs = select(destruction_places).where(destruction_places.c.destination == to)
    others = {row.certificate: row.state for row in tx.execute(theirs)}
    for row in rows:
        this = destruction_places.c.id == row.id
        if row.certificate not in others:
            tx.execute(update(destruction_places).where(this).values(destination=to))
            continue
        tx.execute(delete(destruction_places).where(this))
        if row.state in unfinished and others[row.certificate] != PlaceState.OWED:
            tombstones.move(tx, row.certificate, to, PlaceState.OWED, now, detail={})
    tx.exec_driver_sql(
        "UPDATE OR REPLACE tombstones_owed SET destination = ? WHERE destination = ?", (to, destination_id)
    )
