"""A line that loses some of what is asked keeps no box without a backup, and what goes on failing is tried ever later."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from appliance.backup import making, repeating, snapshot
from appliance.backup.repeating import patiently, rest_after
from appliance.backup.schedule import Schedule
from appliance.catalog import destinations, settings
from appliance.config import CourierConfig
from appliance.errors import ApplianceError, OperatorNeeded, OutOfResources, Transient
from appliance.lifecycle import retention
from appliance.replication.batch import Counts, Errand, Held, Surroundings
from appliance.replication.destinations import Archive
from appliance.replication.destinations.s3 import S3Destination
from appliance.replication.destinations.vault import VaultDestination
from appliance.replication.lane import AWAY, Lane
from tests.backup.conftest import IMAGES, KEEP, Clinic, clinic_in
from tests.backup.test_bucket import the_cloud as _the_cloud
from tests.backup.test_restoring import restore
from tests.replication.cloud import Cloud, Fault, Line, Request, line
from tests.replication.cloud import settings as bucket_at
from tests.replication.depot import Clock

the_cloud = _the_cloud

NOW = datetime.now(UTC)
BUCKET = S3Destination("clinic", "ca-central-1")


@pytest.fixture
def the_line(the_cloud: Cloud) -> Iterator[Line]:
    with line(the_cloud.port) as the_line:
        yield the_line


@pytest.fixture
def far(
    the_cloud: Cloud, the_line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Clinic]:
    """A clinic with a bucket behind a line, and a catalog of many pieces."""
    monkeypatch.setattr(repeating, "PAUSES_SECONDS", (0.0, 0.0, 0.0, 0.0))
    monkeypatch.setattr(snapshot, "PIECE_BYTES", 8 << 10)
    place = bucket_at(the_line.url, the_cloud.new_bucket(versioned=True))
    with clinic_in(tmp_path / "before", place) as clinic:
        yield clinic


def losing_one_in_twenty(seed: int) -> Callable[[Request], Fault | None]:
    dice = random.Random(seed)

    def fault(_: Request) -> Fault | None:
        if dice.random() >= 0.05:
            return None
        return dice.choice((Fault.UNAVAILABLE, Fault.HANG_UP, Fault.LOSE_ANSWER))

    return fault


def begun(clinic: Clinic) -> int:
    """How many backups have left something in the archive."""
    archive = making.archive_at(clinic.box, clinic.place)
    return sum(each.key.endswith("/begun") for each in archive.documents(snapshot.PREFIX))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_where_one_request_in_twenty_fails_a_large_box_gets_its_backup_at_the_first_attempt(
    far: Clinic, the_line: Line, tmp_path: Path, seed: int
) -> None:
    far.receive(*IMAGES[:2])
    far.deliver()
    the_line.fault = losing_one_in_twenty(seed)
    made = far.back_up()
    the_line.fault = lambda _: None
    assert len(made.pieces) >= 60
    assert begun(far) == 1
    assert restore(tmp_path / "after", far.place, far.paper).snapshot == made


@pytest.mark.slow
def test_while_a_line_is_down_nothing_is_laid_and_the_backup_comes_when_it_is_back(
    far: Clinic, the_line: Line
) -> None:
    the_line.down = True
    for minutes in range(0, 2 * 60, 15):
        with pytest.raises(ApplianceError):
            Schedule().make(far.box, NOW + timedelta(minutes=minutes))
    the_line.down = False
    Schedule().make(far.box, NOW + timedelta(hours=2))
    assert begun(far) == 1


class Losing(VaultDestination):
    """A disk that takes no piece of a catalog."""

    def put_document(self, key: str, data: bytes) -> None:
        if key.endswith("/000000"):
            raise Transient("the disk has hung")
        super().put_document(key, data)


@pytest.fixture
def losing(clinic: Clinic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clinic:
    """A clinic where one piece of a backup never goes through, until `monkeypatch` is undone."""
    archive = Losing(tmp_path / "usb", str(clinic.place.options["mark"]))
    monkeypatch.setattr(making, "archive_at", lambda *_: archive)
    monkeypatch.setattr(retention, "running_from", lambda now: lambda: now)
    return clinic


def attempts(clinic: Clinic, hours: int) -> list[float]:
    """In which hours the jobs have begun a backup, which they are asked to do every quarter of an hour."""
    found, before = [], begun(clinic)
    for minutes in range(0, hours * 60, 15):
        with suppress(Transient):
            Schedule().make(clinic.box, NOW + timedelta(minutes=minutes))
        if begun(clinic) > before:
            before += 1
            found.append(minutes / 60)
    return found


def test_a_backup_of_which_one_piece_never_goes_through_is_begun_a_few_times_a_day(
    losing: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each attempt leaves what nobody may remove from a bucket for months."""
    between = [then - before for before, then in pairwise(attempts(losing, 48))]
    assert between == [0.25, 0.25, 0.5, 1, 2, 4, 6, 6, 6, 6, 6, 6]
    monkeypatch.undo()
    Schedule().make(losing.box, NOW + timedelta(days=3))
    with losing.box.catalog.reading() as conn:
        assert settings.get(conn, making._failures_of("usb")) is None, "what has succeeded rests no more"


