"""What is received by a clock that is behind counts as no older than it can be, and by a right one as it says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance import settings
from appliance.box import Box
from appliance.catalog import known_clock, studies
from appliance.catalog import settings as kept_values
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


def test_a_dead_battery_makes_no_image_older_than_the_last_moment_that_was_known(tmp_path: Path) -> None:
    with box_in(tmp_path) as box:
        look(box, NOW, follows=True)
        assert received(box, image(1), NOW + HOUR) == NOW + HOUR
        look(box, NOW + 2 * HOUR, follows=True)

        assert received(box, image(2), DEAD + MINUTE) == NOW + 2 * HOUR, "before anybody has looked"
        look(box, DEAD + 10 * MINUTE)
        assert received(box, image(3), DEAD + 3 * HOUR) == NOW + 5 * HOUR - 10 * MINUTE
        for days in range(1, 6):
            look(box, DEAD + days * DAY)
        look(box, DEAD + MINUTE)  # off and on again
        lived = 2 * HOUR + 5 * DAY - 10 * MINUTE
        assert received(box, image(4), DEAD + DAY) == NOW + lived + DAY - MINUTE
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
        look(box, NOW, follows=True)
        received(box, Undated(1, study=1, patient_id="A", pixel_bytes=200), NOW)
        received(box, Undated(2, study=2, patient_id="B", pixel_bytes=200), DEAD)
        look(box, DEAD)
        trust(box, NOW + DAY)
        with box.catalog.reading() as conn:
            of_both = [each.id for each in studies.find(conn, limit=2)]
            told = retention.decided(conn, of_both, NOW + DAY).values()
        assert len({each.decision.keep_until for each in told}) == 1


def test_set_to_another_wrong_year_it_carries_nothing_ahead(tmp_path: Path) -> None:
    with box_in(tmp_path) as box:
        look(box, NOW, follows=True)
        for at in (DEAD, DEAD + 2000 * DAY, DEAD, DEAD + 3000 * DAY):
            look(box, at)
        assert received(box, image(1), DEAD + 3000 * DAY + HOUR) == NOW + HOUR
        assert received(box, image(2), DEAD + 3900 * DAY) == NOW, "set once more, and nobody has looked since"


def test_a_time_server_with_a_dead_battery_vouches_for_nothing(tmp_path: Path) -> None:
    with box_in(tmp_path) as box:
        look(box, NOW, follows=True)
        look(box, DEAD, follows=True)
        assert received(box, image(1), DEAD + HOUR) == NOW + HOUR


def test_a_clock_that_nobody_vouches_for_is_known_after_a_week(tmp_path: Path) -> None:
    """One that was years ahead when the box was unpacked, and is set right by then, puts no image years ahead."""
    with box_in(tmp_path) as box:
        for day in range(7):
            look(box, NOW + 3650 * DAY + day * DAY)
        look(box, NOW)
        assert received(box, image(1), NOW + MINUTE) == NOW + MINUTE
        trust(box, NOW + HOUR)
        for day in range(9):
            look(box, NOW + HOUR + day * DAY)
        assert received(box, image(2), DEAD) == NOW + HOUR + 8 * DAY


def test_though_nobody_says_that_it_is_right_what_it_has_lived_since_counts(tmp_path: Path) -> None:
    with box_in(tmp_path) as box:
        look(box, NOW, follows=True)
        look(box, DEAD)
        for day in range(1000):  # set right, and in doubt for all that time
            look(box, NOW + day * DAY)
        assert received(box, image(1), DEAD) == NOW + 999 * DAY


def test_an_index_from_before_goes_by_its_latest_receipt(tmp_path: Path) -> None:
    with box_in(tmp_path) as box:
        assert received(box, image(1), NOW) == NOW
        look(box, DEAD)
        assert received(box, image(2), DEAD + HOUR) == NOW + HOUR


def test_what_was_being_received_when_somebody_said_that_it_is_right_brings_no_doubt_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = NOW + 3650 * DAY
    with box_in(tmp_path) as box:
        look(box, ahead, follows=True)
        look(box, NOW)
        reception = Reception(box, "worker")
        monkeypatch.setattr(hours, "_STALE_SECONDS", 60.0)
        trust(box, NOW)
        Clock.says = NOW + MINUTE
        send(reception, image(1))
        reception.close()
        assert recorded(box)[0].received_utc > ahead
        with box.catalog.reading() as conn:
            assert retention.clock_of(conn, NOW + HOUR).doubt is None


@pytest.mark.parametrize("kept", ["x", {"known_utc": "never"}, {"known_utc": "2026-11-20T09:00:00"}, []])
def test_whatever_is_kept_of_the_clock_an_image_is_received(tmp_path: Path, kept: object) -> None:
    with box_in(tmp_path) as box:
        with box.catalog.transaction() as tx:
            kept_values.put(tx, known_clock.KEY, kept, NOW)
        assert received(box, image(1), DEAD) == DEAD


def test_less_than_an_hour_is_a_correction(tmp_path: Path) -> None:
    with box_in(tmp_path) as box:
        look(box, NOW, follows=True)
        assert received(box, image(1), NOW - BACK + MINUTE) == NOW - BACK + MINUTE


def test_a_process_that_runs_hears_of_it_and_so_does_an_import(tmp_path: Path) -> None:
    with box_in(tmp_path) as box:
        reception = Reception(box, "worker")
        look(box, NOW, follows=True)
        Clock.says = DEAD
        send(reception, image(1))
        reception._hours.refresh()
        send(reception, image(2))
        reception.close()
        import_file(box, BytesIO(image(3).data_set), MODALITY)
        assert [row.received_utc for row in sorted(recorded(box), key=lambda row: row.id)][1:] == [NOW, NOW]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("runs"), st.integers(1, 60 * 24)),
        st.tuples(st.just("off, and its battery is dead"), st.integers(1, 60 * 24 * 300)),
        st.tuples(st.just("off"), st.integers(1, 60 * 24 * 300)),
        st.tuples(st.just("set, but wrong"), st.integers(3, 3000)),
        st.tuples(st.just("set right"), st.just(0)),
    ),
    max_size=40,
)


@given(STEPS, st.booleans())
def test_never_earlier_than_what_is_known_nor_later_than_what_is_true(
    steps: list[tuple[str, int]], is_vouched: bool
) -> None:
    """A clock that is never ahead, on whatever a box lives through, whether or not somebody vouches for it when it is right."""
    kept = known_clock.KnownClock().looked_at(NOW, is_vouched=True, is_doubted=False)
    true, says, lived = NOW, NOW, timedelta()
    for what, minutes in steps:
        if what == "set right":
            says = true
        elif what == "set, but wrong":
            says = min(true - HOUR, DEAD + minutes * DAY)
        else:
            true, says = true + minutes * MINUTE, says + minutes * MINUTE
        if what == "off, and its battery is dead":
            says = DEAD
        if what == "runs":
            lived += minutes * MINUTE
        found = kept.reckoned(says)
        assert NOW + lived - BACK <= found <= true
        is_right = is_vouched and says == true
        kept = kept.looked_at(says, is_vouched=is_right, is_doubted=not is_right)
