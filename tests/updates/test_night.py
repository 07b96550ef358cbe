"""When the version that waits may start: not while the box is in use, and not never."""

import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance import settings
from appliance.box import Box, open_box
from appliance.catalog import deliveries, destinations, processes, rules
from appliance.cli.command import main
from appliance.cli.updates import Answer
from appliance.config import Config, StoreConfig
from appliance.errors import Refused
from appliance.ingest import import_file
from appliance.lifecycle import retention
from appliance.model import DestinationSettings, Intake, Origin, Rule
from appliance.settings import registry
from appliance.updates import machine, night, noting
from appliance.updates.night import DAYS, Doing, Hold, Window
from appliance.updates.noting import Fetch
from tests import synthetic
from tests.told_disk import told_disk
from tests.updates.image import image

NOW = datetime(2026, 3, 3, 4, 30, tzinfo=UTC)
ANYTHING = st.builds(Doing, st.booleans(), st.booleans(), st.booleans())


def test_the_most_pressing_reason_is_the_one_that_is_said() -> None:
    assert Doing().hold is None
    assert Doing(doubts_clock=True).hold is Hold.CLOCK
    assert Doing(delivers=True, doubts_clock=True).hold is Hold.DELIVERING
    assert Doing(True, True, True).hold is Hold.RECEIVING


WINDOWS = st.builds(
    Window,
    st.integers(0, 24 * 60 - 1),
    st.integers(0, 24 * 60 - 1),
    st.lists(st.sampled_from(DAYS), min_size=1, unique=True).map(tuple),
).filter(lambda window: (window.ends - window.begins) % (24 * 60) >= night.LEAST_MINUTES)


@given(ANYTHING, WINDOWS, st.data())
def test_for_a_week_of_tries_anything_holds_it(doing: Doing, window: Window, data: st.DataObject) -> None:
    put_off = data.draw(st.integers(0, window.tries_a_week - 1))
    assert night.hold(doing, put_off, window) is doing.hold


@given(ANYTHING, WINDOWS, st.data())
def test_for_another_week_only_a_machine_that_sends_holds_it(
    doing: Doing, window: Window, data: st.DataObject
) -> None:
    put_off = data.draw(st.integers(window.tries_a_week, 2 * window.tries_a_week - 1))
    assert night.hold(doing, put_off, window) is (Hold.RECEIVING if doing.receives else None)


@given(ANYTHING, WINDOWS, st.integers(0, 10**9))
def test_a_disk_that_asks_for_a_pin_waits_for_a_person_however_long(
    doing: Doing, window: Window, put_off: int
) -> None:
    assert night.hold(replace(doing, asks_pin=True), put_off, window) is Hold.PIN


@given(ANYTHING, WINDOWS, st.integers(0, 10**9))
def test_it_is_not_put_off_for_ever(doing: Doing, window: Window, more: int) -> None:
    assert night.hold(doing, 2 * window.tries_a_week + more, window) is None


def test_the_night_is_as_it_was_delivered() -> None:
    assert (night.NIGHT.hours, night.NIGHT.days) == (
        settings.SETTINGS["updates.window"].default,
        settings.SETTINGS["updates.days"].default,
    )
    assert registry.DAYS == DAYS
    assert night.NIGHT.tries_a_week == 7 * 9


