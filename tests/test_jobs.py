"""Upkeep: late jobs run, failing ones are told, and a clock that is set loses and deletes nothing."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path

import pytest

from appliance import anchor, audit, duties, health, jobs
from appliance.box import Box, open_box
from appliance.catalog import destinations, destructions, processes, retention_dates, settings
from appliance.config import Config
from appliance.duties import Job
from appliance.errors import Transient
from appliance.jobs import Upkeep
from appliance.lifecycle import destruction, retention
from appliance.lifecycle.acting import Act
from appliance.lifecycle.request import Method, State
from appliance.model import DestinationSettings
from appliance.replication.delivery import Breaker
from appliance.replication.destinations import prepare
from appliance.store.objects import new_object_id
from tests.lifecycle.clinic import NOW, arrive, watch

YEARS = timedelta(days=3653)


@pytest.fixture
def box(data_dir: Path) -> Iterator[Box]:
    opened = open_box(Config(data=data_dir))
    yield opened
    opened.close()


class Clock:
    """A wall clock that can be set while the monotonic one goes on."""

    def __init__(self) -> None:
        self.set_by = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.set_by


@pytest.fixture
def upkeep(box: Box) -> Iterator[Callable[..., Upkeep]]:
    started: list[Upkeep] = []

    def start(*duties: Job, clock: Clock | None = None) -> Upkeep:
        made = Upkeep(box, duties, wall=clock or Clock())
        started.append(made)
        made.start()
        return made

    yield start
    for each in started:
        each.stop()


def test_every_job_runs_at_the_start_and_again(
    upkeep: Callable[..., Upkeep], eventually: Callable[..., object]
) -> None:
    runs: list[datetime] = []
    upkeep(Job("often", lambda box, now: runs.append(now), 1))
    eventually(lambda: len(runs) >= 2)


def test_a_failing_job_is_told_in_the_heartbeat_until_it_succeeds(
    box: Box, upkeep: Callable[..., Upkeep], eventually: Callable[..., object]
) -> None:
    broken = threading.Event()
    broken.set()

    def act(box: Box, now: datetime) -> None:
        if broken.is_set():
            raise Transient("not now")

    running = upkeep(Job("moody", act, 1))
    eventually(lambda: running.failing == {"moody"})
    running.beat()
    assert "job" in {problem.code for problem in health.status(box, datetime.now(UTC)).problems}
    broken.clear()
    eventually(lambda: not running.failing)
    running.beat()
    assert "job" not in {problem.code for problem in health.status(box, datetime.now(UTC)).problems}


def test_a_job_that_fails_in_an_unforeseen_way_is_told_without_its_words(
    box: Box,
    upkeep: Callable[..., Upkeep],
    eventually: Callable[..., object],
    caplog: pytest.LogCaptureFixture,
) -> None:
    def act(box: Box, now: datetime) -> None:
        raise KeyError("Tremblay^Marie")

    running = upkeep(Job("careless", act, 60))
    eventually(lambda: running.failing == {"careless"})
    assert "KeyError in test_jobs.py" in caplog.text
    assert "Tremblay" not in caplog.text


@pytest.mark.parametrize("jump", [-YEARS, YEARS, timedelta(hours=-1)])
def test_a_clock_that_is_set_leaves_no_job_waiting_for_the_old_hour(
    box: Box, upkeep: Callable[..., Upkeep], eventually: Callable[..., object], jump: timedelta
) -> None:
    clock = Clock()
    runs: list[datetime] = []
    running = upkeep(Job("hourly", lambda box, now: runs.append(now), 3600), clock=clock)
    eventually(lambda: len(runs) == 1)
    clock.set_by = jump
    running.beat()
    # The scheduler reads the real clock, so what it planned for the clock that was set shows in its plan.
    eventually(lambda: len(runs) >= 2 or abs(running.next_runs()["hourly"] - clock()) < timedelta(hours=2))
    with box.catalog.reading() as conn:
        (row,) = processes.processes(conn)
    assert abs(row.beat_utc - clock()) < timedelta(minutes=1)
    assert row.detail["clock_set"]["seconds"] == pytest.approx(jump.total_seconds(), abs=5)


def test_a_clock_that_drifts_a_little_plans_nothing_anew(
    upkeep: Callable[..., Upkeep], eventually: Callable[..., object]
) -> None:
    clock = Clock()
    runs: list[datetime] = []
    running = upkeep(Job("hourly", lambda box, now: runs.append(now), 3600), clock=clock)
    eventually(lambda: len(runs) == 1)
    before = running.next_runs()
    clock.set_by = timedelta(seconds=2)
    running.beat()
    assert running.next_runs() == before


def test_a_bucket_that_answers_slowly_keeps_no_other_duty_waiting(
    box: Box, upkeep: Callable[..., Upkeep], eventually: Callable[..., object]
) -> None:
    (tiers,) = (each for each in duties.duties(box) if each.name == "tiers")
    assert [each.name for each in duties.duties(box) if each.lane == tiers.lane] == ["tiers"]
    answered, ran = threading.Event(), Counter[str]()

    def wait(box: Box, now: datetime) -> None:
        answered.wait(60)
        ran["tiers"] += 1

    def note(name: str) -> Callable[[Box, datetime], None]:
        return lambda box, now: ran.update([name])

    running = upkeep(
        replace(tiers, act=wait, first_seconds=0),
        *(Job(name, note(name), 60) for name in ("drill", "backup", "recall")),
    )
    eventually(lambda: len(ran) == 3)
    assert "tiers" not in ran
    answered.set()
    eventually(lambda: ran["tiers"] == 1 and not running.failing)


WATCHES = ("alarm", "census", "anchors", "audit", "leases", "health")
WORKS = ("backup", "drill", "destruction", "eviction", "recall", "scrub", "listing", "tiers")
"""What waits for archives, or goes through everything: it may take hours, or for ever where a disk hangs."""


def test_what_watches_shares_no_lane_with_what_works_and_neither_do_two_that_work(box: Box) -> None:
    lane = {each.name: each.lane for each in duties.duties(box)}
    assert not {lane[each] for each in WATCHES} & {lane[each] for each in WORKS}
    assert [name for each in WORKS for name in lane if lane[name] == lane[each]] == list(WORKS)
    assert sorted(each for each in lane if lane[each] in {lane["census"], lane["anchors"]}) == [
        "anchors",
        "census",
    ]
    assert duties.THREADS.keys() == set(lane.values())
    assert sum(duties.THREADS.values()) <= 16, "each has a stack, and connections while it works"


def test_while_all_that_works_hangs_the_census_is_taken_and_the_audit_anchored(
    box: Box, tmp_path: Path, upkeep: Callable[..., Upkeep], eventually: Callable[..., object]
) -> None:
    (tmp_path / "usb").mkdir()
    place = prepare(DestinationSettings("usb", "vault", "ciphertext", {"path": str(tmp_path / "usb")}))
    with box.catalog.transaction() as tx:
        destinations.add(tx, place)
    hangs, begun, done = threading.Event(), Counter[str](), Counter[str]()

    def hang(name: str) -> Callable[[Box, datetime], None]:
        def act(box: Box, now: datetime) -> None:
            begun[name] += 1
            hangs.wait(100)
            done[name] += 1

        return act

    def noted(job: Job) -> Callable[[Box, datetime], None]:
        def act(box: Box, now: datetime) -> None:
            job.act(box, now)
            done[job.name] += 1

        return act

    known = {each.name: each for each in duties.duties(box)}
    working = [replace(known[name], act=hang(name), first_seconds=0) for name in WORKS]
    watching = [replace(known[name], act=noted(known[name]), first_seconds=0) for name in WATCHES]
    running = upkeep(*working, *watching)
    try:
        eventually(lambda: set(begun) == set(WORKS))
        eventually(lambda: set(done) >= set(WATCHES))
        assert not set(done) & set(WORKS) and not running.failing
        assert anchor.path(box).exists() and list((tmp_path / "usb" / "anchors").iterdir())
    finally:
        hangs.set()


class Hours(datetime):
    """The clock that the library reads, in the hands of the test: it stands still until it is set."""

    at = datetime.now(UTC)

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Hours:
        return cls.fromtimestamp(cls.at.timestamp(), tz)


@pytest.fixture
def hours(monkeypatch: pytest.MonkeyPatch) -> type[Hours]:
    monkeypatch.setattr(Hours, "at", datetime.now(UTC))
    monkeypatch.setattr("apscheduler.schedulers.base.datetime", Hours)
    monkeypatch.setattr("apscheduler.executors.base.datetime", Hours)
    return Hours


def test_the_times_that_were_missed_are_caught_up_with_by_one_run(
    box: Box, hours: type[Hours], eventually: Callable[..., object]
) -> None:
    """The library drops a job that is a second late unless told otherwise, and may run one for each time that was missed."""
    runs: list[datetime] = []
    running = Upkeep(box, (Job("hourly", lambda box, now: runs.append(now), 3600),), wall=lambda: hours.at)
    running.start()
    try:
        eventually(lambda: len(runs) == 1)
        hours.at += timedelta(hours=10, minutes=30)  # ten times have passed, the last half an hour ago
        running._scheduler.wakeup()
        eventually(lambda: len(runs) == 2)
        hours.at += timedelta(hours=1)
        running._scheduler.wakeup()
        eventually(lambda: len(runs) == 3)
    finally:
        running.stop()
    assert len(runs) == 3, "one for ten that were missed, and the next at its time"


def test_a_job_that_waits_for_others_beyond_several_of_its_times_runs_once_when_they_have_ended(
    box: Box, hours: type[Hours], eventually: Callable[..., object]
) -> None:
    held = threading.Event()
    begun: list[str] = []
    runs: list[datetime] = []

    def hold(box: Box, now: datetime) -> None:
        begun.append("long")
        held.wait(100)

    day = 86_400
    duties = (
        Job("long", hold, day),
        Job("longer", hold, day),
        Job("short", lambda box, now: runs.append(now), 3600),
    )
    running = Upkeep(box, duties, wall=lambda: hours.at)
    running.start()
    try:
        eventually(lambda: len(begun) == 2)
        for _ in range(5):
            hours.at += timedelta(hours=1)
            running._scheduler.wakeup()
            eventually(lambda: running.next_runs()["short"] > hours.at)
        assert not runs, "both threads are taken"
        held.set()
        eventually(lambda: len(runs) == 1)
    finally:
        held.set()
        running.stop()
    assert len(runs) == 1, "neither dropped, nor made up for one by one"


@pytest.mark.parametrize("jump", [timedelta(0), YEARS, -YEARS])
def test_an_orphan_that_a_sweep_sees_for_the_first_time_stays_whatever_the_clock_says(
    box: Box, jump: timedelta
) -> None:
    object_id = new_object_id()
    writer = box.objects.create(object_id, "worker")
    writer.write([bytes(100)])
    writer.keep()
    sweep = duties.Orphans(box)
    for hour in (datetime.now(UTC), datetime.now(UTC) + jump, datetime.now(UTC) + 2 * jump):
        sweep(box, hour)
    assert object_id in set(box.objects.ids())


def test_the_audit_is_checked_and_anchored(box: Box) -> None:
    now = datetime.now(UTC)
    duties.check_audit(box, now)
    assert anchor.path(box).exists()
    with box.catalog.reading() as conn:
        assert settings.get(conn, health.AUDIT_CHECK)["findings"] == 0
    assert anchor.verify(box) == []


def test_the_duties_run_on_an_empty_box(box: Box) -> None:
    for job in duties.duties(box):
        job.act(box, datetime.now(UTC))


def test_problems_are_logged_once_and_their_end_too(box: Box, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    log = duties.ProblemLog()
    log(box, datetime.now(UTC))
    first = [record.message for record in caplog.records if "courier" in record.message]
    log(box, datetime.now(UTC))
    assert first == [record.message for record in caplog.records if "courier" in record.message]
    with box.catalog.transaction() as tx:
        processes.beat(tx, "courier", os.getpid(), datetime.now(UTC), datetime.now(UTC))
    log(box, datetime.now(UTC))
    assert "no longer: courier-stopped" in caplog.messages


def test_two_destinations_with_one_problem_are_logged_both(
    box: Box, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    now = datetime.now(UTC)
    with box.catalog.transaction() as tx:
        for name in ("north", "south"):
            number = destinations.add(
                tx, DestinationSettings(name, "folder", "dicom", {"path": str(tmp_path)})
            )
            destinations.set_breaker(tx, number, Breaker(3, now + timedelta(minutes=5), "no route"))
    log = duties.ProblemLog()
    log(box, now)
    assert sum("no route" in message for message in caplog.messages) == 2
    with box.catalog.transaction() as tx:
        destinations.resume(tx, "north")
    log(box, now)
    assert "no longer: destination-down north" in caplog.messages
    assert "no longer: destination-down south" not in caplog.messages


def test_the_process_beats_until_it_is_told_to_stop(box: Box, eventually: Callable[..., object]) -> None:
    left = box.config.data.absolute() / "backups" / "drill-deadbeef"
    left.mkdir(parents=True)
    stop = threading.Event()
    thread = threading.Thread(target=jobs.run, args=(box, stop))
    thread.start()

    def beating() -> bool:
        with box.catalog.reading() as conn:
            return any(row.name == "jobs" for row in processes.processes(conn))

    try:
        eventually(beating)
        assert not left.exists(), "what a cut has left goes as it starts"
    finally:
        stop.set()
        thread.join(timeout=30)
    assert not thread.is_alive()


def test_requests_to_destroy_lose_what_has_changed_and_end_in_time_unless_the_clock_is_in_doubt(
    box: Box,
) -> None:
    studies = [arrive(box.catalog, f"1.2.{n}", patient_id=f"P-{n}", patient_name=f"N{n}") for n in (3, 4)]
    watch(box.catalog)
    with box.catalog.transaction() as tx:
        act = Act("marie", NOW, box.audit_key)
        request = destruction.ask(tx, act, studies, method=Method.DESTROY, reason="yearly review")
    arrive(box.catalog, "1.2.3", patient_id="P-3", patient_name="N3")
    duties.review_requests(box, NOW)
    over = request.expires_utc
    duties.review_requests(box, over)  # nobody has looked at the clock for a month
    with box.catalog.reading() as conn:
        assert destructions.request(conn, request.id).study_ids == (studies[1],)
        assert destructions.request(conn, request.id).state is State.OPEN
    watch(box.catalog, over)
    duties.review_requests(box, over)
    with box.catalog.reading() as conn:
        assert destructions.request(conn, request.id).state is State.EXPIRED
        actions = [row["action"] for row in audit.export(conn) if row["actor"] == "jobs"]
    assert actions == ["destruction:leave-out", "destruction:expire"]


def test_the_job_works_out_until_when_every_study_is_kept(box: Box) -> None:
    study = arrive(box.catalog)
    duties.watch_clock(box, NOW)
    retention.Dates()(box, NOW)
    with box.catalog.reading() as conn:
        assert retention.is_current(conn)
        assert retention_dates.kept(conn, study) is not None
        assert retention.clock_of(conn, NOW).noted_utc == NOW
