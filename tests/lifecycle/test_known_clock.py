"""What is received by a clock that is behind counts as no older than it can be, and by a right one as it says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance import settings
from appliance.box import Box
from appliance.catalog import known_clock, studies
from appliance.ingest import Reception, hours, import_file
from appliance.lifecycle import retention
from appliance.lifecycle.acting import Act
from appliance.lifecycle.policy import BACK, Doubt
from tests.boxes import MODALITY, box_in, recorded, send
from tests.instances import Instance, element

NOW = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)
DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
DEAD = datetime(2015, 1, 1, tzinfo=UTC)
"""What a clock without a battery says when it begins."""


def look(box: Box, now: datetime, *, follows: bool = False) -> None:
    with box.catalog.transaction() as tx:
        retention.watch_clock(tx, now, follows_time_server=follows)


def trust(box: Box, now: datetime) -> None:
    with box.catalog.transaction() as tx:
        retention.trust_clock(tx, Act(by="marie", now=now, audit_key=box.audit_key))


class Clock(datetime):
    """What the processes that receive are told."""

    says = NOW

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        return cls.says.astimezone(tz)


@pytest.fixture(autouse=True)
def _their_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hours, "datetime", Clock)
    monkeypatch.setattr(hours, "_STALE_SECONDS", 0.0)


def received(box: Box, image: Instance, at: datetime) -> datetime:
    """When an image is said to have come that came when the clock said `at`, by a process that has begun since it was looked at."""
    Clock.says = at
    reception = Reception(box, "worker")
    send(reception, image)
    reception.close()
    return max(recorded(box), key=lambda row: row.id).received_utc


def image(number: int) -> Instance:
    return Instance(number, study=number, pixel_bytes=200)


def test_a_dead_battery_makes_no_image_older_than_the_last_moment_without_doubt(tmp_path: Path) -> None:
    with box_in(tmp_path) as box:
        look(box, NOW)
        assert received(box, image(1), NOW + HOUR) == NOW + HOUR
        look(box, NOW + 2 * HOUR)

        assert received(box, image(2), DEAD + MINUTE) == NOW + 2 * HOUR, "before anybody has looked"
        look(box, DEAD + 10 * MINUTE)
        assert received(box, image(3), DEAD + 3 * HOUR) == NOW + 5 * HOUR - 10 * MINUTE
        look(box, DEAD + 5 * DAY)
        look(box, DEAD + MINUTE)  # off and on again
        assert received(box, image(4), DEAD + DAY) == NOW + 2 * HOUR + 6 * DAY - 11 * MINUTE
        with box.catalog.reading() as conn:
            assert retention.clock_of(conn, DEAD + DAY).doubt is Doubt.BEHIND

        right = NOW + 9 * DAY
        assert received(box, image(5), right) == right, "as soon as it is set"
        trust(box, right)
        assert received(box, image(6), right + MINUTE) == right + MINUTE
        with box.catalog.reading() as conn:
            assert retention.clock_of(conn, right + HOUR).doubt is None
            rows = studies.find(conn, limit=10)
        assert all(
            NOW <= each.first_received_utc <= each.last_received_utc <= right + MINUTE for each in rows
        )


class Undated(Instance):
    """One that does not say when it was made."""

    @property
    def data_set(self) -> bytes:
        return super().data_set.replace(element(0x0008, 0x0020, b"DA", b"20261122"), b"")


def test_what_has_no_date_is_kept_its_whole_time_though_the_clock_was_years_behind(tmp_path: Path) -> None:
    with box_in(tmp_path) as box:
        with box.catalog.transaction() as tx:
            settings.change(tx, box.audit_key, {"clinic.province": "QC"}, actor="marie", now=NOW)
        look(box, NOW)
        received(box, Undated(1, study=1, patient_id="A", pixel_bytes=200), NOW)
        received(box, Undated(2, study=2, patient_id="B", pixel_bytes=200), DEAD)
        look(box, DEAD)
        trust(box, NOW + DAY)
        with box.catalog.reading() as conn:
            of_both = [each.id for each in studies.find(conn, limit=2)]
            told = retention.decided(conn, of_both, NOW + DAY).values()
        assert len({each.decision.keep_until for each in told}) == 1


def test_who_follows_a_time_server_is_believed_backwards_too(tmp_path: Path) -> None:
    with box_in(tmp_path) as box:
        ahead = NOW + 3650 * DAY
        look(box, ahead)
        look(box, NOW, follows=True)
        assert received(box, image(1), NOW + MINUTE) == NOW + MINUTE


def test_less_than_an_hour_is_a_correction(tmp_path: Path) -> None:
    with box_in(tmp_path) as box:
        look(box, NOW)
        assert received(box, image(1), NOW - BACK + MINUTE) == NOW - BACK + MINUTE


def test_a_process_that_runs_hears_of_it_and_so_does_an_import(tmp_path: Path) -> None:
    with box_in(tmp_path) as box:
        reception = Reception(box, "worker")
        look(box, NOW)
        Clock.says = DEAD
        send(reception, image(1))
        reception._hours.refresh()
        send(reception, image(2))
        reception.close()
        import_file(box, BytesIO(image(3).data_set), MODALITY)
        assert [row.received_utc for row in sorted(recorded(box), key=lambda row: row.id)][1:] == [NOW, NOW]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("runs"), st.integers(1, 60 * 24 * 40)),
        st.tuples(st.just("off, and its battery is dead"), st.integers(1, 60 * 24 * 300)),
        st.tuples(st.just("off"), st.integers(1, 60 * 24 * 300)),
        st.tuples(st.just("set right"), st.just(0)),
    ),
    max_size=25,
)


@given(STEPS)
def test_never_earlier_than_what_is_known_nor_later_than_what_is_true(
    steps: list[tuple[str, int]],
) -> None:
    """A clock that is never ahead, looked at every ten minutes while it runs, on whatever a box lives through."""
    kept: dict[str, Any] = known_clock.looked_at({}, NOW, is_sure=True)
    true, says, known = NOW, NOW, NOW
    for what, minutes in steps:
        if what == "set right":
            says = true
        else:
            true, says = true + minutes * MINUTE, says + minutes * MINUTE
        if what == "off, and its battery is dead":
            says = DEAD
        found = known_clock.reckoned(kept, says)
        assert known - BACK <= found <= true
        kept = known_clock.looked_at(kept, says, is_sure=says == true)
        seen = known_clock.reckoned(kept, says)
        assert max(known, found) - BACK <= seen <= true
        known = max(known, seen)
