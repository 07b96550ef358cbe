"""What happened, minute by minute: the one small time series behind trends, percentiles and the storage forecast, and
the days on which each device sent.

Kept are the last `MOST` records of each grain: minutes become hours, hours days, and days go after five years. Chose
to thin by number and in the order in which they were written, never by age, because a clock that jumps ahead would
make everything old at once; a jump costs a few odd records, which reading by period passes over. So the size is
bounded whatever the clock does: about 7,000 records.

A minute counts what came *after the row* at which the minute before had stopped counting, so nothing is counted twice
or left out, whatever was received while nobody counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, tzinfo
from enum import StrEnum

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.sqlite import insert

from appliance.catalog import settings
from appliance.catalog.database import Reading, Transaction
from appliance.catalog.schema import samples, sender_days
from appliance.figures import Figures, merged


class Grain(StrEnum):
    """How long a record covers."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"


MOST: Mapping[Grain, int] = {Grain.MINUTE: 2 * 1440, Grain.HOUR: 90 * 24, Grain.DAY: 5 * 366}
MOST_SENDER_DAYS = 60
"""Days remembered of each device: enough to know its rhythm."""

_COARSER = {Grain.MINUTE: Grain.HOUR, Grain.HOUR: Grain.DAY}
_CURSOR = "samples.cursor"


@dataclass(frozen=True, slots=True)
class Sample:
    """One record; `at_utc` is the beginning of what it covers."""

    at_utc: datetime
    grain: Grain
    figures: Figures