def test_an_attempt_rests_from_its_end_however_long_it_took(
    losing: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line that is slow for seven hours and breaks would otherwise be tried without a rest."""
    seven = timedelta(hours=7)
    monkeypatch.setattr(retention, "running_from", lambda now: lambda: now + seven)
    for _ in range(7):
        with suppress(Transient):
            making.back_up(losing.box, losing.place, NOW, actor=making.BY_ITSELF, keep=KEEP)
    with losing.box.catalog.reading() as conn:
        due = [
            making.is_due(conn, losing.place.name, NOW + seven + timedelta(hours=each), timedelta(days=1))
            for each in (1, 5, 7)
        ]
    assert due == [False, False, True]


@pytest.fixture
def resting(losing: Clinic, monkeypatch: pytest.MonkeyPatch) -> Clinic:
    """A clinic whose backup has failed so often that it rests for hours; it would succeed now."""
    assert attempts(losing, 7)
    monkeypatch.undo()
    assert not is_due(losing)
    return losing


LATER = NOW + timedelta(hours=7)


def is_due(clinic: Clinic) -> bool:
    with clinic.box.catalog.reading() as conn:
        return making.is_due(conn, clinic.place.name, LATER, timedelta(days=1))


def _change(clinic: Clinic) -> None:
    with clinic.box.catalog.transaction() as tx:
        destinations.change(tx, clinic.place.name, clinic.place.options)


def _resume(clinic: Clinic) -> None:
    with clinic.box.catalog.transaction() as tx:
        destinations.pause(tx, clinic.place.name)
        destinations.resume(tx, clinic.place.name)


def _make_due(clinic: Clinic) -> None:
    with clinic.box.catalog.transaction() as tx:
        making.make_due(tx, clinic.place.name)


@pytest.mark.parametrize("act", [_change, _resume, _make_due])
def test_a_rest_ends_at_once_when_something_is_otherwise(
    resting: Clinic, act: Callable[[Clinic], None]
) -> None:
    act(resting)
    assert is_due(resting)


def test_whoever_asks_for_a_backup_gets_one_at_once_and_if_it_fails_too_the_rests_begin_anew(
    resting: Clinic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        archive = Losing(tmp_path / "usb", str(resting.place.options["mark"]))
        patched.setattr(making, "archive_at", lambda *_: archive)
        with pytest.raises(Transient, match="hung"):
            resting.back_up(LATER)
    assert is_due(resting)
    resting.back_up(LATER)
    assert not is_due(resting), "it is made"


@pytest.mark.parametrize("failures", [1, AWAY])
def test_a_rest_ends_when_a_line_that_was_away_is_back(
    resting: Clinic, tmp_path: Path, failures: int
) -> None:
    """Not of each request that is lost: a line that loses some answers again all day long."""
    resting.receive(IMAGES[0])
    clock = Clock(LATER)
    box = replace(
        resting.box, config=replace(resting.box.config, courier=CourierConfig(workers_per_destination=0))
    )
    around = Surroundings(now=clock.now, jitter=lambda: 0.5)
    lane = Lane(Errand(box, resting.place, around, Held(), Counts()))
    (tmp_path / "usb").rename(tmp_path / "drawer")
    for _ in range(failures):
        lane.one_batch()
        clock.forward(700)
    with box.catalog.reading() as conn:
        assert destinations.breaker(conn, resting.place.id).failures == failures
    (tmp_path / "drawer").rename(tmp_path / "usb")
    lane.one_batch()
    assert is_due(resting) is (failures >= AWAY)


def test_a_box_that_is_told_to_stop_waits_for_no_line(
    far: Clinic, the_line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repeating, "PAUSES_SECONDS", (3_600.0,))
    schedule = Schedule()

    def fault(asked: Request) -> Fault | None:
        if not asked.path.endswith("/000001"):
            return None
        schedule.interrupt()
        return Fault.UNAVAILABLE

    the_line.fault = fault
    with pytest.raises(Transient, match="interrupted"):
        schedule.make(far.box, NOW)
    with far.box.catalog.reading() as conn:
        assert settings.get(conn, making._failures_of("cloud")) is None, "that says nothing of the archive"


@pytest.mark.parametrize(
    ("archive", "error", "tries"),
    [
        (BUCKET, Transient("later"), 5),
        (BUCKET, OutOfResources("full"), 1),
        (BUCKET, OperatorNeeded("refused", hint="allow it"), 1),
        (VaultDestination(Path("/nowhere")), Transient("not there"), 1),
    ],
    ids=["a line", "full", "refused", "a disk"],
)
def test_only_what_may_work_in_a_moment_is_tried_again(
    archive: Archive, error: ApplianceError, tries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repeating, "PAUSES_SECONDS", (0.0,) * 4)
    tried = 0

    def act() -> None:
        nonlocal tried
        tried += 1
        raise error

    with pytest.raises(type(error)):
        patiently(archive, act, lambda: None)
    assert tried == tries


def test_rests_grow_and_are_bounded() -> None:
    hours = [rest_after(failures, timedelta(hours=6)) / timedelta(hours=1) for failures in range(1, 9)]
    assert hours == [0, 0.25, 0.5, 1, 2, 4, 6, 6]
    assert rest_after(10_000, timedelta(days=1)) == timedelta(days=1)
