"""What the box is doing, asked of the catalog."""

from __future__ import annotations

from datetime import datetime, timedelta

from appliance import disk_pin, settings
from appliance.catalog import Reading, deliveries, instances, processes
from appliance.health.gathering import is_fresh
from appliance.lifecycle import retention
from appliance.updates.night import Doing, Window

JUST_NOW = timedelta(minutes=2)
"""A machine that opens an association for each image is sending, between two of them too."""


def window(reading: Reading) -> Window:
    """When a version may start by itself, as the clinic has chosen."""
    return Window.of(settings.get(reading, "updates.window"), settings.get(reading, "updates.days"))


def doing(conn: Reading, now: datetime) -> Doing:
    """What the box does at `now`. What the processes say of themselves is a few seconds old."""
    workers = [
        each for each in processes.processes(conn) if each.name.startswith("dicom-") and is_fresh(each, now)
    ]
    came = instances.latest_received(conn)
    return Doing(
        receives=any(each.detail.get("open") for each in workers)
        or (came is not None and abs(now - came) <= JUST_NOW),
        delivers=deliveries.under_way(conn, now),
        doubts_clock=retention.clock_of(conn, now).doubt is not None,
        asks_pin=disk_pin.wants_somebody(),
    )
