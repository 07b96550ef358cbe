"""When the version that waits may start: not while the box is in use, and not never."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.box import Box, open_box
from appliance.catalog import deliveries, destinations, processes, rules
from appliance.cli.command import main
from appliance.config import Config, StoreConfig
from appliance.ingest import import_file
from appliance.lifecycle import retention
from appliance.model import DestinationSettings, Intake, Origin, Rule
from appliance.updates import machine, night
from appliance.updates.night import Doing, Hold
from tests import synthetic

NOW = datetime(2026, 3, 3, 4, 30, tzinfo=UTC)
ANYTHING = st.builds(Doing, st.booleans(), st.booleans(), st.booleans())


def test_the_most_pressing_reason_is_the_one_that_is_said() -> None:
    assert Doing().hold is None
    assert Doing(doubts_clock=True).hold is Hold.CLOCK
    assert Doing(delivers=True, doubts_clock=True).hold is Hold.DELIVERING
    assert Doing(True, True, True).hold is Hold.RECEIVING


@given(ANYTHING, st.integers(0, night.PATIENT_TRIES - 1))
def test_for_a_week_of_nights_anything_holds_it(doing: Doing, put_off: int) -> None:
    assert night.hold(doing, put_off) is doing.hold


@given(ANYTHING, st.integers(night.PATIENT_TRIES, night.MOST_TRIES - 1))
def test_for_another_week_only_a_machine_that_sends_holds_it(doing: Doing, put_off: int) -> None:
    assert night.hold(doing, put_off) is (Hold.RECEIVING if doing.receives else None)


@given(ANYTHING, st.integers(night.MOST_TRIES, 10**9))
def test_it_is_not_put_off_for_ever(doing: Doing, put_off: int) -> None:
    assert night.hold(doing, put_off) is None


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    opened = open_box(Config(data=tmp_path / "box", store=StoreConfig(reserve_bytes=0)))
    with opened.catalog.transaction() as tx:
        retention.watch_clock(tx, NOW, follows_time_server=True)
    yield opened
    opened.close()


def doing(box: Box, now: datetime = NOW) -> Doing:
    with box.catalog.reading() as conn:
        return machine.doing(conn, now)


def beat(box: Box, name: str, at: datetime, **detail: object) -> None:
    with box.catalog.transaction() as tx:
        processes.beat(tx, name, os.getpid(), at, at, detail)


def test_an_open_association_is_receiving_and_what_a_dead_worker_said_last_is_not(box: Box) -> None:
    assert doing(box) == Doing()
    beat(box, "dicom-1", NOW, open=0)
    assert doing(box) == Doing()
    beat(box, "dicom-0", NOW, open=1)
    assert doing(box) == Doing(receives=True)
    beat(box, "dicom-0", NOW - timedelta(minutes=5), open=1)
    assert doing(box) == Doing()


def test_an_image_that_has_just_come_is_receiving_and_what_is_on_its_way_is_delivering(
    box: Box, tmp_path: Path
) -> None:
    with box.catalog.transaction() as tx:
        to = destinations.add(tx, DestinationSettings("folder", "folder", "dicom", {"path": str(tmp_path)}))
        rules.add_rule(tx, Rule(to, "folder", "dicom"))
    (film,) = synthetic.write(iter([synthetic.panoramic(1, scale=0.05)]), tmp_path / "films")
    with film.open("rb") as stream:
        import_file(box, stream, Origin(Intake.IMPORT, "test"))
    now = datetime.now(UTC)
    with box.catalog.transaction() as tx:
        retention.watch_clock(tx, now, follows_time_server=True)
    assert doing(box, now).receives
    later = now + machine.JUST_NOW * 2
    assert doing(box, later) == Doing(), "what waits for its turn holds nothing"
    with box.catalog.transaction() as tx:
        assert deliveries.claim(tx, to, now=later, lease_seconds=60, limit=1)
    assert doing(box, later) == Doing(delivers=True)
    assert doing(box, later + timedelta(minutes=2)) == Doing(), "a lease that is over is nobody's delivery"


def test_a_clock_in_doubt_holds_it_and_the_verb_says_so(
    box: Box, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert doing(box, NOW + timedelta(days=400)).doubts_clock, "half past four by it may be noon"
    monkeypatch.setenv("APPLIANCE_DATA", str(box.config.data))
    asked = ["update", "may-restart"]
    assert main(asked) == 75
    assert "the clock of the box is in doubt" in capsys.readouterr().err
    assert main([*asked, "--put-off", str(night.PATIENT_TRIES)]) == 0
    with box.catalog.transaction() as tx:
        retention.watch_clock(tx, datetime.now(UTC), follows_time_server=True)
    assert main(asked) == 0
