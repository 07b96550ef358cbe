"""Devices that may send to this box, and the unknown callers that were turned away at the door."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, select, update
from sqlalchemy.dialects.sqlite import insert

from appliance.catalog.database import Transaction
from appliance.catalog.schema import devices as table
from appliance.catalog.schema import door
from appliance.errors import Unknown
from appliance.model import AETitle, Device, Visitor

MOST_VISITORS = 1000
"""Callers remembered at the door; the one that has not called for the longest time makes room."""

_IS_KNOWN = "SELECT 1 FROM devices WHERE ae_title = ? AND address = ?"


def devices(reading: Connection) -> list[Device]:
    """Every admitted device, by AE title and address."""
    query = select(table).order_by(table.c.ae_title, table.c.address)
    return [Device(row.ae_title, row.address, row.name, row.port, row.id) for row in reading.execute(query)]


def last_seen(reading: Connection) -> dict[int, datetime | None]:
    """When each device, by its id, last opened an association; None if it never did."""
    return {row[0]: row[1] for row in reading.execute(select(table.c.id, table.c.last_seen_utc))}


def is_known(reading: Connection, ae_title: AETitle, address: str) -> bool:
    """Whether a caller with this title from this address is admitted: both count, not one of them."""
    return reading.exec_driver_sql(_IS_KNOWN, (ae_title, address)).first() is not None


def add_device(tx: Transaction, device: Device, now: datetime) -> Device:
    """Admit `device`, which then is no visitor any more; one that is admitted already takes the new name and port."""
    added: dict[str, Any] = {"name": device.name, "port": device.port}
    statement = insert(table).values(
        ae_title=device.ae_title, address=device.address, admitted_utc=now, **added
    )
    number = tx.execute(
        statement.on_conflict_do_update(index_elements=["ae_title", "address"], set_=added).returning(
            table.c.id
        )
    ).scalar_one()
    tx.execute(delete(door).where(door.c.ae_title == device.ae_title, door.c.address == device.address))
    return Device(device.ae_title, device.address, device.name, device.port, number)


def remove_device(tx: Transaction, ae_title: AETitle, address: str) -> None:
    """Turn a device away from now on; what it sent stays. Raises `Unknown` if it was not admitted."""
    removed = tx.execute(delete(table).where(table.c.ae_title == ae_title, table.c.address == address))
    if removed.rowcount == 0:
        raise Unknown(f"no device {ae_title} at {address} is admitted", hint="see: appliance device list")


def device_seen(tx: Transaction, ae_title: AETitle, address: str, now: datetime) -> None:
    """Note that an admitted device has called."""
    tx.execute(
        update(table)
        .where(table.c.ae_title == ae_title, table.c.address == address)
        .values(last_seen_utc=now)
    )


def visitors(reading: Connection) -> list[Visitor]:
    """Unknown callers, the latest first."""
    query = select(door).order_by(door.c.last_seen_utc.desc(), door.c.ae_title, door.c.address)
    return [
        Visitor(row.ae_title, row.address, row.first_seen_utc, row.last_seen_utc, row.calls)
        for row in reading.execute(query)
    ]


def seen_at_door(tx: Transaction, ae_title: AETitle, address: str, now: datetime) -> bool:
    """Note an unknown caller; at most `MOST_VISITORS` are remembered. Returns whether it is its first call."""
    statement = insert(door).values(
        ae_title=ae_title, address=address, first_seen_utc=now, last_seen_utc=now, calls=1
    )
    calls = tx.execute(
        statement.on_conflict_do_update(
            index_elements=["ae_title", "address"], set_={"last_seen_utc": now, "calls": door.c.calls + 1}
        ).returning(door.c.calls)
    ).scalar_one()
    if calls > 1:
        return False
    latest = (
        select(door.c.ae_title, door.c.address)
        .order_by(door.c.last_seen_utc.desc(), door.c.ae_title, door.c.address)
        .limit(-1)
        .offset(MOST_VISITORS)
    )
    for row in tx.execute(latest).fetchall():
        tx.execute(delete(door).where(door.c.ae_title == row[0], door.c.address == row[1]))
    return True


def forget_visitor(tx: Transaction, ae_title: AETitle, address: str) -> None:
    """Take a caller off the list of visitors without admitting it."""
    tx.execute(delete(door).where(door.c.ae_title == ae_title, door.c.address == address))
