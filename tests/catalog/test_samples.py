"""The time series: nothing counted twice or left out, its size bounded, and no clock that deletes."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone

import pytest

from appliance.catalog import Catalog, instances, samples
from appliance.catalog.samples import Arrived, Cursor, Grain
from appliance.figures import Figures
from tests.catalog.arrivals import received

START = datetime(2026, 3, 1, 5, 0, tzinfo=UTC)
NOTHING = Cursor(0, 0)
FAR = timedelta(days=3650)


def take(catalog: Catalog, at: datetime, received: int = 1, came: Arrived | None = None) -> None:
    with catalog.transaction() as tx:
        samples.write(tx, at, Figures(received=received, free_bytes=received), came or Arrived(), NOTHING)


def sums(catalog: Catalog, *grains: Grain) -> int:
    with catalog.reading() as conn:
        everything = samples.between(conn, START - 2 * FAR, START + 2 * FAR, grains or tuple(Grain))
    return sum(each.figures.received for each in everything)


def numbers(catalog: Catalog) -> dict[Grain, int]:
    with catalog.reading() as conn:
        return {
            grain: len(samples.between(conn, START - 2 * FAR, START + 2 * FAR, [grain])) for grain in Grain
        }


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for little, so that a test sees all of it."""
    monkeypatch.setattr(samples, "MOST", {Grain.MINUTE: 90, Grain.HOUR: 30, Grain.DAY: 4})


def test_what_is_kept_is_what_the_promise_says() -> None:
    assert samples.MOST[Grain.MINUTE] == 2 * 24 * 60
    assert samples.MOST[Grain.HOUR] == 90 * 24
    assert samples.MOST[Grain.DAY] >= 5 * 365
    assert sum(samples.MOST.values()) < 7_500


@pytest.mark.usefixtures("few")
def test_minutes_become_hours_hours_days_and_nothing_is_lost_on_the_way(catalog: Catalog) -> None:
    with catalog.transaction() as tx:
        for minute in range(0, 40 * 60, 5):
            at = START + timedelta(minutes=minute)
            samples.write(tx, at, Figures(received=1, free_bytes=minute), Arrived(), NOTHING)
    kept = numbers(catalog)
    assert kept[Grain.MINUTE] <= 90
    assert kept[Grain.HOUR] <= 30
    assert kept[Grain.DAY] >= 1
    assert sums(catalog) == 40 * 12
    with catalog.reading() as conn:
        hours = samples.between(conn, START - FAR, START + FAR, [Grain.HOUR])
    assert {each.figures.received for each in hours} <= {12, *range(1, 12)}
    assert [each.figures.free_bytes for each in hours] == sorted(
        each.figures.free_bytes or 0 for each in hours
    )


@pytest.mark.usefixtures("few")
def test_the_size_is_bounded_for_ever(catalog: Catalog) -> None:
    with catalog.transaction() as tx:
        for hour in range(0, 24 * 60, 2):
            samples.write(tx, START + timedelta(hours=hour), Figures(received=1), Arrived(), NOTHING)
    assert all(numbers(catalog)[grain] <= most for grain, most in samples.MOST.items())


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("jump", [FAR, -FAR, timedelta(hours=-1)])
def test_a_clock_that_jumps_and_returns_deletes_nothing(catalog: Catalog, jump: timedelta) -> None:
    with catalog.transaction() as tx:
        for minute in range(60):
            samples.write(tx, START + timedelta(minutes=minute), Figures(received=1), Arrived(), NOTHING)
        for minute in range(60, 80):
            samples.write(
                tx, START + jump + timedelta(minutes=minute), Figures(received=1), Arrived(), NOTHING
            )
        for minute in range(80, 200):
            samples.write(tx, START + timedelta(minutes=minute), Figures(received=1), Arrived(), NOTHING)
    assert sums(catalog) == 200
    with catalog.reading() as conn:
        latest = samples.between(conn, START, START + timedelta(minutes=200), [Grain.MINUTE])
    assert len(latest) >= 60  # those of the jump don't take the place of those of today


def test_a_minute_that_comes_again_is_added_to(catalog: Catalog) -> None:
    take(catalog, START + timedelta(seconds=3), 2)
    take(catalog, START + timedelta(seconds=51), 5)
    with catalog.reading() as conn:
        (only,) = samples.between(conn, START - timedelta(hours=1), START, [Grain.MINUTE])
    assert (only.at_utc, only.figures.received, only.figures.free_bytes) == (START, 7, 5)


def test_days_of_senders_are_those_of_the_clinic_and_the_last_sixty(catalog: Catalog) -> None:
    days = [date(2026, 1, 1) + timedelta(days=number) for number in range(70)]
    for day in days:
        take(catalog, START, came=Arrived(1, 1, {("PANO", "10.0.0.1", day): 2}))
    take(
        catalog,
        START,
        came=Arrived(1, 1, {("PANO", "10.0.0.1", days[-1]): 3, ("IO", "10.0.0.2", days[-1]): 1}),
    )
    with catalog.reading() as conn:
        found = samples.days_of_senders(conn)
    assert len(found["PANO", "10.0.0.1"]) == samples.MOST_SENDER_DAYS
    assert found["PANO", "10.0.0.1"][days[-1]] == 5
    assert found["IO", "10.0.0.2"] == {days[-1]: 1}


def arrive(catalog: Catalog, at: datetime) -> None:
    with catalog.transaction() as tx:
        instances.record(tx, received(at, size_bytes=100), version=0)


def test_arrivals_are_counted_between_cursors_by_device_and_day(catalog: Catalog) -> None:
    late = datetime(2026, 3, 2, 3, 30, tzinfo=UTC)  # still the evening of the first in Québec
    arrive(catalog, late)
    with catalog.reading() as conn:
        first = samples.end(conn)
    arrive(catalog, late + timedelta(hours=5))
    arrive(catalog, late + timedelta(hours=5))
    quebec = timezone(timedelta(hours=-5))
    with catalog.reading() as conn:
        last = samples.end(conn)
        all_of_them = samples.arrived(conn, NOTHING, last, quebec)
        later = samples.arrived(conn, first, last, quebec)
        none = samples.arrived(conn, last, last, quebec)
    assert later.bytes == 200
    assert (all_of_them.instances, later.instances, none.instances) == (3, 2, 0)
    assert {day: count for (_, _, day), count in all_of_them.by_sender.items()} == {
        date(2026, 3, 1): 1,
        date(2026, 3, 2): 2,
    }
    assert none == replace(none, instances=0, bytes=0, by_sender={})


@pytest.mark.parametrize(
    "statement",
    [samples._ARRIVED, samples._HAPPENED],
)
def test_counting_looks_at_the_new_rows_only(catalog: Catalog, statement: str) -> None:
    with catalog.reading() as conn:
        plan = [row[3] for row in conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", (1, 2))]
    assert any("USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)" in step for step in plan), plan
