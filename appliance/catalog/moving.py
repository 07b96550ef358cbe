"""An archive is another place from now on: what is known of the first says nothing of the other."""

from __future__ import annotations

from datetime import datetime

from appliance.catalog import counters
from appliance.catalog.columns import utc_text
from appliance.catalog.database import Transaction
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