@given(
    WINDOWS,
    st.datetimes(NOW.replace(tzinfo=None), NOW.replace(tzinfo=None) + timedelta(days=1500)).map(
        lambda here: here.replace(tzinfo=UTC)
    ),
)
def test_a_window_is_open_from_its_beginning_for_its_length(window: Window, here: datetime) -> None:
    """Said otherwise than the code says it: the beginning before `here` is on one of its days, and not longer ago than it lasts."""
    began = here.replace(hour=window.begins // 60, minute=window.begins % 60, second=0, microsecond=0)
    if began > here:
        began -= timedelta(days=1)
    lasts = timedelta(minutes=(window.ends - window.begins) % (24 * 60))
    assert window.is_open(here) == (here - began < lasts and DAYS[began.weekday()] in window.days)


def test_a_window_that_passes_midnight_belongs_to_the_day_on_which_it_begins() -> None:
    late = Window.of("23:00-01:00", ["saturday"])
    assert late.is_open(datetime(2026, 3, 7, 23, 30, tzinfo=UTC)), "a Saturday"
    assert late.is_open(datetime(2026, 3, 8, 0, 59, tzinfo=UTC))
    assert not late.is_open(datetime(2026, 3, 8, 1, 0, tzinfo=UTC))
    assert not late.is_open(datetime(2026, 3, 7, 0, 30, tzinfo=UTC)), "which began on a Friday"


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
        retention.watch_clock(tx, datetime.now(UTC), follows_time_server=True)
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
    at_any_hour(box)
    asked = ["update", "may-restart"]
    assert main(asked) == Answer.IN_USE
    assert "the clock of the box is in doubt" in capsys.readouterr().out
    assert main([*asked, "--put-off", str(7 * 24 * 6)]) == 0
    with box.catalog.transaction() as tx:
        retention.watch_clock(tx, datetime.now(UTC), follows_time_server=True)
    assert main(asked) == 0


def test_outside_the_hours_that_were_chosen_it_may_not_however_often_it_was_put_off(
    box: Box, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("APPLIANCE_DATA", str(box.config.data))
    today = datetime.now().astimezone().weekday()
    choose(box, {"updates.window": "00:00-23:59", "updates.days": [DAYS[(today + 3) % 7]]})
    assert main(["update", "may-restart", "--put-off", "100000"]) == Answer.OUTSIDE
    assert "no version starts by itself at this hour" in capsys.readouterr().out


@pytest.mark.parametrize("said", ["wanted", "unknown"])
def test_where_the_disk_may_ask_for_a_pin_a_person_is_waited_for(
    said: str, box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("APPLIANCE_DATA", str(box.config.data))
    at_any_hour(box)
    with told_disk(tmp_path / "told") as root:
        root.says(said)
        assert doing(box).hold is Hold.PIN
        assert main(["update", "may-restart", "--put-off", "100000"]) == Answer.PERSON
        assert "a version waits for a person" in capsys.readouterr().out
        root.says("none")
        assert doing(box).hold is None


def test_a_box_that_cannot_be_opened_answers_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "box").write_text("no folder")
    monkeypatch.setenv("APPLIANCE_DATA", str(tmp_path / "box"))
    assert main(["update", "may-restart"]) not in set(Answer)


@pytest.mark.parametrize(
    "wrong",
    [
        {"updates.window": ""},
        {"updates.window": "04:30-04:50"},
        {"updates.window": "23:50-00:10"},
        {"updates.days": []},
    ],
)
def test_a_window_is_long_enough_for_a_few_tries(box: Box, wrong: dict[str, object]) -> None:
    with pytest.raises(Refused):
        choose(box, wrong)


def test_while_a_version_is_fetched_it_is_known_since_when(tmp_path: Path) -> None:
    with image(tmp_path / "told") as says:
        says("1.0.0")
        assert noting.fetching(NOW) is None
        began = f"{int(NOW.timestamp())}\n"
        (tmp_path / "told" / noting.FETCHING).write_text(began)
        assert noting.fetching(NOW + timedelta(minutes=20)) == Fetch(NOW)
        assert noting.fetching(NOW + timedelta(hours=3)) is None, "left behind"
        (tmp_path / "told" / noting.FETCHING).write_text(f"{began}1.1.0 41 310000000\n")
        assert noting.fetching(NOW) == Fetch(NOW, "1.1.0", 41, 310_000_000)
        (tmp_path / "told" / noting.FETCHING).write_text(f"{began}1.1.0 101 310000000\n")
        assert noting.fetching(NOW) == Fetch(NOW)
        for wrong in ("what\n", f"{began}1.1.0 41\n", f"{began}../x 41 1\n", f"{began}1.1.0 41 0\n", ""):
            (tmp_path / "told" / noting.FETCHING).write_text(wrong)
            assert noting.fetching(NOW) is None, wrong


def choose(box: Box, values: dict[str, object]) -> None:
    with box.catalog.transaction() as tx:
        settings.change(tx, box.audit_key, values, actor="tests", now=NOW)


def at_any_hour(box: Box) -> None:
    hour = datetime.now().astimezone().hour
    choose(box, {"updates.window": f"{(hour + 23) % 24:02d}:00-{(hour + 22) % 24:02d}:00"})