@dataclass(frozen=True, slots=True)
class Arrived:
    """What came since the last count: how much, and by which device (AE title, address) on which day."""

    instances: int = 0
    bytes: int = 0
    by_sender: Mapping[tuple[str, str, date], int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Cursor:
    """The rows up to which was counted."""

    instance: int
    event: int


# --- counting --------------------------------------------------------------------------------------------------------

_END = "SELECT (SELECT max(id) FROM instances), (SELECT max(id) FROM delivery_events)"
_ARRIVED = """
    SELECT origin_name, origin_address, substr(received_utc, 1, 13), count(*), sum(size_bytes)
    FROM instances WHERE id > ? AND id <= ? GROUP BY 1, 2, 3
"""
_HAPPENED = """
    SELECT event, count(*) FROM delivery_events WHERE id > ? AND id <= ? AND event IN ('confirm', 'refuse') GROUP BY event
"""


def end(conn: Reading) -> Cursor:
    """Where the tables end now."""
    row = conn.exec_driver_sql(_END).one()
    return Cursor(int(row[0] or 0), int(row[1] or 0))


def cursor(conn: Reading) -> Cursor:
    """Up to where was counted; the beginning, if nothing ever was."""
    kept = settings.get(conn, _CURSOR, {})
    return Cursor(int(kept.get("instance", 0)), int(kept.get("event", 0)))


def arrived(conn: Reading, after: Cursor, upto: Cursor, zone: tzinfo | None) -> Arrived:
    """What came between two cursors; its days are those of `zone`, or of the box's own. An hour is not divided."""
    instances = size = 0
    by_sender: dict[tuple[str, str, date], int] = {}
    for name, address, hour, count, size_bytes in conn.exec_driver_sql(
        _ARRIVED, (after.instance, upto.instance)
    ):
        day = datetime.fromisoformat(f"{hour}:00:00+00:00").astimezone(zone).date()
        instances, size = instances + count, size + size_bytes
        by_sender[name, address, day] = by_sender.get((name, address, day), 0) + count
    return Arrived(instances, size, by_sender)


def happened(conn: Reading, after: Cursor, upto: Cursor) -> tuple[int, int]:
    """How many deliveries were confirmed and refused between two cursors."""
    found = {row[0]: row[1] for row in conn.exec_driver_sql(_HAPPENED, (after.event, upto.event))}
    return found.get("confirm", 0), found.get("refuse", 0)


# --- writing ---------------------------------------------------------------------------------------------------------


def write(tx: Transaction, at: datetime, figures: Figures, came: Arrived, upto: Cursor) -> None:
    """Keep the minute of `at`, remember up to where was counted, and thin what has become too much."""
    _put(tx, Grain.MINUTE, at.replace(second=0, microsecond=0), figures)
    for (name, address, day), count in came.by_sender.items():
        _count_day(tx, name, address, day, count)
    settings.put(tx, _CURSOR, {"instance": upto.instance, "event": upto.event}, at)
    for grain in (Grain.MINUTE, Grain.HOUR):
        _condense(tx, grain)
    _drop(tx, Grain.DAY)


def _put(tx: Transaction, grain: Grain, at: datetime, figures: Figures) -> None:
    """Write a record; one of the same moment, which a clock that was set back has met again, is added to."""
    same = (samples.c.grain == grain) & (samples.c.at_utc == at)
    before = tx.execute(select(samples.c.figures).where(same)).scalar()
    if before is not None:
        figures = merged(Figures.of_detail(before), figures)
    statement = insert(samples).values(grain=grain, at_utc=at, figures=figures.as_detail())
    tx.execute(
        statement.on_conflict_do_update(
            index_elements=["grain", "at_utc"], set_={"figures": statement.excluded.figures}
        )
    )


def _condense(tx: Transaction, grain: Grain) -> None:
    """While there are too many records of `grain`, make those of the first hour, or day, one."""
    while _number(tx, grain) > MOST[grain]:
        mine = samples.c.grain == grain
        first = tx.execute(select(samples.c.at_utc).where(mine).order_by(samples.c.id).limit(1)).scalar_one()
        begins = first.replace(minute=0) if grain is Grain.MINUTE else first.replace(hour=0)
        ends = first.replace(minute=59) if grain is Grain.MINUTE else first.replace(hour=23)
        within = mine & (samples.c.at_utc >= begins) & (samples.c.at_utc <= ends)
        rows = tx.execute(select(samples.c.figures).where(within).order_by(samples.c.at_utc)).scalars()
        together = Figures()
        for detail in rows:
            together = merged(together, Figures.of_detail(detail))
        tx.execute(delete(samples).where(within))
        _put(tx, _COARSER[grain], begins, together)


def _drop(tx: Transaction, grain: Grain) -> None:
    if (extra := _number(tx, grain) - MOST[grain]) > 0:
        oldest = select(samples.c.id).where(samples.c.grain == grain).order_by(samples.c.id).limit(extra)
        tx.execute(delete(samples).where(samples.c.id.in_(oldest)))


def _number(conn: Reading, grain: Grain) -> int:
    return int(
        conn.execute(select(func.count()).select_from(samples).where(samples.c.grain == grain)).scalar_one()
    )


def _count_day(tx: Transaction, name: str, address: str, day: date, count: int) -> None:
    statement = insert(sender_days).values(
        ae_title=name, address=address, day=day.isoformat(), instances=count
    )
    tx.execute(
        statement.on_conflict_do_update(
            index_elements=["ae_title", "address", "day"],
            set_={"instances": sender_days.c.instances + statement.excluded.instances},
        )
    )
    mine = (sender_days.c.ae_title == name) & (sender_days.c.address == address)
    beyond = (
        select(sender_days.c.id)
        .where(mine)
        .order_by(sender_days.c.id.desc())
        .limit(-1)
        .offset(MOST_SENDER_DAYS)
    )
    tx.execute(delete(sender_days).where(sender_days.c.id.in_(beyond)))


# --- reading ---------------------------------------------------------------------------------------------------------


def between(conn: Reading, after: datetime, upto: datetime, grains: Sequence[Grain]) -> list[Sample]:
    """The records of those grains that begin within a period, in order. At most as many as `MOST` allows."""
    query = (
        select(samples.c.at_utc, samples.c.grain, samples.c.figures)
        .where(
            samples.c.grain.in_([str(each) for each in grains]),
            samples.c.at_utc > after.astimezone(UTC),
            samples.c.at_utc <= upto.astimezone(UTC),
        )
        .order_by(samples.c.at_utc)
    )
    return [
        Sample(row.at_utc, Grain(row.grain), Figures.of_detail(row.figures)) for row in conn.execute(query)
    ]


def days_of_senders(conn: Reading) -> dict[tuple[str, str], dict[date, int]]:
    """How many instances each device (AE title, address) sent on which of its last days."""
    found: dict[tuple[str, str], dict[date, int]] = {}
    for row in conn.execute(select(sender_days).order_by(sender_days.c.day)):
        found.setdefault((row.ae_title, row.address), {})[date.fromisoformat(row.day)] = row.instances
    return found


def latest(conn: Reading) -> int:
    """A number that grows with each record."""
    return int(conn.execute(select(func.max(samples.c.id))).scalar() or 0)
