"""A catalog with a few patients' studies, received when a test says, and a clock that is believed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from appliance.catalog import Catalog, instances
from appliance.lifecycle import retention
from appliance.lifecycle.acting import Act
from appliance.model import Uid
from tests.catalog.arrivals import received

NOW = datetime(2026, 11, 25, 15, tzinfo=UTC)
LONG_AGO = datetime(2010, 5, 4, 15, tzinfo=UTC)
AUDIT_KEY = b"k" * 32


def act(by: str = "marie", now: datetime = NOW) -> Act:
    return Act(by=by, now=now, audit_key=AUDIT_KEY, address="10.0.0.9")


def arrive(catalog: Catalog, study: str = "1.2.3", *, at: datetime = LONG_AGO, **header: Any) -> int:
    """Record an image; the row id of its study."""
    uid = Uid(study)
    values = {"study_date": f"{at:%Y%m%d}", "series_instance_uid": Uid(f"{study}.1")} | header
    with catalog.transaction() as tx:
        return instances.record(tx, received(at, study_instance_uid=uid, **values), version=0).study_id


def watch(catalog: Catalog, now: datetime = NOW) -> None:
    """Let the box look at its clock, as the job does."""
    with catalog.transaction() as tx:
        retention.watch_clock(tx, now, follows_time_server=True)


def bring_up_to_date(catalog: Catalog, *, most: int = 500) -> int:
    """Work out every row; in how many parts."""
    for part in range(1000):
        with catalog.transaction() as tx:
            if retention.is_current(tx):
                return part
            retention.advance(tx, NOW + timedelta(seconds=part), most=most)
    raise AssertionError("the rows are never up to date")
