"""The clinic's own hours: what is shown, counted by the day and begun at an hour follows the zone that it chose; what is recorded doesn't."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from appliance import jobs, local_time, settings
from appliance.box import Box
from appliance.catalog import samples
from appliance.cli.session import opened_box
from appliance.figures import Figures
from appliance.notify.preferences import Preferences
from appliance.settings import SETTINGS
from appliance.web import create_app
from appliance.web.series import Series
from tests.boxes import box_in
from tests.web.conftest import add_owner, sign_in

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
WINTER = datetime(2026, 1, 1, 2, tzinfo=UTC)


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    yield
    local_time.follow(local_time.MACHINE)


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    with box_in(tmp_path / "box") as opened:
        add_owner(opened)
        yield opened


@pytest.fixture
def owner(box: Box) -> Iterator[FlaskClient]:
    app: Flask = create_app(box)
    browser = app.test_client()
    assert sign_in(browser).status_code == 303
    yield browser
    app.extensions["console"].watcher.close()
    app.extensions["console"].darkroom.close()


def choose(box: Box, zone: str) -> None:
    with box.catalog.transaction() as tx:
        settings.change(tx, box.audit_key, {local_time.SETTING: zone}, actor="tests", now=datetime.now(UTC))


def test_a_moment_is_shown_by_the_clock_on_the_wall() -> None:
    local_time.follow("America/Vancouver")
    assert local_time.here(NOON).hour == 5
    assert local_time.here(WINTER).date() == date(2025, 12, 31)
    local_time.follow("America/St_Johns")
    assert (local_time.here(NOON).hour, local_time.here(NOON).minute) == (9, 30)


def test_a_day_begins_at_its_midnight_in_summer_and_winter() -> None:
    local_time.follow("America/Vancouver")
    assert local_time.midnight(date(2026, 7, 1)).astimezone(UTC) == datetime(2026, 7, 1, 7, tzinfo=UTC)
    assert local_time.midnight(date(2026, 1, 1)).astimezone(UTC) == datetime(2026, 1, 1, 8, tzinfo=UTC)


@pytest.mark.parametrize("name", [local_time.MACHINE, "Atlantis/Poseidonis", "../../etc/passwd", ""])
def test_whatever_this_machine_does_not_know_is_left_to_it(name: str) -> None:
    local_time.follow("America/Vancouver")
    local_time.follow(name)
    assert local_time.zone() is None
    assert local_time.here(NOON) == NOON.astimezone()
    assert local_time.midnight(date(2026, 7, 1)).utcoffset() == datetime(2026, 7, 1).astimezone().utcoffset()


def test_every_zone_that_is_offered_is_one() -> None:
    for name in local_time.ZONES:
        local_time.follow(name)
        assert local_time.zone() is not None, name


def test_the_console_follows_it_from_the_next_request_on(owner: FlaskClient, box: Box) -> None:
    for name in ("America/Vancouver", "America/Halifax", local_time.MACHINE):
        choose(box, name)
        owner.get("/health")
        assert str(local_time.zone() or local_time.MACHINE) == name


def test_the_upkeep_and_the_command_line_follow_it_too(
    box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose(box, "America/Regina")
    jobs.Upkeep(box).beat()
    assert str(local_time.zone()) == "America/Regina"
    local_time.follow(local_time.MACHINE)
    monkeypatch.setenv("APPLIANCE_DATA", str(tmp_path / "box"))
    with opened_box():
        assert str(local_time.zone()) == "America/Regina"


def test_a_person_s_own_zone_goes_before_the_clinic_s() -> None:
    local_time.follow("America/Vancouver")
    assert str(Preferences().zone()) == "America/Vancouver"
    assert str(Preferences(time_zone="America/Halifax").zone()) == "America/Halifax"


def test_the_setting_is_the_machine_s_until_somebody_chooses() -> None:
    assert SETTINGS[local_time.SETTING].default == local_time.MACHINE
    assert timedelta(0) == NOON - local_time.here(NOON), "what is recorded stays the same moment"


def test_what_came_late_in_the_evening_is_of_that_evening_s_day(box: Box) -> None:
    """At 21:25 in Toronto it is tomorrow by UTC, which is this machine's zone or any other: the days of the charts are the clinic's."""
    now = datetime(2026, 7, 9, 1, 25, tzinfo=UTC)
    local_time.follow("America/Toronto")
    with box.catalog.transaction() as tx:
        upto, after = samples.end(tx), samples.cursor(tx)
        figures = Figures(received=7)
        samples.write(tx, now, figures, samples.arrived(tx, after, upto, local_time.zone()), upto)
    with box.catalog.reading() as conn:
        days = Series().days(conn, now + timedelta(minutes=2), 3)
    assert days[-1].figures is not None
    assert days[-1].figures.received == 7


@pytest.mark.parametrize(
    ("typed", "utc"),
    [
        ("2026-11-25", datetime(2026, 11, 26, 4, 59, 59, tzinfo=UTC)),
        ("2026-11-25T18:00", datetime(2026, 11, 25, 23, tzinfo=UTC)),
        ("2026-11-25T18:00:00Z", datetime(2026, 11, 25, 18, tzinfo=UTC)),
        ("2026-11-25T18:00+02:00", datetime(2026, 11, 25, 16, tzinfo=UTC)),
        ("2026-03-08", datetime(2026, 3, 9, 3, 59, 59, tzinfo=UTC)),  # of 23 hours
    ],
)
def test_a_moment_is_typed_by_the_clock_on_the_wall_unless_it_names_a_zone(typed: str, utc: datetime) -> None:
    local_time.follow("America/Toronto")
    assert local_time.moment_of(typed) == utc


ENDS = (
    "9999-12-31",
    "9999-12-31T23:30",
    "9999-12-31T23:30-12:00",
    "0001-01-01T00:00Z",
    "0001-01-01T00:00+14:00",
)
"""Days that some clock of the world can't show: the calendar of the machine ends there."""


@pytest.mark.parametrize("zone", ["America/Toronto", local_time.MACHINE])
@pytest.mark.parametrize("typed", ["", "yesterday", "2026-13-01", "25/11/2026", *ENDS])
def test_what_is_no_moment_is_refused(typed: str, zone: str) -> None:
    local_time.follow(zone)
    with pytest.raises(ValueError, match=r".+"):
        local_time.moment_of(typed)
